"""What the tests of imsy prepare, serve and pull share."""

import contextlib
import hashlib
import http.server
import pathlib
import re
import signal
import socket
import subprocess
import tempfile
import threading
import unittest

from imsytest import env
from imsytest.process import Child, wait_for

MASK = (1 << 64) - 1


def sequence(count):
    """Bytes of a linear congruential generator, 8 per step."""
    state, out = 1, bytearray()
    for _ in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) & MASK
        out += (state >> 32).to_bytes(4, "little")
        out += (state >> 16 & 0xffffffff).to_bytes(4, "little")
    return bytes(out)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def memory_peak(pid):
    """The most memory that a process has had so far, in bytes."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"^VmHWM:\s+(\d+) kB", status, re.M)[1]) * 1024


class Serve:
    """imsy serve on a free port of loopback; its log has a line for each request."""

    def __init__(self, box, folder, name):
        self.child = Child(name, [env.program("imsy"), "-dir", folder / name, "-listen",
                                  "127.0.0.1:0", "serve"], folder / f"{name}.log")
        box.callback(self.child.stop)
        found = wait_for(lambda: re.search(r"serving on 127\.0\.0\.1:(\d+)\n",
                                           self.child.log_text()),
                         "imsy serve", alive=self.child)
        self.port = int(found[1])
        self.address = f"127.0.0.1:{self.port}"

    def stop(self):
        """Ends it; from then on the log is complete."""
        return self.child.stop()

    def fetched(self):
        """What was asked for, in the order of the log."""
        return re.findall(r'^\S+ \S+ fetched "(.*)"$', self.child.log_text(), re.M)

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def ask(self, text):
        """Sends a request as it is; returns head and body of the answer, up to the close."""
        with self.connect() as client:
            client.sendall(text if isinstance(text, bytes) else text.encode())
            answer = receive_all(client)
        head, _, body = answer.partition(b"\r\n\r\n")
        return head.decode(), body


def receive_all(client):
    pieces = []
    with contextlib.suppress(ConnectionResetError):
        while piece := client.recv(1 << 16):
            pieces.append(piece)
    return b"".join(pieces)


class OtherServer:
    """A server as the original program is one: no lengths, no ranges, and it can be made to wait.

    before(name): called before each answer, on the thread of its connection.
    """

    def __init__(self, box, folder, before=lambda name: None):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                before(self.path[1:])
                path = folder / self.path[1:]
                if not path.is_file():
                    self.send_error(404, "not found")
                    return
                self.send_response(200)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                data = path.read_bytes()
                with contextlib.suppress(OSError):  # the client may be gone
                    for at in range(0, len(data), 4000):
                        piece = data[at:at + 4000]
                        self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                    self.wfile.write(b"0\r\n\r\n")

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()
        box.callback(self.stop)

    def stop(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


class SeedCase(unittest.TestCase):
    def setUp(self):
        self.box = contextlib.ExitStack()
        self.addCleanup(self.box.close)
        self.folder = pathlib.Path(self.box.enter_context(tempfile.TemporaryDirectory()))
        (self.folder / "there").mkdir()
        self.out = self.folder / "there" / "out"

    def start(self, *words, **options):
        """Starts imsy; it is ended with the test at the latest."""
        process = subprocess.Popen([str(word) for word in (env.program("imsy"), *words)],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)

        def end():
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                with contextlib.suppress(AttributeError, OSError):
                    stream.close()
        self.box.callback(end)
        return process

    def prepare(self, name, data):
        done = subprocess.run([env.program("imsy"), "-dir", self.folder / name, "prepare"],
                              input=data, capture_output=True, check=True)
        return done.stdout.decode().strip()

    def serve(self, name):
        return Serve(self.box, self.folder, name)

    def start_pull(self, name, address, digest):
        return self.start("-dir", self.folder / name, "-addr", f"http://{address}",
                          "-o", self.out, "pull", digest)

    def pull(self, name, address, digest):
        """Returns the exit code and what was written to stderr."""
        process = self.start_pull(name, address, digest)
        _, errors = process.communicate()
        return process.returncode, errors.decode()

    def names(self, name):
        return {path.name for path in (self.folder / name).iterdir()}

    def assert_pulls(self, data, name, address, digest):
        code, errors = self.pull(name, address, digest)
        self.assertEqual(0, code, errors)
        self.assertTrue(self.out.read_bytes() == data)
        return errors

    def assert_only_good_objects(self, name):
        for path in (self.folder / name).iterdir():
            self.assertEqual(path.name, sha256(path.read_bytes()))

    def assert_nothing_beside_output(self, *names):
        self.assertEqual(set(names), self.names("there"))


def terminate(process, number=signal.SIGTERM):
    """Sends a signal; returns the exit code and what was written to stderr."""
    process.send_signal(number)
    _, errors = process.communicate()
    return process.returncode, errors.decode()
