#!/usr/bin/env python3
"""An upgrade fetches what changed, not the image: counted on the wire."""

from imsytest import check, env, images, imsy, oci
from imsytest.node import Node
from imsytest.registry import Registry
from imsytest.sandbox import Sandbox


def fetched_until_resident(node, tag, known):
    """Bytes that came over the wire for pulling and completing one version."""
    before = node.imsy_wire.bytes_down
    reference = node.pull("tiny-imsy", tag)
    node.snapshotter.wait_resident(images=known)
    check.equal(f"{tag}\n", node.run(reference, "cat", "/data/version"), "the version")
    return node.imsy_wire.bytes_down - before


def test():
    with Sandbox("upgrade_bytes") as box:
        registry = Registry(box)
        layout = images.tiny_versions(oci.Layout(box.path("layout")))
        imsy.publish(registry, "tiny", layout, "v1", "v2")
        fresh = Node(box, registry, "fresh")
        full = fetched_until_resident(fresh, "v2", 1)
        node = Node(box, registry, "node")
        fetched_until_resident(node, "v1", 1)
        upgrade = fetched_until_resident(node, "v2", 2)
        print(f"version 2 alone {full} bytes, as an upgrade {upgrade} bytes")
        # Of 6 MB that do not compress, some 64 KiB differ.
        check.true(upgrade < full / 4, f"an upgrade fetched {upgrade} of {full} bytes")
        check.true(node.snapshotter.stats()["bytes_fetched"] <= node.imsy_wire.bytes_down,
                   "the snapshotter counts no more than the wire does")
        node.containerd.stop()
        fresh.containerd.stop()


if __name__ == "__main__":
    env.main(test)
