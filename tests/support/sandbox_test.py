#!/usr/bin/env python3
"""A sandbox leaves nothing: not when all is well, not on failure, not when a test hangs."""

import os
import pathlib
import subprocess
import sys
import tempfile
import textwrap
import unittest

from imsytest import env

PRELUDE = """
import sys, time, pathlib
sys.path.insert(0, {support!r})
from imsytest.sandbox import Sandbox
from imsytest.process import run
"""


class SandboxTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(dir="/var/tmp")
        self.addCleanup(folder.cleanup)
        self.base = pathlib.Path(folder.name)

    def run_body(self, body, limit=60):
        """Runs body inside of a sandbox, in a process of its own."""
        program = PRELUDE.format(support=str(env.ROOT / "tests" / "support"))
        program += f"with Sandbox('case', limit={limit}) as box:\n" + textwrap.indent(
            textwrap.dedent(body), "    ")
        return subprocess.run([sys.executable, "-c", program], text=True, capture_output=True,
                              timeout=120, check=False,
                              env={**os.environ, "IMSY_TEST_TMP": str(self.base)})

    def assert_nothing_left(self):
        self.assertEqual([], list(self.base.iterdir()))
        self.assertNotIn(str(self.base), pathlib.Path("/proc/self/mountinfo").read_text())
        for entry in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            try:
                self.assertNotIn(str(self.base).encode(), entry.read_bytes(), entry)
            except (FileNotFoundError, ProcessLookupError):
                pass

    def test_a_clean_test_passes_and_leaves_nothing(self):
        done = self.run_body("""
            child = box.child("sleeper", ["sleep", "1000"])
            run(["mount", "-t", "tmpfs", "tmpfs", box.path("m")])
            run(["umount", box.path("m")])
            child.kill()
        """)
        self.assertEqual((0, ""), (done.returncode, done.stderr))
        self.assert_nothing_left()

    def test_what_is_left_is_named_and_removed(self):
        done = self.run_body("""
            box.child("sleeper", ["sh", "-c", "sleep 1000; : " + str(box.folder)])
            run(["mount", "-t", "tmpfs", "tmpfs", box.path("m")])
        """)
        self.assertEqual(1, done.returncode)
        self.assertIn("left behind: process sleeper; mount tmpfs", done.stderr)
        self.assert_nothing_left()

    def test_a_process_that_left_its_group_is_found_by_its_arguments(self):
        done = self.run_body("""
            import subprocess
            subprocess.run(["setsid", "-f", "sh", "-c", "sleep 1000; : " + str(box.short)],
                           stdin=-3, stdout=-3, stderr=-3)
        """)
        self.assertIn("left behind: process", done.stderr)
        self.assert_nothing_left()

    def test_failure_shows_the_logs(self):
        done = self.run_body("""
            child = box.child("talker", ["sh", "-c", "echo something went wrong"])
            child.process.wait()
            raise ValueError("the reason")
        """)
        self.assertEqual(1, done.returncode)
        self.assertIn("something went wrong", done.stderr)
        self.assertIn("the reason", done.stderr)
        self.assert_nothing_left()

    def test_a_test_that_hangs_is_ended(self):
        done = self.run_body("""
            box.child("sleeper", ["sleep", "1000"])
            run(["mount", "-t", "tmpfs", "tmpfs", box.path("m")])
            box.child("waiter", ["sleep", "1000"]).process.wait()
        """, limit=1)
        self.assertEqual(1, done.returncode)
        self.assertIn("no end after", done.stderr)
        self.assert_nothing_left()


if __name__ == "__main__":
    if os.getuid() != 0:
        print("SKIP: mounting needs root")
        sys.exit(77)
    unittest.main()
