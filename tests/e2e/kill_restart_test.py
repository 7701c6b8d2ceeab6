#!/usr/bin/env python3
"""kill -9 of the snapshotter and a new start: everything is there as before, without a registry."""

import hashlib

from imsytest import check, env, images, imsy, oci, trees
from imsytest.node import Node
from imsytest.registry import Registry
from imsytest.sandbox import Sandbox

SAME = hashlib.sha256(images.noise(3_000_000, "same")).hexdigest()


def records(node):
    """What containerd knows of snapshots and images; each snapshot asks the snapshotter."""
    return (node.containerd.snapshots("imsy"),
            sorted(node.containerd.ctr("images", "ls", "-q").stdout.split()))


def tree(node, reference):
    with node.containerd.mounted(reference, "imsy") as root:
        return trees.walk(root)


def start_writer(node, reference):
    """A container that has written to its own layer and goes on running."""
    node.containerd.nerdctl("run", "-d", "--name", "writer", "--net", "none", "--pull", "never",
                            reference, "sh", "-c", "cat /own 2>/dev/null; echo mine > /own; "
                            "touch /ready; sleep 100000", snapshotter="imsy")
    node.containerd.nerdctl("exec", "writer", "sh", "-c",
                            "until ls /ready; do sleep 0.01; done", snapshotter="imsy")


def restart_writer(node):
    """The stopped container starts again upon its own layer, which has what it wrote."""
    node.containerd.nerdctl("kill", "writer", check=False, snapshotter="imsy")
    node.containerd.nerdctl("start", "writer", snapshotter="imsy")
    output = node.containerd.nerdctl("exec", "writer", "cat", "/own", snapshotter="imsy").stdout
    check.equal("mine\n", output, "what the container had written before the crash")


def resident_image(node, registry, converted, ordinary):
    node.snapshotter.wait_resident()
    start_writer(node, converted)
    before = records(node)
    lazy, unpacked = tree(node, converted), tree(node, ordinary)
    registry.stop()
    for _ in range(2):
        node.snapshotter.kill()
        node.snapshotter.start()
        node.containerd.wait_connected()
    check.equal(before, records(node), "snapshots and images")
    trees.check_equal(lazy, tree(node, converted), "converted image before and after")
    trees.check_equal(unpacked, tree(node, ordinary), "ordinary image before and after")
    for reference in (converted, ordinary):
        check.contains(SAME, node.run(reference, "sha256sum", "/data/same.bin"), "a new container")
    restart_writer(node)
    registry.start()


def half_fetched_image(node):
    """Killed while it fetches: what was verified stays, the rest is fetched afterwards."""
    reference = node.pull("tiny-imsy", "v2")
    check.equal("v2\n", node.run(reference, "cat", "/data/version"), "a file before the crash")
    node.snapshotter.kill()
    node.snapshotter.start()
    node.containerd.wait_connected()
    check.contains(SAME, node.run(reference, "sha256sum", "/data/same.bin"), "after the crash")
    node.snapshotter.wait_resident(images=2)


def test():
    with Sandbox("kill_restart") as box:
        registry = Registry(box)
        layout = images.tiny_versions(oci.Layout(box.path("layout")))
        imsy.publish(registry, "tiny", layout, "v1", "v2")
        node = Node(box, registry, rate=20_000_000)
        converted = node.pull("tiny-imsy", "v1")
        ordinary = node.plain("tiny", "v1")
        node.containerd.pull(ordinary, "imsy")
        resident_image(node, registry, converted, ordinary)
        half_fetched_image(node)


if __name__ == "__main__":
    env.main(test)
