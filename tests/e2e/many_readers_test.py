#!/usr/bin/env python3
"""64 readers of 8 images that have most of their content in common, all at once: everything is
right, and nothing is fetched twice, with the background fill and without."""

import concurrent.futures
import contextlib
import itertools
import os
import random
import re

from imsytest import check, env, images, imsy, oci
from imsytest.faultreg import FaultyRegistry
from imsytest.node import DirectNode
from imsytest.sandbox import Sandbox

IMAGES = 8
READERS = 64
COMMON = 12_000_000
OWN = 3_000_000
# Of frames that have the end of one file and the beginning of the next, and of requests that bring
# what lies between two frames.
SLACK = 1.1


def files_of(number):
    files = {f"common{part}": images.noise(COMMON // 4, f"common{part}") for part in range(4)}
    files["own"] = images.noise(OWN, f"own{number}")
    files.update({f"small{i}": images.prose(2000 + i, f"{number}-{i}") for i in range(30)})
    return files


def publish(box, registry):
    """Returns what the files of each image have."""
    layout = oci.Layout(box.path("layout"))
    contents = []
    for number in range(IMAGES):
        contents.append(files_of(number))
        tree = images.Tree()
        for path, data in contents[-1].items():
            tree.file(path, data)
        layout.add_image(f"v{number}", [tree.tar()])
        imsy.publish(registry, "many", layout, f"v{number}")
    return contents


def read_all(root, files, reader):
    """Reads all files in an order, and in pieces, of the reader's own."""
    own = random.Random(reader)
    for path in own.sample(sorted(files), len(files)):
        data = files[path]
        pieces = [(at, min(100_000, len(data) - at)) for at in range(0, len(data), 100_000)]
        own.shuffle(pieces)
        with open(root / path, "rb") as file:
            for at, size in pieces:
                check.true(os.pread(file.fileno(), size, at) == data[at:at + size],
                           f"reader {reader}: {path} at {at}")


def check_ranges(log):
    """No byte of a blob was asked for twice."""
    ranges = {}
    for one in log:
        first, last = re.fullmatch(r"bytes=(\d+)-(\d+)", one["headers"]["range"]).groups()
        ranges.setdefault(one["path"], []).append((int(first), int(last)))
    for path, asked in ranges.items():
        twice = [pair for pair in itertools.pairwise(sorted(asked)) if pair[0][1] >= pair[1][0]]
        check.equal([], twice, f"ranges of {path} that overlap")


def check_readers(box, registry, contents, background_fill):
    name = "filled" if background_fill else "lazy"
    node = DirectNode(box, registry, name, background_fill=background_fill)
    tags = [f"v{number}" for number in range(IMAGES)]
    with contextlib.ExitStack() as mounts:
        roots = []
        for tag in tags:
            node.pull("many-imsy", tag)
            roots.append(mounts.enter_context(node.mounted("many-imsy", tag)))
        with concurrent.futures.ThreadPoolExecutor(READERS) as pool:
            list(pool.map(lambda reader: read_all(roots[reader % IMAGES],
                                                  contents[reader % IMAGES], reader),
                          range(READERS)))
    check.true("answered EIO" not in node.snapshotter.log(), "no read has failed")
    log = [one for one in registry.log(method="GET", path="/blobs/") if "range" in one["headers"]]
    registry.forget()
    check_ranges(log)
    expected = COMMON + IMAGES * OWN
    received = sum(one["sent"] for one in log)
    print(f"{name}: {received} bytes of {expected} in {len(log)} requests")
    check.true(received < SLACK * expected, f"{received} bytes came, {expected} are different")


def test():
    with Sandbox("many_readers") as box:
        registry = FaultyRegistry(box)
        contents = publish(box, registry)
        registry.forget()
        for background_fill in (False, True):
            check_readers(box, registry, contents, background_fill)


if __name__ == "__main__":
    env.main(test)
