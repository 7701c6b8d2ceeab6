#!/usr/bin/env python3
"""Random traffic on a whole node: eight images that share content are pulled, mounted, read by 64
readers, removed, collected and checked. No read fails, and at the end nothing is left.

    IMSY_SOAK_SECONDS   how long; without it a few operations
    IMSY_SOAK_SEED      to do the same again
"""

import contextlib
import os
import pathlib
import random
import threading
import time

from imsytest import check, env, images, imsy, oci
from imsytest.node import Node
from imsytest.process import Failed, run, wait_for
from imsytest.registry import Registry
from imsytest.sandbox import Sandbox

IMAGES = 8
READERS = 64
OPERATIONS = 16


def content_of(number):
    """Files of one image: some are in all, some in two, some in it alone."""
    version = bytearray(images.noise(1_500_000, "version"))
    version[700_000:700_064] = images.noise(64, number)
    return {"version": bytes(version),
            "pair": images.noise(700_000, f"pair {number // 2}"),
            "own": images.noise(900_000, f"own {number}"),
            **{f"common-{i}": images.prose(2_000 + 3_000 * i, i) for i in range(20)}}


class Image:
    def __init__(self, number):
        self.tag = f"v{number}"
        self.content = content_of(number)
        self.stack = None  # what to undo when it is removed
        self.root = None   # where it is mounted
        self.readers = 0


class Soak:
    def __init__(self, node, seed):
        self.node = node
        self.random = random.Random(seed)
        self.images = [Image(number) for number in range(IMAGES)]
        self.changed = threading.Condition()
        self.over = False
        self.failure = None
        self.reads = 0

    # --- readers

    def begin_read(self, choose):
        with self.changed:
            while not self.over:
                ready = [image for image in self.images if image.root]
                if ready:
                    image = choose.choice(ready)
                    image.readers += 1
                    return image
                self.changed.wait()
        return None

    def end_read(self, image):
        with self.changed:
            image.readers -= 1
            self.reads += 1
            self.changed.notify_all()

    def read_all_the_time(self, seed):
        choose = random.Random(seed)
        while image := self.begin_read(choose):
            try:
                name = choose.choice(sorted(image.content))
                content = image.content[name]
                offset = choose.randrange(len(content))
                length = choose.randrange(1, 200_000)
                with open(image.root / "data" / name, "rb") as file:
                    data = os.pread(file.fileno(), length, offset)
                if data != content[offset:offset + length]:
                    raise Failed(f"{name} of {image.tag} has wrong bytes at {offset}")
            except Exception as error:  # of any kind: it ends the test
                with self.changed:
                    self.failure = self.failure or error
                    self.over = True
            finally:
                self.end_read(image)

    # --- the operator

    def operate(self):
        image = self.random.choice(self.images)
        choice = self.random.randrange(10)
        if choice < 5 and not image.stack:
            self.pull(image)
        elif choice < 7 and image.stack:
            self.remove(image)
        elif choice == 7:
            self.imsy("gc")
        elif choice == 8:
            self.imsy("fsck", "--read-data")
        else:
            pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")

    def pull(self, image):
        reference = self.node.pull("soak-imsy", image.tag)
        with contextlib.ExitStack() as stack:
            stack.callback(self.node.containerd.remove_images, reference)
            root = stack.enter_context(self.node.containerd.mounted(reference, "imsy"))
            image.stack = stack.pop_all()
        with self.changed:
            image.root = root
            self.changed.notify_all()

    def remove(self, image):
        with self.changed:
            image.root = None
            self.changed.wait_for(lambda: image.readers == 0)
        stack, image.stack = image.stack, None
        stack.close()

    def imsy(self, command, *options):
        snapshotter = self.node.snapshotter
        return run([env.program("imsy"), command, "--root", snapshotter.root,
                    "--state", snapshotter.state, *options])

    def run(self, goes_on):
        readers = [threading.Thread(target=self.read_all_the_time, args=(seed,))
                   for seed in range(READERS)]
        for reader in readers:
            reader.start()
        operations = 0
        try:
            while goes_on(operations) and not self.failure:
                self.operate()
                operations += 1
        finally:
            with self.changed:
                self.over = True
                self.changed.notify_all()
            for reader in readers:
                reader.join()
            for image in self.images:
                if image.stack:
                    self.remove(image)
        if self.failure:
            raise self.failure
        return operations

    def leaves_nothing(self):
        wait_for(lambda: not self.node.snapshotter.stats()["images"], "all images to be disowned")
        store = self.node.snapshotter.root / "store"

        def empty():
            self.imsy("gc")
            return not any(path.is_file() for folder in ("objects", "partial", "manifests", "trash")
                           for path in (store / folder).rglob("*"))
        wait_for(empty, "the store to be empty")
        check.equal([], list((self.node.snapshotter.root / "profiles").iterdir()), "profiles left")


def descriptors(node):
    return len(os.listdir(f"/proc/{node.snapshotter.child.pid}/fd"))


def memory(node):
    """Resident bytes of the daemon."""
    fields = pathlib.Path(f"/proc/{node.snapshotter.child.pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


def test():
    seconds = int(os.environ.get("IMSY_SOAK_SECONDS", "0"))
    seed = int(os.environ.get("IMSY_SOAK_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"seed {seed}", flush=True)
    with Sandbox("soak", limit=seconds + 540.0) as box:
        registry = Registry(box)
        layout = oci.Layout(box.path("layout"))
        for number in range(IMAGES):
            tree = images.Tree().directory("data")
            for name, content in content_of(number).items():
                tree.file(f"data/{name}", content)
            layout.add_image(f"v{number}", [tree.tar()], [oci.LAYER_TAR], config={})
        imsy.publish(registry, "soak", layout, *(f"v{number}" for number in range(IMAGES)))
        node = Node(box, registry)
        soak = Soak(node, seed)
        # What is made once and stays: connections, threads, caches.
        for image in soak.images:
            soak.pull(image)
            soak.remove(image)
        soak.leaves_nothing()
        before, memory_before = descriptors(node), memory(node)
        end = time.monotonic() + seconds
        operations = soak.run(lambda done: time.monotonic() < end if seconds else done < OPERATIONS)
        soak.leaves_nothing()
        print(f"{operations} operations, {soak.reads} reads; descriptors {before} -> "
              f"{descriptors(node)}, memory {memory_before >> 20} -> {memory(node) >> 20} MiB")
        # gRPC and the registry's connections come and go.
        check.true(descriptors(node) <= before + 16, "no descriptors are left open")


if __name__ == "__main__":
    env.main(test)
