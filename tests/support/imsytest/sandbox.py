"""A folder of a test's own; whatever runs or is mounted in it ends with the test."""

import contextlib
import ctypes
import faulthandler
import os
import pathlib
import shutil
import signal
import sys
import tempfile
import threading
import time

from . import env, netns
from .process import Child, Failed, run

_CLONE_NEWNS = 0x00020000
_MNT_DETACH = 2
_libc = ctypes.CDLL(None, use_errno=True)


def _enter_own_namespaces():
    """Gives this process and its children mounts and a loopback of their own, and an empty /run.

    What is mounted from now on is seen by nobody else and ends with the last of us. containerd,
    shims and runc keep fifos, sockets and state at fixed places below /run; those end as well.
    """
    netns.enter()
    if _libc.unshare(_CLONE_NEWNS):
        raise env.Skip(f"no mount namespace: {os.strerror(ctypes.get_errno())}")
    run(["mount", "--make-rprivate", "/"])
    run(["mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", "/run"])


def mounts_below(folder):
    """Mount points at or below folder, innermost last, as (path, device number, type)."""
    prefix = str(folder).rstrip("/")
    found = []
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split(" ")
        point = fields[4].encode().decode("unicode_escape").encode("latin-1").decode(
            errors="surrogateescape")
        if point == prefix or point.startswith(prefix + "/"):
            found.append((point, fields[2], fields[fields.index("-") + 1]))
    return found


def unmount(point, detach=False):
    """Unmounts; returns an errno or 0."""
    if _libc.umount2(os.fsencode(point), _MNT_DETACH if detach else 0) == 0:
        return 0
    return ctypes.get_errno()


def processes_naming(text):
    """Processes with text in an argument, as pids: how we know a shim that has left our group."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if text.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
    return found


def _carries_overlay(folder):
    """True when a folder here can be the upper side of an overlay."""
    with tempfile.TemporaryDirectory(prefix="probe-", dir=folder) as probe:
        lower, upper, work, merged = (pathlib.Path(probe, name) for name in "luwm")
        for path in (lower, upper, work, merged):
            path.mkdir()
        done = run(["mount", "-t", "overlay", "overlay", "-o",
                    f"lowerdir={lower},upperdir={upper},workdir={work}", merged], check=False)
        if done.returncode:
            return False
        unmount(merged)
        return True


class Sandbox(contextlib.ExitStack):
    """with Sandbox("name") as box: box.folder is empty, on a filesystem that carries overlays.

    The test gets mounts and a loopback network of its own, and reaches nothing else. Children
    started with box.child(), and mounts below box.folder or box.short, are gone after the block,
    also when it failed. A watchdog ends a test that hangs: it prints where every thread is, aborts
    the FUSE connections of our mounts so that nothing waits for them, cleans up and exits with an
    error.
    """

    def __init__(self, name, limit=540.0, keep_on_failure=False):
        super().__init__()
        self.name = name
        self._limit = limit
        self._keep = keep_on_failure or bool(os.environ.get("IMSY_KEEP"))
        self._children = []
        self._markers = []
        self._done = threading.Event()
        self._cleaning = threading.Lock()
        self.folder = self.short = None

    def __enter__(self):
        _enter_own_namespaces()
        base = pathlib.Path(os.environ.get("IMSY_TEST_TMP", env.ROOT / "build" / "tmp"))
        base.mkdir(parents=True, exist_ok=True)
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"{self.name}-", dir=base))
        # A socket's path must stay below 108 bytes, and a checkout may lie deep.
        self.short = pathlib.Path(tempfile.mkdtemp(prefix="imsy-"))
        self._markers.append(str(self.short))
        if not _carries_overlay(self.folder):
            done = run(["mount", "-t", "tmpfs", "-o", "mode=0700", "tmpfs", self.folder],
                       check=False)
            if done.returncode or not _carries_overlay(self.folder):
                self._clean()
                raise env.Skip(f"no filesystem here carries an overlay: {done.stderr.strip()}")
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        threading.Thread(target=self._watch, daemon=True).start()
        return super().__enter__()

    def __exit__(self, kind, error, trace):
        failed = kind is not None and not issubclass(kind, (env.Skip, KeyboardInterrupt))
        if failed:
            self._show_logs()
        try:
            super().__exit__(kind, error, trace)
        finally:
            left = self._clean(keep=failed and self._keep)
        if left and not failed:
            raise Failed("left behind: " + "; ".join(left))

    def child(self, name, command, **options):
        """Starts a long-running program; it ends with the sandbox at the latest."""
        child = Child(name, command, self.folder / f"{name}.log", **options)
        self._children.append(child)
        return child

    def path(self, *parts):
        """A folder below the sandbox, made when it is not there."""
        folder = self.folder.joinpath(*parts)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _show_logs(self):
        for child in self._children:
            print(f"--- {child.name} (log, last lines)\n{child.log_tail(25)}", file=sys.stderr)

    def _on_signal(self, number, _frame):
        raise SystemExit(128 + number)

    def _watch(self):
        if self._done.wait(self._limit):
            return
        print(f"{self.name}: no end after {self._limit:.0f} s; giving up", file=sys.stderr)
        faulthandler.dump_traceback(file=sys.stderr)
        self._show_logs()
        self._clean()
        os._exit(1)

    def _clean(self, keep=False):
        """Ends, unmounts and removes; returns what should not have been left, in words."""
        with self._cleaning:
            if self._done.is_set():
                return []
            self._done.set()
            left = []
            # First, so that nobody we wait for waits for a FUSE server that is gone or stuck.
            for folder in (self.folder, self.short):
                _abort_fuse(mounts_below(folder))
            for child in reversed(self._children):
                if child.process.poll() is None:
                    left.append(f"process {child.name}")
                    child.kill()
            for marker in self._markers:
                for pid in processes_naming(marker):
                    left.append(f"process {pid}")
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            left += self._unmount_all()
            for folder in (self.folder, self.short):
                if not keep:
                    _remove_tree(folder)
            if keep:
                print(f"kept: {self.folder}", file=sys.stderr)
            return left

    def _unmount_all(self):
        left = []
        own = str(self.folder)
        for folder in (self.folder, self.short):
            for point, _, kind in reversed(mounts_below(folder)):
                if point != own:  # else the tmpfs that we put there ourselves
                    left.append(f"mount {kind} {point}")
                if unmount(point):
                    unmount(point, detach=True)
        return left


def _remove_tree(folder):
    """Removes a folder of ours; never crosses into a mount that could not be taken away."""
    end = time.monotonic() + 10
    while folder.exists() and not mounts_below(folder):
        shutil.rmtree(folder, ignore_errors=True)
        if time.monotonic() > end:
            break


def _abort_fuse(mounted):
    """Aborts the FUSE connections among these mounts: everybody who waits for one gets an error."""
    numbers = {int(device.split(":")[1]) for _, device, kind in mounted if kind.startswith("fuse")}
    if not numbers:
        return
    control = pathlib.Path("/sys/fs/fuse/connections")
    mounted_here = not any(control.iterdir()) and run(
        ["mount", "-t", "fusectl", "fusectl", control], check=False).returncode == 0
    for number in numbers:
        with contextlib.suppress(OSError):
            (control / str(number) / "abort").write_text("1")
    if mounted_here:
        unmount(control)
