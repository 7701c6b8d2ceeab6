#!/usr/bin/env python3
"""A disk that does not give back a file: readers get the right bytes all the same, from the
registry, and when the disk is well again the image is complete once more."""

import array
import fcntl
import os
import struct

from imsytest import check, env, images, imsy, oci
from imsytest.block_log import LoggedDisk
from imsytest.containerd import Containerd
from imsytest.process import wait_for
from imsytest.registry import Registry
from imsytest.sandbox import Sandbox

SAME = images.noise(3_000_000, "same")
_FIEMAP = 0xC020660B
_EXTENTS = 32


def extents(path):
    """Where the bytes of a file lie on its disk, as (offset, length)."""
    header = struct.pack("QQIIII", 0, 1 << 62, 1, 0, _EXTENTS, 0)  # 1: write it out before
    buffer = array.array("B", header + bytes(56 * _EXTENTS))
    with open(path, "rb") as file:
        fcntl.ioctl(file, _FIEMAP, buffer)
    count, = struct.unpack_from("I", buffer, 20)
    return [struct.unpack_from("QQQ", buffer, 32 + 56 * number)[1:] for number in range(count)]


def object_of(store, content):
    """The file of the store with this content."""
    for path in (store / "objects").rglob("*"):
        if path.is_file() and path.stat().st_size == len(content):
            return path
    raise AssertionError("the content is not in the store")


def forget_pages():
    """Reads go to the disk again."""
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as control:
        control.write("1")


def test():
    with Sandbox("disk_errors") as box:
        registry = Registry(box)
        layout = images.tiny_versions(oci.Layout(box.path("layout")))
        imsy.publish(registry, "tiny", layout, "v1")
        disk = LoggedDisk(box, "ext4")
        node = imsy.Snapshotter(
            box, {"127.0.0.1": [f"http://{registry.address}"]},
            Containerd.socket_of(box, "containerd"), root=disk.folder / "root")
        containerd = Containerd(box, node.socket)
        reference = registry.reference("tiny-imsy", "v1")
        containerd.pull(reference, snapshotter="imsy")
        node.wait_resident()
        file = object_of(node.root / "store", SAME)
        bad = extents(file)
        with containerd.mounted(reference, "imsy") as root:
            for offset, length in bad:
                disk.fail_reads(offset, length)
            forget_pages()
            before = node.stats()["bytes_fetched"]
            check.true(SAME == (root / "data" / "same.bin").read_bytes(),
                       "the file reads right from a bad disk")
            wait_for(lambda: node.stats()["bytes_fetched"] >= before + len(SAME),
                     "its bytes to be fetched")
            check.contains("is lost: read: Input/output error", node.log(), "the log")
            wait_for(lambda: not node.stats()["images"][0]["resident"],
                     "the image to be known as incomplete")
            disk.stop_failing()
            node.wait_resident()
            forget_pages()
            check.true(SAME == (root / "data" / "same.bin").read_bytes(),
                       "the file reads right from the disk that is well again")
            check.true("EIO" not in node.log(), "no read has failed")


if __name__ == "__main__":
    env.main(test)
