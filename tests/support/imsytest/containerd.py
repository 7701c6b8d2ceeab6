"""containerd with its own root, state and socket; ctr and nerdctl talking to it."""

import contextlib
import hashlib
import json
import os
import pathlib
import re
import shlex

from . import env
from .process import run, wait_for


class Containerd:
    """One containerd. snapshotter: the socket of ours, known to it as "imsy"; may come later."""

    def __init__(self, box, snapshotter=None, name="containerd"):
        self.box = box
        self.name = name
        # Also the name of its cgroups. Not every name of a temporary directory is one.
        self.namespace = re.sub("[^A-Za-z0-9]+", "-", f"{box.short.name}x-{name}")
        self.root = box.path(name, "root")
        self.state = box.short / name
        self.socket = self.socket_of(box, name)
        self._config = box.folder / f"{name}.toml"
        self._config.write_text(self._configuration(snapshotter))
        self.child = None
        self.start()
        box.callback(self.stop)

    @staticmethod
    def socket_of(box, name):
        """Where a containerd of this name listens; known before it is started."""
        return box.short / f"{name}.sock"

    def _configuration(self, snapshotter):
        text = f"""version = 2
root = {json.dumps(str(self.root))}
state = {json.dumps(str(self.state))}
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.tracing.processor.v1.otlp",
  "io.containerd.internal.v1.tracing", "io.containerd.internal.v1.opt"]
[grpc]
  address = {json.dumps(str(self.socket))}
"""
        if snapshotter:
            text += f"""[proxy_plugins.imsy]
  type = "snapshot"
  address = {json.dumps(str(snapshotter))}
"""
        return text

    def start(self):
        self.child = self.box.child(self.name, [env.tool("containerd"), "-c", self._config],
                                    env=env.environment())
        wait_for(lambda: self.ctr("version", check=False).returncode == 0,
                 "containerd's socket", alive=self.child)

    def stop(self):
        """Removes every container, then ends the daemon."""
        if not self.child:
            return
        if self.child.process.poll() is None:
            self.remove_containers()
        self.child.stop()
        self.child = None
        self._remove_cgroups()

    def _remove_cgroups(self):
        """What runc leaves outside of the sandbox."""
        for cgroup in (*pathlib.Path("/sys/fs/cgroup").glob(f"*/{self.namespace}"),
                       *pathlib.Path("/sys/fs/cgroup").glob(self.namespace)):
            for folder, _, _ in os.walk(cgroup, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(folder)

    def ctr(self, *words, **options):
        return run([env.tool("ctr"), "-a", self.socket, "-n", self.namespace, *words],
                   env=env.environment(), **options)

    def nerdctl(self, *words, snapshotter="overlayfs", **options):
        """nerdctl with nothing of the machine's configuration, and no network of its own."""
        data = self.box.path(f"{self.name}-nerdctl")
        command = [env.tool("nerdctl"), "--address", self.socket, "--namespace", self.namespace,
                   "--data-root", data / "data", "--cni-netconfpath", data / "cni",
                   "--cni-path", data / "none", "--hosts-dir", data / "certs.d",
                   "--cgroup-manager", "cgroupfs", "--insecure-registry",
                   "--snapshotter", snapshotter, *words]
        environment = env.environment(NERDCTL_TOML=str(data / "nerdctl.toml"),
                                      DOCKER_CONFIG=str(data / "docker"))
        return run(command, env=environment, **options)

    def pull(self, reference, snapshotter="overlayfs"):
        self.nerdctl("pull", "--quiet", reference, snapshotter=snapshotter)

    def run(self, reference, *command, snapshotter="overlayfs", **options):
        """Runs a command in a new container of an image; returns what it printed."""
        return self.nerdctl("run", "--rm", "--net", "none", "--pull", "never", reference, *command,
                            snapshotter=snapshotter, **options).stdout

    def ctr_run(self, reference, script, snapshotter="overlayfs"):
        """Runs a shell script with ctr; the script's exit code decides, since ctr's copying of
        output may end before the output does."""
        self.ctr("run", "--rm", "--snapshotter", snapshotter, reference, "with-ctr",
                 "sh", "-c", script)

    @contextlib.contextmanager
    def mounted(self, reference, snapshotter="overlayfs"):
        """The root filesystem of an image, mounted read-only at the path that this gives."""
        folder = self.box.path("views", f"{abs(hash((reference, snapshotter))):x}")
        folder.mkdir(parents=True, exist_ok=True)
        key = f"view-{folder.name}"
        # Not "ctr images mount": it unpacks for the default snapshotter, whatever it is told.
        self._view(snapshotter, key, self.chain_id(reference))
        try:
            command = self.ctr("snapshots", "--snapshotter", snapshotter, "mounts", folder, key)
            run(shlex.split(command.stdout))
            try:
                yield folder
            finally:
                run(["umount", folder])
        finally:
            # Nothing refers to it, so containerd may have collected it already.
            self.ctr("snapshots", "--snapshotter", snapshotter, "rm", key, check=False)

    def _view(self, snapshotter, key, parent):
        """A view that the garbage collector leaves alone; it may come before the label does."""
        def made():
            self.ctr("snapshots", "--snapshotter", snapshotter, "view", key, parent, check=False)
            return self.ctr("snapshots", "--snapshotter", snapshotter, "label", key,
                            "containerd.io/gc.root=test", check=False).returncode == 0
        wait_for(made, f"a view of {parent}")

    def wait_connected(self, snapshotter="imsy"):
        """containerd tries a snapshotter that went away again after up to three seconds."""
        wait_for(lambda: self.ctr("snapshots", "--snapshotter", snapshotter, "ls",
                                  check=False).returncode == 0, "containerd to reconnect")

    def chain_id(self, reference):
        """The chainID of an image's top layer: the name of the snapshot with its whole tree."""
        line, = self.ctr("images", "ls", f"name=={reference}").stdout.splitlines()[1:]
        manifest = self.content(line.split()[2])
        if "manifests" in manifest:
            manifest = self.content(manifest["manifests"][0]["digest"])
        chain = None
        for diff_id in self.content(manifest["config"]["digest"])["rootfs"]["diff_ids"]:
            both = f"{chain} {diff_id}".encode()
            chain = f"sha256:{hashlib.sha256(both).hexdigest()}" if chain else diff_id
        return chain

    def content(self, digest):
        """A JSON document of the content store."""
        return json.loads(self.ctr("content", "get", digest).stdout)

    def remove_images(self, *references):
        """Removes images and waits until what only they held is gone."""
        for reference in references:
            self.ctr("images", "rm", "--sync", reference)

    def remove_containers(self):
        for line in self.ctr("tasks", "ls", "-q", check=False).stdout.split():
            self.ctr("tasks", "rm", "--force", line, check=False)
        for line in self.ctr("containers", "ls", "-q", check=False).stdout.split():
            self.ctr("containers", "rm", line, check=False)

    def snapshots(self, snapshotter):
        """Key, parent and kind of every snapshot, as containerd lists them."""
        lines = self.ctr("snapshots", "--snapshotter", snapshotter, "ls").stdout.splitlines()[1:]
        return sorted(tuple(line.split()) for line in lines)

    def contents(self):
        """Digests of all blobs in the content store."""
        return set(self.ctr("content", "ls", "-q").stdout.split())
