#!/usr/bin/env python3
"""Registries that lie to imsy-convert and imsy: documents that are too large, too deep or none, a
tag that moves in between, old TLS. Each is refused in one line and little memory, or done right."""

import contextlib
import os
import resource
import socket
import ssl
import subprocess
import threading
import warnings

from imsytest import check, env, images, imsy, oci
from imsytest.faultreg import FaultyRegistry
from imsytest.process import run, wait_for
from imsytest.sandbox import Sandbox

MEMORY = 64 << 20
GIB = 1 << 30
# No document in this place: what it says it is, and what it is.
DOCUMENTS = {
    "deep lists": (oci.MANIFEST, "[" * 1_000_000),
    "deep objects": (oci.MANIFEST, '{"a":' * 500_000),
    "a key twice": (oci.MANIFEST, '{"schemaVersion":2,"layers":[],"Layers":[{"size":1}]}'),
    "a size that is none": (oci.MANIFEST, '{"schemaVersion":2,"config":{"size":NaN}}'),
    "a negative size": (oci.MANIFEST, '{"schemaVersion":2,"config":{"mediaType":"a/b","size":-1}}'),
    "a size beyond all": (oci.MANIFEST, '{"schemaVersion":2,"config":{"size":1e999}}'),
    "a web page": ("text/html", "<html><body>Please log in</body></html>"),
    "a web page that claims to be one": (oci.MANIFEST, "<html><body>Please log in</body></html>"),
    "nothing": (oci.MANIFEST, ""),
    "an unknown type": ("application/json", "{}"),
}


def run_measured(*words):
    """Exit code, standard error and peak memory of one of our programs."""
    with subprocess.Popen([str(word) for word in words], stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as child:
        errors = child.stderr.read().decode()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    return child.returncode, errors, usage.ru_maxrss * 1024


def check_refused(what, *words):
    """One line, exit code 1, and little memory."""
    code, errors, memory = run_measured(*words)
    check.equal((1, 1), (code, errors.count("\n")), f"{what}: exit code and lines: {errors[:500]}")
    check.true(memory < MEMORY, f"{what}: {memory >> 20} MiB of memory")
    return errors


def commands(registry, tag):
    source = registry.reference("image", tag)
    yield env.program("imsy"), "inspect", "--plain-http", source
    yield (env.program("imsy-convert"), "--plain-http", "--quiet", source,
           registry.reference("target", tag))


def check_documents(registry):
    for what, (media_type, text) in DOCUMENTS.items():
        registry.fault(method="GET", path="/image/manifests/", status=200, body=text,
                       headers={"Content-Type": media_type})
        for command in commands(registry, "v1"):
            check_refused(what, *command)
        registry.mend()
    check.equal([], registry.client("target").tags(), "tags that conversions have left")


def check_sizes(registry):
    """More than is read of a document: as announced, and without an end."""
    for what, headers in (("2 GiB announced", {"Content-Length": str(2 * GIB)}),
                          ("without an end", {})):
        registry.fault(method="GET", path="/image/manifests/", status=200, body=" " * 65536,
                       headers={"Content-Type": oci.MANIFEST, **headers}, wrong="endless")
        for command in commands(registry, "v1"):
            check.contains("limit", check_refused(what, *command), what)
        registry.mend()


def check_manifest_for_index(registry, layout):
    """What an index names is not what comes for it."""
    entry = layout.read_json(layout.tags()["both"])["manifests"][0]
    registry.fault(method="GET", path=entry["digest"], status=200,
                   body=layout.read(layout.tags()["both"]).decode(),
                   headers={"Content-Type": oci.INDEX})
    for command in commands(registry, "both"):
        check_refused("an index in place of a manifest", *command)
    registry.mend()


def check_moving_tag(box, registry, layout):
    """The tag moves while its index is read: what is converted is what it was."""
    registry.fault(method="GET", path=layout.read_json(layout.tags()["both"])["manifests"][0]
                   ["digest"], times=1, hold=True)
    converting = box.child("converting", list(commands(registry, "both"))[1])
    wait_for(registry.held, "the conversion to have read the index", alive=converting)
    moved = oci.Layout(box.path("moved"))
    moved.add_image("both", [images.Tree().file("file", b"moved").tar()])
    registry.client("image").push(moved, "both")
    registry.mend()
    check.equal(0, converting.process.wait(60), f"conversion: {converting.log_tail()}")
    registry.client("image").push(layout, "both")
    imsy.convert(registry.reference("image", "both"), registry.reference("again", "both"))
    check.equal(registry.client("again").manifest("both")[1],
                registry.client("target").manifest("both")[1], "the image that was converted")


class OldTls:
    """A server that speaks no newer TLS than it is told, and notes how it is greeted."""

    def __init__(self, box, version):
        folder = box.path("old-tls")
        key, certificate = folder / "key.pem", folder / "certificate.pem"
        run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
             "/CN=imsy test", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key,
             "-out", certificate])
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old versions: that is the point
            self._context.minimum_version = self._context.maximum_version = version
        self._context.load_cert_chain(certificate, key)
        self.greetings, self.agreed = [], 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        box.callback(self.stop)

    def stop(self):
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                with client:
                    self.greetings.append(client.recv(1, socket.MSG_PEEK))
                    with contextlib.suppress(OSError):
                        self._context.wrap_socket(client, server_side=True).close()
                        self.agreed += 1


def check_old_tls(box):
    for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
        server = OldTls(box, version)
        check_refused(version.name, env.program("imsy"), "inspect",
                      f"{server.address}/image:v1")
        check.equal(0, server.agreed, f"connections by {version.name}")
        check.true(server.greetings and set(server.greetings) == {b"\x16"},
                   f"nothing but TLS is tried: {server.greetings}")


def publish(box, registry):
    """An image, and an index of two."""
    layout = oci.Layout(box.path("layout"))
    layout.add_image("v1", [images.Tree().file("file", b"one").tar()])
    entries = [layout.add_image(name, [images.Tree().file("file", name.encode()).tar()],
                                architecture=name) for name in ("amd64", "arm64")]
    index = {"schemaVersion": 2, "mediaType": oci.INDEX, "manifests": entries}
    layout.tag("both", layout.add(oci.document(index), oci.INDEX))
    for tag in ("v1", "both"):
        registry.client("image").push(layout, tag)
    return layout


def test():
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with Sandbox("hostile_registry") as box:
        registry = FaultyRegistry(box)
        layout = publish(box, registry)
        check_documents(registry)
        check_sizes(registry)
        check_manifest_for_index(registry, layout)
        check_moving_tag(box, registry, layout)
        check_old_tls(box)


if __name__ == "__main__":
    env.main(test)
