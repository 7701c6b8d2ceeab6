"""A disk that remembers the order of its writes and flushes, and can be made to fail."""

import os
import struct

from . import env
from .disk import Disk
from .process import Failed, run, wait_for
from .sandbox import unmount

_FLUSH = (1 << 64) - 1


class LoggedDisk(Disk):
    """A disk whose blocks go through a program of ours."""

    def __init__(self, box, kind, name="disk", size=512 << 20):
        self._below = box.path(f"{name}-blocks")
        self._log = box.folder / f"{name}.log"
        self._program = None
        self.box = box
        super().__init__(box, kind, name, size)

    def _device(self):
        if self._program is None:
            # As it is before it is written to for the first time.
            self._before = self.image.with_suffix(".before")
            run(["cp", "--sparse=always", self.image, self._before])
            self._program = self.box.child("block_log", [
                env.BUILD / "tests" / "support" / "block_log", self.image, self._log, self._below])
            wait_for((self._below / "disk").exists, "the disk", alive=self._program)
            self.box.callback(self._end)
        return self._below / "disk"

    def _end(self):
        if unmount(self._below):
            unmount(self._below, detach=True)
        if self._program.process.wait(60):
            raise Failed(f"block_log ended with {self._program.process.returncode}")

    def position(self):
        """How much of the log there is; all that was done before is in it."""
        return self._log.stat().st_size

    def fail_reads(self, offset, length):
        (self._below / "errors").write_text(f"{offset} {length}")

    def stop_failing(self):
        os.truncate(self._below / "errors", 0)

    def flushes(self, scratch):
        """Yields a Moment for each flush; scratch is a path for the image of the last one."""
        run(["cp", "--sparse=always", self._before, scratch])
        writes = []
        moment = None
        for offset, data, end in self._records():
            if data is not None:
                writes.append((offset, data))
                continue
            if moment:
                yield moment._with(writes, end)
            _write(scratch, writes, range(len(writes)))
            writes = []
            moment = Moment(scratch)
        if moment:
            yield moment._with(writes, self.position() + 1)

    def _records(self):
        """Offset, data (None: a flush) and the position in the log behind it."""
        with open(self._log, "rb") as log:
            while head := log.read(16):
                offset, length = struct.unpack("QQ", head)
                yield offset, None if offset == _FLUSH else log.read(length), log.tell()


class Moment:
    """The disk has answered a flush, and not yet the next one."""

    def __init__(self, flushed):
        self._flushed = flushed
        self._coming = []
        # Whoever was told of something before this position of the log was told before the next
        # flush.
        self.acknowledged_until = 0

    def _with(self, coming, end):
        self._coming = coming
        self.acknowledged_until = end - 1
        return self

    def image(self, chance=None):
        """What is on the disk, at least; with a random part of what was written after it."""
        copy = self._flushed.with_suffix(".copy")
        run(["cp", "--sparse=always", self._flushed, copy])
        if chance:
            count = len(self._coming)
            _write(copy, self._coming, sorted(chance.sample(range(count), count // 2)))
        return copy


def _write(path, writes, which):
    with open(path, "r+b") as image:
        for number in which:
            offset, data = writes[number]
            image.seek(offset)
            image.write(data)
