#!/usr/bin/env python3
"""The power fails at random moments, while images are pulled and removed, snapshots come and go,
and contents are collected: what was acknowledged is there afterwards, and everything reads right.

The root of the snapshotter is on a disk of its own, containerd and its memory of what it was told
are not. IMSY_CUTS says how often the power fails on each of IMSY_FILESYSTEMS, IMSY_SEED repeats a
run.
"""

import contextlib
import hashlib
import os
import random
import shlex
import shutil
import sqlite3
import threading

from imsytest import check, env, images, imsy, oci
from imsytest.containerd import Containerd
from imsytest.disk import Disk
from imsytest.process import run, wait_for
from imsytest.proxy import Relay
from imsytest.registry import Registry
from imsytest.sandbox import Sandbox, unmount

KINDS = os.environ.get("IMSY_FILESYSTEMS", "ext4 xfs").split()
CUTS = int(os.environ.get("IMSY_CUTS", "2"))
TAGS = ("v1", "v2")
LONGEST = 2.5  # seconds of traffic
_ON_RECORD = """SELECT lower(hex(id)), EXISTS(SELECT 1 FROM owner WHERE object = object.row)
                FROM object WHERE state = 2"""


def contents(root):
    """The digest of every regular file of a tree, by its path."""
    found = {}
    for path in sorted(root.rglob("*")):
        if path.is_file() and not path.is_symlink():
            found[str(path.relative_to(root))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


class Acknowledged:
    """What containerd was told and nothing was begun to undo since."""

    def __init__(self):
        self._lock = threading.Lock()
        self.images = set()     # tags
        self.snapshots = set()  # keys

    @contextlib.contextmanager
    def coming(self, those, name):
        yield
        with self._lock:
            those.add(name)

    @contextlib.contextmanager
    def going(self, those, name):
        with self._lock:
            those.discard(name)
        yield


class Machine:
    """A node whose power can fail, with a registry."""

    def __init__(self, box, kind, expected, registry):
        self.disk = Disk(box, kind, name=f"{kind}-disk")
        self.expected = expected
        self.known = Acknowledged()
        # Slow enough that the power fails in the middle of fetching.
        self.wire = Relay(box, registry.port, rate=8_000_000)
        name = f"{kind}-containerd"
        self.snapshotter = imsy.Snapshotter(
            box, {"127.0.0.1": [f"http://{self.wire.address}"]}, Containerd.socket_of(box, name),
            f"{kind}-imsy", root=self.disk.folder / "root", **{"store.quota_bytes": 6_000_000})
        self.containerd = Containerd(box, self.snapshotter.socket, name)

    def reference(self, tag):
        return f"{self.wire.address}/tiny-imsy:{tag}"

    def fail(self, traffic):
        """The power fails; the machine starts again, the snapshotter does not yet."""
        self.disk.cut_power()
        if self.snapshotter.child:
            self.snapshotter.kill()
        for thread in traffic:
            thread.join()
        self.disk.unmount()
        shutil.rmtree(self.snapshotter.state)
        self.disk.mount()

    def start(self):
        self.snapshotter.start()
        wait_for(lambda: self._snapshots("prepare", "probe", check=False).returncode == 0,
                 "containerd to reconnect")
        self._snapshots("rm", "probe")

    # ---- traffic: each until something fails

    def pull(self, tag):
        with self.known.coming(self.known.images, tag):
            self.containerd.pull(self.reference(tag), snapshotter="imsy")

    def remove(self, tag):
        with self.known.going(self.known.images, tag):
            self.containerd.remove_images(self.reference(tag))

    def pull_and_remove(self, chance):
        while True:
            tag = chance.choice(TAGS)
            (self.remove if tag in self.known.images else self.pull)(tag)

    def _snapshots(self, *words, **options):
        return self.containerd.ctr("snapshots", "--snapshotter", "imsy", *words, **options)

    def _keep(self, key):
        """Only what has a label is safe from containerd's own collector, and so acknowledged."""
        with self.known.coming(self.known.snapshots, key):
            self._snapshots("label", key, "containerd.io/gc.root=test")

    def snapshot_traffic(self, chance):
        while True:
            name = f"{chance.getrandbits(40):010x}"
            self._snapshots("prepare", f"active-{name}")
            self._keep(f"active-{name}")
            if chance.random() < 0.5:
                with self.known.going(self.known.snapshots, f"active-{name}"):
                    self._snapshots("commit", f"layer-{name}", f"active-{name}")
                self._keep(f"layer-{name}")
            if len(self.known.snapshots) > 8:
                key = chance.choice(sorted(self.known.snapshots))
                with self.known.going(self.known.snapshots, key):
                    self._snapshots("rm", key)

    def collect(self, _chance):
        """Deletes what no image owns; the store must not be in use."""
        while True:
            run([env.program("imsy"), "gc", "--root", self.snapshotter.root])

    # ---- what must be so after a start

    def check_record(self):
        """What is on record as synced is on the disk: nobody hashes it before it is used. Only what
        was being deleted may be gone: the file goes first."""
        store = self.snapshotter.root / "store"
        if not (store / "index.db").exists():
            return
        copy = self.snapshotter.state.parent / "index"
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        for path in store.glob("index.db*"):
            if path.is_file() and not path.name.endswith("-shm"):
                shutil.copy(path, copy)
        right = {digest for tree in self.expected.values() for digest in tree.values()}
        with contextlib.closing(sqlite3.connect(copy / "index.db")) as index:
            with contextlib.suppress(sqlite3.OperationalError):  # no table yet
                for name, owned in index.execute(_ON_RECORD):
                    path = store / "objects" / name[:2] / name
                    if not owned and not path.exists():
                        continue
                    digest = hashlib.sha256(path.read_bytes()).hexdigest()
                    check.true(digest in right, f"{path} is on record, and not what it should be")

    def check_acknowledged(self):
        for key in sorted(self.known.snapshots):
            self._snapshots("info", key)
            if key.startswith("active-"):
                self._check_writable(key)
        for tag in sorted(self.known.images):
            self._check_image(tag)

    def _check_writable(self, key):
        folder = self.disk.folder.parent / "active"
        folder.mkdir(exist_ok=True)
        run(shlex.split(self._snapshots("mounts", folder, key).stdout))
        try:
            (folder / "written").write_text(key)
        finally:
            unmount(folder)

    def _check_image(self, tag):
        with self.containerd.mounted(self.reference(tag), "imsy") as root:
            check.equal(self.expected[tag], contents(root), f"files of {tag}")

    def check_all(self):
        """Whatever is lacking is fetched again, where there is room for all of it."""
        self.snapshotter.stop()
        self.snapshotter.configure()
        self.start()
        for tag in TAGS:
            self.pull(tag)
        self.check_acknowledged()
        self.snapshotter.wait_resident(len(TAGS))


def run_for(moment, chance, traffic):
    """Starts the traffic, each in a thread, and returns after so many seconds while it goes on."""
    threads = []
    for action in traffic:
        own = random.Random(chance.random())

        def act(action=action, own=own):
            with contextlib.suppress(Exception):  # most end when the power fails
                action(own)
        threads.append(threading.Thread(target=act))
    for thread in threads:
        thread.start()
    threading.Event().wait(moment)
    return threads


def cut(machine, chance, number):
    """One life of the machine, its end, and what the next start finds."""
    kind = chance.choice(["traffic", "traffic", "traffic", "start", "collect"])
    moment = chance.random() * LONGEST
    print(f"{machine.disk.kind}: cut {number}, {kind}, after {moment:.3f} s", flush=True)
    if kind == "collect":
        machine.snapshotter.stop()
        traffic = [machine.collect]
    elif kind == "start":
        machine.snapshotter.kill()
        machine.snapshotter.start()
        moment /= 10
        traffic = []
    else:
        traffic = [machine.pull_and_remove, machine.snapshot_traffic]
    machine.fail(run_for(moment, chance, traffic))
    machine.check_record()
    machine.start()
    machine.check_acknowledged()


def test_kind(box, kind, expected, registry, seed):
    chance = random.Random(f"{kind} {seed}")
    machine = Machine(box, kind, expected, registry)
    for number in range(1, CUTS + 1):
        cut(machine, chance, number)
    machine.check_all()


def expected_contents(box, registry):
    """Of the ordinary images, as overlayfs shows them."""
    plain = Containerd(box, name="plain")
    expected = {}
    for tag in TAGS:
        reference = registry.reference("tiny", tag)
        plain.pull(reference)
        with plain.mounted(reference) as root:
            expected[tag] = contents(root)
    plain.stop()
    return expected


def test():
    seed = os.environ.get("IMSY_SEED") or str(random.SystemRandom().getrandbits(32))
    print(f"IMSY_SEED={seed}", flush=True)
    with Sandbox("power_cut", limit=500 + 60 * CUTS) as box:
        registry = Registry(box)
        layout = images.tiny_versions(oci.Layout(box.path("layout")))
        imsy.publish(registry, "tiny", layout, *TAGS)
        expected = expected_contents(box, registry)
        for kind in KINDS:
            test_kind(box, kind, expected, registry, seed)


if __name__ == "__main__":
    env.main(test)
