#!/usr/bin/env python3
"""The tree of an image stays the same: through conversion, and whoever mounts it.

The original unpacked by overlayfs, the converted image mounted by imsy, lazily and resident, and
the converted image unpacked by overlayfs are compared path by path.
"""

from imsytest import env, images, imsy, oci, trees
from imsytest.node import Node
from imsytest.registry import Registry
from imsytest.sandbox import Sandbox


def compare(node, tag):
    original = node.plain("tiny", tag)
    node.containerd.pull(original)
    with node.containerd.mounted(original) as root:
        expected = trees.walk(root)
    lazy = node.pull("tiny-imsy", tag)
    with node.containerd.mounted(lazy, "imsy") as root:
        trees.check_equal(expected, trees.walk(root), f"{tag}: original and imsy, lazy")
        node.snapshotter.wait_resident()
        trees.check_equal(expected, trees.walk(root), f"{tag}: original and imsy, resident")
    unpacked = node.plain("tiny-imsy", tag)
    node.containerd.pull(unpacked)
    with node.containerd.mounted(unpacked) as root:
        trees.check_equal(expected, trees.walk(root), f"{tag}: original and converted, unpacked")


def test():
    with Sandbox("same_tree") as box:
        registry = Registry(box)
        layout = images.tiny_versions(oci.Layout(box.path("layout")))
        imsy.publish(registry, "tiny", layout, "v1", "v2")
        node = Node(box, registry)
        for tag in ("v1", "v2"):
            compare(node, tag)


if __name__ == "__main__":
    env.main(test)
