#!/usr/bin/env python3
"""Pods of a lazy image come and go, and containers of many images are prepared at once: nothing
fails, and the daemon holds as much of the machine afterwards as before.

    IMSY_CYCLES       how many pods, one after another (20)
    IMSY_CONTAINERS   how many snapshots of containers at once (40)
"""

import concurrent.futures
import os

from imsytest import check, env, footprint, images, imsy, oci
from imsytest.clients import Cri
from imsytest.node import DirectNode
from imsytest.process import wait_for
from imsytest.registry import Registry
from imsytest.sandbox import Sandbox

CYCLES = int(os.environ.get("IMSY_CYCLES", "20"))
CONTAINERS = int(os.environ.get("IMSY_CONTAINERS", "40"))
IMAGES = 20
# What allocator and caches may keep of many calls.
MEMORY_SLACK = 32 << 20


def publish(box, registry):
    layout = oci.Layout(box.path("layout"))
    layout.add_image("v1", [images.base_layer().tar()], config={"Cmd": ["sleep", "1000000"]})
    registry.client("pause").push(layout, "v1")
    for number in range(IMAGES):
        tree = images.base_layer().directory("data").file("data/number", str(number).encode())
        tree.file("data/large", images.noise(500_000, number))
        layout.add_image(f"v{number}", [tree.tar()])
        imsy.publish(registry, "tiny", layout, f"v{number}")


def pods(client, reference):
    for _ in range(CYCLES):
        client.run(reference, '[ "$(cat /data/number)" = 0 ] && echo own > /data/number')


def containers(client, references):
    """Snapshots of containers of all images at once; all can be mounted, and all go."""
    chains = [client.containerd.chain_id(reference) for reference in references]
    snapshots = ("snapshots", "--snapshotter", "imsy")

    def prepare(number):
        done = client.containerd.ctr(*snapshots, "prepare", "--target", "/there",
                                     f"container-{number}", chains[number % IMAGES])
        # Without a lease they are garbage at once, so what is asked for comes with the answer.
        return done.stdout

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        mounts = list(pool.map(prepare, range(CONTAINERS)))
    for command in mounts:
        check.contains("mount -t overlay", command, "the mounts of a snapshot")
    check.equal(CONTAINERS, len(set(mounts)), "mounts of their own")
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: client.containerd.ctr(
            *snapshots, "rm", f"container-{number}", check=False), range(CONTAINERS)))
    client.containerd.collect_garbage()


def test():
    with Sandbox("cycles", limit=3500) as box:
        registry = Registry(box)
        publish(box, registry)
        node = DirectNode(box, registry, containerd={
            "version": "2", "pause": registry.reference("pause", "v1")})
        client = Cri(node.containerd)
        references = [registry.reference("tiny-imsy", f"v{number}") for number in range(IMAGES)]
        for reference in references:
            client.pull(reference)
        node.snapshotter.wait_resident(images=IMAGES)
        for _ in range(10):  # what is made once and stays
            client.run(references[0], '[ "$(cat /data/number)" = 0 ]')
        before = footprint.Footprint(node.snapshotter)
        pods(client, references[0])
        containers(client, references)
        footprint.wait_no_more(node.snapshotter, before)
        after = footprint.Footprint(node.snapshotter)
        print(f"{CYCLES} pods, {CONTAINERS} containers: descriptors "
              f"{before.descriptors.total()} -> {after.descriptors.total()}, sockets "
              f"{before.sockets} -> {after.sockets}, threads {before.threads} -> {after.threads}, "
              f"memory {before.memory >> 20} -> {after.memory >> 20} MiB")
        check.true(after.memory <= before.memory + MEMORY_SLACK, "memory is given back")
        for reference in references:
            client.remove_image(reference)
        wait_for(lambda: not node.snapshotter.stats()["images"], "no image to be shown")


if __name__ == "__main__":
    env.main(test)
