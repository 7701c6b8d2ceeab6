#!/usr/bin/env python3
"""The relay forwards both ways, whole and in order, and counts what it forwards."""

import contextlib
import os
import socket
import threading
import unittest

from imsytest.proxy import Relay


def serve(listener, answer):
    """Answers every connection after its question has ended."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            while connection.recv(65536):
                pass
            connection.sendall(answer)


class RelayTest(unittest.TestCase):
    def setUp(self):
        self.box = contextlib.ExitStack()
        self.addCleanup(self.box.close)
        self.answer = os.urandom(3_000_000)
        listener = self.box.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.port = listener.getsockname()[1]
        threading.Thread(target=serve, args=(listener, self.answer), daemon=True).start()

    def ask(self, relay, question):
        with socket.create_connection(("127.0.0.1", relay.port)) as connection:
            connection.sendall(question)
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65536), b""))

    def test_forwards_and_counts(self):
        relay = Relay(self.box, self.port)
        for _ in range(2):
            self.assertEqual(self.answer, self.ask(relay, b"q" * 1000))
        self.assertEqual((2 * len(self.answer), 2000, 2),
                         (relay.bytes_down, relay.bytes_up, relay.connections))

    def test_nothing_is_lost_when_slow(self):
        relay = Relay(self.box, self.port, latency=0.001, rate=1e9)
        self.assertEqual(self.answer, self.ask(relay, b"q"))

    def test_target_that_is_away_closes_the_connection(self):
        with socket.create_server(("127.0.0.1", 0)) as gone:
            port = gone.getsockname()[1]
        self.assertEqual(b"", self.ask(Relay(self.box, port), b""))


if __name__ == "__main__":
    unittest.main()
