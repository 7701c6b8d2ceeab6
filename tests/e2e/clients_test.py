#!/usr/bin/env python3
"""Every client pulls, runs and removes a converted image and an ordinary one beside it, with the
configuration that users are given. The table says who pulls lazily.

    IMSY_CONTAINERD   the version of containerd, 1.6 or 2
"""

import os

from imsytest import check, env, footprint, images, imsy, oci
from imsytest.clients import Cri, Ctr, Nerdctl
from imsytest.node import DirectNode
from imsytest.process import wait_for
from imsytest.registry import Registry
from imsytest.sandbox import Sandbox

VERSION = os.environ.get("IMSY_CONTAINERD", "1.6")
NAMES = ("ctr", "ctr-local", "nerdctl", "cri", "cri-other", "cri-nameless")


def as_given(text):
    return text


def without(line):
    """The example without a line."""
    def edit(text):
        check.contains(line, text, "the example")
        return text.replace(line, "")
    return edit


def with_annotations(text):
    """The last table of the example is that of images."""
    return text + "  disable_snapshot_annotations = false\n"


# Of each containerd: the client's name and how it is made; the configuration; whether it pulls
# lazily from a registry that imsy's configuration knows, and from one on a port of which only the
# name of the image can tell.
TABLE = {
    "1.6": (
        ("ctr", Ctr, as_given, False, False),
        ("nerdctl", Nerdctl, as_given, True, False),
        ("cri", Cri, as_given, True, True),
        ("cri-nameless", Cri, without("  disable_snapshot_annotations = false\n"), True, False),
    ),
    "2": (
        ("ctr", Ctr, as_given, True, True),
        ("ctr-local", lambda containerd: Ctr(containerd, "--local"), as_given, False, False),
        ("nerdctl", Nerdctl, as_given, True, False),
        ("cri", Cri, as_given, True, True),
        ("cri-other", Cri, with_annotations, True, True),
        ("cri-nameless", Cri, without('    enable_remote_snapshot_annotations = "true"\n'), True,
         False),
    ),
}


def publish(box, registry):
    """An image of its own for each line and registry, and one for pods' own containers."""
    layout = oci.Layout(box.path("layout"))
    layout.add_image("v1", [images.base_layer().tar()], config={"Cmd": ["sleep", "1000000"]})
    registry.client("pause").push(layout, "v1")
    for name in NAMES:
        for place in ("known", "named"):
            tree = images.base_layer().directory("data")
            tree.file("data/version", f"{name}-{place}".encode())
            tree.file("data/large", images.noise(1_000_000, name))
            layout.add_image(f"{name}-{place}", [tree.tar()])
            imsy.publish(registry, "tiny", layout, f"{name}-{place}")


def is_lazy(node, client, registry, tag):
    """Either no layer has come, and imsy shows the image; or all of them came, and it does not."""
    manifest, _, _ = registry.client("tiny-imsy").image(tag)
    layers = {layer["digest"] for layer in manifest["layers"]}
    blobs = layers & client.containerd.contents()
    shown = wait_for(lambda: len(node.snapshotter.stats()["images"]) if not blobs else 2,
                     "the image to be shown")
    check.true(blobs in (set(), layers), f"all layers or none of {tag}: {blobs}")
    if blobs:
        check.equal([], node.snapshotter.stats()["images"], f"images shown with {tag} unpacked")
    else:
        check.equal(1, shown, "images shown")
    return not blobs


def lives(client, reference, content):
    """What everybody does with an image that was pulled."""
    same = f'[ "$(cat /data/version)" = {content} ]'
    client.run(reference, same)
    client.start(reference, "one")
    check.true("one" in client.running(), "a container runs")
    client.exec("one", f"{same} && echo new > /data/version && rm /data/large")
    client.exec("one", '[ "$(cat /data/version)" = new ] && ! ls /data/large')
    client.run(reference, same)
    client.remove("one")
    check.true("one" not in client.running(), "a container was removed")


def row(node, registry, client, name, expected):
    """Pulls by two names of one registry; imsy's configuration knows the port of the first."""
    for place, host, lazy in (("known", "127.0.0.1", expected[0]),
                              ("named", "localhost", expected[1])):
        tag = f"{name}-{place}"
        reference = f"{host}:{registry.port}/tiny-imsy:{tag}"
        ordinary = f"{host}:{registry.port}/tiny:{tag}"
        client.pull(reference)
        check.equal(lazy, is_lazy(node, client, registry, tag), f"whether {tag} is lazy")
        client.pull(ordinary)
        lives(client, reference, tag)
        client.run(ordinary, f'[ "$(cat /data/version)" = {tag} ]')
        client.remove_image(reference)
        client.remove_image(ordinary)
        wait_for(lambda: not node.snapshotter.stats()["images"], "no image to be shown")


def file_system(client, node):
    """What the kubelet asks for: how full the images' file system is, and by whom."""
    def known():
        found, = client.call("ImageFsInfo")["image_filesystems"]
        return found if found["used_bytes"].get("value") else None
    found = wait_for(known, "containerd to know the usage of imsy's snapshots")
    if VERSION != "1.6":  # Debian's 1.6.20 does not know exports yet.
        check.equal(str(node.snapshotter.root), found["fs_id"]["mountpoint"], "file system")
    check.true(found["inodes_used"]["value"] > 0, "files are counted")


def statistics(client, reference):
    client.start(reference, "writer")
    client.exec("writer", "cat /data/large /data/large > /written")

    def known():
        entry, = client.call("ListContainerStats")["stats"]
        return entry["writable_layer"]["used_bytes"].get("value", 0) >= 2_000_000
    wait_for(known, "the statistics of a container to have what it wrote")
    client.remove("writer")


def kubelet(node, registry, client):
    reference = f"{registry.address}/tiny-imsy:cri-known"
    client.pull(reference)
    check.contains(reference, client.images(), "images that CRI lists")
    file_system(client, node)
    statistics(client, reference)
    client.remove_image(reference)
    check.true(reference not in client.images(), "a removed image is not listed")


def test():
    with Sandbox("clients") as box:
        registry = Registry(box)
        publish(box, registry)
        pause = registry.reference("pause", "v1")
        nodes = {}
        for name, make, edit, *expected in TABLE[VERSION]:
            if edit not in nodes:
                nodes[edit] = DirectNode(
                    box, registry, f"node{len(nodes)}",
                    containerd={"version": VERSION, "pause": pause, "edit": edit})
            node = nodes[edit]
            before = footprint.Footprint(node.snapshotter)
            client = make(node.containerd)
            row(node, registry, client, name, expected)
            if name == "cri":
                kubelet(node, registry, client)
            if make is Cri:
                client.remove_image(pause)
            footprint.wait_no_more(node.snapshotter, before)
            print(f"{name}: {expected}", flush=True)


if __name__ == "__main__":
    env.main(test)
