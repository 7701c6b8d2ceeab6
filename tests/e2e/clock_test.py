#!/usr/bin/env python3
"""The clock of the machine jumps by ten years, forth and back, while tokens live and images are
read and removed: deadlines and lives of tokens are by another clock, so nothing ends early or
never."""

import contextlib
import os

from imsytest import check, env, images, imsy, oci
from imsytest.faultreg import FaultyRegistry
from imsytest.node import DirectNode
from imsytest.process import wait_for
from imsytest.sandbox import Sandbox

USER, PASSWORD = "joe", "pw"
JUMPS = ("+3650d", "-3650d", "+0")
SIZE, STRIDE = 100_000_000, 300_000  # more than a frame
CONTENT = images.noise(SIZE, "clock")


class Clock:
    """The time of day that a program sees; its monotonic clock is the machine's."""

    def __init__(self, box):
        libraries = env.CACHE / "tools" / "clock" / "usr" / "lib"
        found = sorted(libraries.glob("*/faketime/libfaketimeMT.so.1"))
        if not found:
            raise env.Skip("libfaketime is not here; scripts/tools.py brings it")
        self._file = box.folder / "clock"
        self.jump("+0")
        self.words = ["env", f"LD_PRELOAD={found[0]}", f"FAKETIME_TIMESTAMP_FILE={self._file}",
                      "FAKETIME_NO_CACHE=1", "FAKETIME_DONT_FAKE_MONOTONIC=1"]

    def jump(self, offset):
        self._file.write_text(offset + "\n")


def pieces_of(path):
    """Reads a little here and there, where nothing was read before; says whether it is right."""
    with open(path, "rb") as file:
        for at in range(0, SIZE, STRIDE):
            yield CONTENT[at:at + 100] == os.pread(file.fileno(), 100, at)


def tokens(registry):
    return len(registry.log("GET", "/token"))


def readers_go_on(node, registry, clock):
    """They get a new token before the old one is over, whatever the time of day."""
    registry.fault(path="/blobs/", delay=0.05)  # so that what is cold lasts
    with (node.mounted("web-imsy", "v1") as root,
          contextlib.closing(pieces_of(root / "data" / "cold")) as pieces):
        for jump in JUMPS:
            clock.jump(jump)
            before = tokens(registry)

            def renewed(before=before):
                check.true(next(pieces), "what is read of the registry")
                return tokens(registry) > before
            wait_for(renewed, f"a new token at {jump}")
    late = [one for one in registry.log() if one["status"] == 401
            and one["headers"].get("authorization", "").startswith("Bearer")]
    check.equal([], late, "requests with a token that was over")
    registry.mend()


def it_starts_at_any_time(node, clock):
    for jump in JUMPS:
        clock.jump(jump)
        node.snapshotter.stop()
        node.snapshotter.start()
        node.containerd.wait_connected()
        with node.mounted("web-imsy", "v1") as root:
            check.equal("v1\n", (root / "data" / "version").read_text(), "a file after a start")


def images_go(node, clock):
    """What is put off is done, though the clock goes back meanwhile."""
    clock.jump("-3650d")
    node.containerd.remove_images(node.registry.reference("web-imsy", "v1"))
    wait_for(lambda: not node.snapshotter.stats()["images"], "the image to be gone")


def test():
    with Sandbox("clock") as box:
        clock = Clock(box)
        registry = FaultyRegistry(box)
        layer = images.base_layer()
        layer.file("data/version", b"v1\n")
        layer.file("data/cold", CONTENT)
        layout = oci.Layout(box.path("layout"))
        layout.add_image("v1", [layer.tar()], config={"Cmd": ["sh"]})
        imsy.publish(registry, "web", layout, "v1")
        registry.set(bearer=[USER, PASSWORD], token_lifetime=4)
        node = DirectNode(box, registry, login=(USER, PASSWORD), background_fill=False)
        node.pull("web-imsy", "v1")
        node.snapshotter.stop()
        node.snapshotter.under = clock.words
        node.snapshotter.start()
        node.containerd.wait_connected()
        readers_go_on(node, registry, clock)
        it_starts_at_any_time(node, clock)
        images_go(node, clock)


if __name__ == "__main__":
    env.main(test)
