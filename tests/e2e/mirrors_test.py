#!/usr/bin/env python3
"""hosts.toml leads to mirrors: lazy images are read from a pull-through registry and from a caching
nginx, which are told what registry is meant, a change of the file is seen without a restart, and a
mirror with a wrong byte costs nobody an error."""

from imsytest import check, env, images, imsy, oci
from imsytest.containerd import Containerd
from imsytest.gateway import Gateway
from imsytest.nginx import CachingProxy
from imsytest.process import wait_for
from imsytest.registry import Registry
from imsytest.sandbox import Sandbox

READ = "sha256sum /data/same.bin /data/changed.bin /data/text"


class Node:
    """containerd, which pulls from the registry itself, and a snapshotter, told by hosts.toml."""

    def __init__(self, box, registry, hosts, name):
        containerd = f"{name}-containerd"
        self.registry = registry
        self.snapshotter = imsy.Snapshotter(box, None, Containerd.socket_of(box, containerd),
                                            f"{name}-imsy", hosts_dir=str(hosts))
        self.containerd = Containerd(box, self.snapshotter.socket, containerd)

    def read(self, tag):
        """Pulls a version with imsy, and reads of it in a container."""
        reference = self.registry.reference("tiny-imsy", tag)
        self.containerd.pull(reference, snapshotter="imsy")
        return self.containerd.run(reference, "sh", "-c", READ, snapshotter="imsy")

    def expected(self, tag):
        """The same of the ordinary image."""
        reference = self.registry.reference("tiny", tag)
        self.containerd.pull(reference)
        return self.containerd.run(reference, "sh", "-c", READ)


def write_hosts(folder, server, *mirrors):
    folder.mkdir(parents=True, exist_ok=True)
    text = f'server = "http://{server}"\n'
    for mirror in mirrors:
        text += f'[host."http://{mirror}"]\n  capabilities = ["pull", "resolve"]\n'
    (folder / "hosts.toml").write_text(text)


def fetched(gateway):
    """Paths of the blobs that were asked for."""
    return [path for method, path in gateway.requests if "/blobs/" in path and method == "GET"]


def cache_whole_blob(registry, mirror, tag):
    """Has a pull-through registry fetch a data layer, as ordinary pulls of other nodes would."""
    manifest, _, _ = registry.client("tiny-imsy").image(tag)
    digest = manifest["layers"][-1]["digest"]
    mirror.client("tiny-imsy").blob(digest)
    wait_for(mirror.blob_file(digest).exists, "the mirror to keep a blob")


def check_pull_through(box, registry):
    mirror = Registry(box, "pull-through", upstream=f"http://{registry.address}")
    asked, origin = Gateway(box, mirror.port), Gateway(box, registry.port)
    hosts = box.path("certs.d")
    entry = hosts / f"127.0.0.1_{registry.port}_"
    write_hosts(entry, origin.address, asked.address)
    cache_whole_blob(registry, mirror, "v1")
    node = Node(box, registry, hosts, "first")
    check.equal(node.expected("v1"), node.read("v1"), "what a container reads")
    node.snapshotter.wait_resident()
    check.true(fetched(asked), "the mirror was asked")
    check.equal([], [path for path in fetched(asked)
                     if not path.endswith(f"?ns=127.0.0.1%3A{registry.port}")],
                "requests that do not say which registry is meant")
    check.equal([], fetched(origin), "requests to the registry itself")

    # The file changes: the next image comes from elsewhere. The mirror would have it as well.
    before = len(asked.requests)
    write_hosts(entry, origin.address)
    check.equal(node.expected("v2"), node.read("v2"), "what a container reads of the next image")
    check.true(fetched(origin), "the registry itself was asked")
    check.equal(before, len(asked.requests), "requests to the mirror after it was removed")


def check_caching_proxy(box, registry):
    behind = Gateway(box, registry.port)
    proxy = CachingProxy(box, behind.port)
    hosts = box.path("default-certs.d")
    write_hosts(hosts / "_default", "127.0.0.1:1", proxy.address)
    node = Node(box, registry, hosts, "second")
    expected = node.expected("v1")
    check.equal(expected, node.read("v1"), "what a container reads through an empty cache")
    node.snapshotter.wait_resident()
    asked = len(behind.requests)
    check.true(asked, "the cache has asked the registry")
    again = Node(box, registry, hosts, "third")
    check.equal(expected, again.read("v1"), "what a container reads through a full cache")
    again.snapshotter.wait_resident()
    check.equal(asked, len(behind.requests), "requests to the registry with a full cache")


def check_damaged_mirror(box, registry):
    mirror = Registry(box, "damaged", upstream=f"http://{registry.address}")
    cache_whole_blob(registry, mirror, "v1")
    manifest, _, _ = registry.client("tiny-imsy").image("v1")
    part = images.noise(3_000_000, "same")[1_500_000:1_500_064]
    blob = mirror.blob_file(manifest["layers"][-1]["digest"])
    at = blob.read_bytes().index(part)
    with open(blob, "r+b") as file:
        file.seek(at)
        file.write(bytes([part[0] ^ 1]))
    asked, origin = Gateway(box, mirror.port), Gateway(box, registry.port)
    hosts = box.path("damaged-certs.d")
    write_hosts(hosts / f"127.0.0.1_{registry.port}_", origin.address, asked.address)
    node = Node(box, registry, hosts, "damaged-node")
    check.equal(node.expected("v1"), node.read("v1"), "what a container reads")
    node.snapshotter.wait_resident()
    check.true(fetched(asked), "the mirror was asked")
    check.true(fetched(origin), "what it has wrong came from the registry itself")
    check.true("EIO" not in node.snapshotter.log(), "no read has failed")


def test():
    with Sandbox("mirrors") as box:
        registry = Registry(box)
        layout = images.tiny_versions(oci.Layout(box.path("layout")))
        imsy.publish(registry, "tiny", layout, "v1", "v2")
        check_pull_through(box, registry)
        check_damaged_mirror(box, registry)
        try:
            check_caching_proxy(box, registry)
        except env.Skip as reason:
            print(f"without a caching proxy: {reason}")


if __name__ == "__main__":
    env.main(test)
