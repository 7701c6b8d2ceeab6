#!/usr/bin/env python3
"""What it costs to bring two versions of an image to a node, with imsy and with others.

    bench/pull.py [--runs N] [--mbit N] [--latency MS]

Each program begins with nothing, brings version 1 of the demo's image (cold), then version 2
(upgrade), until every byte is on the disk. Bytes go over a relay that counts them, HTTP headers
included; requests are those that the server logged. The table shows medians of N runs (5), in
turns. Time of imsy ends when the daemon says so in its statistics, once a second. Processor time is
that of daemons and commands together, not of servers. Programs that are not here are left out.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests" / "support"))

from imsytest import env, images, imsy  # noqa: E402
from imsytest.foreign import Foreign  # noqa: E402
from imsytest.node import Node  # noqa: E402
from imsytest.process import answers, free_port, run, wait_for  # noqa: E402
from imsytest.proxy import Relay  # noqa: E402
from imsytest.registry import Registry  # noqa: E402
from imsytest.sandbox import Sandbox  # noqa: E402

TICKS = os.sysconf("SC_CLK_TCK")


@dataclasses.dataclass
class Cost:
    """Up to a moment, or of one step."""
    time: float
    cpu: float
    wire: int
    requests: int
    disk: int

    def since(self, before):
        return Cost(*(mine - theirs for mine, theirs in zip(dataclasses.astuple(self),
                                                            dataclasses.astuple(before))))


def used_by(pid):
    """Processor time of a process and of its children that have ended, in seconds."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) / TICKS


def disk_used(folders):
    """Allocated bytes; what is mounted below does not count."""
    os.sync()
    lines = run(["du", "-sx", "--block-size=1", *folders]).stdout.splitlines()
    return sum(int(line.split()[0]) for line in lines)


class WithContainerd:
    """A node with containerd; `repositories`: of version 1 and of version 2."""

    def __init__(self, box, registry, options, number, snapshotter, repositories):
        self._node = Node(box, registry, f"{snapshotter}{number}", snapshotter == "imsy", **options)
        self._snapshotter = snapshotter
        self._repositories = dict(zip(images.VERSIONS, repositories))
        self._count = 0
        is_imsy = snapshotter == "imsy"
        self.wire = self._node.imsy_wire if is_imsy else self._node.plain_wire
        self.daemons = [self._node.containerd.child]
        self.folders = [self._node.containerd.root]
        if is_imsy:
            self.daemons.append(self._node.snapshotter.child)
            self.folders.append(self._node.snapshotter.root)
        self.requests = registry.requests

    def pull(self, version):
        repository = self._repositories[version]
        self._count += 1
        if self._snapshotter == "imsy":
            self._node.pull(repository, version)
            self._node.snapshotter.wait_resident(self._count)
        else:
            self._node.containerd.pull(self._node.plain(repository, version))

    def stop(self):
        self._node.containerd.stop()
        if self._node.snapshotter:
            self._node.snapshotter.stop()


class WithPodman:
    """podman, which fetches those files of zstd:chunked layers that it lacks."""

    daemons = ()

    def __init__(self, box, registry, options, number):
        self._podman = Foreign(box, f"podman{number}", partial_pulls=True)
        self.wire = Relay(box, registry.port, **options)
        self.folders = [self._podman.storage]
        self.requests = registry.requests

    def pull(self, version):
        self._podman.podman_pull(f"{self.wire.address}/chunked:{version}")

    def stop(self):
        pass


class WithDesync:
    """desync, which makes the squashed tar anew from chunks and from the tar it has."""

    daemons = ()

    def __init__(self, box, server, options, number):
        self._server = server
        self.wire = Relay(box, server.port, **options)
        self._folder = box.path(f"desync{number}")
        self.folders = [self._folder]
        self.requests = server.requests

    def pull(self, version):
        seeds = [word for old in self._folder.glob("*.tar")
                 for word in ("--seed", f"{self._server.index(old.stem)}:{old}")]
        run([env.tool("desync"), "extract", "-s", f"http://{self.wire.address}/", *seeds,
             self._server.index(version), self._folder / f"{version}.tar"], env=env.environment())

    def stop(self):
        pass


class DesyncServer:
    """The chunks of both squashed tars over HTTP. Indexes are read as files, so not on the wire."""

    def __init__(self, box, registry):
        self._folder = box.path("desync-server")
        store = self._folder / "store"
        store.mkdir()
        for version in images.VERSIONS:
            tar = self._folder / "tar"
            self._squash(registry.client("web-imsy"), version, tar)
            run([env.tool("desync"), "make", "-s", store, self.index(version), tar])
        tar.unlink()
        self.port = free_port()
        self._log = self._folder / "log"
        child = box.child("desync-server", [env.tool("desync"), "chunk-server", "-s", store, "-l",
                                            f"127.0.0.1:{self.port}", "--log", self._log])
        box.callback(child.stop)
        wait_for(lambda: answers(self.port), "desync's port", alive=child)

    def _squash(self, client, version, tar):
        image = client.image(version)[0]
        layer = max(image["layers"], key=lambda layer: layer["size"])
        with open(tar, "wb") as out:
            subprocess.run(["zstd", "-dcq"], input=client.blob(layer["digest"]), stdout=out,
                           check=True)

    def index(self, version):
        return self._folder / f"{version}.caibx"

    def requests(self):
        return len(self._log.read_text().splitlines())


def publish(registry, layouts):
    """Both versions in each form; returns what imsy itself expects of the upgrade."""
    base = []
    for version, layout in layouts.items():
        registry.client("web").push(layout, version)
        source = registry.reference("web", version)
        imsy.convert(source, registry.reference("web-imsy", version))
        imsy.convert(source, registry.reference("web-based", version), *base)
        base = ["--base", registry.reference("web-based", version)]
    command = [env.program("imsy"), "diff", "--plain-http", "--json"]
    return {repository: json.loads(run(command + [registry.reference(repository, version)
                                                  for version in images.VERSIONS]).stdout)
            for repository in ("web-imsy", "web-based")}


def publish_chunked(box, registry, tools):
    for version, layout in images.real_versions().items():
        # skopeo leaves layers that are compressed as they are, or takes them from the registry.
        plain, chunked = box.path("plain", version), box.path("chunked", version)
        tools.skopeo("copy", "-q", "--dest-decompress", f"oci:{layout.folder}:{version}",
                     f"dir:{plain}")
        tools.skopeo("copy", "-q", "--dest-compress", "--dest-compress-format", "zstd:chunked",
                     f"dir:{plain}", f"dir:{chunked}")
        tools.skopeo("copy", "-q", "--dest-tls-verify=false", "--preserve-digests",
                     f"dir:{chunked}", f"docker://{registry.reference('chunked', version)}")


def contestants(box, registry, options):
    """Name, and how to make one with nothing on its disk."""
    for name, snapshotter, repositories in (
            ("containerd, overlayfs", "overlayfs", ("web", "web")),
            ("imsy", "imsy", ("web-imsy", "web-imsy")),
            ("imsy, version 2 with --base", "imsy", ("web-based", "web-based"))):
        yield name, lambda number, snapshotter=snapshotter, repositories=repositories: \
            WithContainerd(box, registry, options, number, snapshotter, repositories)
    if is_here("podman", "conmon", "skopeo"):
        publish_chunked(box, registry, Foreign(box))
        yield "podman, zstd:chunked", lambda number: WithPodman(box, registry, options, number)
    if is_here("desync"):
        server = DesyncServer(box, registry)
        yield "desync extract", lambda number: WithDesync(box, server, options, number)


def is_here(*names):
    try:
        return all(env.tool(name) for name in names)
    except env.Skip as reason:
        print(f"left out: {reason}")
        return False


def cost_of(contestant):
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cost(time.monotonic(), spent.ru_utime + spent.ru_stime + sum(
        used_by(daemon.pid) for daemon in contestant.daemons), contestant.wire.bytes_down,
                contestant.requests(), disk_used(contestant.folders))


def measure(contestant):
    """The costs of version 1 and of version 2."""
    costs = []
    for version in images.VERSIONS:
        before = cost_of(contestant)
        start = time.monotonic()
        contestant.pull(version)
        spent = time.monotonic() - start
        costs.append(dataclasses.replace(cost_of(contestant).since(before), time=spent))
    contestant.stop()
    return costs


def table(results):
    for step, title in enumerate(("cold", "upgrade")):
        print(f"\n{title:30}{'time':>10}{'cpu':>10}{'bytes':>12}{'requests':>10}{'disk':>12}")
        for name, runs in results.items():
            cost = Cost(*(statistics.median(values) for values in zip(
                *(dataclasses.astuple(run[step]) for run in runs))))
            print(f"{name:30}{cost.time:8.2f} s{cost.cpu:8.2f} s{cost.wire / 1e6:9.1f} MB"
                  f"{cost.requests:10.0f}{cost.disk / 1e6:9.1f} MB")


def amplification(diffs):
    print("\nof the frames that the upgrade fetches")
    for repository, diff in diffs.items():
        for image in diff["images"]:
            print(f"{repository:30}{json.dumps(image['chunks'])} in {json.dumps(image['frames'])}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--mbit", type=float, help="rate of each wire")
    parser.add_argument("--latency", type=float, default=0, help="of each wire, in milliseconds")
    options = parser.parse_args()
    wire = {"latency": options.latency / 1e3,
            "rate": options.mbit * 1e6 / 8 if options.mbit else None}
    layouts = images.real_versions()  # made before the network is left
    with Sandbox("bench", limit=3600) as box:
        registry = Registry(box, access_log=True)
        diffs = publish(registry, layouts)
        makers = dict(contestants(box, registry, wire))
        results = {name: [] for name in makers}
        for number in range(options.runs):
            for place, (name, make) in enumerate(makers.items()):
                results[name].append(measure(make(f"-{number}-{place}")))
        table(results)
        amplification(diffs)


if __name__ == "__main__":
    main()
