#!/usr/bin/env python3
"""A node records what a start reads; an image converted with that starts with fewer bytes."""

import json

from imsytest import check, env, images, imsy, oci
from imsytest.node import Node
from imsytest.process import run, wait_for
from imsytest.registry import Registry
from imsytest.sandbox import Sandbox

# The program of a container, and the files that it reads, in this order.
READ = ["data/many/150", "data/many/3", "data/many/77"]


def profile(*arguments):
    return run([env.program("imsy"), "profile", *arguments]).stdout


def recorded(node):
    """The profile once it has the last of the files: the snapshotter writes it every second."""
    [image] = wait_for(lambda: node.snapshotter.stats()["images"], "the image to be counted")
    folder = node.snapshotter.root / "profiles"
    wait_for(lambda: list(folder.iterdir()), "a file for the profile")

    def written():
        text = profile("recorded", "--root", node.snapshotter.root, image["manifest"])
        return text if READ[-1] in text else ""
    return wait_for(written, "the start to be written down")


def paths(text):
    """The files of a profile, each at its first access."""
    lines = text.splitlines()
    check.equal("imsy-profile 1", lines[0], "the first line of a profile")
    return list(dict.fromkeys(line.split(" ")[2] for line in lines[1:]))


def bytes_until_answer(node, tag):
    """What comes over the wire for pulling an image and running its program."""
    before = node.imsy_wire.bytes_down
    reference = node.pull("tiny-imsy", tag)
    expected = b"".join(images.prose(500 + 37 * int(path.rsplit("/", 1)[1]),
                                     int(path.rsplit("/", 1)[1])) for path in READ)
    check.equal(expected.decode(), node.run(reference, "cat", *(f"/{path}" for path in READ)),
                "what the program prints")
    return reference, node.imsy_wire.bytes_down - before


def names_files_in_order(text):
    found = paths(text)
    check.true("bin/busybox" in found, f"the program itself was recorded: {found}")
    check.equal(["bin/busybox", *READ], [path for path in found if path in ("bin/busybox", *READ)],
                "the files in the order in which they were read")


def converts_to_front(box, registry, text):
    """Converts the image with the profile, as a pipeline would do."""
    file, report = box.folder / "start.profile", box.folder / "report.json"
    file.write_text(text)
    check.equal(text, profile("merge", file, file), "a profile merged with itself")
    imsy.convert(registry.reference("tiny", "v1"), registry.reference("tiny-imsy", "front"),
                 "--profile", file, "--report", report)
    [image] = json.loads(report.read_text())["images"]
    check.equal({"front_files": len(paths(text)), "unknown_paths": 0}, image["profile"],
                "what the converter made of the profile")


def is_recorded_once(node, reference, text):
    """A crash loses nothing that was written, and a new start adds nothing; orphans go."""
    orphan = node.snapshotter.root / "profiles" / ("a" * 64)
    node.snapshotter.kill()
    killed = recorded(node)
    check.true(killed.startswith(text), "nothing that was written is lost by kill -9")
    orphan.write_text("0\n")
    node.snapshotter.start()
    node.containerd.wait_connected()
    node.run(reference, "cat", "/data/many/9")
    check.equal(killed, recorded(node), "the profile after a new start")
    wait_for(lambda: not orphan.exists(), "the profile of an unknown image to be deleted")


def goes_with_its_image(node, reference):
    folder = node.snapshotter.root / "profiles"
    check.equal(1, len(list(folder.iterdir())), "profiles while the image is there")
    node.containerd.remove_images(reference)
    wait_for(lambda: not list(folder.iterdir()), "the profile of a removed image to be deleted")


def test():
    with Sandbox("profile") as box:
        registry = Registry(box)
        layout = images.tiny_versions(oci.Layout(box.path("layout")))
        imsy.publish(registry, "tiny", layout, "v1")
        node = Node(box, registry, background_fill=False)
        reference, plain = bytes_until_answer(node, "v1")
        text = recorded(node)
        names_files_in_order(text)
        converts_to_front(box, registry, text)
        fresh = Node(box, registry, "fresh", background_fill=False)
        _, front = bytes_until_answer(fresh, "front")
        print(f"until the answer {plain} bytes, with the profile {front} bytes")
        check.true(front < plain, f"the profile made {front} of {plain} bytes")
        fresh.containerd.stop()
        is_recorded_once(node, reference, text)
        goes_with_its_image(node, reference)
        node.containerd.stop()


if __name__ == "__main__":
    env.main(test)
