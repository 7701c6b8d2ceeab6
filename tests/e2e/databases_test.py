#!/usr/bin/env python3
"""The daemon's databases are overwritten, cut off, emptied or deleted: the index is made anew, the
database of snapshots is refused with what to do, and what containers wrote stays in any case."""

import contextlib
import shutil

from imsytest import check, env, images, imsy, oci
from imsytest.containerd import Containerd
from imsytest.process import run
from imsytest.registry import Registry
from imsytest.sandbox import Sandbox, unmount

SAME = images.noise(3_000_000, "same")


def overwrite(path):
    path.write_bytes(b"rubbish " * 4096)


def overwrite_the_middle(path):
    data = bytearray(path.read_bytes())
    for at in range(4096, len(data), 4096):
        data[at:at + 2048] = b"\xff" * 2048
    path.write_bytes(data)


def cut_off(path):
    path.write_bytes(path.read_bytes()[:5000])


def empty(path):
    path.write_bytes(b"")


def delete(path):
    path.unlink()


DAMAGES = (overwrite, overwrite_the_middle, cut_off, empty, delete)


class Node:
    """A node with an image, and a snapshot in which a container has written."""

    def __init__(self, box, registry):
        self.box = box
        self.snapshotter = imsy.Snapshotter(box, {"127.0.0.1": [f"http://{registry.address}"]},
                                            Containerd.socket_of(box, "containerd"))
        self.containerd = Containerd(box, self.snapshotter.socket)
        self.reference = registry.reference("tiny-imsy", "v1")
        self.containerd.pull(self.reference, snapshotter="imsy")
        self.snapshotter.wait_resident()
        self._snapshots("prepare", "writer", self.containerd.chain_id(self.reference))
        self._snapshots("label", "writer", "containerd.io/gc.root=test")
        with self._mounted() as root:
            (root / "written").write_text("by a container")

    def _snapshots(self, *words):
        return self.containerd.ctr("snapshots", "--snapshotter", "imsy", *words)

    @contextlib.contextmanager
    def _mounted(self):
        folder = self.box.path("writer")
        run(["sh", "-c", self._snapshots("mounts", folder, "writer").stdout])
        try:
            yield folder
        finally:
            unmount(folder)

    def check(self, what):
        with self._mounted() as root:
            check.equal("by a container", (root / "written").read_text(), f"a file, {what}")
            check.true(SAME == (root / "data" / "same.bin").read_bytes(), f"the image, {what}")

    def start(self):
        self.snapshotter.start()
        self.containerd.wait_connected()


def check_index(node, damage):
    what = f"after the index was hit by {damage.__name__}"
    before = node.snapshotter.log().count("the index was rebuilt")
    node.snapshotter.stop()
    damage(node.snapshotter.root / "store" / "index.db")
    node.start()
    node.check(what)
    node.snapshotter.wait_resident()
    if damage is not overwrite_the_middle:  # which is found only by who comes across it
        check.equal(before + 1, node.snapshotter.log().count("the index was rebuilt"),
                    f"lines in the log {what}")


def check_snapshots(node, damage):
    what = f"after the database of snapshots was hit by {damage.__name__}"
    database = node.snapshotter.root / "snapshots.db"
    good = node.box.folder / "snapshots.db"
    node.snapshotter.stop()
    shutil.copy(database, good)
    damage(database)
    left = database.read_bytes() if database.exists() else None
    message = check.fails(node.snapshotter.start, f"a start {what}")
    check.contains("restore it from a copy", message, "the message")
    check.equal(left, database.read_bytes() if database.exists() else None,
                f"the damaged database {what}")
    shutil.copy(good, database)
    node.start()
    node.check(what)


def test():
    with Sandbox("databases") as box:
        registry = Registry(box)
        layout = images.tiny_versions(oci.Layout(box.path("layout")))
        imsy.publish(registry, "tiny", layout, "v1")
        node = Node(box, registry)
        for damage in DAMAGES:
            check_index(node, damage)
        for damage in DAMAGES:
            check_snapshots(node, damage)


if __name__ == "__main__":
    env.main(test)
