"""A disk of a test's own: a file system on a loop device, whose power can be cut."""

import fcntl
import os
import struct

from . import env
from .process import run, wait_for
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
        self.image = box.folder / f"{name}.img"
        with open(self.image, "wb") as image:
            image.truncate(size)
        run([env.tool(f"mkfs.{kind}"), "-q", self.image], env=env.disk_environment())
        self.mount()
        box.callback(self.unmount)

    @classmethod
    def of_image(cls, box, kind, image):
        """The disk with this image, mounted; the caller unmounts it."""
        disk = cls.__new__(cls)
        disk.kind, disk.image = kind, image
        disk.folder = box.path("mounted")
        disk.mount()
        return disk

    def _device(self):
        """What the loop device is to be put over."""
        return self.image

    def mount(self):
        done = run(["mount", "-t", self.kind, "-o", "loop", self._device(), self.folder],
                   check=False)
        if done.returncode:
            raise env.Skip(f"{self.kind} cannot be mounted here: {done.stderr.strip()}")

    def unmount(self):
        """Takes away the file system, and what is mounted in it; waits for who still uses it."""
        for point, _, _ in reversed(mounts_below(self.folder)):
            if point == str(self.folder):
                wait_for(lambda: unmount(self.folder) == 0, f"the end of all uses of {point}")
            elif unmount(point):
                unmount(point, detach=True)

    def cut_power(self):
        """From now on every access fails. unmount() and mount() are the machine's next start."""
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(folder, _SHUTDOWN, struct.pack("I", _WITHOUT_FLUSHING_THE_LOG))
        finally:
            os.close(folder)
