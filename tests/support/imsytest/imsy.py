"""Our own programs, as tests and the demo run them."""

import json

from . import env
from .process import Failed, accepts, run, wait_for


# A store with more bytes takes too long to be read through after each test.
FSCK_DATA_LIMIT = 200_000_000


def convert(source, target, *options, **more):
    """Runs imsy-convert over plain HTTP."""
    return run([env.program("imsy-convert"), "--plain-http", "--quiet", *options, source, target],
               **more)


def publish(registry, repository, layout, *tags):
    """Pushes the tags of a layout as ordinary images and, converted, to <repository>-imsy."""
    for tag in tags:
        registry.client(repository).push(layout, tag)
        convert(registry.reference(repository, tag),
                registry.reference(f"{repository}-imsy", tag))


class Snapshotter:
    """One imsy-snapshotter.

    endpoints maps a registry's host to where it is really reached; containerd is the socket it may
    ask for where an image came from; root is where it keeps all that must survive a reboot, by
    default in the sandbox; more are further keys of its configuration.
    """

    def __init__(self, box, endpoints=None, containerd=None, name="imsy", root=None, **more):
        self.box = box
        self.name = name
        self.socket = box.short / f"{name}.sock"
        self.root = root or box.path(name, "root")
        self.state = box.path(name, "state")
        self._config = box.folder / f"{name}.toml"
        self._endpoints = endpoints or {}
        self._containerd = containerd
        self.configure(**more)
        self.child = None
        self.under = []  # words before the program's own, such as those of strace
        self.start()
        box.callback(self._end)

    def configure(self, **more):
        """From the next start on these are the further keys."""
        keys = {"log_level": "info", "containerd_address": str(self._containerd or ""),
                "containerd_config": "", "hosts_dir": "", **more}
        tables = {key: value for key, value in keys.items() if isinstance(value, dict)}
        text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items()
                       if key not in tables)
        for name, table in tables.items():
            text += f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n"
                                            for key, value in table.items())
        for host, urls in self._endpoints.items():
            text += f'[[registry]]\nhost = "{host}"\nendpoints = {json.dumps(urls)}\n'
        self._config.write_text(text)

    def start(self):
        self.child = self.box.child(self.name, [
            *self.under, env.program("imsy-snapshotter"), "--root", self.root,
            "--address", self.socket, "--state", self.state, "--config", self._config],
            env=env.environment())
        wait_for(lambda: accepts(self.socket), "the snapshotter's socket", alive=self.child)

    def kill(self):
        """kill -9: no chance to write anything."""
        self.child.kill()
        self.child = None

    def stop(self):
        """Asks to end; anything but a clean end is a failure."""
        if not self.child:
            return
        child, self.child = self.child, None
        code = child.stop()
        if code != 0:
            raise Failed(f"imsy-snapshotter ended with {code}\n{child.log_tail()}")

    def _end(self):
        """At the end of a test the program stops cleanly, and its store is as it should be."""
        self.stop()
        store = self.root / "store"
        if not store.exists():
            return
        size = sum(path.lstat().st_size for path in store.rglob("*"))
        done = self.fsck(*(["--read-data"] if size < FSCK_DATA_LIMIT else []))
        if done.returncode:
            raise Failed(f"fsck of {self.name} after the test:\n{done.stdout}{done.stderr}")

    def fsck(self, *options):
        """imsy fsck of this node, running or not."""
        return run([env.program("imsy"), "fsck", "--root", self.root, "--state", self.state,
                    *options], check=False)

    def explain(self, *name):
        """What imsy explain says, as JSON."""
        return json.loads(run([env.program("imsy"), "explain", "--state", self.state, "--json",
                               *name]).stdout)

    def log(self):
        return (self.box.folder / f"{self.name}.log").read_text(errors="replace")

    def stats(self):
        """What the program says of itself: bytes fetched, requests, images."""
        try:
            return json.loads((self.state / "stats.json").read_text())
        except FileNotFoundError:
            return {"bytes_fetched": 0, "requests": 0, "bytes_local": 0, "images": []}

    def wait_resident(self, images=1, deadline=300):
        """Waits until that many images are complete in the store."""
        def complete():
            known = self.stats()["images"]
            return len(known) >= images and all(image["resident"] for image in known)
        wait_for(complete, f"{images} resident image(s)", deadline, alive=self.child)
