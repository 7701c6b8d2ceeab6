#!/usr/bin/env python3
"""How long containerd's calls take with many snapshots present, beside its own overlayfs.

    bench/snapshots.py [--present N] [--rounds N] [--runs N]

One containerd, two snapshotters, the same client calls: Prepare, Mounts, Stat, Usage, Commit,
Remove, List, after N (10,000) snapshots were made on one layer. Of each run the median of N (200)
calls; of N runs (5), in turns and each on its own roots, the median again, in microseconds, and
its ratio to overlayfs's. Goal: at most 1.0. Files lie where IMSY_TEST_TMP says, on a disk that
syncs.
"""

import argparse
import json
import pathlib
import statistics
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests" / "support"))

from imsytest import env  # noqa: E402
from imsytest.containerd import Containerd  # noqa: E402
from imsytest.imsy import Snapshotter  # noqa: E402
from imsytest.process import run  # noqa: E402
from imsytest.sandbox import Sandbox  # noqa: E402

NAMES = ("overlayfs", "imsy")


def measure(number, name, options):
    """A containerd and a snapshotter of their own, so that nobody meets what another has left."""
    with Sandbox(f"snapshots-{number}-{name}") as box:
        snapshotter = Snapshotter(box)
        containerd = Containerd(box, snapshotter.socket)
        done = run([env.tool("snapshots-bench"), containerd.socket, name, str(options.present),
                    str(options.rounds)])
        return json.loads(done.stdout)


def report(runs):
    print(f"{'call':<8} {'overlayfs':>12} {'imsy':>12} {'ratio':>7}")
    for call in runs["imsy"][0]:
        medians = {name: statistics.median(one[call] for one in runs[name]) for name in NAMES}
        print(f"{call:<8} {medians['overlayfs']:>9.0f} us {medians['imsy']:>9.0f} us "
              f"{medians['imsy'] / medians['overlayfs']:>7.2f}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--present", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    runs = {name: [] for name in NAMES}
    for number in range(options.runs):
        for name in NAMES:
            runs[name].append(measure(number, name, options))
            print(f"{number} {name} {json.dumps(runs[name][-1])}", file=sys.stderr, flush=True)
    report(runs)


if __name__ == "__main__":
    env.main(main)
