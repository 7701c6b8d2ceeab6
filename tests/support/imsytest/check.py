"""Assertions that say what was expected of what."""

from .process import Failed


def true(condition, what):
    if not condition:
        raise AssertionError(what)


def equal(expected, actual, what):
    if expected != actual:
        raise AssertionError(f"{what}: expected {expected!r}, got {actual!r}")


def contains(part, whole, what):
    if part not in whole:
        raise AssertionError(f"{what}: {part!r} is not in {whole!r}")


def empty(lines, what):
    """For lists of differences: shows the first of them."""
    if lines:
        shown = "\n  ".join(map(str, lines[:300]))
        raise AssertionError(f"{what}: {len(lines)}\n  {shown}")


def fails(action, what):
    """Runs what must fail; returns the failure's text."""
    try:
        action()
    except (Failed, OSError) as error:
        return str(error)
    raise AssertionError(f"{what}: succeeded")
