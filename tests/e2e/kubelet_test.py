#!/usr/bin/env python3
"""The kubelet pulls a private image through our image service: its credential, which nobody else
has, is enough to read the image lazily, until it is changed, and again from the next pull on.

    IMSY_CONTAINERD   the version of containerd, 1.6 or 2
"""

import os

from imsytest import check, env, images, imsy, oci
from imsytest.clients import Cri
from imsytest.faultreg import FaultyRegistry
from imsytest.node import DirectNode
from imsytest.process import Failed, wait_for
from imsytest.registry import Registry
from imsytest.sandbox import Sandbox

VERSION = os.environ.get("IMSY_CONTAINERD", "1.6")
FILES = 4
OLD, NEW = ("joe", "first-secret"), ("joe", "second-secret")


def content(number):
    return images.noise(1_000_000, f"private {number}")


def reads(number):
    """A script that reads a file, which nobody read before."""
    return f"[ $(cat /data/{number} | wc -c) = {len(content(number))} ]"


def publish(box, private, public):
    layout = oci.Layout(box.path("layout"))
    tree = images.base_layer().directory("data")
    tree.symlink("bin/wc", "busybox")
    for number in range(FILES):
        tree.file(f"data/{number}", content(number))
    layout.add_image("v1", [tree.tar()])
    imsy.publish(private, "private", layout, "v1")
    layout.add_image("pause", [images.base_layer().tar()], config={"Cmd": ["sleep", "1000000"]})
    public.client("pause").push(layout, "pause")


def refused(client, reference, login):
    try:
        client.pull(reference, login)
    except Failed as failed:
        return str(failed)
    raise Failed(f"a pull of {reference} with {login} succeeded")


def its_credential_is_enough(client, node, manifest, reference):
    check.contains("401", refused(client, reference, None), "a pull without a credential")
    client.pull(reference, OLD)
    wait_for(lambda: len(node.snapshotter.stats()["images"]) == 1, "the image to be shown")
    layers = {layer["digest"] for layer in manifest["layers"]}
    check.equal(set(), layers & client.containerd.contents(), "layers that containerd fetched")
    client.start(reference, "reader")
    client.exec("reader", reads(0))


def what_it_lists_is_containerds(client, reference):
    check.contains(reference, client.images(), "images that CRI lists")
    status = client.call("ImageStatus", image={"image": reference})["image"]
    check.contains(reference, status["repo_tags"], "tags of the image")
    check.true(client.call("ImageFsInfo")["image_filesystems"], "file systems")


def a_changed_one_comes_with_the_next_pull(client, registry, reference):
    registry.set(bearer=list(NEW), expire_tokens=True)
    check.contains("401", refused(client, reference, OLD), "a pull with the old credential")
    client.pull(reference, NEW)
    client.exec("reader", reads(1))


def test():
    with Sandbox("kubelet") as box:
        registry, public = FaultyRegistry(box), Registry(box)
        publish(box, registry, public)
        manifest, _, _ = registry.client("private-imsy").image("v1")
        reference = registry.reference("private-imsy", "v1")
        pause = public.reference("pause", "pause")
        node = DirectNode(box, registry, background_fill=False, cri={"image_service": True},
                          containerd={"version": VERSION, "pause": pause})
        client = Cri(node.containerd, node.snapshotter.socket)
        client.pull(pause)
        registry.set(bearer=list(OLD))
        its_credential_is_enough(client, node, manifest, reference)
        what_it_lists_is_containerds(client, reference)
        a_changed_one_comes_with_the_next_pull(client, registry, reference)
        client.remove("reader")
        client.remove_image(reference)
        wait_for(lambda: not node.snapshotter.stats()["images"], "no image to be shown")
        for secret in (OLD[1], NEW[1]):
            check.true(secret not in node.snapshotter.log(), "no secret in the log")


if __name__ == "__main__":
    env.main(test)
