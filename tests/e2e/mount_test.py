#!/usr/bin/env python3
"""imsy mount shows the tree of a converted image without containerd: the same as unpacked, from a
registry, a layout and an archive; what becomes of it when it is in use, killed, or kept."""

import os
import pathlib
import shutil
import signal

import treecmp
from imsytest import check, env, images, imsy, oci, trees
from imsytest.process import run, wait_for
from imsytest.registry import Registry
from imsytest.sandbox import Sandbox


def tool(command, *words, **options):
    return run([env.program("imsy"), command, *words], **options)


class Stage:
    def __init__(self, box):
        self.box = box
        self.registry = Registry(box)
        layout = images.tiny_versions(oci.Layout(box.path("layout")))
        imsy.publish(self.registry, "tiny", layout, "v1")
        self.reference = self.registry.reference("tiny-imsy", "v1")
        self.directory = box.path("mounted")
        self.temporary = box.path("temporary")
        self.unpacked = box.folder / "unpacked"
        tool("unpack", "--plain-http", self.reference, self.unpacked)

    def mount(self, source, *options, **more):
        return tool("mount", "--plain-http", "--tmp", self.temporary, *options, source,
                    self.directory, **more)

    def umount(self, *options):
        tool("umount", *options, self.directory)

    def servers(self):
        """The processes that serve mounts of this test."""
        found = []
        for folder in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if str(self.directory).encode() in words and b"mount" in words:
                found.append(int(folder.name))
        return found

    def wait_nothing_left(self):
        wait_for(lambda: not self.servers(), "the server of the mount to end")
        check.equal([], os.listdir(self.temporary), "temporary files")
        check.equal([], os.listdir(self.directory), "the directory below the mount")

    def read(self, name):
        return (self.directory / name).read_bytes()


def the_same_from_everywhere(stage):
    layout, archive = f"oci:{stage.box.folder}/converted", f"oci-archive:{stage.box.folder}/one.tar"
    for target in (layout, archive):
        imsy.convert(stage.registry.reference("tiny", "v1"), target)
    for source in (stage.reference, layout, archive):
        check.equal("", stage.mount(source).stdout, "what a mount prints")
        trees.check_equal(treecmp.walk(stage.unpacked), treecmp.walk(stage.directory), source)
        options = [line.split()[5] for line in pathlib.Path("/proc/self/mountinfo").read_text()
                   .splitlines() if line.split()[4] == str(stage.directory)]
        check.contains("ro,nosuid,nodev", options[0], "options of the mount")
        stage.umount()
        stage.wait_nothing_left()


def only_what_is_read_is_fetched(stage):
    before = stage.registry.requests()
    stage.mount(stage.reference)
    check.equal(b"v1\n", stage.read("data/version"), "a small file")
    check.true(stage.registry.requests() - before < 20, "requests for one small file")
    stage.umount()
    stage.wait_nothing_left()


def in_use(stage):
    """It is not taken from who uses it; lazily, they keep it."""
    stage.mount(stage.reference)
    with open(stage.directory / "data" / "same.bin", "rb") as file:
        message = check.fails(stage.umount, "unmounting what is in use")
        check.contains("in use", message, "what is said of it")
        stage.umount("--lazy")
        check.equal([], os.listdir(stage.directory), "the directory")
        check.equal(images.noise(3_000_000, "same"), file.read(), "what was open")
    stage.wait_nothing_left()


def its_server_dies(stage):
    """Its users get errors, not a hang, and the directory can be used again."""
    stage.mount(stage.reference)
    server, = stage.servers()
    os.kill(server, signal.SIGKILL)
    wait_for(lambda: not stage.servers(), "the server to be gone")
    check.fails(lambda: os.listdir(stage.directory), "a list of a dead mount")
    stage.umount()
    for left in stage.temporary.iterdir():
        shutil.rmtree(left)  # nothing is mounted in it
    stage.mount(stage.reference)
    check.equal(b"v1\n", stage.read("data/version"), "a file of the new mount")
    stage.umount()
    stage.wait_nothing_left()


def kept(stage):
    """What one mount fetched is there for the next, with no registry left to ask for it."""
    store = stage.box.folder / "store"
    imsy.convert(stage.registry.reference("tiny", "v1"), f"oci:{stage.box.folder}/kept")
    source = f"oci:{stage.box.folder}/kept"
    stage.mount(source, "--store", store)
    check.equal(images.noise(3_000_000, "same"), stage.read("data/same.bin"), "a large file")
    other = stage.box.path("other")
    message = check.fails(lambda: tool("mount", "--store", store, source, other), "the same store")
    check.contains("in use by process", message, "what is said of it")
    stage.umount()
    stage.wait_nothing_left()
    stage.mount(stage.reference, "--store", store)
    stage.registry.stop()
    check.equal(images.noise(3_000_000, "same"), stage.read("data/same.bin"), "from the store")
    stage.registry.start()
    stage.umount()
    stage.wait_nothing_left()


def in_the_foreground(stage):
    child = stage.box.child("foreground", [
        env.program("imsy"), "mount", "--foreground", "--plain-http", "--tmp", stage.temporary,
        stage.reference, stage.directory])
    wait_for(lambda: os.listdir(stage.directory), "the tree", alive=child)
    check.equal(b"v1\n", stage.read("data/version"), "a file")
    check.equal(0, child.stop(), "its end when it is interrupted")
    stage.wait_nothing_left()


def mistakes(stage):
    """One line each, and nothing is left."""
    for words, said in (
            ((stage.registry.reference("tiny", "v1"), stage.directory), "an ordinary image"),
            ((stage.registry.reference("tiny-imsy", "none"), stage.directory), "none"),
            ((stage.reference, stage.directory / "absent"), "not a directory"),
            ((stage.reference, stage.unpacked / "data" / "version"), "not a directory")):
        done = tool("mount", "--plain-http", "--tmp", stage.temporary, *words,
                                  check=False)
        check.equal(1, done.returncode, f"the exit code of {words}")
        check.contains(said, done.stderr, f"what is said of {words}")
        check.equal(1, len(done.stderr.splitlines()), f"lines about {words}")
    for directory in (stage.directory, "/proc"):
        message = check.fails(lambda where=directory: tool("umount", where), "nothing of imsy's")
        check.contains("no image is mounted there", message, "what is said of it")
    stage.wait_nothing_left()


def test():
    with Sandbox("mount") as box:
        stage = Stage(box)
        for step in (the_same_from_everywhere, only_what_is_read_is_fetched, in_use,
                     its_server_dies, kept, in_the_foreground, mistakes):
            step(stage)
            print(f"{step.__name__}: done", flush=True)


if __name__ == "__main__":
    env.main(test)
