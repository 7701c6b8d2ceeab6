#!/usr/bin/env python3
"""The tools for images, with a real registry: check, inspect, diff, unpack and export agree with
each other and with what containerd unpacks."""

import json

import treecmp
from imsytest import check, env, images, imsy, oci, trees
from imsytest.node import Node
from imsytest.process import run
from imsytest.registry import Registry
from imsytest.sandbox import Sandbox


def tool(*args):
    """Runs imsy over plain HTTP; what it prints."""
    return run([env.program("imsy"), args[0], "--plain-http", *args[1:]]).stdout


def documents(registry):
    old, new = (registry.reference("tiny-imsy", tag) for tag in ("v1", "v2"))
    for tag, converted in (("v1", old), ("v2", new)):
        proved = tool("check", converted, "--against", registry.reference("tiny", tag))
        check.contains("linux/amd64 proved", proved, f"the proof of {tag}")
    message = check.fails(lambda: tool("check", new, "--against", registry.reference("tiny", "v1")),
                          "comparing with another version")
    check.contains("differs from", message, "what is said of another version")
    counted = json.loads(tool("inspect", new, old, "--json"))["images"][0]
    change = json.loads(tool("diff", old, new, "--json"))["images"][0]
    lacking = counted["distinct_chunks"]["count"] - counted["shared"][0]["chunks"]["count"]
    check.equal(lacking, change["chunks"]["count"], "chunks that lack")
    check.true(0 < change["fetched_bytes"] < counted["stored_size"] / 4, "an upgrade is small")


def unpacked_trees(box, registry):
    """The tree of v1, unpacked in three ways; returns one of them."""
    converted = registry.reference("tiny-imsy", "v1")
    plain = registry.reference("tiny-plain", "v1")
    tool("export", converted, plain, "--compress", "gzip")
    found = {}
    for name, reference in (("converted", converted), ("exported", plain),
                            ("original", registry.reference("tiny", "v1"))):
        tool("unpack", reference, box.folder / name)
        found[name] = treecmp.walk(box.folder / name)
    for name in ("exported", "original"):
        trees.check_equal(found["converted"], found[name], f"converted and {name}, unpacked")
    return box.folder / "converted"


def test():
    with Sandbox("image_tools") as box:
        registry = Registry(box)
        layout = images.tiny_versions(oci.Layout(box.path("layout")))
        imsy.publish(registry, "tiny", layout, "v1", "v2")
        documents(registry)
        root = unpacked_trees(box, registry)
        node = Node(box, registry)
        for repository in ("tiny", "tiny-plain"):
            reference = node.plain(repository, "v1")
            node.containerd.pull(reference)
            with node.containerd.mounted(reference) as mounted:
                trees.check_equal(trees.walk(mounted), trees.walk(root),
                                  f"{repository} of containerd, and unpacked")


if __name__ == "__main__":
    env.main(test)
