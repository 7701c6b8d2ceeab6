#!/usr/bin/env python3
"""How fast a node fetches an image it has nothing of, beside curl and the same blob.

    bench/throughput.py [--runs N] [--mbit N]

Version 1 of the demo's image is pulled with imsy by a node with an empty store; its time is that
from the end of the pull until the image is resident, on the disk, by the daemon's own log. Beside
it curl fetches the data layer into /dev/null, from the same registry by the same wire: loopback,
and a pair of interfaces in networks of their own, of which the registry's sends N (200) megabits a
second. Goals: on loopback 0.8 of the speed that curl and the decoder have one after the other (the
processor time that zstd needs for all frames, divided by the processors), on the slow wire 0.95 of
curl's. Medians of N runs (5), in turns. All files are in memory (/dev/shm), so that no disk is
measured; IMSY_TEST_TMP names another place.
"""

import argparse
import datetime
import os
import pathlib
import re
import resource
import statistics
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests" / "support"))

from imsytest import env, images, imsy, netns  # noqa: E402
from imsytest.node import DirectNode  # noqa: E402
from imsytest.process import run, wait_for  # noqa: E402
from imsytest.registry import Registry  # noqa: E402
from imsytest.sandbox import Sandbox  # noqa: E402

VERSION = next(iter(images.VERSIONS))
REPOSITORY = "web-imsy"


def layer_of(registry):
    manifest, _, _ = registry.client(REPOSITORY).image(VERSION)
    return max(manifest["layers"], key=lambda layer: layer["size"])


def curl_time(registry, digest):
    start = time.monotonic()
    run(["curl", "-sSf", "-o", "/dev/null",
         f"http://{registry.address}/v2/{REPOSITORY}/blobs/{digest}"])
    return time.monotonic() - start


def decode_time(blob):
    """Of all frames, on all processors."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(["zstd", "-dcq"], stdin=blob.open("rb"), stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return spent / os.cpu_count()


def logged_at(node, text):
    """When the log says so for the last time; nothing when it does not."""
    found = re.findall(rf"^(\S+)Z .*{text}", node.snapshotter.log(), re.M)
    return datetime.datetime.fromisoformat(found[-1]) if found else None


def fill_time(box, registry, name):
    node = DirectNode(box, registry, name, log_level="debug")
    node.pull(REPOSITORY, VERSION)
    end = wait_for(lambda: logged_at(node, "is resident"), "the image to be resident", 600)
    begin = logged_at(node, "Prepare: already exists")
    node.containerd.stop()
    node.snapshotter.stop()
    run(["rm", "-r", node.snapshotter.root, node.containerd.root])
    return (end - begin).total_seconds()


def measure(box, registry, name, runs):
    """Medians of curl and of imsy."""
    digest = layer_of(registry)["digest"]
    times = [(curl_time(registry, digest), fill_time(box, registry, f"{name}{number}"))
             for number in range(runs)]
    return [statistics.median(column) for column in zip(*times)]


def publish(registry, layout):
    registry.client("web").push(layout, VERSION)
    imsy.convert(registry.reference("web", VERSION), registry.reference(REPOSITORY, VERSION))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--mbit", type=int, default=200, help="rate of the slow wire")
    options = parser.parse_args()
    os.environ.setdefault("IMSY_TEST_TMP", "/dev/shm")
    layout = images.real_version(VERSION)  # made before the network is left
    with Sandbox("throughput", limit=3600) as box:
        far = netns.Far(box)
        near = Registry(box, "near")
        publish(near, layout)
        size = layer_of(near)["size"]
        decode = decode_time(near.blob_file(layer_of(near)["digest"]))
        print(f"data layer {size / 1e6:.1f} MB, decoding {decode:.2f} s on all processors")
        curl, fill = measure(box, near, "near", options.runs)
        print(f"loopback: curl {curl:.2f} s, imsy {fill:.2f} s; of curl and decoder one after the "
              f"other {(curl + decode) / fill:.2f} (goal 0.80)", flush=True)
        distant = Registry(box, "far", host=far.address, prefix=far.prefix)
        publish(distant, layout)
        far.limit(options.mbit)
        curl, fill = measure(box, distant, "far", options.runs)
        print(f"{options.mbit} Mbit/s: curl {curl:.2f} s ({size * 8 / 1e6 / curl:.0f} Mbit/s), "
              f"imsy {fill:.2f} s; of curl {curl / fill:.2f} (goal 0.95)")


if __name__ == "__main__":
    main()
