"""Where programs and the cache are, and how a test is skipped."""

import os
import pathlib
import shutil
import sys

ROOT = pathlib.Path(__file__).resolve().parents[3]
CACHE = pathlib.Path(os.environ.get("IMSY_CACHE", ROOT / ".cache"))
BUILD = pathlib.Path(os.environ.get("IMSY_BUILD", ROOT / "build" / "dev"))
SKIPPED = 77  # the exit code that ctest counts as skipped

_TOOL_FOLDERS = [CACHE / "tools" / unpacked / folder
                 for unpacked in ("servers", "clients", "mirror", "disks")
                 for folder in ("usr/bin", "usr/sbin", "bin", "sbin")] + [CACHE / "tools"]


class Skip(Exception):
    """This test cannot run here; the text says why."""


def tool(name):
    """The path of a program that tests run, preferring the pinned one of the cache."""
    for folder in _TOOL_FOLDERS:
        if os.access(folder / name, os.X_OK):
            return folder / name
    found = shutil.which(name)
    if not found:
        raise Skip(f"{name} is not here; scripts/tools.py brings it")
    return pathlib.Path(found)


def program(name):
    """The path of one of our own programs, as built."""
    path = BUILD / "bin" / name
    if not path.exists():
        raise FileNotFoundError(f"{path} is not built; run make")
    return path


def environment(**extra):
    """The environment for tools: those of the cache first, and the libraries they came with."""
    path = os.pathsep.join([str(folder) for folder in _TOOL_FOLDERS] + [os.environ["PATH"]])
    return {**os.environ, "PATH": path, **extra}


def client_environment(**extra):
    """The environment for tools that came with libraries which the machine may not have."""
    return _environment_of("clients", **extra)


def disk_environment(**extra):
    """The same for tools that make file systems."""
    return _environment_of("disks", **extra)


def _environment_of(unpacked, **extra):
    libraries = sorted(folder for above in ("usr/lib", "lib")
                       for folder in (CACHE / "tools" / unpacked / above).glob("*-linux-gnu"))
    return environment(LD_LIBRARY_PATH=os.pathsep.join(map(str, libraries)), **extra)


def main(test):
    """Runs a test function as a program: 0 passed, 77 skipped, 1 failed with a trace."""
    if os.getuid() != 0:
        print("SKIP: mounting needs root")
        sys.exit(SKIPPED)
    try:
        test()
    except Skip as reason:
        print(f"SKIP: {reason}")
        sys.exit(SKIPPED)
