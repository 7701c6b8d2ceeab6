#!/usr/bin/env python3
"""The same image and options give the same bytes: again, with any number of threads, anywhere."""

from imsytest import check, env, images, imsy, oci
from imsytest.registry import Registry
from imsytest.sandbox import Sandbox


def everything(registry, repository):
    """Digests of all manifests and blobs that a conversion pushed, by tag."""
    client = registry.client(repository)
    found = {}
    for tag in client.tags():
        manifest, digest, _ = client.manifest(tag)
        found[tag] = [digest] + [layer["digest"] for layer in manifest.get("layers", [])]
    return found


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

        other = registry.reference("other-level", "v1")
        imsy.convert(source, other, "--level", "1")
        check.true(first["v1"] != everything(registry, "other-level")["v1"],
                   "another level gives other bytes, so the comparison can fail")


if __name__ == "__main__":
    env.main(test)
