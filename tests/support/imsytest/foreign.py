"""skopeo, umoci and podman: other people's readers of the same images."""

import contextlib
import os
import pathlib

from . import env
from .process import run
from .sandbox import unmount

# Where they keep a cache, whatever they are told.
_FIXED = pathlib.Path("/var/lib/containers")


class Foreign:
    """The three tools with storage and configuration of a sandbox's own.

    partial_pulls: podman fetches of zstd:chunked layers only the files that it lacks.
    """

    def __init__(self, box, name="foreign", partial_pulls=False):
        self.box = box
        self._home = box.path(name)
        self._run = box.short / name
        self.storage = box.path(name, "storage")
        self._policy = self._home / "policy.json"
        policy = '{"default": [{"type": "insecureAcceptAnything"}]}'
        self._policy.write_text(policy)
        # Where podman looks when it cannot be told.
        users = self._home / ".config" / "containers"
        users.mkdir(parents=True)
        (users / "policy.json").write_text(policy)
        storage = self._home / "storage.conf"
        partial = '[storage.options]\npull_options = {enable_partial_images = "true"}\n'
        storage.write_text(f'[storage]\ndriver = "overlay"\nrunroot = "{self._run}"\n'
                           f'graphroot = "{self.storage}"\n{partial if partial_pulls else ""}')
        engine = self._home / "containers.conf"
        engine.write_text('[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "none"\n')
        registries = self._home / "registries.conf"
        registries.write_text("")
        self._environment = env.client_environment(
            HOME=str(self._home), XDG_RUNTIME_DIR=str(box.short),
            CONTAINERS_CONF=str(engine), CONTAINERS_STORAGE_CONF=str(storage),
            CONTAINERS_REGISTRIES_CONF=str(registries))
        self._hide_fixed_folder()

    def _hide_fixed_folder(self):
        made = not _FIXED.exists()
        _FIXED.mkdir(parents=True, exist_ok=True)
        run(["mount", "-t", "tmpfs", "tmpfs", _FIXED])

        def restore():
            unmount(_FIXED, detach=True)
            if made:
                with contextlib.suppress(OSError):
                    os.rmdir(_FIXED)
        self.box.callback(restore)

    def skopeo(self, *words):
        return run([env.tool("skopeo"), "--policy", self._policy, *words], env=self._environment)

    def umoci(self, *words):
        return run([env.tool("umoci"), *words], env=self._environment)

    def podman(self, *words):
        return run([env.tool("podman"), "--tmpdir", f"{self._run}-tmp",
                    "--runtime", env.tool("runc"), "--conmon", env.tool("conmon"), *words],
                   env=self._environment)

    def podman_pull(self, reference):
        self.podman("pull", "--quiet", "--tls-verify=false", "--signature-policy", self._policy,
                    reference)

    @contextlib.contextmanager
    def podman_mounted(self, reference):
        """Pulls with podman and mounts; gives the path of the root filesystem."""
        self.podman_pull(reference)
        folder = self.podman("image", "mount", reference).stdout.strip()
        try:
            yield pathlib.Path(folder)
        finally:
            self.podman("image", "umount", reference)
            self.podman("image", "rm", "--force", reference)

    def unpacked_by_umoci(self, reference, tag):
        """The root filesystem as umoci unpacks it, every diffID checked on the way.

        umoci 0.4 does not read zstd, so skopeo compresses the layers anew; the diffIDs, which
        are of the uncompressed layers, stay.
        """
        layout = self._home / "layout"
        self.skopeo("copy", "--src-tls-verify=false", "--dest-compress",
                    "--dest-compress-format", "gzip", f"docker://{reference}",
                    f"oci:{layout}:{tag}")
        self.umoci("unpack", "--image", f"{layout}:{tag}", self._home / "bundle")
        return self._home / "bundle" / "rootfs"
