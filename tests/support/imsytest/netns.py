"""A network of a test's own, with addresses that belong to nobody else."""

import ctypes
import os

from . import env
from .process import run, wait_for

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def enter():
    """Gives this process and its children a loopback that ends with the last of them."""
    if _libc.unshare(_CLONE_NEWNET):
        raise env.Skip(f"no network namespace: {os.strerror(ctypes.get_errno())}")
    run(["ip", "link", "set", "lo", "up"])


def add(*addresses):
    """Loopback has these addresses too: what is sent to them does not leave it."""
    for address in addresses:
        run(["ip", "address", "add", f"{address}/32", "dev", "lo"])


class Far:
    """Another network, of which `address` is reached by a wire of its own."""

    address = "10.99.0.2"

    def __init__(self, box):
        child = box.child("far-network", ["unshare", "--net", "sleep", "infinity"])
        box.callback(child.stop)
        here = os.readlink("/proc/self/ns/net")
        wait_for(lambda: os.readlink(f"/proc/{child.pid}/ns/net") != here, "another network",
                 alive=child)
        # What to put before a command that is to run there.
        self.prefix = ["nsenter", f"--net=/proc/{child.pid}/ns/net"]
        run(["ip", "link", "add", "near", "type", "veth", "peer", "name", "far",
             "netns", str(child.pid)])
        run(["ip", "address", "add", "10.99.0.1/24", "dev", "near"])
        run(["ip", "link", "set", "near", "up"])
        self._run("ip", "address", "add", f"{self.address}/24", "dev", "far")
        self._run("ip", "link", "set", "far", "up")

    def _run(self, *command):
        run([*self.prefix, *command])

    def limit(self, mbit):
        """From now on no more than so many megabits a second come from there."""
        self._run("tc", "qdisc", "add", "dev", "far", "root", "tbf", "rate", f"{mbit}mbit",
                  "burst", "256kb", "latency", "50ms")
