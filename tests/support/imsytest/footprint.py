"""What a running snapshotter holds of the machine, so that a test sees what leaks."""

import collections
import contextlib
import os
import pathlib
import re

from .process import Failed, wait_for
from .sandbox import mounts_below

# Directories of the store that stay open once they were used: 256 of each kind, and no more.
_SHARD = re.compile("/store/(objects|partial)/[0-9a-f]{2}$")


class Footprint:
    """Descriptors, threads, mounts and directories of a snapshotter at this moment."""

    def __init__(self, snapshotter):
        pid = snapshotter.child.pid
        self.descriptors = collections.Counter()
        for entry in pathlib.Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                name = os.readlink(entry)
                if not _SHARD.search(name):
                    # Numbers tell apart what is of the same kind.
                    self.descriptors[re.sub(r"[0-9]+", "#", name)] += 1
        # Connections to containerd and to registries come and go, and are kept for a while.
        self.sockets = self.descriptors.pop("socket:[#]", 0)
        self.threads = len(os.listdir(f"/proc/{pid}/task"))
        self.mounts = sorted(point for point, *_ in mounts_below(snapshotter.root))
        self.directories = sorted(os.listdir(snapshotter.root / "snapshots"))
        fields = pathlib.Path(f"/proc/{pid}/statm").read_text().split()
        self.memory = int(fields[1]) * os.sysconf("SC_PAGE_SIZE")

    def grown(self, before):
        """What there is more of than before, in words; memory is not looked at."""
        found = [f"{count} descriptors {name}" for name, count in
                 (self.descriptors - before.descriptors).items()]
        for what, slack in (("sockets", 16), ("threads", 8)):
            if getattr(self, what) > getattr(before, what) + slack:
                found.append(f"{getattr(before, what)} {what} became {getattr(self, what)}")
        return found + [f"{what}: {name}" for what in ("mounts", "directories")
                        for name in sorted(set(getattr(self, what)) - set(getattr(before, what)))]


def wait_no_more(snapshotter, before):
    """Waits until a snapshotter holds nothing that it did not hold before."""
    def nothing():
        return not Footprint(snapshotter).grown(before)
    try:
        wait_for(nothing, "the snapshotter to hold no more than before")
    except Failed as failure:
        left = Footprint(snapshotter).grown(before)
        raise Failed(f"{failure}: {'; '.join(left)}") from None
