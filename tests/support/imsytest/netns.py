"""A network of a test's own, with addresses that belong to nobody else."""

import ctypes
import os

from . import env
from .process import run

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def enter(*addresses):
    """Gives this process and its children a network that ends with the last of them.

    It consists of loopback, which has these addresses too: nothing that is sent leaves it.
    """
    if _libc.unshare(_CLONE_NEWNET):
        raise env.Skip(f"no network namespace: {os.strerror(ctypes.get_errno())}")
    run(["ip", "link", "set", "lo", "up"])
    for address in addresses:
        run(["ip", "address", "add", f"{address}/32", "dev", "lo"])
