"""A node as a whole: containerd with our snapshotter."""

import base64
import json

from .containerd import Containerd
from .imsy import Snapshotter
from .proxy import Relay


class Node:
    """References for pulls with overlayfs go over one relay, those with imsy over another."""

    def __init__(self, box, registry, name="node", snapshotter=True, background_fill=True, **wire):
        self.registry = registry
        self.plain_wire = Relay(box, registry.port, **wire)
        self.imsy_wire = Relay(box, registry.port, **wire)
        self.snapshotter = None
        containerd = f"{name}-containerd"
        if snapshotter:
            # containerd tells us the host without its port, so the configuration has it.
            self.snapshotter = Snapshotter(
                box, {"127.0.0.1": [f"http://{self.imsy_wire.address}"]},
                Containerd.socket_of(box, containerd), f"{name}-imsy",
                background_fill=background_fill)
        self.containerd = Containerd(box, self.snapshotter.socket if snapshotter else None,
                                     containerd, self.snapshotter.root if snapshotter else None)

    def plain(self, repository, tag):
        """The reference by which overlayfs pulls."""
        return f"{self.plain_wire.address}/{repository}:{tag}"

    def lazy(self, repository, tag):
        """The reference by which imsy pulls."""
        return f"{self.imsy_wire.address}/{repository}:{tag}"

    def pull(self, repository, tag):
        """Pulls a converted image with imsy; returns its reference."""
        reference = self.lazy(repository, tag)
        self.containerd.pull(reference, snapshotter="imsy")
        return reference

    def run(self, reference, *command, **options):
        return self.containerd.run(reference, *command, snapshotter="imsy", **options)


class DirectNode:
    """A node that reads from one registry, over nothing that could change or count it.

    login: user and password that it has for the registry; containerd: as of Containerd; more: as
    of Snapshotter.
    """

    def __init__(self, box, registry, name="node", login=None, containerd=None, **more):
        self.registry = registry
        socket_name = f"{name}-containerd"
        if login:
            more["docker_config"] = self._log_in(box, socket_name, *login)
        endpoint = getattr(registry, "endpoint", f"http://{registry.address}")
        self.snapshotter = Snapshotter(
            box, {registry.address.rpartition(":")[0]: [endpoint]},
            Containerd.socket_of(box, socket_name), f"{name}-imsy", **more)
        self.containerd = Containerd(box, self.snapshotter.socket, socket_name,
                                     self.snapshotter.root, **(containerd or {}))

    def _log_in(self, box, containerd, user, password):
        """For the snapshotter, and for nerdctl where it looks."""
        secret = base64.b64encode(f"{user}:{password}".encode()).decode()
        config = box.path(f"{containerd}-nerdctl", "docker") / "config.json"
        config.write_text(json.dumps({"auths": {self.registry.address: {"auth": secret}}}))
        return str(config)

    def pull(self, repository, tag):
        self.containerd.pull(self.registry.reference(repository, tag), snapshotter="imsy")

    def mounted(self, repository, tag):
        """The tree of an image, as Containerd.mounted()."""
        return self.containerd.mounted(self.registry.reference(repository, tag), "imsy")
