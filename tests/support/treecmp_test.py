#!/usr/bin/env python3
"""treecmp sees every kind of difference, and none between equal trees. Needs root."""

import contextlib
import io
import os
import pathlib
import stat
import sys
import tempfile
import unittest

import treecmp


def build(root):
    """A tree with one of everything."""
    (root / "dir").mkdir()
    (root / "dir" / "file").write_bytes(b"content")
    os.link(root / "dir" / "file", root / "link")
    (root / "other").write_bytes(b"content")
    (root / "symlink").symlink_to("dir/file")
    os.mkfifo(root / "fifo")
    os.mknod(root / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.setxattr(root / "other", "user.note", b"\x00\xff")
    with open(os.fsencode(root) + b"/\xff\n", "wb"):
        pass
    for path, folders, files in os.walk(os.fsencode(root), topdown=False):
        for name in folders + files:
            os.utime(os.path.join(path, name), ns=(0, 1_000_000_001), follow_symlinks=False)
    os.utime(root, ns=(0, 5))


def relink(root):
    (root / "link").unlink()
    os.link(root / "other", root / "link")
    os.utime(root, ns=(0, 5))


def replace(root, name, make):
    times = os.lstat(root / name).st_mtime_ns
    (root / name).unlink()
    make(root / name)
    os.utime(root / name, ns=(0, times), follow_symlinks=False)
    os.utime(root, ns=(0, 5))


def rewrite(root):
    (root / "other").write_bytes(b"CONTENT")
    os.utime(root / "other", ns=(0, 1_000_000_001))


CHANGES = {
    "mode": lambda r: os.chmod(r / "dir", 0o700),
    "setuid": lambda r: os.chmod(r / "other", 0o4644),
    "uid": lambda r: os.lchown(r / "symlink", 7, 0),
    "gid": lambda r: os.chown(r / "dir" / "file", 0, 7),
    "mtime by one nanosecond": lambda r: os.utime(r / "dir", ns=(0, 1_000_000_002)),
    "mtime of the root": lambda r: os.utime(r, ns=(0, 6)),
    "content alone": rewrite,
    "xattr value": lambda r: os.setxattr(r / "other", "user.note", b"\x00\xfe"),
    "one xattr more": lambda r: os.setxattr(r / "dir", "user.more", b""),
    "links": relink,
    "target": lambda r: replace(r, "symlink", lambda p: p.symlink_to("dir/fil")),
    "type": lambda r: replace(r, "fifo", lambda p: p.write_bytes(b"")),
    "device": lambda r: replace(r, "device", lambda p: os.mknod(p, stat.S_IFCHR | 0o600,
                                                               os.makedev(1, 5))),
    "one path more": lambda r: (r / "dir" / "new").touch(),
    "one path less": lambda r: os.unlink(os.fsencode(r) + b"/\xff\n"),
}


class TreecmpTest(unittest.TestCase):
    def setUp(self):
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)
        self.left, self.right = (pathlib.Path(stack.enter_context(
            tempfile.TemporaryDirectory(dir=os.environ.get("IMSY_TEST_TMP", "/var/tmp"))))
            for _ in range(2))
        build(self.left)
        build(self.right)

    def test_equal_trees_have_no_difference(self):
        self.assertEqual([], treecmp.compare(self.left, self.right))

    def test_every_change_is_seen(self):
        for what, change in CHANGES.items():
            with self.subTest(what), tempfile.TemporaryDirectory(dir=self.right.parent) as fresh:
                root = pathlib.Path(fresh)
                os.chmod(root, 0o700)
                build(root)
                change(root)
                self.assertNotEqual([], treecmp.compare(self.left, root))
                self.assertNotEqual([], treecmp.compare(root, self.left))

    def test_ignored_paths_are_not_compared(self):
        (self.right / "dir" / "new").touch()
        os.utime(self.right / "dir", ns=(0, 1_000_000_001))
        self.assertEqual([], treecmp.compare(self.left, self.right, ["dir/new"]))

    def test_program_prints_and_fails(self):
        (self.right / "more").touch()
        os.utime(self.right, ns=(0, 5))
        sys.argv = ["treecmp", str(self.left), str(self.right)]
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            self.assertEqual(1, treecmp.main())
        self.assertEqual("more: only in the second tree\n", printed.getvalue())


if __name__ == "__main__":
    if os.getuid() != 0:
        print("SKIP: making devices and changing owners needs root")
        sys.exit(77)
    unittest.main()
