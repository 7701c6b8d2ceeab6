"""A node as a whole: containerd with our snapshotter, each kind of pull over a wire of its own."""

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
                                     containerd)

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
