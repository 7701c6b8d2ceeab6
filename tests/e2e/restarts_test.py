#!/usr/bin/env python3
"""containerd, the snapshotter, or both end while containers run and images are removed, with a
converted and an ordinary image in two namespaces: nothing is lost, nothing is left.

    IMSY_CONTAINERD   the version of containerd, 1.6 or 2
"""

import os

from imsytest import check, env, footprint, images, imsy, oci
from imsytest.clients import Cri, Nerdctl
from imsytest.node import DirectNode
from imsytest.process import wait_for
from imsytest.registry import Registry
from imsytest.sandbox import Sandbox

VERSION = os.environ.get("IMSY_CONTAINERD", "1.6")
READS = '[ "$(cat /data/version)" = v1 ]'


class Stage:
    """A node with both images in the namespaces of two clients."""

    def __init__(self, box, registry):
        pause = registry.reference("pause", "v1")
        self.node = DirectNode(box, registry, containerd={"version": VERSION, "pause": pause})
        self.containerd, self.snapshotter = self.node.containerd, self.node.snapshotter
        self.before = footprint.Footprint(self.snapshotter)
        self.lazy = registry.reference("tiny-imsy", "v1")
        self.plain = registry.reference("tiny", "v1")
        self.cri, self.nerdctl = self.clients = (Cri(self.containerd), Nerdctl(self.containerd))
        for client in self.clients:
            client.pull(self.lazy)
            client.pull(self.plain)
        wait_for(lambda: len(self.snapshotter.stats()["images"]) == 1,
                 "both namespaces to have one image")
        for client in self.clients:
            client.containerd.ctr("snapshots", "--snapshotter", "imsy", "view", "probe",
                                  client.containerd.chain_id(self.lazy))
            client.containerd.ctr("snapshots", "--snapshotter", "imsy", "label", "probe",
                                  "containerd.io/gc.root=test")

    def state(self):
        """Snapshots, their mounts, and the containers that run."""
        return [(client.containerd.snapshots("imsy"),
                 client.containerd.ctr("snapshots", "--snapshotter", "imsy", "mounts", "/there",
                                       "probe").stdout, client.running())
                for client in self.clients]

    def start(self, reference, name):
        for client in self.clients:
            client.start(reference, name)

    def remove(self, name):
        for client in self.clients:
            client.remove(name)

    def works(self, *names):
        """These containers go on, and new ones can be made of both images."""
        for client in self.clients:
            for name in names:
                client.exec(name, READS)
            client.run(self.lazy, READS)
            client.run(self.plain, READS)

    def start_containerd(self):
        self.containerd.start()
        self.cri.wait_ready()

    def start_snapshotter(self):
        self.snapshotter.start()
        self.containerd.wait_connected()


def containerd_restarts(stage):
    """Containers go on in the meantime, those of lazy images too."""
    stage.start(stage.lazy, "lazy")
    stage.start(stage.plain, "plain")
    before = stage.state()
    stage.containerd.child.stop()
    stage.start_containerd()
    check.equal(before, stage.state(), "after containerd was stopped and started")
    stage.works("lazy", "plain")
    stage.containerd.kill()
    stage.start_containerd()
    check.equal(before, stage.state(), "after containerd was killed and started")
    stage.works("lazy", "plain")
    stage.remove("lazy")


def snapshotter_restarts(stage):
    """Containers of ordinary images do not notice."""
    before = stage.state()
    for end in (stage.snapshotter.stop, stage.snapshotter.kill):
        end()
        for client in stage.clients:
            client.exec("plain", READS)
        stage.start_snapshotter()
        check.equal(before, stage.state(), "after a restart of the snapshotter")
        stage.works("plain")


def both_restart(stage):
    before = stage.state()
    stage.containerd.kill()
    stage.snapshotter.kill()
    stage.snapshotter.start()
    stage.start_containerd()
    check.equal(before, stage.state(), "after a restart of both")
    stage.works("plain")
    stage.remove("plain")


def one_namespace_removes(stage):
    """What the other one uses stays."""
    stage.nerdctl.containerd.ctr("snapshots", "--snapshotter", "imsy", "rm", "probe")
    for reference in (stage.lazy, stage.plain):
        stage.nerdctl.remove_image(reference)
    check.equal([], stage.nerdctl.containerd.snapshots("imsy"), "snapshots of one namespace")
    stage.cri.run(stage.lazy, READS)
    stage.cri.run(stage.plain, READS)


def images_go_while_it_is_down(stage):
    """containerd cannot say so then; after the next removal nothing of them is left."""
    containerd = stage.cri.containerd
    stage.snapshotter.kill()
    for name in containerd.ctr("images", "ls", "-q").stdout.split():
        containerd.ctr("images", "rm", name)
    containerd.ctr("snapshots", "--snapshotter", "imsy", "rm", "probe")
    stage.start_snapshotter()

    def empty():
        containerd.collect_garbage()
        return (not os.listdir(stage.snapshotter.root / "snapshots")
                and not stage.snapshotter.stats()["images"])
    wait_for(empty, "the snapshots of removed images to be gone")
    check.equal([], containerd.snapshots("imsy"), "snapshots that containerd knows")
    footprint.wait_no_more(stage.snapshotter, stage.before)


def test():
    with Sandbox("restarts") as box:
        registry = Registry(box)
        layout = images.tiny_versions(oci.Layout(box.path("layout")))
        imsy.publish(registry, "tiny", layout, "v1")
        layout.add_image("v1", [images.base_layer().tar()], config={"Cmd": ["sleep", "1000000"]})
        registry.client("pause").push(layout, "v1")
        stage = Stage(box, registry)
        for step in (containerd_restarts, snapshotter_restarts, both_restart,
                     one_namespace_removes, images_go_while_it_is_down):
            step(stage)
            print(f"{step.__name__}: done", flush=True)


if __name__ == "__main__":
    env.main(test)
