#!/usr/bin/env python3
"""imsy prepare, serve, pull: digests are those ever known, and only what is missing moves."""

import contextlib
import hashlib
import pathlib
import subprocess
import tempfile
import unittest

from imsytest import env
from imsytest.process import Child, answers, free_port, run, wait_for
from imsytest.proxy import Relay

MASK = (1 << 64) - 1


def sequence(count):
    """Bytes of a linear congruential generator, 8 per step."""
    state, out = 1, bytearray()
    for _ in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) & MASK
        out += (state >> 32).to_bytes(4, "little")
        out += (state >> 16 & 0xffffffff).to_bytes(4, "little")
    return bytes(out)


RANDOM = sequence(1 << 20)
# Chunks cut by a Rabin fingerprint: whoever wrote to such directories before gets the same names.
GOLDEN = [
    (b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", 0),
    (b"hello\n", "c31379f84f44b97b924ad817e32f750f69cdfaddf08140033bd441056ff7271d", 1),
    (bytes(4 << 20), "3b68da0a10fc1ccacef6e4a1ffa3458022c95747098fad9ebe356c5fe0adfabe", 1),
    (RANDOM, "656e9a608f543fc917d682577452566d2448360b9a32f40da6f1c4abe1115163", 11),
]


class SeedTest(unittest.TestCase):
    def setUp(self):
        self.box = contextlib.ExitStack()
        self.addCleanup(self.box.close)
        self.folder = pathlib.Path(self.box.enter_context(tempfile.TemporaryDirectory()))

    def prepare(self, name, data):
        done = subprocess.run([env.program("imsy"), "-dir", self.folder / name, "prepare"],
                              input=data, capture_output=True, check=True)
        return done.stdout.decode().strip()

    def serve(self, name):
        """Serves a directory; returns a relay before it that counts."""
        port = free_port()
        child = Child(name, [env.program("imsy"), "-dir", self.folder / name, "-listen",
                             f"127.0.0.1:{port}", "serve"], self.folder / f"{name}.log")
        self.box.callback(child.stop)
        wait_for(lambda: answers(port), "imsy serve", alive=child)
        return Relay(self.box, port)

    def pull(self, name, relay, digest):
        out = self.folder / "out"
        done = run([env.program("imsy"), "-dir", self.folder / name, "-addr",
                    f"http://{relay.address}", "-o", out, "pull", digest], check=False)
        return done, out

    def test_golden_digests(self):
        for number, (data, digest, chunks) in enumerate(GOLDEN):
            with self.subTest(digest=digest):
                self.assertEqual(digest, self.prepare(f"g{number}", data))
                kept = list((self.folder / f"g{number}").iterdir())
                self.assertEqual(chunks + 1, len(kept))
                for path in kept:
                    self.assertEqual(path.name, hashlib.sha256(path.read_bytes()).hexdigest())

    def test_only_missing_chunks_are_fetched(self):
        changed = bytearray(RANDOM)
        changed[4_000_000:4_000_010] = b"0123456789abcdef"
        first, second = self.prepare("far", RANDOM), self.prepare("far", bytes(changed))
        relay = self.serve("far")
        done, out = self.pull("near", relay, first)
        self.assertEqual((0, RANDOM), (done.returncode, out.read_bytes()), done.stderr)
        whole = relay.bytes_down
        self.assertGreater(whole, len(RANDOM))
        done, out = self.pull("near", relay, second)
        self.assertEqual((0, bytes(changed)), (done.returncode, out.read_bytes()), done.stderr)
        # At most the two chunks around the change, of 1 MiB at most each, and the list.
        self.assertLess(relay.bytes_down - whole, (2 << 20) + 20_000)
        third = relay.bytes_down
        done, out = self.pull("near", relay, first)
        self.assertEqual((0, RANDOM), (done.returncode, out.read_bytes()))
        self.assertEqual(third, relay.bytes_down, "nothing is missing, nothing is fetched")

    def test_a_wrong_byte_is_never_written(self):
        digest = self.prepare("far", RANDOM)
        chunk = max((self.folder / "far").iterdir(), key=lambda path: path.stat().st_size)
        chunk.write_bytes(bytes([chunk.read_bytes()[0] ^ 1]) + chunk.read_bytes()[1:])
        done, out = self.pull("near", self.serve("far"), digest)
        self.assertEqual(1, done.returncode)
        self.assertIn(chunk.name, done.stderr)
        self.assertFalse(out.exists())
        self.assertFalse((self.folder / "near" / chunk.name).exists())


if __name__ == "__main__":
    unittest.main()
