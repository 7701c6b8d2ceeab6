#!/usr/bin/env python3
"""The artifact with the CDC manifest is found from the image, as tools for artifacts look for it.

Debian's registry has no referrers API, so the referrers tag of the OCI distribution
specification is the way; a converted image's documents are consistent all over.
"""

import json

from imsytest import check, env, images, imsy, oci
from imsytest.registry import Registry
from imsytest.sandbox import Sandbox

ARTIFACT_TYPE = "application/vnd.imsy.cdc.manifest.v1"


def referrers(client, digest):
    """Descriptors of what refers to a manifest: by API when there is one, else by tag."""
    status, _, data = client.request("GET", f"/v2/{client.repository}/referrers/{digest}")
    if status == 200:
        return json.loads(data)["manifests"]
    index, _, kind = client.manifest(digest.replace(":", "-"))
    check.equal(oci.INDEX, kind, "media type of what the referrers tag names")
    return index["manifests"]


def check_image(client, manifest, original):
    """Every descriptor says the truth, and the layers unpack to the diffIDs of the config."""
    config = json.loads(client.blob(manifest["config"]["digest"]))
    layers = manifest["layers"]
    check.equal(2, len(layers), "layers of a converted image")
    check.equal(len(layers), len(config["rootfs"]["diff_ids"]), "diffIDs")
    for layer, diff_id in zip(layers, config["rootfs"]["diff_ids"]):
        blob = client.blob(layer["digest"])
        check.equal((layer["digest"], layer["size"]), (oci.digest(blob), len(blob)), "layer")
        check.equal(diff_id, oci.digest(oci.decompress(blob, layer["mediaType"])), "diffID")
    kept = json.loads(client.blob(original["config"]["digest"]))
    check.equal(kept["config"], config["config"], "what a container is started with")
    check.equal((kept["os"], kept["architecture"]), (config["os"], config["architecture"]),
                "platform")


def check_artifact(client, manifest, digest):
    found = [entry for entry in referrers(client, digest)
             if entry.get("artifactType") == ARTIFACT_TYPE]
    check.equal(1, len(found), "artifacts of the image")
    artifact, artifact_digest, kind = client.manifest(found[0]["digest"])
    check.equal(oci.MANIFEST, kind, "media type of the artifact")
    check.equal(found[0]["digest"], artifact_digest, "digest of the artifact")
    check.equal(ARTIFACT_TYPE, artifact["artifactType"], "type of the artifact")
    check.equal(digest, artifact["subject"]["digest"], "subject of the artifact")
    data_layer = manifest["layers"][-1]["digest"]
    listed = [layer for layer in artifact["layers"] if layer["digest"] == data_layer]
    check.equal(1, len(listed), "data layer in the artifact")
    for descriptor in [artifact["config"], *artifact["layers"]]:
        check.equal(descriptor["digest"], oci.digest(client.blob(descriptor["digest"])), "blob")


def test():
    with Sandbox("discovery") as box:
        registry = Registry(box)
        layout = images.tiny_versions(oci.Layout(box.path("layout")))
        registry.client("tiny").push(layout, "v1")
        # One repository for both, so that blobs of the original can be looked at beside it.
        imsy.convert(registry.reference("tiny", "v1"), registry.reference("tiny", "v1-imsy"))
        client = registry.client("tiny")
        manifest, digest, _ = client.image("v1-imsy")
        check_image(client, manifest, client.image("v1")[0])
        check_artifact(client, manifest, digest)
        # Converting again neither adds a second artifact nor loses the first.
        imsy.convert(registry.reference("tiny", "v1"), registry.reference("tiny", "v1-imsy"))
        check_artifact(client, manifest, digest)


if __name__ == "__main__":
    env.main(test)
