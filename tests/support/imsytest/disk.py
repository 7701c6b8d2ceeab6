"""A disk of a test's own: a file system on a loop device, whose power can be cut."""

import fcntl
import os
import struct

from . import env
from .process import run
from .sandbox import mounts_below, unmount

KINDS = ("ext4", "xfs", "btrfs")

# Ends a file system at once: what is not on the disk yet never gets there. ext4 and XFS know it.
_SHUTDOWN = 0x8004587D
_WITHOUT_FLUSHING_THE_LOG = 2


class Disk:
    """folder is where it is mounted. The device is freed with the last mount of it, also when the
    test is killed."""

    def __init__(self, box, kind, name="disk", size=512 << 20):
        self.kind = kind
        self.folder = box.path(name)
        self._image = box.folder / f"{name}.img"
        with open(self._image, "wb") as image:
            image.truncate(size)
        run([env.tool(f"mkfs.{kind}"), "-q", self._image], env=env.disk_environment())
        self.mount()
        box.callback(self.unmount)

    def mount(self):
        done = run(["mount", "-t", self.kind, "-o", "loop", self._image, self.folder], check=False)
        if done.returncode:
            raise env.Skip(f"{self.kind} cannot be mounted here: {done.stderr.strip()}")

    def unmount(self):
        """Takes away the file system, and what is mounted in it."""
        for point, _, _ in reversed(mounts_below(self.folder)):
            if unmount(point):
                unmount(point, detach=True)

    def cut_power(self):
        """From now on every access fails. unmount() and mount() are the machine's next start."""
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(folder, _SHUTDOWN, struct.pack("I", _WITHOUT_FLUSHING_THE_LOG))
        finally:
            os.close(folder)
