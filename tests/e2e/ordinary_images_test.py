#!/usr/bin/env python3
"""Images that nobody converted, and images built upon a converted one, work as with overlayfs."""

import json

from imsytest import check, env, images, imsy, oci, trees
from imsytest.node import Node
from imsytest.registry import Registry
from imsytest.sandbox import Sandbox


def build_upon(registry, source, target, tar):
    """Pushes an image of the layers of another one and one more, as a build would."""
    client = registry.client(source)
    manifest, _, _ = client.image("v1")
    config = json.loads(client.blob(manifest["config"]["digest"]))
    config["rootfs"]["diff_ids"].append(oci.digest(tar))
    config.get("history", []).append({"created_by": "one more layer"})
    target = registry.client(target)
    for layer in manifest["layers"]:
        target.push_blob(client.blob(layer["digest"]))
    blob, document = oci.compress(tar, oci.LAYER_GZIP), oci.document(config)
    manifest["layers"].append({"mediaType": oci.LAYER_GZIP, "size": len(blob),
                               "digest": target.push_blob(blob)})
    manifest["config"] |= {"size": len(document), "digest": target.push_blob(document)}
    target.push_manifest("v1", oci.document(manifest), oci.MANIFEST)


def ordinary(node):
    reference = node.plain("tiny", "v1")
    node.containerd.pull(reference, "overlayfs")
    node.containerd.pull(reference, "imsy")
    check.equal("v1\n", node.run(reference, "cat", "/data/version"), "a file of the image")
    with node.containerd.mounted(reference, "overlayfs") as expected, \
            node.containerd.mounted(reference, "imsy") as actual:
        trees.check_equal(trees.walk(expected), trees.walk(actual), "ordinary image")


def mixed(node, registry):
    layer = images.Tree().directory("data").whiteout("data/text").file("data/version", b"mixed\n")
    layer.directory("data/many").opaque("data/many").file("data/many/only", b"1\n")
    build_upon(registry, "tiny-imsy", "mixed", layer.tar())
    reference = node.pull("mixed", "v1")
    check.equal("mixed\n", node.run(reference, "cat", "/data/version"), "a replaced file")
    check.equal("only\n", node.run(reference, "ls", "/data/many"), "an opaque directory")
    check.equal("", node.run(reference, "find", "/data/text", check=False), "a removed file")
    check.contains("same.bin", node.run(reference, "ls", "/data"), "what the lower layers have")


def test():
    with Sandbox("ordinary_images") as box:
        registry = Registry(box)
        layout = images.tiny_versions(oci.Layout(box.path("layout")))
        imsy.publish(registry, "tiny", layout, "v1")
        node = Node(box, registry)
        ordinary(node)
        mixed(node, registry)


if __name__ == "__main__":
    env.main(test)
