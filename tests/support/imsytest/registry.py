"""Debian's docker-registry on loopback with its own storage, and a client for it."""

import http.client
import json
import urllib.parse

from . import env, oci
from .process import Failed, answers, free_port, wait_for

_ACCEPTED = ", ".join([oci.MANIFEST, oci.INDEX,
                       "application/vnd.docker.distribution.manifest.v2+json",
                       "application/vnd.docker.distribution.manifest.list.v2+json"])


class Registry:
    """A registry that may be stopped and started again on the same port and storage.

    upstream: the URL of another registry, whose pull-through cache this one is.
    access_log: keep a line of each request, so that they can be counted.
    host, prefix: where it listens, and what is put before its command so that it does.
    """

    def __init__(self, box, name="registry", upstream=None, access_log=False, host="127.0.0.1",
                 prefix=()):
        self.box = box
        self.name = name
        self.host = host
        self.port = free_port()
        self.address = f"{host}:{self.port}"
        self._prefix = list(prefix)
        self.storage = box.path(name)
        self._config = box.folder / f"{name}.yml"
        proxy = f"proxy: {{remoteurl: {json.dumps(upstream)}}}\n" if upstream else ""
        self._config.write_text(f"""version: 0.1
log: {{level: warn, accesslog: {{disabled: {json.dumps(not access_log)}}}}}
storage:
  filesystem: {{rootdirectory: {json.dumps(str(self.storage))}}}
  delete: {{enabled: true}}
http: {{addr: "{self.address}"}}
{proxy}""")
        self.child = None
        self.start()
        box.callback(self.stop)

    def start(self):
        self.child = self.box.child(self.name, [*self._prefix, env.tool("docker-registry"), "serve",
                                                self._config])
        wait_for(lambda: answers(self.port, self.host), "the registry's port", alive=self.child)

    def stop(self):
        if self.child:
            self.child.stop()
            self.child = None

    def requests(self):
        """Requests so far, as the access log has them."""
        return self.child.log_text().count(' HTTP/1.1" ')

    def reference(self, repository, tag):
        return f"{self.address}/{repository}:{tag}"

    def blob_file(self, digest):
        """Where the registry keeps a blob: for tests that damage it."""
        name = digest.removeprefix("sha256:")
        return self.storage.joinpath("docker/registry/v2/blobs/sha256", name[:2], name, "data")

    def client(self, repository):
        return Client(self.port, repository, self.host)


class Client:
    """One repository of a registry, on loopback if nothing is said, spoken to in plain HTTP."""

    def __init__(self, port, repository, host="127.0.0.1"):
        self.host = host
        self.port = port
        self.repository = repository

    def request(self, method, path, body=None, headers=None):
        """One exchange; returns (status, headers, body)."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def _expect(self, wanted, method, path, body=None, headers=None):
        status, fields, data = self.request(method, path, body, headers)
        if status not in wanted:
            raise Failed(f"{method} {path} answered {status}: {data[:300]!r}")
        return fields, data

    def push_blob(self, data):
        name = oci.digest(data)
        path = f"/v2/{self.repository}/blobs/{name}"
        if self.request("HEAD", path)[0] == 200:
            return name
        fields, _ = self._expect({202}, "POST", f"/v2/{self.repository}/blobs/uploads/")
        target = urllib.parse.urlsplit(fields["Location"])
        query = f"{target.query}&digest={name}" if target.query else f"digest={name}"
        self._expect({201}, "PUT", f"{target.path}?{query}", data,
                     {"Content-Type": "application/octet-stream"})
        return name

    def push_manifest(self, name, data, media_type):
        self._expect({201}, "PUT", f"/v2/{self.repository}/manifests/{name}", data,
                     {"Content-Type": media_type})

    def push(self, layout, tag):
        """Pushes the image or index that a layout has under tag, under the same tag."""
        self._push_node(layout, layout.tags()[tag], tag)

    def _push_node(self, layout, descriptor, name):
        data = layout.read(descriptor)
        node = json.loads(data)
        for child in node.get("manifests", []):
            self._push_node(layout, child, child["digest"])
        for blob in [node[key] for key in ("config",) if key in node] + node.get("layers", []):
            self.push_blob(layout.read(blob))
        self.push_manifest(name, data, descriptor["mediaType"])

    def manifest(self, name):
        """The document, its digest and its media type."""
        fields, data = self._expect({200}, "GET", f"/v2/{self.repository}/manifests/{name}",
                                    headers={"Accept": _ACCEPTED})
        return json.loads(data), oci.digest(data), fields["Content-Type"]

    def image(self, name):
        """The image manifest behind a name; the first one of an index."""
        node, found, kind = self.manifest(name)
        if "manifests" in node:
            return self.image(node["manifests"][0]["digest"])
        return node, found, kind

    def blob(self, digest):
        return self._expect({200}, "GET", f"/v2/{self.repository}/blobs/{digest}")[1]

    def tags(self):
        status, _, data = self.request("GET", f"/v2/{self.repository}/tags/list")
        return json.loads(data).get("tags") or [] if status == 200 else []

    def pull(self, name, layout, tag):
        """Copies an image into a layout; returns its manifest."""
        node, found, kind = self.image(name)
        for descriptor in [node["config"]] + node["layers"]:
            layout.add(self.blob(descriptor["digest"]), descriptor["mediaType"])
        stored = layout.add(self._expect({200}, "GET",
                                         f"/v2/{self.repository}/manifests/{found}",
                                         headers={"Accept": _ACCEPTED})[1], kind)
        layout.tag(tag, stored)
        return node
