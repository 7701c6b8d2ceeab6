#!/usr/bin/env python3
"""The disk as it was whenever it was told to write down what it has, during a pull, a removal and a
collection in a store: what was acknowledged by then holds, and the store works.

A disk may also have written some of what came next; so each such moment is tried a second time with
a random part of that. IMSY_SEED repeats a run, IMSY_EVERY=n tries every n-th moment only.
"""

import os
import random
import subprocess

from imsytest import check, env
from imsytest.block_log import LoggedDisk
from imsytest.disk import Disk
from imsytest.process import run
from imsytest.sandbox import Sandbox

KINDS = os.environ.get("IMSY_FILESYSTEMS", "ext4 xfs").split()
EVERY = int(os.environ.get("IMSY_EVERY", "1"))
STEPS = ("open", "add-first", "put-first", "mark-first", "add-second", "put-second",
         "remove-second", "collect", "close")
PROGRAM = env.BUILD / "tests" / "crash" / "store_steps"


def live(disk):
    """Lets a store live on the disk. Returns the position of the log after each step, and what was
    acknowledged by then."""
    acknowledged = []
    with subprocess.Popen([PROGRAM, disk.folder / "store", *STEPS], text=True,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        for step in STEPS:
            words = child.stdout.readline().split()
            check.equal(step, words[0] if words else "the end", "the step that was done")
            acknowledged.append((disk.position(), set(words[1:])))
            child.stdin.write("\n")
            child.stdin.flush()
    check.equal(0, child.returncode, "exit code of store_steps")
    return acknowledged


def promises_at(position, acknowledged):
    """What was acknowledged at this position, and not about to be undone."""
    done = [promises for end, promises in acknowledged if end <= position]
    coming = [promises for end, promises in acknowledged if end > position]
    return done[-1] & (coming or done[-1:])[0] if done else set()


def check_image(box, kind, image, promises):
    """A machine starts with this disk."""
    disk = Disk.of_image(box, kind, image)
    try:
        done = run([PROGRAM, disk.folder / "store", "check", *sorted(promises)], check=False)
        check.equal("", done.stderr, "what is wrong")
        check.equal(0, done.returncode, "exit code of store_steps")
    finally:
        disk.unmount()


def test_kind(box, kind, chance):
    disk = LoggedDisk(box, kind, name=f"{kind}-disk")
    acknowledged = live(disk)
    disk.unmount()
    moments = 0
    for moment in disk.flushes(box.folder / f"{kind}-replayed.img"):
        moments += 1
        if moments % EVERY:
            continue
        promises = promises_at(moment.acknowledged_until, acknowledged)
        check_image(box, kind, moment.image(), promises)
        check_image(box, kind, moment.image(chance), promises)
    print(f"{kind}: {moments} flushes, each {EVERY}. tried", flush=True)
    check.true(moments > len(STEPS), "the disk was told to flush")
    check.equal({"first-kept", "first-resident", "second-gone"}, acknowledged[-1][1],
                "what was acknowledged at the end")


def test():
    seed = os.environ.get("IMSY_SEED") or str(random.SystemRandom().getrandbits(32))
    print(f"IMSY_SEED={seed}", flush=True)
    with Sandbox("replay", limit=1700) as box:
        for kind in KINDS:
            test_kind(box, kind, random.Random(f"{kind} {seed}"))


if __name__ == "__main__":
    env.main(test)
