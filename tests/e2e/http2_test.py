#!/usr/bin/env python3
"""Many readers over few connections: a server that offers HTTP/2 is asked over one, another over no
more than the configuration allows, and both give the right bytes."""

import concurrent.futures
import hashlib

from imsytest import check, env, images, imsy, oci
from imsytest.containerd import Containerd
from imsytest.nginx import TlsProxy
from imsytest.process import wait_for
from imsytest.registry import Registry
from imsytest.sandbox import Sandbox

READERS = 32
CONNECTIONS = 3


def publish(box, registry):
    """An image with a file of 16 MB that does not compress: its frames are fetched one by one."""
    layout = oci.Layout(box.path("layout"))
    content = images.noise(16_000_000, "large")
    layout.add_image("v1", [images.Tree().file("large", content).tar()])
    imsy.publish(registry, "large", layout, "v1")
    return content


def read_pieces(path, size):
    """A byte every 512 KiB, from the end, with many readers at a time; then all of it."""
    def read(at):
        with open(path, "rb") as file:
            file.seek(at)
            return file.read(1)
    with concurrent.futures.ThreadPoolExecutor(READERS) as pool:
        list(pool.map(read, reversed(range(0, size, 512 * 1024))))
    return path.read_bytes()


def check_connections(box, registry, content, http2):
    name = "http2" if http2 else "http1"
    proxy = TlsProxy(box, registry.port, name, http2)
    hosts = box.path(f"{name}-certs.d")
    entry = hosts / f"127.0.0.1_{registry.port}_"
    entry.mkdir()
    (entry / "hosts.toml").write_text(f"""server = "https://{proxy.address}"
ca = "{proxy.authority}"
""")
    containerd = f"{name}-containerd"
    snapshotter = imsy.Snapshotter(box, None, Containerd.socket_of(box, containerd), f"{name}-imsy",
                                   hosts_dir=str(hosts), background_fill=False,
                                   fetch={"connections_per_host": CONNECTIONS})
    node = Containerd(box, snapshotter.socket, containerd)
    reference = registry.reference("large-imsy", "v1")
    node.pull(reference, snapshotter="imsy")
    with node.mounted(reference, "imsy") as root:
        check.equal(hashlib.sha256(content).hexdigest(),
                    hashlib.sha256(read_pieces(root / "large", len(content))).hexdigest(),
                    f"what is read over {name}")
    # nginx writes its log when a request is over.
    wait_for(lambda: sum(map(len, proxy.blob_requests().values()))
             == snapshotter.stats()["requests"], "all requests to be in nginx's log")
    requests = proxy.blob_requests()
    check.equal({"HTTP/2.0" if http2 else "HTTP/1.1"}, set(requests), "protocols spoken")
    connections, = requests.values()
    check.true(len(connections) > 3 * CONNECTIONS, f"many requests: {len(connections)}")
    used = len(set(connections))
    if http2:
        check.equal(1, used, "connections that many requests share")
    else:
        check.equal(CONNECTIONS, used, "connections that are used again and again")


def test():
    with Sandbox("http2") as box:
        registry = Registry(box)
        content = publish(box, registry)
        for http2 in (True, False):
            check_connections(box, registry, content, http2)


if __name__ == "__main__":
    env.main(test)
