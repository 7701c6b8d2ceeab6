#!/usr/bin/env python3
"""imsy prepare, serve, pull: digests are those ever known, and only what is missing moves."""

import os
import subprocess
import unittest

from imsytest import env
from imsytest.proxy import Relay
from seed_lib import OtherServer, SeedCase, sequence, sha256

RANDOM = sequence(1 << 20)
# Chunks cut by a Rabin fingerprint: whoever wrote to such directories before gets the same names.
GOLDEN = [
    (b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", 0),
    (b"hello\n", "c31379f84f44b97b924ad817e32f750f69cdfaddf08140033bd441056ff7271d", 1),
    (bytes(4 << 20), "3b68da0a10fc1ccacef6e4a1ffa3458022c95747098fad9ebe356c5fe0adfabe", 1),
    (RANDOM, "656e9a608f543fc917d682577452566d2448360b9a32f40da6f1c4abe1115163", 11),
]


class SeedTest(SeedCase):
    def test_golden_digests(self):
        for number, (data, digest, chunks) in enumerate(GOLDEN):
            with self.subTest(digest=digest):
                self.assertEqual(digest, self.prepare(f"g{number}", data))
                self.assertEqual(chunks + 1, len(self.names(f"g{number}")))
                self.assert_only_good_objects(f"g{number}")

    def test_only_missing_chunks_are_fetched(self):
        changed = bytearray(RANDOM)
        changed[4_000_000:4_000_010] = b"0123456789abcdef"
        first, second = self.prepare("far", RANDOM), self.prepare("far", bytes(changed))
        server = self.serve("far")
        relay = Relay(self.box, server.port)
        self.assert_pulls(RANDOM, "near", relay.address, first)
        self.assertGreater(relay.bytes_down, len(RANDOM))
        whole, before = relay.bytes_down, self.names("near")

        self.assert_pulls(bytes(changed), "near", relay.address, second)
        # At most the two chunks around the change, of 1 MiB at most each, and the list.
        self.assertLess(relay.bytes_down - whole, (2 << 20) + 20_000)
        third, after = relay.bytes_down, self.names("near")

        errors = self.assert_pulls(RANDOM, "near", relay.address, first)
        self.assertEqual(third, relay.bytes_down, "nothing is missing, nothing is fetched")
        self.assertIn(" hits: 100.00% 0.00%\n", errors)

        server.stop()
        fetched = server.fetched()
        self.assertEqual(before, set(fetched[:12]))
        self.assertEqual(after - before, set(fetched[12:]))
        self.assertEqual(len(after), len(fetched), "nothing is fetched twice")

    def test_a_repeated_chunk_is_fetched_once(self):
        data = bytes(4 << 20) + RANDOM + bytes(4 << 20)
        digest = self.prepare("far", data)
        server = self.serve("far")
        self.assert_pulls(data, "near", server.address, digest)
        server.stop()
        self.assertEqual(sorted(self.names("far")), sorted(server.fetched()))

    def test_pulls_from_a_server_like_the_original(self):
        digest = self.prepare("far", RANDOM)
        server = OtherServer(self.box, self.folder / "far")
        self.assert_pulls(RANDOM, "near", server.address, digest)
        self.assertEqual(self.names("far"), self.names("near"))

    def test_a_directory_that_cannot_be_written_stays_as_it_is(self):
        if os.getuid() != 0:
            self.skipTest("mounting needs root")
        digest = self.prepare("far", RANDOM)
        server = self.serve("far")
        self.out.write_bytes(b"old")
        there = str(self.out.parent)
        # In mounts of its own, the directory as it is, and read-only.
        script = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && shift && exec "$@"'
        pull = [env.program("imsy"), "-dir", self.folder / "near", "-addr",
                f"http://{server.address}", "-o", self.out, "pull", digest]
        done = subprocess.run(["unshare", "--mount", "sh", "-c", script, "sh", there,
                               *map(str, pull)], capture_output=True, text=True, check=False)
        self.assertEqual((1, 1), (done.returncode, done.stderr.count("\n")), done.stderr)
        self.assertIn("Read-only file system", done.stderr)
        self.assertEqual(b"old", self.out.read_bytes())
        self.assert_nothing_beside_output("out")

    def test_a_wrong_byte_is_never_written(self):
        digest = self.prepare("far", RANDOM)
        chunk = self.folder / "far" / sha256(RANDOM[:1 << 20])
        good = chunk.read_bytes()
        chunk.write_bytes(good[:77] + bytes([good[77] ^ 1]) + good[78:])
        address = self.serve("far").address
        code, errors = self.pull("near", address, digest)
        self.assertEqual(1, code)
        self.assertIn(chunk.name, errors)
        self.assert_nothing_beside_output()
        self.assertNotIn(chunk.name, self.names("near"))
        self.assert_only_good_objects("near")

        # Preparing again repairs the file that is there, and then the pull goes through.
        self.assertEqual(digest, self.prepare("far", RANDOM))
        self.assert_pulls(RANDOM, "near", address, digest)

    def test_damaged_objects_at_home_are_fetched_again(self):
        digest = self.prepare("far", RANDOM)
        self.prepare("near", RANDOM)
        damaged = [self.folder / "near" / sha256(RANDOM[at << 20:(at + 1) << 20])
                   for at in range(2)]
        damaged[0].write_bytes(b"")
        damaged[1].write_bytes(bytes(1 << 20))
        server = self.serve("far")
        self.assert_pulls(RANDOM, "near", server.address, digest)
        self.assert_only_good_objects("near")
        server.stop()
        self.assertEqual({path.name for path in damaged}, set(server.fetched()))


if __name__ == "__main__":
    unittest.main()
