#!/usr/bin/env python3
"""imsy prepare and pull, ended in the middle: nothing half-done stays, and what is done is kept."""

import signal
import threading
import unittest

from imsytest.process import wait_for
from seed_lib import OtherServer, SeedCase, sequence, sha256, terminate

DATA = sequence(1 << 20)


class InterruptedPullTest(SeedCase):
    def setUp(self):
        super().setUp()
        self.digest = self.prepare("far", DATA)
        self.last_chunk = sha256(DATA[-670180:])
        self.is_asked = threading.Event()
        self.go_on = threading.Event()
        self.box.callback(self.go_on.set)
        self.stalling = OtherServer(self.box, self.folder / "far", self.before)

    def before(self, name):
        """Answers everything but the last chunk."""
        if name == self.last_chunk:
            self.is_asked.set()
            self.go_on.wait()

    def interrupt(self, number):
        """Ends a pull when all chunks but the last are stored."""
        self.is_asked.clear()
        process = self.start_pull("near", self.stalling.address, self.digest)
        self.is_asked.wait()
        kept = self.names("far") - {self.last_chunk}
        wait_for(lambda: self.names("near") >= kept, "the chunks", deadline=120)
        return terminate(process, number)

    def check_and_resume(self):
        self.assertEqual(self.names("far") - {self.last_chunk}, self.names("near"))
        self.assert_only_good_objects("near")
        server = self.serve("far")
        self.assert_pulls(DATA, "near", server.address, self.digest)
        server.stop()
        self.assertEqual([self.last_chunk], server.fetched())
        self.assert_nothing_beside_output("out")

    def test_killed(self):
        code, _ = self.interrupt(signal.SIGKILL)
        self.assertEqual(-signal.SIGKILL, code)
        self.assert_nothing_beside_output()
        self.check_and_resume()

    def test_terminated(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(signal=number):
                self.out.write_bytes(b"before")
                code, errors = self.interrupt(number)
                self.assertEqual(1, code)
                self.assertIn("interrupted", errors)
                self.assertEqual(b"before", self.out.read_bytes())
                self.assert_nothing_beside_output("out")
        self.check_and_resume()

    def test_the_old_output_stays_until_the_new_one_is_complete(self):
        self.out.write_bytes(b"before")
        self.out.chmod(0o640)
        with self.out.open("rb") as held:
            process = self.start_pull("near", self.stalling.address, self.digest)
            self.is_asked.wait()
            self.assertEqual(b"before", self.out.read_bytes())
            self.go_on.set()
            self.assertEqual(0, process.wait())
            self.assertTrue(self.out.read_bytes() == DATA)
            self.assertEqual(b"before", held.read(), "it was replaced, not overwritten")
        self.assertEqual(0o640, self.out.stat().st_mode & 0o777)
        self.assert_nothing_beside_output("out")


class InterruptedPrepareTest(SeedCase):
    def interrupt(self, number):
        """Ends a prepare that still waits for input, when it has stored some chunks."""
        process = self.start("-dir", self.folder / "cas", "prepare", stdin=-1)
        process.stdin.write(DATA)
        process.stdin.flush()
        wait_for(lambda: (self.folder / "cas").is_dir() and len(self.names("cas")) >= 3,
                 "the first chunks")
        process.send_signal(number)
        code = process.wait()
        errors = process.stderr.read().decode()
        process.stdin.close()
        return code, errors

    def test_killed(self):
        code, _ = self.interrupt(signal.SIGKILL)
        self.assertEqual(-signal.SIGKILL, code)
        self.assert_only_good_objects("cas")

    def test_terminated(self):
        code, errors = self.interrupt(signal.SIGTERM)
        self.assertEqual(1, code)
        self.assertIn("interrupted", errors)
        self.assert_only_good_objects("cas")


if __name__ == "__main__":
    unittest.main()
