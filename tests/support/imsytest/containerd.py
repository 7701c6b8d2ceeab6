"""containerd with its own root, state and socket; ctr, nerdctl and CRI talking to it."""

import contextlib
import copy
import hashlib
import json
import os
import pathlib
import re
import shlex
import signal

from . import env
from .process import Failed, run, wait_for
from .sandbox import processes_naming

# Of each version: where its programs are among the tools, and what is in the way of a test.
_FOLDERS = {"1.6": "", "2": "containerd2/"}
_DISABLED = {
    "1.6": ["snapshotter.v1.aufs", "snapshotter.v1.btrfs", "snapshotter.v1.devmapper",
            "snapshotter.v1.zfs", "tracing.processor.v1.otlp", "internal.v1.tracing",
            "internal.v1.opt"],
    "2": ["snapshotter.v1.blockfile", "snapshotter.v1.btrfs", "snapshotter.v1.devmapper",
          "snapshotter.v1.erofs", "snapshotter.v1.zfs", "tracing.processor.v1.otlp",
          "internal.v1.tracing", "internal.v1.opt", "nri.v1.nri"]}
_CRI = {"1.6": ["grpc.v1.cri"], "2": ["grpc.v1.cri", "cri.v1.images", "cri.v1.runtime"]}


def _replace(text, others):
    """The text with each key, which has to be in it, replaced by its value."""
    for old, new in others.items():
        if old not in text:
            raise Failed(f"{old} is not in the example")
        text = text.replace(old, new)
    return text


class Containerd:
    """One containerd.

    snapshotter: the socket of ours, known to it as "imsy"; may come later. root: where ours keeps
    its files. version: "1.6" or "2". pause: the image of pods' own containers; without it there
    is no CRI. edit: changes the example of a configuration before it is used.
    """

    def __init__(self, box, snapshotter=None, name="containerd", root=None, version="1.6",
                 pause=None, edit=lambda text: text):
        self.box = box
        self.name = name
        self.version = version
        # Also the name of its cgroups. Not every name of a temporary directory is one.
        self.namespace = re.sub("[^A-Za-z0-9]+", "-", f"{box.short.name}x-{name}")
        self.root = box.path(name, "root")
        self.state = box.short / name
        self.socket = self.socket_of(box, name)
        self._config = box.folder / f"{name}.toml"
        self._config.write_text(self._configuration(snapshotter, root, pause, edit))
        self.child = None
        self.start()
        box.callback(self.stop)

    @staticmethod
    def socket_of(box, name):
        """Where a containerd of this name listens; known before it is started."""
        return box.short / f"{name}.sock"

    def _configuration(self, snapshotter, root, pause, edit):
        """The example that users are given, with other paths and what the sandbox needs."""
        disabled = _DISABLED[self.version] + ([] if pause else _CRI[self.version])
        text = f"""root = {json.dumps(str(self.root))}
state = {json.dumps(str(self.state))}
disabled_plugins = {json.dumps([f"io.containerd.{name}" for name in disabled])}
"""
        if snapshotter:
            example = env.ROOT / "examples" / "containerd" / f"{self.version}.toml"
            text += _replace(edit(example.read_text()), {
                "/run/imsy-snapshotter/imsy.sock": str(snapshotter),
                "/var/lib/imsy-snapshotter": str(root or self.root)})
        else:
            text += f"version = {2 if self.version == '1.6' else 3}\n"
        text += f"[grpc]\n  address = {json.dumps(str(self.socket))}\n"
        return text + (self._cri_configuration(pause) if pause else "")

    def _cri_configuration(self, pause):
        """Pods are on the host's network, and containerd does not look for networks elsewhere.

        Nobody may be nearer to being ended than we are: the machine may forbid that.
        """
        networks = self.box.path(self.name, "cni")
        cni = f'  conf_dir = "{networks}"\n'
        if self.version == "1.6":
            return f"""[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
{cni}  bin_dir = "{networks}"
"""
        return f"""[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{pause}"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".cni]
{cni}  bin_dirs = ["{networks}"]
"""

    def _tool(self, name):
        return env.tool(_FOLDERS[self.version] + name)

    def start(self):
        # A shim is looked for in the PATH first.
        path = f"{self._tool('containerd').parent}{os.pathsep}{env.environment()['PATH']}"
        self.child = self.box.child(self.name, [self._tool("containerd"), "-c", self._config],
                                    env=env.environment(PATH=path))
        wait_for(lambda: self.ctr("version", check=False).returncode == 0,
                 "containerd's socket", alive=self.child)

    def stop(self):
        """Removes every container, then ends the daemon."""
        if not self.child:
            return
        if self.child.process.poll() is None:
            for namespace in self.ctr("namespaces", "ls", "-q").stdout.split():
                self.within(namespace).remove_containers()
            self._end_shims()
        self.child.stop()
        self.child = None
        self._remove_cgroups()

    def _end_shims(self):
        """A shim goes on for a moment after its last container, and is nobody's child. Now and
        then containerd 2 forgets one when the machine is busy."""
        try:
            wait_for(lambda: not processes_naming(str(self.socket)), "the shims to end", 20)
        except Failed:
            for pid in processes_naming(str(self.socket)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def kill(self):
        """kill -9 of the daemon alone: containers go on."""
        self.child.kill()
        self.child = None

    def within(self, namespace):
        """The same containerd, seen from another one of its namespaces."""
        other = copy.copy(self)
        other.namespace = namespace
        return other

    def _remove_cgroups(self):
        """What runc leaves outside of the sandbox."""
        for cgroup in (*pathlib.Path("/sys/fs/cgroup").glob(f"*/{self.namespace}*"),
                       *pathlib.Path("/sys/fs/cgroup").glob(f"{self.namespace}*")):
            for folder, _, _ in os.walk(cgroup, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(folder)

    def ctr(self, *words, **options):
        return run([self._tool("ctr"), "-a", self.socket, "-n", self.namespace, *words],
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

    def collect_garbage(self, snapshotter="imsy"):
        """Makes it collect now. It asks a snapshotter only when a snapshot was removed since it
        last tried, with success or without."""
        snapshots = ("snapshots", "--snapshotter", snapshotter)
        self.ctr(*snapshots, "prepare", "collect", check=False)
        self.ctr(*snapshots, "rm", "collect", check=False)
        self.ctr("leases", "create", "--id", "collect", check=False)
        self.ctr("leases", "delete", "--sync", "collect", check=False)

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
