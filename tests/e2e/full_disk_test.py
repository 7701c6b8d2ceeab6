#!/usr/bin/env python3
"""A disk that is full during a conversion: one line, no image, nothing left behind."""

from imsytest import check, env, images, oci
from imsytest.process import run
from imsytest.sandbox import Sandbox, unmount


def small_disk(box, name):
    folder = box.path(name)
    run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder])
    box.callback(lambda: unmount(folder, detach=True))
    return folder


def refused(*words):
    done = run([env.program("imsy-convert"), "--quiet", *words], check=False)
    check.equal(1, done.returncode, "exit code")
    check.equal("", done.stdout, "standard output")
    check.equal(1, len(done.stderr.splitlines()), f"lines on standard error: {done.stderr!r}")
    check.contains("No space left on device", done.stderr, "the reason")
    return done.stderr


def files(folder):
    return sorted(path.name for path in folder.rglob("*") if not path.is_dir())


def test():
    with Sandbox("full-disk") as box:
        layout = oci.Layout(box.path("layout"))
        tree = images.Tree().file("big", images.noise(5_000_000, "big"))
        layout.add_image("v1", [tree.tar()])
        source = f"oci:{layout.folder}:v1"

        scratch = small_disk(box, "scratch")
        target = oci.Layout(box.path("target"))
        refused("--tmp", scratch, source, f"oci:{target.folder}:v1")
        check.equal([], files(scratch), "left in --tmp")
        check.equal({}, target.tags(), "tags of the target")

        disk = small_disk(box, "disk")
        refused("--tmp", box.folder, source, f"oci:{disk / 'layout'}:v1")
        check.equal(["index.json", "oci-layout"], files(disk), "left in the layout")
        check.equal({}, oci.Layout(disk / "layout").tags(), "tags of the layout")

        refused("--tmp", box.folder, source, f"oci-archive:{disk / 'image.tar'}:v1")
        check.equal(["index.json", "oci-layout"], files(disk), "left where the archive was to be")


if __name__ == "__main__":
    env.main(test)
