#!/usr/bin/env python3
"""An index of two platforms with attestations: converted as a whole, pulled, chosen from."""

import json
import platform

from imsytest import check, env, images, imsy, oci
from imsytest.foreign import Foreign
from imsytest.node import Node
from imsytest.registry import Registry
from imsytest.sandbox import Sandbox

HERE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
OTHER = "arm64" if HERE == "amd64" else "amd64"
REFERENCE = "vnd.docker.reference.digest"
ARTIFACT = "application/vnd.imsy.cdc.manifest.v1"


def attestation(layout, subject):
    """What BuildKit puts beside an image: a statement about it, under no platform."""
    statement = {"_type": "https://in-toto.io/Statement/v0.1",
                 "subject": [{"digest": {"sha256": subject["digest"].removeprefix("sha256:")}}]}
    kind = {"in-toto.io/predicate-type": "https://slsa.dev/provenance/v0.2"}
    layer = layout.add(oci.document(statement), "application/vnd.in-toto+json", annotations=kind)
    config = {"architecture": "unknown", "os": "unknown",
              "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}}
    manifest = {"schemaVersion": 2, "mediaType": oci.MANIFEST,
                "config": layout.add(oci.document(config), oci.CONFIG), "layers": [layer]}
    return layout.add(oci.document(manifest), oci.MANIFEST,
                      platform={"os": "unknown", "architecture": "unknown"},
                      annotations={"vnd.docker.reference.type": "attestation-manifest",
                                   REFERENCE: subject["digest"]})


def build(layout):
    """An index as buildx makes one."""
    built = []
    for architecture in (HERE, OTHER):
        mark = images.Tree().file("architecture", architecture.encode())
        built.append(layout.add_image(architecture, [images.base_layer().tar(), mark.tar()],
                                      architecture=architecture))
    entries = built + [attestation(layout, image) for image in built]
    index = {"schemaVersion": 2, "mediaType": oci.INDEX, "manifests": entries,
             "annotations": {"org.example.note": "kept"}}
    layout.tag("v1", layout.add(oci.document(index), oci.INDEX))
    return entries


def converted_as_a_whole(registry, foreign, box, entries):
    report = box.folder / "report.json"
    imsy.convert(registry.reference("multi", "v1"), registry.reference("multi-imsy", "v1"),
                 "--report", report)
    raw = foreign.skopeo("inspect", "--tls-verify=false", "--raw",
                         f"docker://{registry.reference('multi-imsy', 'v1')}").stdout
    index = json.loads(raw)
    check.equal({"org.example.note": "kept"}, index["annotations"], "annotations of the index")
    made = index["manifests"]
    check.equal([entry["platform"] for entry in entries], [entry["platform"] for entry in made],
                "platforms")
    client = registry.client("multi-imsy")
    for image, statement in zip(made[:2], made[2:]):
        check.equal(image["digest"], statement["annotations"][REFERENCE], "what is attested")
        fallback, _, _ = client.manifest(image["digest"].replace(":", "-"))
        check.true(ARTIFACT in [entry.get("artifactType") for entry in fallback["manifests"]],
                   "each image has its artifact")
    check.equal([entry["digest"] for entry in entries[2:]],
                [entry["digest"] for entry in made[2:]], "attestations are what they were")
    said = json.loads(report.read_text())
    check.equal([entry["digest"] for entry in entries[2:]], said["carried"]["entries"], "carried")
    check.true(said["carried"]["transfers"]["mounted"] > 0,
               "their blobs are mounted from the other repository")
    check.equal(0, said["carried"]["transfers"]["sent"], "bytes of them that were sent")


def chosen_from(registry, foreign):
    imsy.convert(registry.reference("multi", "v1"), registry.reference("one", "v1"),
                 "--platform", f"linux/{OTHER}")
    index = json.loads(foreign.skopeo("inspect", "--tls-verify=false", "--raw",
                                      f"docker://{registry.reference('one', 'v1')}").stdout)
    check.equal([f"linux/{OTHER}", "unknown/unknown"],
                ["{os}/{architecture}".format_map(entry["platform"])
                 for entry in index["manifests"]], "the image and what attests it")
    check.fails(lambda: imsy.convert(registry.reference("multi", "v1"),
                                     registry.reference("none", "v1"),
                                     "--platform", f"linux/{OTHER},linux/riscv64"),
                "a platform that is not there")
    check.equal([], registry.client("none").tags(), "tags after a failure")


def test():
    with Sandbox("multi-platform") as box:
        registry = Registry(box)
        layout = oci.Layout(box.path("layout"))
        entries = build(layout)
        registry.client("multi").push(layout, "v1")
        foreign = Foreign(box)
        converted_as_a_whole(registry, foreign, box, entries)
        chosen_from(registry, foreign)
        node = Node(box, registry)
        reference = node.pull("multi-imsy", "v1")
        check.equal(HERE, node.run(reference, "cat", "/architecture"), "the machine's image runs")


if __name__ == "__main__":
    env.main(test)
