#!/usr/bin/env python3
"""One wrong byte in the registry: that file gives EIO and a reason, nothing else changes, and the
file reads right once the blob is repaired, without mounting anything again."""

import errno
import hashlib

from imsytest import check, env, images, imsy, oci
from imsytest.node import Node
from imsytest.process import Failed, wait_for
from imsytest.registry import Registry
from imsytest.sandbox import Sandbox

SAME = images.noise(3_000_000, "same")
MIDDLE = 1_500_000


def flip(path, part):
    """Changes one byte where a file of an image keeps these bytes; returns how to undo it.

    The bytes do not compress, so the frame that has them has them as they are.
    """
    data = path.read_bytes()
    at = data.find(part)
    check.true(at >= 0 and data.find(part, at + 1) < 0, "the bytes lie once in the blob")

    def write(value):
        with open(path, "r+b") as blob:
            blob.seek(at)
            blob.write(bytes([value]))
    write(data[at] ^ 1)
    return lambda: write(data[at])


def digest_of(node, container, path):
    done = node.containerd.nerdctl("exec", container, "sha256sum", path, snapshotter="imsy")
    return done.stdout.split()[0]


def check_broken(node, root):
    try:
        with open(root / "data" / "same.bin", "rb") as file:
            file.seek(MIDDLE)
            file.read(1)
    except OSError as error:
        check.equal(errno.EIO, error.errno, "error of the read")
    else:
        raise AssertionError("a read of the damaged part succeeded")
    wait_for(lambda: "digest" in node.snapshotter.log(), "a line in the log that says why")
    # Bytes of the same file that another frame has, and every other file, are as they were.
    with open(root / "data" / "same.bin", "rb") as file:
        check.equal(SAME[:1000], file.read(1000), "an undamaged part of the file")
    for number in (0, 100, 199):
        expected = images.prose(500 + 37 * number, number)
        check.equal(expected, (root / "data" / "many" / str(number)).read_bytes(), "other files")
    check.equal(hashlib.sha256(images.noise(2_000_000, "changed")).hexdigest(),
                hashlib.sha256((root / "data" / "changed.bin").read_bytes()).hexdigest(),
                "another large file")


def test():
    with Sandbox("flipped_byte") as box:
        registry = Registry(box)
        layout = images.tiny_versions(oci.Layout(box.path("layout")))
        imsy.publish(registry, "tiny", layout, "v1")
        manifest, _, _ = registry.client("tiny-imsy").image("v1")
        repair = flip(registry.blob_file(manifest["layers"][-1]["digest"]),
                      SAME[MIDDLE:MIDDLE + 64])

        node = Node(box, registry)
        reference = node.pull("tiny-imsy", "v1")
        node.containerd.nerdctl("run", "-d", "--name", "reader", "--net", "none", "--pull", "never",
                                reference, "sleep", "100000", snapshotter="imsy")
        with node.containerd.mounted(reference, "imsy") as root:
            check_broken(node, root)
            message = check.fails(lambda: digest_of(node, "reader", "/data/same.bin"),
                                  "reading the damaged file in a container")
            check.contains("Input/output error", message, "what the container is told")
            repair()
            right = hashlib.sha256(SAME).hexdigest()

            def healed():
                try:
                    return digest_of(node, "reader", "/data/same.bin") == right
                except Failed:
                    return False
            wait_for(healed, "the repaired file to read right in the same container")
            check.true(SAME == (root / "data" / "same.bin").read_bytes(),
                       "the repaired file reads right through the same mount")


if __name__ == "__main__":
    env.main(test)
