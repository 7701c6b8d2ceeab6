#!/usr/bin/env python3
"""A converted image is an ordinary image: other unpackers give the same tree, and it runs."""

from imsytest import check, env, images, imsy, oci, trees
from imsytest.foreign import Foreign
from imsytest.node import Node
from imsytest.registry import Registry
from imsytest.sandbox import Sandbox


def with_overlayfs(node, expected):
    reference = node.plain("tiny-imsy", "v1")
    node.containerd.pull(reference)
    check.equal("v1\n", node.containerd.run(reference, "cat", "/data/version"), "nerdctl run")
    with node.containerd.mounted(reference) as root:
        trees.check_equal(expected, trees.walk(root), "original and converted, with overlayfs")
    node.containerd.remove_images(reference)


def with_ctr(node):
    reference = node.plain("tiny-imsy", "v1")
    node.containerd.ctr("images", "pull", "--plain-http", "--snapshotter", "overlayfs", reference)
    node.containerd.ctr_run(reference, '[ "$(cat /data/version)" = v1 ]')


def with_others(box, registry, expected):
    """skopeo, umoci and podman, which are here only when their packages could be unpacked."""
    try:
        for name in ("skopeo", "umoci", "podman", "conmon"):
            env.tool(name)
    except env.Skip as reason:
        print(f"left out: {reason}")
        return
    foreign = Foreign(box)
    reference = registry.reference("tiny-imsy", "v1")
    foreign.skopeo("inspect", "--tls-verify=false", f"docker://{reference}")
    unpacked = foreign.unpacked_by_umoci(reference, "v1")
    trees.check_equal(expected, trees.walk(unpacked), "original and converted, with umoci")
    with foreign.podman_mounted(reference) as root:
        actual = trees.walk(root)
    del actual[b"."]["mode"], expected[b"."]["mode"]  # podman makes every root 0555
    trees.check_equal(expected, actual, "original and converted, with podman")


def test():
    with Sandbox("runs_everywhere") as box:
        registry = Registry(box)
        layout = images.tiny_versions(oci.Layout(box.path("layout")))
        imsy.publish(registry, "tiny", layout, "v1")
        node = Node(box, registry, snapshotter=False)
        original = node.plain("tiny", "v1")
        node.containerd.pull(original)
        with node.containerd.mounted(original) as root:
            expected = trees.walk(root)
        with_overlayfs(node, expected)
        with_ctr(node)
        with_others(box, registry, expected)


if __name__ == "__main__":
    env.main(test)
