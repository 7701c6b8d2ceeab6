"""Comparing images as they are mounted."""

import treecmp

from . import check


def walk(root):
    """What treecmp sees, but for the root's time: unpacking gives it the time of unpacking."""
    tree = treecmp.walk(root)
    del tree[b"."]["mtime"]
    return tree


def check_equal(left, right, what):
    check.empty(treecmp.differences(left, right), what)
