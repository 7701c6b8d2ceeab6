#!/usr/bin/env python3
"""The store's own tests on each file system that a node may have."""

import os

from imsytest import check, env
from imsytest.disk import KINDS, Disk
from imsytest.process import run
from imsytest.sandbox import Sandbox, unmount

PROGRAMS = ("cas_store_test", "cas_fetcher_test")


def test_on(folder, kind):
    for name in PROGRAMS:
        done = run([env.BUILD / "tests" / "unit" / "cas" / name, "--gtest_brief=1"],
                   env={**os.environ, "TMPDIR": str(folder)}, check=False)
        print(f"{kind}: {name}: {done.stdout.splitlines()[-1]}", flush=True)
        check.equal(0, done.returncode, f"exit code of {name} on {kind}\n{done.stdout[-4000:]}")
        check.equal([], [path.name for path in folder.iterdir() if path.name != "lost+found"],
                    f"left by {name} on {kind}")


def test():
    with Sandbox("filesystems", limit=1700) as box:
        for kind in KINDS:
            disk = Disk(box, kind, name=kind)
            test_on(disk.folder, kind)
            disk.unmount()
        folder = box.path("tmpfs")
        run(["mount", "-t", "tmpfs", "tmpfs", folder])
        box.callback(lambda: unmount(folder, detach=True))
        test_on(folder, "tmpfs")


if __name__ == "__main__":
    env.main(test)
