#!/usr/bin/env python3
"""A converted image is pulled without its layers, runs, becomes resident, and goes away again."""

import hashlib

from imsytest import check, env, images, imsy, oci
from imsytest.node import Node
from imsytest.process import wait_for
from imsytest.registry import Registry
from imsytest.sandbox import Sandbox

SAME = hashlib.sha256(images.noise(3_000_000, "same")).hexdigest()


def layers(registry, tag):
    manifest, _, _ = registry.client("tiny-imsy").image(tag)
    return {layer["digest"] for layer in manifest["layers"]}


def pulls_without_layers(node, registry):
    """nerdctl hands the annotations on, so no layer is downloaded; the container still runs."""
    reference = node.pull("tiny-imsy", "v1")
    check.equal(set(), layers(registry, "v1") & node.containerd.contents(),
                "layers in containerd's content store after a lazy pull")
    check.equal("v1\n", node.run(reference, "cat", "/data/version"), "a file of the image")
    check.contains(SAME, node.run(reference, "sha256sum", "/data/same.bin"), "a large file")
    return reference


def is_explained(node, reference):
    """Of the image and of its containers it is said where they are, and why."""
    node.containerd.ctr("containers", "create", "--snapshotter", "imsy", reference, "explained")
    snapshot, = node.snapshotter.explain("explained")["snapshots"]
    check.equal([False, True, True], [layer["lazy"] for layer in snapshot["layers"]],
                "lazy layers below a container")
    check.contains("/tiny-imsy", snapshot["image"]["places"][0], "where the image is from")
    check.true(snapshot["image"]["live"] and snapshot["image"]["public"], "live and public")
    check.true(snapshot["image"]["bytes_fetched"] > 0, "bytes fetched for the image")
    node.containerd.ctr("containers", "rm", "explained")
    check.fails(lambda: node.snapshotter.explain("nobody"), "a name that nobody has")


def says_why_it_is_unpacked(node, reference):
    top = node.containerd.chain_id(reference)
    snapshot, = node.snapshotter.explain(top)["snapshots"]
    check.equal([(False, ""), (False, "")],
                [(layer["lazy"], layer["reason"]) for layer in snapshot["layers"]],
                "layers that came without labels")


def knows_the_machine(node):
    facts = node.snapshotter.explain()["facts"]
    check.true(any(fact.startswith("kernel ") for fact in facts), f"the kernel in {facts}")
    check.true(any(fact.startswith("containerd ") for fact in facts), f"containerd in {facts}")


def containers_write_to_their_own(node, reference):
    script = "echo new > /data/version; rm /data/text; cat /data/version; ls /data/text"
    output = node.run(reference, "sh", "-c", f"{script} 2>/dev/null || echo gone")
    check.equal("new\ngone\n", output, "what a container sees of its own changes")
    check.equal("v1\n", node.run(reference, "cat", "/data/version"), "the image after that")


def runs_with_ctr(node, reference):
    node.containerd.ctr_run(reference, '[ "$(cat /data/version)" = v1 ]', "imsy")
    check.fails(lambda: node.containerd.ctr_run(reference, "exit 3", "imsy"), "a failing container")


def pulls_with_ctr(node, registry):
    """ctr hands no annotation on, so both layers are unpacked the ordinary way, and run."""
    reference = node.lazy("tiny-imsy", "v2")
    node.containerd.ctr("images", "pull", "--plain-http", "--snapshotter", "imsy", reference)
    check.equal(layers(registry, "v2"), layers(registry, "v2") & node.containerd.contents(),
                "layers in the content store after an ordinary pull")
    check.equal("v2\n", node.run(reference, "cat", "/data/version"), "a file of the image")
    return reference


def needs_no_registry_when_resident(node, registry, reference):
    node.snapshotter.wait_resident()
    registry.stop()
    check.contains(SAME, node.run(reference, "sha256sum", "/data/same.bin"), "a large file")
    registry.start()


def goes_away(node, *references):
    node.containerd.remove_images(*references)
    check.equal([], node.containerd.snapshots("imsy"), "snapshots after the images were removed")
    wait_for(lambda: not node.snapshotter.stats()["images"], "the store to disown the images")


def test():
    with Sandbox("pull_and_run") as box:
        registry = Registry(box)
        layout = images.tiny_versions(oci.Layout(box.path("layout")))
        imsy.publish(registry, "tiny", layout, "v1", "v2")
        node = Node(box, registry)
        first = pulls_without_layers(node, registry)
        is_explained(node, first)
        knows_the_machine(node)
        containers_write_to_their_own(node, first)
        runs_with_ctr(node, first)
        second = pulls_with_ctr(node, registry)
        says_why_it_is_unpacked(node, second)
        needs_no_registry_when_resident(node, registry, first)
        goes_away(node, first, second)


if __name__ == "__main__":
    env.main(test)
