#!/usr/bin/env python3
"""A registry that is away while fifty programs read: what the store has is read all the same, those
who wait can be killed and get an error at the deadline, and when it is back all read on, over the
same mount."""

import errno
import hashlib
import os
import subprocess
import sys

from imsytest import check, env, images, imsy, oci
from imsytest.node import DirectNode
from imsytest.registry import Registry
from imsytest.sandbox import Sandbox

READERS = 50
PIECE = 530_000  # of the file, for each reader: more than a frame
CACHED = 5_000_000
SIZE = CACHED + 2 * READERS * PIECE

# Reads a piece of a file and says how that went: "right", "wrong", or the number of an error.
READER = """
import hashlib, os, sys
path, at, size, expected = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
file = os.open(path, os.O_RDONLY)
print("reading", flush=True)
try:
    data = b""
    while len(data) < size:
        data += os.pread(file, size - len(data), at + len(data))
    print("right" if hashlib.sha256(data).hexdigest() == expected else "wrong")
except OSError as error:
    print(error.errno)
"""


class Reader:
    """A program that reads one piece of a file."""

    def __init__(self, box, path, content, number):
        at = CACHED + number * PIECE
        expected = hashlib.sha256(content[at:at + PIECE]).hexdigest()
        self._child = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", READER, path, str(at), str(PIECE), expected],
            stdout=subprocess.PIPE, text=True)
        box.callback(self.kill)
        check.equal("reading\n", self._child.stdout.readline(), "a reader's first word")

    def waits(self):
        return self._child.poll() is None

    def kill(self):
        """Returns when it is gone."""
        self._child.kill()
        self._child.wait()

    def result(self):
        return self._child.communicate()[0].strip()


def start_readers(box, path, content, first=0):
    return [Reader(box, path, content, first + number) for number in range(READERS)]


def check_cached(path, content):
    """Reads what the store has, past the kernel's cache."""
    with open(path, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, CACHED, os.POSIX_FADV_DONTNEED)
        check.true(content[:CACHED] == file.read(CACHED), "what is read of the store")


def check_all_wait(readers):
    check.true(all(reader.waits() for reader in readers), "nobody gives up, or gets anything")


def check_longer_than_the_deadline(box, registry, path, content):
    registry.stop()
    readers = start_readers(box, path, content)
    check_cached(path, content)
    killed, patient = readers[:READERS // 5], readers[READERS // 5:]
    for reader in killed:
        reader.kill()
    check_all_wait(patient)
    check.equal({str(errno.EIO)}, {reader.result() for reader in patient}, "after the deadline")
    check_cached(path, content)
    registry.start()
    check.equal({"right"}, {reader.result() for reader in start_readers(box, path, content)},
                "the same reads when the registry is back")


def check_shorter(box, registry, path, content):
    registry.stop()
    readers = start_readers(box, path, content, READERS)
    for _ in range(20):
        check_cached(path, content)
    check_all_wait(readers)
    registry.start()
    check.equal({"right"}, {reader.result() for reader in readers}, "reads that have waited")


def test():
    with Sandbox("outage") as box:
        registry = Registry(box)
        content = images.noise(SIZE, "outage")
        layout = oci.Layout(box.path("layout"))
        layout.add_image("v1", [images.Tree().file("file", content).tar()])
        imsy.publish(registry, "outage", layout, "v1")
        node = DirectNode(box, registry, background_fill=False)
        node.pull("outage-imsy", "v1")
        with node.mounted("outage-imsy", "v1") as root:
            path = root / "file"
            mounted = path.stat()
            with open(path, "rb") as file:
                check.true(content[:CACHED] == file.read(CACHED), "what is read before")
                check_longer_than_the_deadline(box, registry, path, content)
                check_shorter(box, registry, path, content)
                check.true(content[CACHED:] == file.read(), "the rest, by a file opened before")
            check.equal((mounted.st_dev, mounted.st_ino), (path.stat().st_dev, path.stat().st_ino),
                        "the file, which no new mount shows")


if __name__ == "__main__":
    env.main(test)
