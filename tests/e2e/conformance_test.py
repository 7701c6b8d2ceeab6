#!/usr/bin/env python3
"""containerd's own snapshotter suite passes, all of it: directly, and below its metadata."""

import re
import sys

from imsytest import check, env
from imsytest.process import run
from imsytest.sandbox import Sandbox

SUBTESTS = 21


def test():
    suite = env.tool("conformance.test")
    with Sandbox("conformance") as box:
        done = run([suite, "-test.v", "-test.parallel", "2", "-test.timeout", "500s"], check=False,
                   cwd=box.folder,
                   env=env.environment(IMSY_SNAPSHOTTER=str(env.program("imsy-snapshotter")),
                                       IMSY_SOCKETS=str(box.short), TMPDIR=str(box.folder)))
        if done.returncode:
            print(done.stdout, done.stderr, file=sys.stderr)
        check.equal(0, done.returncode, "exit code of the suite")
        for way in ("Direct", "Metadata"):
            passed = re.findall(rf"^ +--- PASS: TestSnapshotter/{way}/(\S+)", done.stdout, re.M)
            check.equal(SUBTESTS, len(passed), f"subtests that passed, {way}: {passed}")


if __name__ == "__main__":
    env.main(test)
