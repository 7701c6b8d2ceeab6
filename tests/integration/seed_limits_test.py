#!/usr/bin/env python3
"""imsy prepare, serve, pull: what clients and large inputs may cost, and requests by hand."""

import contextlib
import os
import resource
import subprocess
import unittest

from imsytest import env
from seed_lib import SeedCase, memory_peak, sequence, sha256

MIB = 1 << 20
DATA = sequence(1 << 17)  # one chunk


class ServeTest(SeedCase):
    def setUp(self):
        super().setUp()
        self.prepare("far", DATA)
        self.server = self.serve("far")
        self.object = sha256(DATA)

    def ask(self, line, *fields):
        head, body = self.server.ask("\r\n".join(
            [f"{line} HTTP/1.1", "Host: here", "Connection: close", *fields, "", ""]))
        return head.split("\r\n")[0].split(" ")[1], head.lower(), body

    def test_ranges(self):
        for field, status, expected in [
                (None, "200", DATA),
                ("bytes=0-0", "206", DATA[:1]),
                ("bytes=70000-", "206", DATA[70000:]),
                ("bytes=-100", "206", DATA[-100:]),
                ("bytes=1048575-99999999", "206", DATA[-1:]),
                ("bytes=1048576-", "416", None),
                ("bytes=0-0,5-5", "200", DATA),
                ("pages=1", "200", DATA)]:
            with self.subTest(field=field):
                fields = [f"Range: {field}"] if field else []
                got, head, body = self.ask(f"GET /{self.object}", *fields)
                self.assertEqual(status, got)
                if expected is None:
                    self.assertIn(f"content-range: bytes */{len(DATA)}", head)
                else:
                    self.assertTrue(body == expected)
                    self.assertIn(f"content-length: {len(expected)}", head)

    def test_many_ranges_in_one_header(self):
        def ranges(count):
            return "Range: bytes=" + ",".join(f"{at}-{at}" for at in range(count))
        before = memory_peak(self.server.child.pid)
        # As many as a head may have: answered with all of it, and not one by one.
        status, _, body = self.ask(f"GET /{self.object}", ranges(1500))
        self.assertEqual("200", status)
        self.assertTrue(body == DATA)
        status, _, _ = self.ask(f"GET /{self.object}", ranges(100_000))
        self.assertEqual("431", status)
        self.assertLess(memory_peak(self.server.child.pid) - before, 16 * MIB)

    def test_head_has_no_body(self):
        status, head, body = self.ask(f"HEAD /{self.object}")
        self.assertEqual(("200", b""), (status, body))
        self.assertIn(f"content-length: {len(DATA)}", head)

    def test_only_objects_are_served(self):
        (self.folder / "secret").write_text("secret")
        (self.folder / "far" / "secret").write_text("secret")
        (self.folder / "far" / ("1" * 64)).symlink_to(self.folder / "secret")
        os.mkfifo(self.folder / "far" / ("2" * 64))
        for path in ("/secret", "/../secret", "/%2e%2e/secret", "/" + "1" * 64, "/" + "2" * 64,
                     "//" + self.object, "/" + self.object.upper(), "/."):
            with self.subTest(path=path):
                status, _, body = self.ask(f"GET {path}")
                self.assertEqual(("404", b"not found\n"), (status, body))
        self.assertEqual(("200", b""), self.ask("GET /")[::2])
        self.assertEqual("405", self.ask("POST /")[0])

    def open_slow_clients(self, count, size):
        """Clients that ask for a large object and take nothing of it; the object's name."""
        name = "3" * 64
        with open(self.folder / "far" / name, "wb") as sparse:
            sparse.truncate(size)
        clients = []
        for _ in range(count):
            client = self.box.enter_context(self.server.connect())
            client.sendall(f"GET /{name} HTTP/1.1\r\n\r\n".encode())
            clients.append(client)
        return clients

    def test_slow_clients_cost_little_and_hold_nobody_up(self):
        self.ask("GET /")
        before = memory_peak(self.server.child.pid)
        clients = self.open_slow_clients(200, 64 * MIB)
        for client in clients:  # all are being answered
            self.assertEqual(b"HTTP/1.1 200", client.recv(12))
        status, _, body = self.ask(f"GET /{self.object}")
        self.assertEqual("200", status)
        self.assertTrue(body == DATA)
        self.assertLess(memory_peak(self.server.child.pid) - before, 64 * MIB)

    def test_more_clients_than_places_wait_for_one(self):
        # 256 of them hold every place; when they leave, those who wait are served.
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(limit[0], 2000), max(limit[1], 2000)))
        clients = self.open_slow_clients(1000, 64 * MIB)
        waiting = self.box.enter_context(self.server.connect())
        waiting.sendall(f"GET /{self.object} HTTP/1.1\r\nConnection: close\r\n\r\n".encode())
        self.assertLess(memory_peak(self.server.child.pid), 128 * MIB)
        for client in clients:
            client.close()
        answer = b""
        while piece := waiting.recv(1 << 16):
            answer += piece
        self.assertTrue(answer.endswith(DATA))

    def test_a_head_without_end_is_refused(self):
        before = memory_peak(self.server.child.pid)
        for filler in (b"GET /" + b"a" * 100, b"X: " + b"b" * 50 + b"\r\n", b"\r\n", b"\0" * 100):
            with self.subTest(filler=filler), self.server.connect() as client:
                client.sendall(b"GET / HTTP/1.1\r\n")
                with contextlib.suppress(ConnectionError):
                    for _ in range(64 * MIB // len(filler)):
                        client.sendall(filler)
                        if filler == b"\r\n":
                            break  # that is the end of the head
        self.assertLess(memory_peak(self.server.child.pid) - before, 16 * MIB)
        self.assertEqual("200", self.ask("GET /")[0])

    def test_ends_when_asked_with_clients_connected(self):
        self.open_slow_clients(5, 64 * MIB)
        idle = self.box.enter_context(self.server.connect())
        self.assertEqual(0, self.server.stop())
        with contextlib.suppress(ConnectionError):
            self.assertEqual(b"", idle.recv(1))


class MemoryTest(SeedCase):
    SIZE = 256 * MIB

    def feed(self, stream):
        """Writes SIZE bytes that do not repeat; returns nothing."""
        for _ in range(self.SIZE // MIB):
            stream.write(os.urandom(MIB))
        stream.flush()

    def test_prepare_and_pull_need_memory_for_a_few_chunks_only(self):
        preparing = self.start("-dir", self.folder / "far", "prepare", stdin=subprocess.PIPE)
        self.feed(preparing.stdin)
        self.assertLess(memory_peak(preparing.pid), 64 * MIB)
        digest = preparing.communicate()[0].decode().strip()

        # The output is a pipe that is read slowly enough to look at the program in between.
        os.mkfifo(self.out)
        server = self.serve("far")
        pulling = self.start_pull("near", server.address, digest)
        with open(self.out, "rb") as pipe:
            got = 0
            while got < self.SIZE - MIB:
                got += len(pipe.read(MIB))
            peak = memory_peak(pulling.pid)
            got += len(pipe.read())
        _, errors = pulling.communicate()
        self.assertEqual((0, self.SIZE), (pulling.returncode, got), errors)
        self.assertLess(peak, 160 * MIB)


class ExitCodeTest(SeedCase):
    def test_as_the_original(self):
        folder = self.folder / "cas"
        for words, code in [
                (["-h"], 0), (["--help"], 0), (["help"], 0), (["--version"], 0),
                ([], 1), (["prepare"], 1), (["-dir", folder], 1), (["-dir", folder, "foo"], 1),
                (["-dir", folder, "pull", self.object_name()], 1),
                (["-dir", folder, "-o", self.out, "pull"], 1),
                (["-dir", folder, "-listen", "8080", "serve"], 1),
                (["-x"], 2), (["-dir"], 2), (["---dir", "x"], 2)]:
            with self.subTest(words=words):
                done = subprocess.run([env.program("imsy"), *words], stdin=subprocess.DEVNULL,
                                      capture_output=True, check=False)
                self.assertEqual(code, done.returncode, done.stderr)
        with open("/dev/full", "wb") as full:
            done = subprocess.run([env.program("imsy"), "-dir", folder, "prepare"], check=False,
                                  stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE)
        self.assertEqual(1, done.returncode)

    @staticmethod
    def object_name():
        return sha256(b"")


if __name__ == "__main__":
    unittest.main()
