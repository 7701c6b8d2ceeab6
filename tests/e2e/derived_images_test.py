#!/usr/bin/env python3
"""What a container wrote upon a lazy image becomes an image: it is pushed and saved, and runs
elsewhere, also with another snapshotter.

    IMSY_CONTAINERD   the version of containerd, 1.6 or 2
"""

import os

from imsytest import check, env, images, imsy, oci
from imsytest.clients import Nerdctl
from imsytest.node import DirectNode
from imsytest.process import wait_for
from imsytest.registry import Registry
from imsytest.sandbox import Sandbox

VERSION = os.environ.get("IMSY_CONTAINERD", "1.6")
CHANGED = ('[ "$(cat /data/version)" = mine ] && ! ls /data/text && [ "$(ls /data/many)" = only ]'
           ' && ls /data/same.bin')


def commits(node, source, target):
    client = Nerdctl(node.containerd)
    client.pull(source)
    client.start(source, "builder")
    client.exec("builder", "echo mine > /data/version; rm -r /data/text /data/many; "
                "busybox mkdir /data/many; touch /data/many/only")
    node.containerd.nerdctl("commit", "builder", target, snapshotter="imsy")
    client.remove("builder")
    client.run(target, CHANGED)
    # The layers that are not here: without them nobody can send the image on.
    node.containerd.ctr("content", "fetch", "--plain-http", source)
    node.containerd.nerdctl("push", target, snapshotter="imsy")


def pulls(node, reference):
    client = Nerdctl(node.containerd)
    client.pull(reference)
    # What was changed is unpacked upon it.
    wait_for(lambda: len(node.snapshotter.stats()["images"]) == 1,
             "the converted image to be shown")
    client.run(reference, CHANGED)
    client.remove_image(reference)
    node.containerd.pull(reference, "overlayfs")
    node.containerd.run(reference, "sh", "-c", CHANGED)


def loads(node, archive, reference):
    """Whoever has no registry gets all of it, and unpacks it."""
    node.containerd.nerdctl("load", "-i", archive, snapshotter="imsy")
    check.equal([], node.snapshotter.stats()["images"], "images that are shown")
    Nerdctl(node.containerd).run(reference, CHANGED)


def test():
    with Sandbox("derived_images") as box:
        registry = Registry(box)
        layout = images.tiny_versions(oci.Layout(box.path("layout")))
        imsy.publish(registry, "tiny", layout, "v1")
        nodes = [DirectNode(box, registry, f"node{number}", containerd={"version": VERSION})
                 for number in range(3)]
        reference = registry.reference("derived", "v1")
        commits(nodes[0], registry.reference("tiny-imsy", "v1"), reference)
        archive = box.folder / "derived.tar"
        nodes[0].containerd.nerdctl("save", "-o", archive, reference, snapshotter="imsy")
        pulls(nodes[1], reference)
        loads(nodes[2], archive, reference)


if __name__ == "__main__":
    env.main(test)
