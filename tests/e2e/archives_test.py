#!/usr/bin/env python3
"""Archives that other programs write are read, and they read ours; the image stays the same."""

import gzip
import json
import subprocess

from imsytest import check, env, images, imsy, oci
from imsytest.foreign import Foreign
from imsytest.process import run
from imsytest.registry import Registry
from imsytest.sandbox import Sandbox


def two_layers():
    lower = (images.Tree().directory("etc/").file("etc/old", b"old").file("tool", b"#!" * 9999)
             .symlink("link", "etc/old"))
    upper = images.Tree().whiteout("etc/old").hardlink("same", "tool").file("etc/new", b"new")
    return [lower.tar(), upper.tar()]


def layers(box, source):
    """Digests of anchor and data layer that this source is converted to."""
    target = oci.Layout(box.path("target"))
    imsy.convert(source, f"oci:{target.folder}:c", "--force", "--tmp", box.folder)
    return [layer["digest"] for layer in target.read_json(target.tags()["c"])["layers"]]


def piped(box, source, data):
    """The same with the source's bytes on the standard input."""
    target = oci.Layout(box.path("target"))
    subprocess.run([env.program("imsy-convert"), "--quiet", "--force", "--tmp", box.folder, source,
                    f"oci:{target.folder}:c"], input=data, check=True)
    return [layer["digest"] for layer in target.read_json(target.tags()["c"])["layers"]]


def written_by_others(box, foreign, layout, expected):
    saved = box.folder / "saved.tar"
    archive = box.folder / "oci.tar"
    foreign.skopeo("copy", f"oci:{layout.folder}:v1", f"docker-archive:{saved}:web:v1")
    foreign.skopeo("copy", f"oci:{layout.folder}:v1", f"oci-archive:{archive}:v1")
    for source in (f"docker-archive:{saved}", f"docker-archive:{saved}:docker.io/library/web:v1",
                   f"oci-archive:{archive}", f"oci-archive:{archive}:v1"):
        check.equal(expected, layers(box, source), f"layers from {source}")
    check.equal(expected, piped(box, "oci-archive:-", archive.read_bytes()),
                "layers from an archive in a pipe")
    check.equal(expected, piped(box, "docker-archive:-", gzip.compress(saved.read_bytes(), 1)),
                "layers from a compressed archive in a pipe")
    unpacked = box.path("unpacked")
    run(["tar", "-C", unpacked, "-xf", archive])
    run(["tar", "-C", unpacked, "-cf", archive, "."])
    check.equal(expected, layers(box, f"oci-archive:{archive}"), "layers from what tar packed")


def read_by_others(box, foreign, source, expected):
    archive = box.folder / "converted.tar"
    imsy.convert(source, f"oci-archive:{archive}:v1")
    described = json.loads(foreign.skopeo("inspect", f"oci-archive:{archive}").stdout)
    check.equal(expected, described["Layers"], "layers that skopeo finds in our archive")
    copied = oci.Layout(box.path("copied"))
    foreign.skopeo("copy", "--preserve-digests", f"oci-archive:{archive}:v1",
                   f"oci:{copied.folder}:v1")
    check.equal(described["Digest"], copied.tags()["v1"]["digest"], "manifest that skopeo copied")
    saved = box.folder / "to-load.tar"
    imsy.convert(source, f"docker-archive:{saved}:web:v1")
    config = json.loads(foreign.skopeo("inspect", "--config", f"docker-archive:{saved}:web:v1")
                        .stdout)
    check.equal(2, len(config["rootfs"]["diff_ids"]), "diffIDs that skopeo finds as docker would")
    loaded = oci.Layout(box.path("loaded"))
    foreign.skopeo("copy", f"docker-archive:{saved}:docker.io/library/web:v1",
                   f"oci:{loaded.folder}:v1")  # unpacks the layers, and checks their diffIDs
    foreign.podman("load", "--input", archive)
    foreign.podman("load", "--input", saved)
    check.contains("docker.io/library/web", foreign.podman("images").stdout, "what podman loaded")


def test():
    with Sandbox("archives") as box:
        env.tool("skopeo")
        registry = Registry(box)
        layout = oci.Layout(box.path("layout"))
        layout.add_image("v1", two_layers())  # gzip: others write no docker archive of zstd
        registry.client("tiny").push(layout, "v1")
        source = registry.reference("tiny", "v1")
        expected = layers(box, source)
        check.equal(expected, layers(box, f"oci:{layout.folder}:v1"), "layers from a layout")
        foreign = Foreign(box)
        written_by_others(box, foreign, layout, expected)
        read_by_others(box, foreign, source, expected)


if __name__ == "__main__":
    env.main(test)
