"""Images with everything that is hard in tar, and what must come of each.

A case is either a tree, written down completely, or a refusal with words that its message has to
contain. Where containerd's overlayfs snapshotter gives a tree and agrees, the case says so
(`ordinary=True`) and the original is unpacked by it for comparison.
"""

import dataclasses
import itertools
import struct

from mktar import (BLOCK_DEVICE, CHARACTER, DIRECTORY, FIFO, HARDLINK, LONG_NAME, PAX_GLOBAL,
                   REGULAR, SYMLINK, archive, directory, entry, gnu_long, hardlink, header, opaque,
                   padded, pax, symlink, whiteout)

TIME = 1_700_000_000  # what mktar writes when nobody says otherwise


@dataclasses.dataclass
class Case:
    """layers: bytes of tars, bottom first. Either tree or refusal is given.

    tree: every path below the root with facts as treecmp describes them; facts that are not
    named are not compared, paths that are not named must not exist.
    """
    name: str
    layers: list
    tree: dict = None
    refusal: tuple = None
    ordinary: bool = False


def folder(**facts):
    return {"type": "directory", **facts}


def file(data=None, **facts):
    facts = {"type": "file", **facts}
    if data is not None:
        facts["data"] = data
    return facts


def link_to(target):
    return {"type": "symlink", "target": target}


def names():
    yield Case("names-normalised",
               [archive(directory("./"), directory("./a/"), entry("/abs", data=b"1"),
                        entry("./dot", data=b"2"), entry("a//b", data=b"3"),
                        entry("a/./c", data=b"4"), entry("./a/.//d", data=b"5"))],
               {b"abs": file(b"1"), b"dot": file(b"2"), b"a": folder(), b"a/b": file(b"3"),
                b"a/c": file(b"4"), b"a/d": file(b"5")}, ordinary=True)
    for path in ("../x", "a/../x", "a/..", "/../x", ".."):
        yield Case(f"dotdot-{path.replace('/', '_')}", [archive(directory("a"), entry(path))],
                   refusal=(path,))
    yield Case("root-attributes-last-entry-wins",
               [archive(directory("./", 0o700)),
                archive(directory("./", 0o1750, uid=5, gid=6, mtime=77), entry("a"))],
               {b".": folder(mode="0o1750", uid=5, gid=6, mtime=77 * 10**9), b"a": file(b"")})
    yield Case("root-attributes-default", [archive(entry("a"))],
               {b".": folder(mode="0o755", uid=0, gid=0, mtime=0), b"a": file(b"")})
    yield Case("implied-directories",
               [archive(entry("a/b/c", data=b"x", mode=0o600, uid=3, mtime=99))],
               {b"a": folder(mode="0o755", uid=0, gid=0, mtime=99 * 10**9),
                b"a/b": folder(mode="0o755", uid=0, gid=0, mtime=99 * 10**9),
                b"a/b/c": file(b"x", uid=3)})
    for kind, what in ((SYMLINK, "symlink"), (REGULAR, "file"), (CHARACTER, "device"),
                       (HARDLINK, "hardlink")):
        yield Case(f"root-as-{what}", [archive(entry("x"), entry(".", kind, link="x"))],
                   refusal=(".",))


def symlinked_parents():
    def case(name, links, path, lands, more=None, **options):
        return Case(f"parent-{name}",
                    [archive(directory("real"), *links), archive(entry(path, data=b"x"))],
                    {b"real": folder(), lands: file(b"x"), **(more or {})}, **options)

    yield case("relative", [symlink("l", "real")], "l/x", b"real/x", {b"l": link_to(b"real")})
    yield case("absolute", [symlink("l", "/real")], "l/x", b"real/x", {b"l": link_to(b"/real")})
    yield case("chain", [symlink("l", "m"), symlink("m", "/real")], "l/x", b"real/x",
               {b"l": link_to(b"m"), b"m": link_to(b"/real")})
    yield case("above-root", [directory("d"), symlink("d/l", "../../../real")], "d/l/x", b"real/x",
               {b"d": folder(), b"d/l": link_to(b"../../../real")})
    yield Case("parent-in-same-layer",
               [archive(directory("run"), directory("var"), symlink("var/run", "/run"),
                        entry("var/run/x", data=b"x"))],
               {b"run": folder(), b"run/x": file(b"x"), b"var": folder(),
                b"var/run": link_to(b"/run")}, ordinary=True)
    yield Case("parent-dangling", [archive(symlink("l", "nowhere"), entry("l/x", data=b"x"))],
               {b"l": link_to(b"nowhere"), b"nowhere": folder(), b"nowhere/x": file(b"x")})
    yield Case("parent-loop", [archive(symlink("a", "b"), symlink("b", "a"), entry("a/x"))],
               refusal=("a/x",))
    yield Case("parent-is-file", [archive(entry("a"), entry("a/b"))], refusal=("a/b",))
    yield Case("directory-over-lower-symlink",
               [archive(directory("real"), entry("real/old"), symlink("l", "real")),
                archive(directory("l"), entry("l/x", data=b"x"))],
               {b"real": folder(), b"real/old": file(), b"l": folder(), b"l/x": file(b"x")},
               ordinary=True)


def hard_links():
    both = ("a", "b")
    yield Case("hardlink-absolute",
               [archive(directory("usr"), entry("usr/x", data=b"x"), hardlink("y", "/usr/x"))],
               {b"usr": folder(), b"usr/x": file(b"x", links=2, group=(b"usr/x", b"y")),
                b"y": file(b"x", links=2)}, ordinary=True)
    yield Case("hardlink-missing", [archive(hardlink("b", "a"))], refusal=both)
    yield Case("hardlink-later", [archive(hardlink("b", "a"), entry("a"))], refusal=both)
    yield Case("hardlink-directory", [archive(directory("a"), hardlink("b", "a"))], refusal=both)
    yield Case("hardlink-itself", [archive(hardlink("b", "b"))], refusal=("b",))
    yield Case("hardlink-dotdot", [archive(entry("a"), hardlink("b", "x/../a"))], refusal=("b",))
    yield Case("hardlink-to-symlink", [archive(symlink("l", "a"), hardlink("m", "l"))],
               {b"l": {**link_to(b"a"), "group": (b"l", b"m")}, b"m": link_to(b"a")},
               ordinary=True)
    yield Case("hardlink-to-lower", [archive(entry("a", data=b"x")), archive(hardlink("b", "a"))],
               {b"a": file(b"x", group=both_bytes()), b"b": file(b"x", links=2)})
    for order in (0, 1):
        parts = [whiteout("a"), hardlink("b", "a")][::-1 if order else 1]
        yield Case(f"hardlink-to-whited-out-{order}",
                   [archive(entry("a", data=b"x")), archive(*parts)],
                   {b"b": file(b"x", links=1)})
    yield Case("hardlink-attributes-last-wins",
               [archive(entry("a", data=b"x", mode=0o600), hardlink("b", "a", mode=0o640, uid=9))],
               {b"a": file(b"x", mode="0o640", uid=9), b"b": file(b"x", mode="0o640", uid=9)},
               ordinary=True)
    yield Case("hardlink-with-size-has-no-data",
               [archive(entry("a", data=b"x"), header("b", HARDLINK, size=1, link="a"),
                        entry("c", data=b"y"))],
               {b"a": file(b"x", group=both_bytes()), b"b": file(b"x"), b"c": file(b"y")},
               ordinary=True)
    yield Case("lower-hardlink-replaced",
               [archive(entry("a", data=b"x"), hardlink("b", "a")), archive(entry("a", data=b"y"))],
               {b"a": file(b"y", links=1), b"b": file(b"x", links=1)})


def both_bytes():
    return b"a", b"b"


LOWER = archive(directory("d"), entry("d/x", data=b"old"), directory("d/s"),
                entry("d/s/y", data=b"old"), entry("keep", data=b"k"))


def whiteouts():
    keep = {b"keep": file(b"k")}
    yield Case("whiteout", [LOWER, archive(directory("d"), whiteout("d/x"))],
               {b"d": folder(), b"d/s": folder(), b"d/s/y": file(b"old"), **keep}, ordinary=True)
    yield Case("whiteout-directory", [LOWER, archive(whiteout("d"))], keep, ordinary=True)
    yield Case("whiteout-only-hits-lower-layers-before",
               [LOWER, archive(whiteout("d/x"), entry("d/x", data=b"new"))],
               {b"d": folder(), b"d/x": file(b"new"), b"d/s": folder(), b"d/s/y": file(), **keep})
    yield Case("whiteout-only-hits-lower-layers-after",
               [LOWER, archive(entry("d/x", data=b"new"), whiteout("d/x"))],
               {b"d": folder(), b"d/x": file(b"new"), b"d/s": folder(), b"d/s/y": file(), **keep})
    yield Case("whiteout-then-directory-anew",
               [LOWER, archive(whiteout("d"), directory("d"), entry("d/n", data=b"new"))],
               {b"d": folder(), b"d/n": file(b"new"), **keep})
    yield Case("whiteout-absent", [LOWER, archive(whiteout("nothing"), whiteout("no/where"))],
               {b"no": folder(), b"d": folder(), b"d/x": file(), b"d/s": folder(),
                b"d/s/y": file(), **keep})
    yield Case("whiteout-with-data-and-of-other-types",
               [LOWER, archive(entry("d/.wh.x", data=b"ignored"), directory("d/.wh.s"))],
               {b"d": folder(), **keep})
    yield Case("whiteout-through-symlink",
               [archive(LOWER[:-1024] + symlink("l", "d")), archive(whiteout("l/x"))],
               {b"d": folder(), b"d/s": folder(), b"d/s/y": file(), b"l": link_to(b"d"), **keep})
    yield Case("whiteout-reserved-name-ignored",
               [LOWER, archive(directory("d"), entry("d/.wh..wh.foo"))],
               {b"d": folder(), b"d/x": file(), b"d/s": folder(), b"d/s/y": file(), **keep})
    for name in (".wh.", ".wh..", ".wh...", "d/.wh."):
        yield Case(f"whiteout-of-{name.replace('/', '_')}", [LOWER, archive(entry(name))],
                   refusal=(name,))
    yield Case("opaque", [LOWER, archive(directory("d"), opaque("d"), entry("d/n", data=b"new"))],
               {b"d": folder(), b"d/n": file(b"new"), **keep}, ordinary=True)
    yield Case("opaque-root", [LOWER, archive(opaque(""), entry("n", data=b"new"))],
               {b"n": file(b"new")})
    yield Case("device-0-0-removes", [LOWER, archive(directory("d"), entry("d/x", CHARACTER))],
               {b"d": folder(), b"d/s": folder(), b"d/s/y": file(), **keep}, ordinary=True)


def permutations():
    """Cases of which every one must give the same layers as the others of its group."""
    parts = [directory("d"), opaque("d"), entry("d/x", data=b"new"), entry("d/t/deep", data=b"n")]
    tree = {b"d": folder(), b"d/x": file(b"new"), b"d/t": folder(), b"d/t/deep": file(b"n"),
            b"keep": file(b"k")}
    opaques = [Case(f"opaque-order-{i}", [LOWER, archive(*order)], tree)
               for i, order in enumerate(itertools.permutations(parts))]
    parts = [whiteout("d/s"), directory("d/s"), entry("d/s/n", data=b"new"), whiteout("d/x")]
    tree = {b"d": folder(), b"d/s": folder(), b"d/s/n": file(b"new"), b"keep": file(b"k")}
    mixed = [Case(f"whiteout-order-{i}", [LOWER, archive(*order)], tree)
             for i, order in enumerate(itertools.permutations(parts))]
    return [opaques, mixed]


def type_changes():
    lower = archive(directory("p"), directory("p/q"), entry("p/q/r", data=b"old"), entry("k"))
    keep = {b"k": file(b"")}
    yield Case("directory-to-file", [lower, archive(entry("p", data=b"f"))],
               {b"p": file(b"f"), **keep}, ordinary=True)
    yield Case("directory-to-symlink", [lower, archive(symlink("p", "k"))],
               {b"p": link_to(b"k"), **keep}, ordinary=True)
    yield Case("directory-to-device",
               [lower, archive(entry("p", BLOCK_DEVICE, major=7, minor=300))],
               {b"p": {"type": "block device", "device": (7, 300)}, **keep}, ordinary=True)
    yield Case("directory-to-file-and-back",
               [lower, archive(entry("p")), archive(directory("p"), entry("p/n", data=b"n"))],
               {b"p": folder(), b"p/n": file(b"n"), **keep}, ordinary=True)
    yield Case("file-to-directory", [lower, archive(directory("k"), entry("k/n", data=b"n"))],
               {b"p": folder(), b"p/q": folder(), b"p/q/r": file(b"old"), b"k": folder(),
                b"k/n": file(b"n")}, ordinary=True)
    yield Case("symlink-to-file", [archive(symlink("l", "k"), entry("k", data=b"k")),
                                   archive(entry("l", data=b"own"))],
               {b"l": file(b"own"), b"k": file(b"k")}, ordinary=True)
    yield Case("directory-over-directory-keeps-children",
               [lower, archive(directory("p", 0o711, uid=4))],
               {b"p": folder(mode="0o711", uid=4), b"p/q": folder(), b"p/q/r": file(b"old"),
                **keep}, ordinary=True)
    yield Case("duplicates-last-wins",
               [archive(entry("a", data=b"1"), entry("a", data=b"2"), directory("b"),
                        entry("b/x"), entry("b", data=b"file"), symlink("c", "a"),
                        entry("c", data=b"3"))],
               {b"a": file(b"2"), b"b": file(b"file"), b"c": file(b"3")}, ordinary=True)


def limits():
    longest = b"n" * 255
    odd = [b"\xff\xfe", b"new\nline", b"back\\slash", b"\x01\x7f", b" ", b"tab\t", b"'\"$`*?",
           "Grüße".encode(), longest]
    yield Case("names-are-bytes",
               [archive(*(entry(name, data=name) for name in odd), symlink("l", b"\xff\n\\"))],
               {**{name: file(name) for name in odd}, b"l": link_to(b"\xff\n\\")}, ordinary=True)
    yield Case("name-too-long", [archive(entry(b"n" * 256))], refusal=("nnnn",))
    segments = [b"s" * 200] * 19
    deep = b"/".join(segments)
    yield Case("path-long", [archive(entry(deep, data=b"x"))],
               {**{b"/".join(segments[:i]): folder() for i in range(1, 19)}, deep: file(b"x")})
    yield Case("path-too-long", [archive(entry(b"/".join([b"s" * 200] * 21)))], refusal=("ssss",))
    yield Case("path-too-deep", [archive(entry(b"/".join([b"d"] * 2000)))], refusal=("d/d/d",))
    yield Case("symlink-target-too-long", [archive(symlink("l", b"t" * 4096))], refusal=("l",))
    yield Case("gnu-long-name",
               [archive(gnu_long(b"g" * 120), entry("short", data=b"x"))],
               {b"g" * 120: file(b"x")}, ordinary=True)
    yield Case("global-header-does-not-name",
               [archive(pax({"path": "smuggled", "size": "1"}, PAX_GLOBAL),
                        entry("a", data=b"xy"))],
               {b"a": file(b"xy")}, ordinary=True)
    yield Case("unknown-type", [archive(entry("a", b"\x9b"))], refusal=("a",))
    yield Case("checksum-wrong", [archive(entry("a", checksum=b"000000\0 "))], refusal=("layer",))
    yield Case("cut-short", [archive(header("a", size=5000) + bytes(512), ended=False)],
               refusal=("layer",))
    yield Case("no-end-blocks", [archive(entry("a", data=b"x"), ended=False)],
               {b"a": file(b"x")}, ordinary=True)
    yield Case("two-names-follow-go",
               [archive(pax({"path": "p1"}), gnu_long("p2", LONG_NAME), header("p3", size=1),
                        padded(b"x"))],
               {b"p2": file(b"x")}, ordinary=True)


CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
ACL = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", tag, perm, who) for tag, perm, who in (
    (1, 6, 0xffffffff), (2, 4, 1000), (4, 4, 0xffffffff), (16, 4, 0xffffffff), (32, 4, 0xffffffff)))


def attributes(**xattrs):
    return {f"SCHILY.xattr.{name.replace('__', '.')}": value for name, value in xattrs.items()}


def extended_attributes():
    def case(name, kept, **given):
        return Case(f"xattr-{name}", [archive(entry("a", data=b"x", records=attributes(**given)))],
                    {b"a": file(b"x", xattrs=kept)}, ordinary=name in ("user", "capability", "acl"))

    yield case("user", {"user.note": b"\x00\xff=\n"}, user__note=b"\x00\xff=\n")
    yield case("capability", {"security.capability": CAPABILITY}, security__capability=CAPABILITY)
    yield case("acl", {"system.posix_acl_access": ACL}, system__posix_acl_access=ACL)
    yield case("overlay-dropped", {},
               trusted__overlay__opaque=b"y", trusted__overlay__redirect=b"/etc",
               trusted__overlay__metacopy=b"", user__overlay__opaque=b"y", trusted__other=b"1")
    yield case("selinux-dropped", {}, security__selinux=b"system_u:object_r:bin_t:s0\0")
    yield Case("xattr-too-large",
               [archive(entry("a", records=attributes(user__big=b"v" * (70 << 10))))],
               refusal=("a",))
    yield Case("xattr-on-directory-and-symlink",
               [archive(entry("d", DIRECTORY, mode=0o755, records=attributes(user__note=b"d")))],
               {b"d": folder(xattrs={"user.note": b"d"})}, ordinary=True)


def owners_modes_devices():
    yield Case("modes",
               [archive(entry("u", mode=0o4755), entry("g", mode=0o2755), directory("t", 0o1777),
                        entry("none", mode=0), entry("all", mode=0o7777))],
               {b"u": file(mode="0o4755"), b"g": file(mode="0o2755"), b"t": folder(mode="0o1777"),
                b"none": file(mode="0o0"), b"all": file(mode="0o7777")}, ordinary=True)
    yield Case("large-ids",
               [archive(entry("a", uid=2**31, gid=2**32 - 2), entry("b", uid=65534, gid=100_000))],
               {b"a": file(uid=2**31, gid=2**32 - 2), b"b": file(uid=65534, gid=100_000)},
               ordinary=True)
    yield Case("reserved-uid", [archive(entry("a", uid=2**32 - 1))], refusal=("a",))
    yield Case("reserved-gid", [archive(entry("a", gid=2**32 - 1))], refusal=("a",))
    yield Case("uid-too-large", [archive(entry("a", uid=2**32 + 5))], refusal=("a",))
    yield Case("uid-negative", [archive(entry("a", uid=-1))], refusal=("a",))
    yield Case("devices",
               [archive(entry("c", CHARACTER, major=1, minor=3, mode=0o666),
                        entry("b", BLOCK_DEVICE, major=8, minor=1 << 19), entry("f", FIFO))],
               {b"c": {"type": "character device", "device": (1, 3), "mode": "0o666"},
                b"b": {"type": "block device", "device": (8, 1 << 19)}, b"f": {"type": "fifo"}},
               ordinary=True)
    yield Case("device-number-too-large", [archive(entry("c", CHARACTER, major=2**32 + 1))],
               refusal=("c",))
    yield Case("times",
               [archive(entry("a", records={"mtime": "1.000000001"}),
                        entry("b", records={"mtime": "-1.5"}), entry("c", mtime=2**33 + 1),
                        entry("d", records={"mtime": "1700000000.123456789"}))],
               {b"a": file(mtime=1_000_000_001), b"b": file(mtime=-1_500_000_000),
                b"c": file(mtime=(2**33 + 1) * 10**9),
                b"d": file(mtime=1_700_000_000_123_456_789)})


def cases():
    for group in (names, symlinked_parents, hard_links, whiteouts, type_changes, limits,
                  extended_attributes, owners_modes_devices):
        yield from group()
