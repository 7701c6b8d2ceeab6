#!/usr/bin/env python3
"""System calls of the whole daemon fail now and then, while it starts, and while an image is
pulled, read and removed: it answers with errors or does its work, gives no wrong byte, and when the
fault is over everything works. strace puts the faults in.
"""

import contextlib
import os
import pathlib

from imsytest import check, env, images, imsy, oci
from imsytest.containerd import Containerd
from imsytest.process import Failed, run, wait_for
from imsytest.registry import Registry
from imsytest.sandbox import Sandbox

EVERY = int(os.environ.get("IMSY_EVERY", "1"))
# Call, errno, the first one that fails, and each how manieth after it; strace counts in each thread
# by itself. The first calls of openat are those of the dynamic linker.
AT_THE_START = (
    ("openat", "EMFILE", 80, 3), ("openat2", "EIO", 3, 4), ("pwrite64", "ENOSPC", 3, 5),
    ("pread64", "EIO", 9, 7), ("ftruncate", "EIO", 1, 2), ("mkdirat", "ENOSPC", 1, 2),
    ("socket", "EMFILE", 2, 2), ("accept4", "EMFILE", 1, 2),
)
AT_WORK = (
    ("openat", "EMFILE", 2, 3), ("openat2", "EMFILE", 2, 3), ("openat2", "EIO", 3, 4),
    ("pwrite64", "ENOSPC", 3, 5), ("pwrite64", "EIO", 4, 3), ("pread64", "EIO", 2, 3),
    ("ftruncate", "ENOSPC", 1, 2), ("renameat", "EIO", 1, 2), ("fdatasync", "EIO", 2, 3),
    ("fsync", "EIO", 1, 2), ("syncfs", "EIO", 1, 2), ("socket", "EMFILE", 1, 2),
)
SAME = images.noise(3_000_000, "same")


class Node:
    def __init__(self, box, registry):
        self.snapshotter = imsy.Snapshotter(box, {"127.0.0.1": [f"http://{registry.address}"]},
                                            Containerd.socket_of(box, "containerd"))
        self.containerd = Containerd(box, self.snapshotter.socket)
        self.reference = registry.reference("tiny-imsy", "v1")

    def start(self, *under):
        """False: it could not start, and said why."""
        self.snapshotter.under = list(under)
        try:
            self.snapshotter.start()
        except Failed:
            code = self.snapshotter.child.process.wait()
            check.equal(1, code, "exit code of a start that fails")
            self.snapshotter.child = None
            return False
        return True

    def read(self):
        """Reads a file of the image; what it gets is right."""
        with self.containerd.mounted(self.reference, "imsy") as root:
            with open(root / "data" / "same.bin", "rb") as file:
                while part := file.read(100_000):
                    at = file.tell() - len(part)
                    check.true(SAME[at:at + len(part)] == part, f"wrong bytes at {at}")

    def use(self, meanwhile=lambda: None):
        self.containerd.pull(self.reference, snapshotter="imsy")
        self.read()
        meanwhile()
        self.containerd.remove_images(self.reference)

    def reconnect(self):
        def reached():
            self.containerd.ctr("snapshots", "--snapshotter", "imsy", "prepare", "probe",
                                check=False)
            return self.containerd.ctr("snapshots", "--snapshotter", "imsy", "rm", "probe",
                                       check=False).returncode == 0
        wait_for(reached, "containerd to reconnect")


def strace(trace, call, error, first, step):
    return [env.tool("strace"), "-f", "-q", "-o", trace, "-e", f"trace={call}",
            "-e", f"inject={call}:error={error}:when={first}+{step}"]


def failures(trace):
    return trace.read_text(errors="replace").count("(INJECTED)")


def traced(pid):
    """Whether somebody traces all threads of a process."""
    return all("TracerPid:\t0\n" not in (thread / "status").read_text()
               for thread in pathlib.Path(f"/proc/{pid}/task").iterdir())


@contextlib.contextmanager
def attached(box, node, number, words):
    """strace looks on while the daemon works."""
    tracer = box.child(f"strace-{number}", [*words, "-p", node.snapshotter.child.pid])
    wait_for(lambda: traced(node.snapshotter.child.pid), "strace to attach", alive=tracer)
    try:
        yield
    finally:
        tracer.stop()


def check_done(node, trace, fault, where):
    """The fault is over."""
    failed = failures(trace)
    print(f"{where}: {fault}: {failed} calls", flush=True)
    check.true(failed, "calls have failed")
    trace.unlink()
    node.snapshotter.stop()
    check.true(node.start(), f"the start after {fault}")
    node.reconnect()
    node.use()
    node.snapshotter.stop()


def check_start(box, node, fault):
    trace = box.folder / "trace"
    # A grandchild traces, so that the child is the daemon.
    if node.start(*strace(trace, *fault), "-D", "--seccomp-bpf"):
        with contextlib.suppress(Failed, OSError):
            node.reconnect()
            node.use()
        node.snapshotter.stop()
    check_done(node, trace, fault, "at the start")


def check_work(box, node, number, fault):
    trace = box.folder / "trace"
    # So that all of the image is fetched again.
    run([env.program("imsy"), "gc", "--root", node.snapshotter.root])
    check.true(node.start(), "the start")
    node.reconnect()

    def worked():
        """The background fill has come to its end, or to the fault."""
        known = node.snapshotter.stats()["images"]
        return failures(trace) or known and all(one["resident"] for one in known)
    with attached(box, node, number, strace(trace, *fault)):
        with contextlib.suppress(Failed, OSError):
            node.use(lambda: wait_for(worked, "the fill", alive=node.snapshotter.child))
    check_done(node, trace, fault, "at work")


def test():
    with Sandbox("daemon_faults", limit=900) as box:
        env.tool("strace")
        registry = Registry(box)
        layout = images.tiny_versions(oci.Layout(box.path("layout")))
        imsy.publish(registry, "tiny", layout, "v1")
        node = Node(box, registry)
        node.use()
        node.snapshotter.stop()
        for fault in AT_THE_START[::EVERY]:
            check_start(box, node, fault)
        for number, fault in enumerate(AT_WORK[::EVERY]):
            check_work(box, node, number, fault)


if __name__ == "__main__":
    env.main(test)
