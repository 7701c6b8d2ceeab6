#!/usr/bin/env python3
"""kill -9 at every request of a conversion, before or after it is obeyed: no tag names anything
incomplete, and running it again finishes the job and sends only what is missing."""

import json
import os
import queue
import signal
import subprocess

from imsytest import check, env, images, imsy, oci
from imsytest.gateway import Gateway
from imsytest.process import run
from imsytest.registry import Registry
from imsytest.sandbox import Sandbox

EVERY = int(os.environ.get("IMSY_EVERY", "1"))


def build(layout):
    """An index of two images and an artifact."""
    entries = []
    for number, architecture in enumerate(("amd64", "arm64")):
        tree = images.Tree().file("text", images.prose(50_000, number)).file("same", b"same")
        entries.append(layout.add_image(architecture, [tree.tar()], architecture=architecture))
    thing = layout.add(b"a thing", "application/vnd.example.thing")
    artifact = {"schemaVersion": 2, "mediaType": oci.MANIFEST, "layers": [thing],
                "artifactType": "application/vnd.example.thing",
                "config": layout.add(b"{}", "application/vnd.oci.empty.v1+json")}
    entries.append(layout.add(oci.document(artifact), oci.MANIFEST))
    index = {"schemaVersion": 2, "mediaType": oci.INDEX, "manifests": entries}
    layout.tag("v1", layout.add(oci.document(index), oci.INDEX))


def check_complete(client, name):
    """Everything below a manifest is in the repository and is what its digest says."""
    node, _, _ = client.manifest(name)
    for below in node.get("manifests", []):
        check_complete(client, below["digest"])
    for blob in node.get("layers", []) + [node[key] for key in ("config",) if key in node]:
        check.equal(blob["digest"], oci.digest(client.blob(blob["digest"])), f"blob below {name}")


def blobs_sent(gateway):
    """Digests of the blobs whose uploads were finished."""
    return {path.partition("digest=")[2].replace("%3A", ":") for method, path in gateway.requests
            if method == "PUT" and "/blobs/uploads/" in path}


class Conversions:
    """Conversions into fresh repositories of one registry."""

    def __init__(self, box):
        self.box = box
        self.registry = Registry(box)
        self.gateway = Gateway(box, self.registry.port)
        self.layout = oci.Layout(box.path("layout"))
        build(self.layout)

    def command(self, repository):
        return [env.program("imsy-convert"), "--plain-http", "--quiet", "--tmp",
                self.box.path("tmp"), "--report", self.box.folder / "report.json",
                f"oci:{self.layout.folder}:v1", f"{self.gateway.address}/{repository}:v1"]

    def whole(self, repository):
        self.gateway.arm(0, False, None)
        run(self.command(repository))
        return json.loads((self.box.folder / "report.json").read_text())

    def killed(self, repository, at, after):
        """False when the conversion ends before the request comes that it is to be killed at."""
        began = queue.Queue()
        self.gateway.arm(at, after, lambda: began.get().send_signal(signal.SIGKILL))
        process = subprocess.Popen([str(word) for word in self.command(repository)])
        began.put(process)
        code = process.wait()
        check.true(code in (0, -signal.SIGKILL), f"the conversion ended with {code}")
        return code != 0


def one_round(conversions, at, after, expected):
    repository = f"killed-{at}-{'after' if after else 'before'}"
    killed = conversions.killed(repository, at, after)
    client = conversions.registry.client(repository)
    for tag in client.tags():
        check_complete(client, tag)
    check.empty(list(conversions.box.path("tmp").iterdir()), "temporary files")
    had = {digest for digest in expected["blobs"]
           if client.request("HEAD", f"/v2/{repository}/blobs/{digest}")[0] == 200}
    again = conversions.whole(repository)
    check.equal(expected["digest"], again["digest"], f"result after a kill at request {at}")
    check_complete(client, "v1")
    check.equal(set(), blobs_sent(conversions.gateway) & had, "blobs that were sent again")
    return killed


def test():
    with Sandbox("killed-conversion") as box:
        conversions = Conversions(box)
        first = conversions.whole("first")
        expected = {"digest": first["digest"], "blobs": blobs_sent(conversions.gateway)}
        requests = len(conversions.gateway.requests)
        check.true(len(expected["blobs"]) >= 7, "blobs of two images and an artifact")
        at = 1
        while one_round(conversions, at, at // EVERY % 2 == 0, expected):
            at += EVERY
        check.true(requests - 5 <= at - 1 <= requests + 5 + EVERY, f"{at} of {requests} requests")
        again = conversions.whole("first")
        check.equal([True, True], [image["reused"] for image in again["images"]], "reused")


if __name__ == "__main__":
    env.main(test)
