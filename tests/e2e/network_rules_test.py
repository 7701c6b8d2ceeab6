#!/usr/bin/env python3
"""Where a registry may lead us, by real addresses: outwards and to its like, never inwards; what is
shown to it is shown to nobody else."""

import base64
import json

from imsytest import check, env, images, imsy, netns, oci
from imsytest.faultreg import FaultyRegistry
from imsytest.process import run
from imsytest.sandbox import Sandbox

# Public addresses, in a network that is not the world's.
PUBLIC, ELSEWHERE = "93.184.215.14", "93.184.215.15"
PRIVATE, NEIGHBOUR = "10.11.12.13", "192.168.7.7"
LINK_LOCAL = "169.254.169.254"
LOOPBACK = "127.0.0.1"
# Whether a registry at the first address may lead us to the second.
RULES = {
    (PUBLIC, ELSEWHERE): True,
    (PUBLIC, PRIVATE): False,
    (PUBLIC, LINK_LOCAL): False,
    (PUBLIC, LOOPBACK): False,
    (PRIVATE, NEIGHBOUR): True,
    (PRIVATE, PUBLIC): True,
    (PRIVATE, LINK_LOCAL): False,
    (PRIVATE, LOOPBACK): False,
    (LOOPBACK, PRIVATE): True,
    (LOOPBACK, LINK_LOCAL): False,
}


def check_rules(registries, check_image):
    for (here, there), allowed in RULES.items():
        source, target = registries[here], registries[there]
        target.forget()
        before = target.connections()
        source.fault(method="GET", path="/blobs/", redirect=target.endpoint + "{path}")
        done = check_image(source)
        source.mend()
        if allowed:
            check.equal(0, done.returncode, f"from {here} to {there}: {done.stderr}")
            check.true(target.log(path="/blobs/"), f"{there} was asked")
        else:
            check.equal(1, done.returncode, f"from {here} to {there}")
            check.contains("not allowed", done.stderr, f"from {here} to {there}")
            # This question is one, too.
            check.equal(before + 1, target.connections(), f"connections to {there}")


def check_credentials(box, registries, check_image):
    """A login is for the registry alone, also where it leads to a port of the same address."""
    registry, elsewhere = registries[PUBLIC], registries[ELSEWHERE]
    neighbour = FaultyRegistry(box, "neighbour", address=PUBLIC)
    push(neighbour, box)
    registry.set(basic=["user", "secret"])
    registry.forget()
    for target in (elsewhere, neighbour):
        target.forget()
        registry.fault(method="GET", path="/blobs/", redirect=target.endpoint + "{path}")
        done = check_image(registry)
        registry.mend()
        check.equal(0, done.returncode, f"with a login: {done.stderr}")
        seen = target.log(path="/blobs/")
        check.true(seen, "it was led elsewhere")
        check.equal([], [one for one in seen if "authorization" in one["headers"]],
                    "requests elsewhere that carry a login")
    check.true(all("authorization" in one["headers"] for one in registry.log(path="/blobs/")
                   if one["status"] != 401), "the registry is shown it")


def push(registry, box):
    layout = oci.Layout(box.path("converted"))
    registry.client("image").push(layout, "v1")


def test():
    with Sandbox("network_rules") as box:
        netns.add(PUBLIC, ELSEWHERE, PRIVATE, NEIGHBOUR, LINK_LOCAL)
        layout = oci.Layout(box.path("layout"))
        layout.add_image("v1", [images.Tree().file("file", images.noise(300_000, "file")).tar()])
        imsy.convert(f"oci:{layout.folder}:v1", f"oci:{box.path('converted')}:v1")
        registries = {}
        for address in dict.fromkeys(address for rule in RULES for address in rule):
            registries[address] = FaultyRegistry(box, f"at-{address}", address=address)
            push(registries[address], box)
        login = base64.b64encode(b"user:secret").decode()
        (box.path("docker") / "config.json").write_text(json.dumps(
            {"auths": {registries[PUBLIC].address: {"auth": login}}}))

        def check_image(registry):
            return run([env.program("imsy"), "check", "--plain-http",
                        registry.reference("image", "v1")], check=False,
                       env=env.environment(DOCKER_CONFIG=str(box.path("docker"))))
        check_rules(registries, check_image)
        check_credentials(box, registries, check_image)


if __name__ == "__main__":
    env.main(test)
