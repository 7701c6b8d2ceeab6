#!/usr/bin/env python3
"""What rots in the store is found, by imsy fsck and by the daemon itself, and fetched again: a
program gets the right bytes, or an error while they cannot be had."""

import errno
import hashlib
import json
import os
import pathlib

from imsytest import check, env, images, imsy, oci
from imsytest.node import Node
from imsytest.process import Failed, run, wait_for
from imsytest.registry import Registry
from imsytest.sandbox import Sandbox

SAME = images.noise(3_000_000, "same")
CHANGED = images.noise(2_000_000, "changed")
TEXT = images.prose(1_000_000, "text")


def object_of(node, content):
    """The file of the store that has exactly this content."""
    for path in (node.snapshotter.root / "store" / "objects").rglob("*"):
        if path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content:
            return path
    raise Failed("an object of the image is not in the store")


def rot(path, offset=1_500_000):
    """Changes one byte, as a disk does: nobody is told."""
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))
        os.fsync(file.fileno())


def forget_pages():
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")


def read_all(node, reference):
    """What a new container would read."""
    forget_pages()
    with node.containerd.mounted(reference, "imsy") as root:
        for name, content in (("same.bin", SAME), ("changed.bin", CHANGED), ("text", TEXT)):
            check.true((root / "data" / name).read_bytes() == content, f"{name} reads right")


def finds_and_repairs_beside_the_daemon(node, registry, reference):
    check.equal(0, node.snapshotter.fsck().returncode, "fsck of a store that is well")
    before = registry.requests()
    rot(object_of(node, SAME))
    found = node.snapshotter.fsck("--read-data", "--json")
    check.equal(1, found.returncode, "fsck of a store with a wrong byte")
    report = json.loads(found.stdout)
    check.equal((1, 0), (report["found"], report["repaired"]), "findings and repairs")
    check.equal(before, registry.requests(), "requests of a check that repairs nothing")
    repaired = node.snapshotter.fsck("--read-data", "--repair")
    check.equal(0, repaired.returncode, f"fsck --repair: {repaired.stdout}{repaired.stderr}")
    stat = run([env.program("imsy"), "stat", "--json", "--root", node.snapshotter.root])
    check.true(json.loads(stat.stdout)["images"][0]["resident"], "the image is whole again")
    check.true(registry.requests() > before, "the bad chunk was fetched")
    check.equal(0, node.snapshotter.fsck("--read-data").returncode, "fsck after the repair")
    read_all(node, reference)


def scrubs_by_itself(node, registry, reference):
    """With the content gone from the registry, what is bad is an error and never wrong bytes."""
    same, text = object_of(node, SAME), object_of(node, TEXT)
    changed = object_of(node, CHANGED)
    node.snapshotter.stop()
    (node.snapshotter.root / "scrub").unlink()
    rot(same)
    os.truncate(changed, 100)
    text.unlink()
    text.symlink_to("/etc/passwd")
    manifest, _, _ = registry.client("tiny-imsy").image("v1")
    blob = registry.blob_file(manifest["layers"][-1]["digest"])
    away = blob.rename(blob.with_name("away"))
    before = node.snapshotter.log()
    node.snapshotter.start()
    node.containerd.wait_connected()

    def found():
        log = node.snapshotter.log().removeprefix(before)
        return "the store was read through" in log and all(
            path.name in log for path in (same, changed, text))
    wait_for(found, "the daemon to find what is bad", alive=node.snapshotter.child)
    forget_pages()
    with node.containerd.mounted(reference, "imsy") as root:
        for name, offset in (("same.bin", 1_500_000), ("changed.bin", 1_000_000), ("text", 0)):
            try:
                with open(root / "data" / name, "rb") as file:
                    file.seek(offset)
                    file.read(1)
            except OSError as error:
                check.equal(errno.EIO, error.errno, f"error of reading {name}")
            else:
                raise AssertionError(f"{name} was read, though its bytes are nowhere")
    away.rename(blob)
    node.snapshotter.wait_resident()
    read_all(node, reference)
    check.equal(0, node.snapshotter.fsck("--read-data").returncode, "fsck after the scrub")


def repairs_a_stopped_node(node, reference):
    node.snapshotter.stop()
    rot(object_of(node, SAME))
    manifest = next((node.snapshotter.root / "store" / "manifests").iterdir())
    os.truncate(manifest, manifest.stat().st_size - 1)
    check.equal(1, node.snapshotter.fsck("--read-data").returncode, "fsck of a stopped node")
    # The content of an image whose manifest cannot be read is looked at when it can be.
    check.equal(0, node.snapshotter.fsck("--read-data", "--repair").returncode, "its repair")
    node.snapshotter.start()
    node.containerd.wait_connected()
    node.snapshotter.wait_resident()
    repaired = node.snapshotter.fsck("--read-data", "--repair")
    check.contains("1 findings, 1 repaired", repaired.stdout, "what the manifest had hidden")
    read_all(node, reference)


def collects(node, reference):
    node.containerd.remove_images(reference)
    wait_for(lambda: not node.snapshotter.stats()["images"], "the store to disown the image")
    objects = node.snapshotter.root / "store" / "objects"

    def collected():
        run([env.program("imsy"), "gc", "--root", node.snapshotter.root,
             "--state", node.snapshotter.state])
        return not any(path.is_file() for path in objects.rglob("*"))
    wait_for(collected, "imsy gc to delete what no image owns")
    wrong = run([env.program("imsy"), "gc", "--root", node.snapshotter.root,
                 "--state", "/nowhere"], check=False)
    check.equal(1, wrong.returncode, "imsy gc with a wrong state directory")
    check.contains("name its state directory with --state", wrong.stderr, "what it says")


def test():
    with Sandbox("fsck") as box:
        registry = Registry(box, access_log=True)
        layout = images.tiny_versions(oci.Layout(box.path("layout")))
        imsy.publish(registry, "tiny", layout, "v1")
        node = Node(box, registry)
        reference = node.pull("tiny-imsy", "v1")
        node.snapshotter.wait_resident()
        check.equal(hashlib.sha256(SAME).hexdigest(),
                    node.run(reference, "sha256sum", "/data/same.bin").split()[0], "a large file")
        node.containerd.remove_containers()
        finds_and_repairs_beside_the_daemon(node, registry, reference)
        scrubs_by_itself(node, registry, reference)
        repairs_a_stopped_node(node, reference)
        collects(node, reference)


if __name__ == "__main__":
    env.main(test)
