#!/usr/bin/env python3
"""The same image and options give the same bytes: again, with any number of threads, anywhere."""

import os
import pty
import subprocess

from imsytest import check, env, images, imsy, oci
from imsytest.process import run
from imsytest.registry import Registry
from imsytest.sandbox import Sandbox, unmount


def everything(registry, repository):
    """Digests of all manifests and blobs that a conversion pushed, by tag."""
    client = registry.client(repository)
    found = {}
    for tag in client.tags():
        manifest, digest, _ = client.manifest(tag)
        found[tag] = [digest] + [layer["digest"] for layer in manifest.get("layers", [])]
    return found


def filesystems(box):
    """A folder on each kind of filesystem that may hold the spool and the result."""
    memory, disk = box.path("memory"), box.path("disk")
    run(["mount", "-t", "tmpfs", "tmpfs", memory])
    box.callback(unmount, memory)
    image = box.path() / "disk.img"
    run(["truncate", "-s", "128M", image])
    run(["mkfs.ext4", "-q", image])
    run(["mount", "-o", "loop", image, disk])
    box.callback(unmount, disk)
    return {"tmpfs": memory, "ext4": disk}


def convert_on_a_terminal(source, target):
    """Converts with progress on a terminal, and returns what was written there."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen([env.program("imsy-convert"), source, target], stderr=theirs,
                               stdout=subprocess.DEVNULL)
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 1 << 16):
            shown += piece
    except OSError:  # the terminal's other end is closed
        pass
    os.close(ours)
    check.equal(0, process.wait(), "exit code on a terminal")
    return shown


def test():
    with Sandbox("deterministic") as box:
        registry = Registry(box)
        layout = images.tiny_versions(oci.Layout(box.path("layout")))
        registry.client("tiny").push(layout, "v1")
        source = registry.reference("tiny", "v1")
        conversions = {"first": [], "again": [], "one-job": ["--jobs", "1"],
                       "eight-jobs": ["--jobs", "8"]}
        for repository, options in conversions.items():
            imsy.convert(source, registry.reference(repository, "v1"), *options)
        first = everything(registry, "first")
        check.true(len(first) >= 2, f"the image and its artifact are tagged, got {first}")
        for repository in conversions:
            check.equal(first, everything(registry, repository), f"what {repository} pushed")

        target = oci.Layout(box.path("converted"))
        imsy.convert(f"oci:{layout.folder}:v1", f"oci:{target.folder}:v1", "--jobs", "3")
        check.equal(first["v1"][0], target.tags()["v1"]["digest"],
                    "manifest converted between layouts")

        for kind, folder in filesystems(box).items():
            there = oci.Layout(folder / "converted")
            imsy.convert(f"oci:{layout.folder}:v1", f"oci:{there.folder}:v1", "--tmp", folder)
            check.equal(first["v1"][0], there.tags()["v1"]["digest"], f"manifest made on {kind}")

        watched = oci.Layout(box.path("watched"))
        shown = convert_on_a_terminal(f"oci:{layout.folder}:v1", f"oci:{watched.folder}:v1")
        check.true(b"read " in shown and b"packed " in shown, f"both phases are shown: {shown}")
        check.equal(first["v1"][0], watched.tags()["v1"]["digest"], "manifest made on a terminal")

        other = registry.reference("other-level", "v1")
        imsy.convert(source, other, "--level", "1")
        check.true(first["v1"] != everything(registry, "other-level")["v1"],
                   "another level gives other bytes, so the comparison can fail")


if __name__ == "__main__":
    env.main(test)
