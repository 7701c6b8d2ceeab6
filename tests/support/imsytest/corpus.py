"""Large root filesystems to convert: real ones made of Debian packages, and generated ones.

Each is a tar file below the cache, made once.
"""

import hashlib
import io
import os
import pathlib
import random
import shutil
import sys
import tarfile
import tempfile

from . import env, images
from .process import run

PACKAGES = {
    "jdk": ["openjdk-17-jdk-headless"],
    "postgres": ["postgresql-15"],
    "python": ["python3-scipy", "python3-pandas"],
    "node": ["nodejs", "npm", "webpack", "node-typescript"],
}
_MTIME = 1_738_368_000


def _debian(name, target):
    (target.parent / "sources.list").write_text(
        images.package_sources([images.CODENAME, f"{images.CODENAME}-security"]))
    run(["mmdebstrap", "--mode=root", "--variant=minbase",
         f"--include={','.join(PACKAGES[name])}", *images.apt_options(),
         images.CODENAME, target, target.parent / "sources.list"],
        env={**os.environ, "SOURCE_DATE_EPOCH": str(_MTIME), "TMPDIR": str(target.parent)},
        timeout=1800)


class _Noise(io.RawIOBase):
    """`size` bytes: random blocks, of which some come again and some are zeros."""

    def __init__(self, size, seed):
        super().__init__()
        self._left = size
        self._random = random.Random(seed)
        self._blocks = [self._random.randbytes(1 << 20) for _ in range(16)]

    def readable(self):
        return True

    def readinto(self, buffer):
        count = min(self._left, len(buffer), 1 << 20)
        self._left -= count
        kind = self._random.random()
        if kind < 0.3:
            buffer[:count] = self._random.choice(self._blocks)[:count]
        else:
            buffer[:count] = bytes(count) if kind < 0.5 else self._random.randbytes(count)
        return count


def _add(archive, name, size, content):
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime, entry.mode = size, _MTIME, 0o644
    archive.addfile(entry, content)


def _many_files(_, target):
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
        for number in range(100_000):
            content = images.prose(200 + number % 4000, number % 977) + str(number).encode()
            _add(archive, f"data/{number % 331}/{number}", len(content), io.BytesIO(content))


def _million_files(_, target):
    """Nothing but names, attributes and a few bytes each: what memory per file is made of."""
    with tarfile.open(target, "w", format=tarfile.USTAR_FORMAT) as archive:
        for number in range(1_000_000):
            content = f"the content of file {number}\n".encode()
            _add(archive, f"d{number // 1000:04}/file-{number % 1000:04}", len(content),
                 io.BytesIO(content))


def _large_file(_, target):
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
        _add(archive, "data/large", 4 << 30, io.BufferedReader(_Noise(4 << 30, 1), 1 << 20))


def _ten_gigabytes(_, target):
    """The real ones side by side, and large files up to 10 GB."""
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
        for name in PACKAGES:
            with tarfile.open(tar(name)) as source:
                for entry in source:
                    content = source.extractfile(entry) if entry.isreg() else None
                    entry.name = f"{name}/{entry.name}"
                    if entry.islnk():
                        entry.linkname = f"{name}/{entry.linkname}"
                    entry.pax_headers.pop("path", None)
                    entry.pax_headers.pop("linkpath", None)
                    archive.addfile(entry, content)
        for number in range(100):
            left = 10_000_000_000 - archive.offset
            if left <= 0:
                break
            size = min(left, 512 << 20)
            _add(archive, f"data/{number}", size, io.BufferedReader(_Noise(size, number), 1 << 20))


_MAKERS = {**dict.fromkeys(PACKAGES, _debian), "100,000 files": _many_files,
           "1,000,000 files": _million_files,
           "4 GiB file": _large_file, "10 GB": _ten_gigabytes}
NAMES = list(_MAKERS)


def tar(name):
    """The path of the tar of this root filesystem."""
    if name in PACKAGES and not shutil.which("mmdebstrap"):
        raise env.Skip("mmdebstrap is not here; scripts/deps.sh installs it")
    recipe = hashlib.sha256(pathlib.Path(__file__).read_bytes()).hexdigest()
    folder = env.CACHE / "corpus"
    target = folder / (name.replace(" ", "-").replace(",", "") + ".tar")
    stamp = target.with_suffix(".stamp")
    if stamp.exists() and stamp.read_text() == recipe and target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    print(f"corpus: making {name}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="making-", dir=folder) as scratch:
        made = pathlib.Path(scratch) / "root.tar"
        _MAKERS[name](name, made)
        stamp.unlink(missing_ok=True)
        made.rename(target)
        stamp.write_text(recipe)
    return target
