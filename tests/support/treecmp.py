#!/usr/bin/env python3
"""Compares two directory trees completely; says every difference, exit code 1 if there is any.

    treecmp.py A B [--ignore PATH ...]

Compared per path: type, permissions, owner, size, modification time to the nanosecond, target of
a symbolic link, numbers of a device, extended attributes, content by SHA-256, number of links, and
which paths are links to one file. Names are bytes. Below an ignored path nothing is compared.
"""

import argparse
import hashlib
import os
import stat
import sys

_PIECE = 1 << 20
_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink",
          stat.S_IFIFO: "fifo", stat.S_IFSOCK: "socket", stat.S_IFCHR: "character device",
          stat.S_IFBLK: "block device"}


def content(path):
    """SHA-256 of a file."""
    running = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(_PIECE):
            running.update(piece)
    return running.hexdigest()


def describe(path, read=True):
    """The facts about one path, as a dictionary; the file's identity under "inode"."""
    seen = os.lstat(path)
    kind = stat.S_IFMT(seen.st_mode)
    facts = {"type": _KINDS[kind], "mode": oct(stat.S_IMODE(seen.st_mode)), "uid": seen.st_uid,
             "gid": seen.st_gid, "mtime": seen.st_mtime_ns,
             "xattrs": {name: os.getxattr(path, name, follow_symlinks=False)
                        for name in os.listxattr(path, follow_symlinks=False)}}
    if kind != stat.S_IFDIR:  # what these say of a directory is each filesystem's own affair
        facts |= {"size": seen.st_size, "links": seen.st_nlink,
                  "inode": (seen.st_dev, seen.st_ino)}
    if kind == stat.S_IFLNK:
        facts["target"] = os.readlink(path)
    if kind in (stat.S_IFCHR, stat.S_IFBLK):
        facts["device"] = (os.major(seen.st_rdev), os.minor(seen.st_rdev))
    if kind == stat.S_IFREG and read:
        facts["sha256"] = content(path)
    return facts


def walk(root, ignored=(), read=True):
    """Facts of every path below root, by path relative to root, in order."""
    root = os.fsencode(root)
    ignored = {os.fsencode(path).strip(b"/") for path in ignored}
    found = {b".": describe(root, read)}
    pending = [b""]
    while pending:
        folder = pending.pop()
        for name in sorted(os.listdir(os.path.join(root, folder))):
            path = os.path.join(folder, name)
            if path in ignored:
                continue
            found[path] = describe(os.path.join(root, path), read)
            if found[path]["type"] == "directory":
                pending.append(path)
    return found


def link_groups(tree):
    """For every path that shares its file with others of the tree: all of them, as a tuple."""
    groups = {}
    for path, facts in tree.items():
        if "inode" in facts:
            groups.setdefault(facts["inode"], []).append(path)
    return {path: tuple(sorted(group)) for group in groups.values() if len(group) > 1
            for path in group}


def differences(left, right):
    """One line per difference between two walks."""
    lines = []
    groups = link_groups(left), link_groups(right)
    for path in sorted(left.keys() | right.keys()):
        name = os.fsdecode(path).encode("unicode_escape", "surrogateescape").decode("latin-1")
        if path not in left or path not in right:
            lines.append(f"{name}: only in the {'second' if path not in left else 'first'} tree")
            continue
        for fact in sorted((left[path].keys() | right[path].keys()) - {"inode"}):
            one, two = left[path].get(fact), right[path].get(fact)
            if one != two:
                lines.append(f"{name}: {fact}: {one!r} and {two!r}")
        if groups[0].get(path) != groups[1].get(path):
            lines.append(f"{name}: linked with {groups[0].get(path)!r} and {groups[1].get(path)!r}")
    return lines


def compare(left, right, ignored=()):
    """One line per difference between two directories."""
    return differences(walk(left, ignored), walk(right, ignored))


def main():
    parser = argparse.ArgumentParser(description="compares two directory trees completely")
    parser.add_argument("left")
    parser.add_argument("right")
    parser.add_argument("--ignore", action="append", default=[], metavar="PATH")
    options = parser.parse_args()
    lines = compare(options.left, options.right, options.ignore)
    print("\n".join(lines), end="\n" if lines else "")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
