#!/usr/bin/env python3
"""Our tar reader against Go's, on thousands of archives that are right, odd and wrong.

    tests/integration/tar_differential.py --tarlist PROGRAM [--count N] [--seed N] [--keep DIR]

containerd, Docker and podman read layers with Go's archive/tar. Where ours accepts an archive it
must list exactly the same: names, types, attributes, contents. Where Go accepts one, ours may
refuse it only for a reason in MAY_REFUSE. Archives that differ are kept in DIR. The same seed makes
the same archives: without one they are the same in every run; for others, --seed random. Without Go
the test is skipped (exit code 77).

Half of the archives are put together from parts at random, with something gone wrong in a third of
them. The other half are right ones of which a few bytes were changed, each in a header, extended
header or sparse map that means something, with the checksum made right again.
"""

import argparse
import collections
import gzip
import io
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))

import mktar  # noqa: E402
from imsytest import env  # noqa: E402

# What Go hands on and no file can have, or what only Go reads that way.
MAY_REFUSE = {
    "owner": r"its owner is out of range",
    "mode": r"its mode is out of range",
    "device number": r"its device number is out of range",
    "unknown type": r"its type .* is unknown",
    "NUL in name": r"its name has a NUL in it",
    "nameless xattr": r"an extended attribute without a name",
    "extended header without entry": r"after an extended header without its entry",
    "reserved gzip flags": r"unknown method or flags",
    "time out of range": r'pax record "[amc]time" is malformed',
}

BLOCK = mktar.BLOCK
# name: (offset, width) of the number fields of a header
NUMBERS = {"mode": (100, 8), "uid": (108, 8), "gid": (116, 8), "size": (124, 12),
           "mtime": (136, 12), "major": (329, 8), "minor": (337, 8)}
MAGICS = {"ustar": b"ustar\x0000", "gnu": b"ustar  \0", "v7": bytes(8), "odd": b"ustar\0  "}
TYPES = [b"0"] * 20 + [b"\0"] * 6 + [bytes([c]) for c in b"111223455556SS7"] + [b"\xff"]
NAMES = [b"a", b"dir/", b"dir/file", b"./x", b"../up", b"/abs", b"", b".", b"n" * 99, b"n" * 100,
         b"d" * 99 + b"/", "gr\u00fc\u00df".encode(), b"\xff\xfe", b"new\nline", b"a\\b", b"x//y/"]
DECIMALS = [b"0", b"7", b"+8", b"00012", b"1000", b"4294967294", b""]
BAD_DECIMALS = [b"-1", b"4294967295", b"4294967296", b"9223372036854775807", b"9223372036854775808",
                b"-9223372036854775808", b"1 ", b"0x10", b"1e3", b"--1", b"+", b"1_000", b"+-1"]
TIMES = [b"0", b"1.5", b"-1.5", b"-0.25", b"1.", b"1.123456789123", b"+3.25", b"-3.000",
         b"1700000000.000000001", b"-62135596801.9", b"99999999999", b""]
BAD_TIMES = [b".5", b"1.x", b"-", b"1.-5", b"1,5", b"9223372036854775808", b"1 "]
KEYS = [b"path", b"linkpath", b"uid", b"gid", b"size", b"mtime", b"atime", b"ctime", b"uname",
        b"gname", b"SCHILY.xattr.user.a", b"SCHILY.xattr.security.capability", b"SCHILY.xattr.",
        b"LIBARCHIVE.xattr.user.a", b"comment", b"GNU.sparse.name", b"GNU.sparse.major",
        b"GNU.sparse.minor", b"GNU.sparse.map", b"GNU.sparse.numblocks", b"GNU.sparse.realsize",
        b"GNU.sparse.size", b"GNU.sparse.offset", b"GNU.sparse.numbytes", b"k\0", b"", b"VENDOR.x"]
# Those that hardly ever spoil an archive, which else would be most of them.
GOOD_KEYS = [key for key in KEYS if key and key[-1:] not in b"\0." and key != b"size" and
             not key.startswith(b"GNU.sparse.")]


def with_checksum(block, signed=False):
    """The header block with a right checksum; of signed bytes on demand."""
    block = bytearray(block)
    block[148:156] = b" " * 8
    total = sum(block) - (256 * sum(byte > 127 for byte in block) if signed else 0)
    block[148:156] = b"%06o\0 " % (total % 8 ** 6)
    return bytes(block)


def is_header_block(part):
    return len(part) == BLOCK and part == with_checksum(part)


class Maker:
    """Makes archives as lists of parts; a part is a header block, or content."""

    def __init__(self, rng):
        self.rng = rng

    def chance(self, probability):
        return self.rng.random() < probability

    def data(self, most=1300):
        return self.rng.randbytes(self.rng.choice([0, 0, 1, 3, 511, 512, 513, most]))

    def name(self):
        if self.chance(0.1):
            return self.rng.randbytes(self.rng.randrange(1, 20))
        return self.rng.choice(NAMES)

    def field(self, width, value):
        """A number in one of the ways that fields are written, few of them wrong."""
        style = self.rng.randrange(40) if self.chance(0.2) else 0
        if style < 24:
            return mktar.octal(value % 8 ** (width - 1), width)
        if style < 28:
            return mktar.base256(value, width)
        if style < 32:
            return (b"%o" % value).rjust(width)[-width:]
        if style < 34:
            return b"%0*o" % (width, value % 8 ** width)
        if style < 36:
            return bytes(width)
        if style == 36:
            return mktar.base256(self.rng.choice([-1, -2, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 55]),
                                 width)
        if style == 37:
            return b" %o \0" % (value % 8) + bytes(width - 4)
        if style == 38:
            return (b"%o\0junk" % (value % 64)).ljust(width, b"\0")[:width]
        return self.rng.randbytes(width)

    def header(self, kind=None, size=0, name=None):
        kind = kind or self.rng.choice(TYPES)
        layout = self.rng.choice(["ustar"] * 5 + ["gnu"] * 3 + ["v7", "odd", "star"])
        block = bytearray(mktar.header(
            (self.name() if name is None else name)[:100], kind, size,
            link=self.rng.choice(NAMES)[:100], magic=MAGICS.get(layout, MAGICS["ustar"])))
        for field, (offset, width) in NUMBERS.items():
            if field == "size":
                value = size
            elif self.chance(0.5):
                continue
            else:
                value = self.rng.choice([0, 1, 0o755, 1000, 0o7777])
            if field != "size" or self.chance(0.3):
                block[offset:offset + width] = self.field(width, value)
        if self.chance(0.2):
            prefix = self.rng.choice([b"prefix", b"p/q", b"\xc3\xbc", b"0000644\0" * 3])
            block[345:345 + len(prefix)] = prefix
        if layout == "star":
            block[476:500] = self.field(12, 1) + self.field(12, 2)
            block[508:512] = b"tar\0"
        return with_checksum(block, signed=self.chance(0.05))

    def value(self, key):
        bad = self.chance(0.1)
        if key in (b"uid", b"gid", b"size"):
            return self.rng.choice(BAD_DECIMALS if bad else DECIMALS)
        if key in (b"mtime", b"atime", b"ctime"):
            return self.rng.choice(BAD_TIMES if bad else TIMES)
        if key.startswith(b"GNU.sparse.") and key != b"GNU.sparse.name":
            return self.rng.choice(BAD_DECIMALS + DECIMALS + [b"0,1", b"1", b"2,3,8,2"])
        if bad:
            return b"v\0w"
        return self.rng.choice(NAMES + [b"l" * 300, b"", b"=", b"a=b\n"])

    def records(self):
        text = b""
        for _ in range(self.rng.randrange(5)):
            key = self.rng.choice(KEYS if self.chance(0.12) else GOOD_KEYS)
            text += mktar.record(key, self.value(key))
        if self.chance(0.3):
            text += mktar.record(b"mtime", self.rng.choice(TIMES[:4]))
        if self.chance(0.03):
            text = self.rng.choice([b"", b"junk", b"5 a=\n", b"6 a=b", b"07 a=b\n", b"+7 a=b\n",
                                    b"7  a=b\n", b"6 a=b\n"]) + text
        return text

    def extended(self):
        """An extended header: parts."""
        kind = self.rng.choice(b"xxxxxLLKg")
        if kind in b"xg":
            content = self.records()
        else:
            content = self.rng.choice(NAMES + [b"long/" * 50, b"cut\0here"]) + b"\0"
        return [self.header(bytes([kind]), len(content)), mktar.padded(content)]

    def entry(self):
        data = self.data()
        kind = self.rng.choice(TYPES)
        size = len(data)
        if kind in b"123456" and self.chance(0.95):
            data = b""
            size = self.rng.choice([0, 0, 0, 512])
        if kind == b"S":
            return self.sparse()
        return [self.header(kind, size), mktar.padded(data)]

    def sparse_map(self):
        """A map: regions, expanded size, content. Most are right."""
        regions, content, position = [], b"", 0
        for _ in range(self.rng.choice([0, 1, 2, 3, 5, 30])):
            position += self.rng.choice([0, 1, 5, 512, 4000])
            length = self.rng.choice([0, 1, 3, 512])
            regions.append((position, length))
            content += self.rng.randbytes(length)
            position += length
        size = position + self.rng.choice([0, 0, 7, 1000])
        if self.chance(0.2):
            what = self.rng.randrange(5)
            if what == 0 and regions:
                regions[self.rng.randrange(len(regions))] = (
                    self.rng.choice([0, 3, 10 ** 5, 2 ** 33]), self.rng.choice([0, 1, 9]))
            elif what == 1:
                size = self.rng.choice([0, 1, size // 2, 2 ** 33])
            elif what == 2:
                content += b"more"
            elif what == 3:
                content = content[:-1]
            else:
                self.rng.shuffle(regions)
        return regions, size, content

    def old_sparse(self, regions, size, content):
        block = bytearray(self.header(b"S", len(content)))
        block[257:265] = MAGICS["gnu"]
        block[345:508] = bytes(163)
        areas = [regions[:4]] + [regions[i:i + 21] for i in range(4, len(regions), 21)]
        blocks = []
        for index, area in enumerate(areas):
            text = b"".join(mktar.octal(offset, 12) + mktar.octal(length, 12)
                            for offset, length in area)
            more = index + 1 < len(areas) or self.chance(0.03)
            if index == 0:
                block[386:482] = text.ljust(96, b"\0")
                block[482] = more
                block[483:495] = mktar.number(size, 12)
            else:
                blocks.append(text.ljust(504, b"\0") + bytes([more]) + bytes(7))
        return [with_checksum(block), *blocks, mktar.padded(content)]

    def sparse(self):
        regions, size, content = self.sparse_map()
        form = self.rng.choice(["old", "0.0", "0.1", "1.0"])
        return self.sparse_parts(form, regions, size if self.chance(0.95) else None, content,
                                 self.name() if self.chance(0.8) else None,
                                 b"0" if self.chance(0.95) else self.rng.choice(TYPES))

    def sparse_parts(self, form, regions, size, content, name, kind):
        if form == "old":
            return self.old_sparse(regions, size or 0, content)
        records = mktar.record(b"GNU.sparse.name", name) if name is not None else b""
        key = b"GNU.sparse.realsize" if form == "1.0" else b"GNU.sparse.size"
        if size is not None:
            records += mktar.record(key, str(size))
        if form == "1.0":
            records += (mktar.record(b"GNU.sparse.major", "1") +
                        mktar.record(b"GNU.sparse.minor", "0"))
            numbers = [len(regions), *(n for region in regions for n in region)]
            content = mktar.padded(b"".join(b"%d\n" % n for n in numbers)) + content
        else:
            records += mktar.record(b"GNU.sparse.numblocks", str(len(regions)))
            if form == "0.1":
                records += mktar.record(b"GNU.sparse.map",
                                        ",".join(f"{a},{b}" for a, b in regions))
            else:
                for offset, length in regions:
                    records += mktar.record(b"GNU.sparse.offset", str(offset))
                    records += mktar.record(b"GNU.sparse.numbytes", str(length))
        return [self.header(b"x", len(records)), mktar.padded(records),
                self.header(kind, len(content)), mktar.padded(content)]

    def parts(self):
        parts = []
        for _ in range(self.rng.randrange(1, 7)):
            for _ in range(self.rng.choice([0, 0, 1, 1, 2, 3])):
                parts += self.extended()
            parts += self.sparse() if self.chance(0.15) else self.entry()
        parts.append(self.rng.choice([mktar.end()] * 12 + [b"", bytes(BLOCK), bytes(700),
                                                           mktar.end() + self.data()]))
        return parts

    def mutate(self, parts):
        """One thing gone wrong."""
        parts = [part for part in parts if part]
        what = self.rng.randrange(7)
        index = self.rng.randrange(len(parts))
        part = bytearray(parts[index])
        if what <= 2 and len(part) == BLOCK:  # a field of a header (or content), checksum mended
            offset = self.rng.choice([*(start for start, _ in NUMBERS.values()), 0, 156, 157, 257,
                                      345, 386, 482, 483, 508, self.rng.randrange(BLOCK)])
            spoilt = self.rng.randbytes(self.rng.choice([1, 1, 2, 8]))
            part[offset:offset + len(spoilt)] = spoilt
            parts[index] = with_checksum(part[:BLOCK])
        elif what == 3:
            part[self.rng.randrange(len(part))] ^= 1 << self.rng.randrange(8)
            parts[index] = bytes(part)
        elif what == 4:
            del parts[index]
        elif what == 5:
            parts.insert(self.rng.randrange(len(parts)), parts[index])
        else:
            whole = b"".join(parts)
            return [whole[:self.rng.randrange(len(whole))]]
        return parts

    def ordinary(self):
        """What Python's tarfile writes."""
        out = io.BytesIO()
        form = self.rng.choice([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
        with tarfile.open(fileobj=out, mode="w", format=form) as archive:
            for number in range(self.rng.randrange(6)):
                info = tarfile.TarInfo(f"directory/{'n' * self.rng.choice([1, 60])}/{number}")
                info.type = self.rng.choice([tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE])
                info.linkname = "target"
                info.uid = self.rng.choice([0, 1000, 2 ** 20])
                info.mtime = self.rng.choice([0, 1_700_000_000])
                data = self.data() if info.isreg() else b""
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        return out.getvalue()

    def compress(self, archive):
        """gzip, in one member or several, sometimes damaged."""
        cut = self.rng.randrange(len(archive) + 1)
        members = [archive] if self.chance(0.5) else [archive[:cut], archive[cut:]]
        packed = bytearray(b"".join(gzip.compress(m, self.rng.choice([0, 1, 6, 9]), mtime=0)
                                    for m in members))
        what = self.rng.randrange(6)
        if what == 0:
            packed[self.rng.randrange(3, len(packed))] ^= 1 << self.rng.randrange(8)
        elif what == 1:
            packed = packed[:self.rng.randrange(4, len(packed))]
        elif what == 2:
            packed += self.rng.choice([b"\0", b"junk", b"\x1f\x8b\x08", bytes(600)])
        return bytes(packed)

    def right(self):
        """A right archive with one of everything that headers can say: its parts."""
        long_name = b"long/" * self.rng.choice([21, 60])
        records = b"".join(mktar.record(key, value) for key, value in self.rng.sample([
            (b"path", b"by/pax"), (b"linkpath", b"target"), (b"size", b"5"), (b"uid", b"1000"),
            (b"gid", b"70000"), (b"mtime", b"1700000000.25"), (b"atime", b"-1.5"),
            (b"SCHILY.xattr.user.a", b"value"), (b"comment", b"text")], 4))
        body = b"hello"
        large = bytearray(mktar.header(b"large", uid=2 ** 21 + 5, gid=2 ** 31, mtime=-2 ** 40,
                                       size=len(body), magic=MAGICS["gnu"]))
        star = bytearray(mktar.header(b"star", size=len(body), prefix=b"in/front"))
        star[476:500] = mktar.octal(5, 12) + mktar.octal(6, 12)
        star[508:512] = b"tar\0"
        makers = [
            lambda: [mktar.header(b"x", "x", len(records)), mktar.padded(records),
                     mktar.header(b"plain", size=len(body)), mktar.padded(body)],
            lambda: [mktar.header(b"L", "L", len(long_name) + 1), mktar.padded(long_name + b"\0"),
                     mktar.header(b"K", "K", 7), mktar.padded(b"target\0"),
                     mktar.header(b"link", "2", link="short", magic=MAGICS["gnu"])],
            lambda: [with_checksum(large), mktar.padded(body)],
            lambda: [with_checksum(star), mktar.padded(body)],
            lambda: [mktar.header(b"device", "3", major=1, minor=3)],
            lambda: [mktar.header(b"old/", "\0", magic=MAGICS["v7"])],
            lambda: self.right_sparse("old"), lambda: self.right_sparse("0.0"),
            lambda: self.right_sparse("0.1"), lambda: self.right_sparse("1.0")]
        parts = []
        for make in self.rng.sample(makers, self.rng.choice([1, 1, 2])):
            parts += make()
        return parts + [mktar.header(b"last", size=len(body)), mktar.padded(body), mktar.end()]

    def right_sparse(self, form):
        regions = [(512 * 3 * i + i, 5 + i) for i in range(self.rng.choice([1, 3, 6, 27]))]
        content = b"".join(bytes([65 + i]) * length for i, (_, length) in enumerate(regions))
        return self.sparse_parts(form, regions, sum(regions[-1]) + 100, content, b"sparse", b"0")

    def spoil(self, parts):
        """A few bytes of a part that is not the end, most of them where something stands."""
        parts = list(parts)
        index = self.rng.randrange(len(parts) - 1)
        part = bytearray(parts[index])
        is_header = index + 1 < len(parts) and is_header_block(part)
        meaning = [at for at, byte in enumerate(part) if byte and not 148 <= at < 156]
        for _ in range(self.rng.choice([1, 1, 1, 2, 3])):
            at = self.rng.choice(meaning) + self.rng.choice([0, 0, 0, 1, -1])
            at = max(0, min(at, len(part) - 1))
            part[at] = self.rng.choice([*b"0123456789", *b" =\n,-+.xgLKS", 0, 0x80, 0xff,
                                        part[at] ^ 1 << self.rng.randrange(8)])
        parts[index] = with_checksum(part) if is_header else bytes(part)
        return parts

    def archive(self, number):
        """Every second one is a right one with a few bytes changed."""
        if number % 2:
            parts = self.right()
            if self.chance(0.95):
                parts = self.spoil(parts)
            return b"".join(parts)
        return self.made()

    def made(self):
        if self.chance(0.1):
            archive = self.ordinary()
        else:
            parts = self.parts()
            while self.chance(0.3):
                parts = self.mutate(parts) or [b""]
                if not any(parts):
                    break
            archive = b"".join(parts)
        return self.compress(archive) if self.chance(0.08) else archive


def find_go():
    found = shutil.which("go")
    if found:
        return found
    for path in sorted((env.CACHE / "tools" / "go").glob("usr/lib/go-*/bin/go")):
        return str(path)
    return None


def build_golist(go, target):
    environment = {**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": "-buildvcs=false",
                   "GOWORK": "off", "GOPROXY": "off", "CGO_ENABLED": "0",
                   "GOCACHE": str(env.CACHE / "go" / "build"),
                   "GOPATH": str(env.CACHE / "go" / "path"),
                   "XDG_CONFIG_HOME": str(env.CACHE / "go" / "config")}
    subprocess.run([go, "build", "-o", str(target), "."], check=True, env=environment,
                   cwd=ROOT / "tests" / "support" / "golist")


def run_lister(program, paths):
    """path -> (lines of entries, last line: "end" or "error ...")"""
    done = subprocess.run([str(program)], input="\n".join(map(str, paths)) + "\n", text=True,
                          stdout=subprocess.PIPE, check=True)
    listings = {}
    for line in done.stdout.splitlines():
        if line.startswith("archive "):
            listings[line[8:]] = lines = []
        else:
            lines.append(line)
    return {path: (lines[:-1], lines[-1]) for path, lines in listings.items()}


def reason(message):
    for name, pattern in MAY_REFUSE.items():
        if re.search(pattern, message):
            return name
    return None


def compare(paths, ours, theirs):
    """Counts by outcome, and the archives on which the two must not differ as they do."""
    counts = collections.Counter()
    wrong = []
    for path in map(str, paths):
        (our_lines, our_end), (their_lines, their_end) = ours[path], theirs[path]
        we_accept, they_accept = our_end == "end", their_end == "end"
        if we_accept and they_accept and our_lines == their_lines:
            counts["read alike"] += 1
            counts["entries read alike"] += len(our_lines)
        elif not we_accept and not they_accept:
            counts["refused by both"] += 1
        elif not we_accept and reason(our_end):
            counts[f"refused by us: {reason(our_end)}"] += 1
        else:
            wrong.append((path, our_lines + [our_end], their_lines + [their_end]))
    return counts, wrong


def report(wrong, keep):
    keep.mkdir(parents=True, exist_ok=True)
    for path, ours, theirs in wrong:
        shutil.copy(path, keep)
    for path, ours, theirs in wrong[:5]:
        print(f"--- {keep / pathlib.Path(path).name}")
        for line in ours:
            print("  ours" if line not in theirs else "  both", line)
        for line in theirs:
            if line not in ours:
                print("  Go  ", line)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tarlist", required=True, type=pathlib.Path)
    parser.add_argument("--count", type=int, default=6000)
    parser.add_argument("--seed", default="1", help="a number, or: random")
    parser.add_argument("--keep", type=pathlib.Path, default=pathlib.Path("tar-differential"))
    options = parser.parse_args()
    go = find_go()
    if not go:
        print("skipped: there is no Go to compare with")
        return env.SKIPPED
    seed = (random.SystemRandom().randrange(2 ** 32) if options.seed == "random"
            else int(options.seed))
    print(f"seed {seed}", flush=True)
    maker = Maker(random.Random(seed))
    with tempfile.TemporaryDirectory(prefix="tar-differential-") as folder:
        golist = pathlib.Path(folder) / "golist"
        build_golist(go, golist)
        paths = []
        for number in range(options.count):
            path = pathlib.Path(folder) / f"{seed}-{number}.tar"
            path.write_bytes(maker.archive(number))
            paths.append(path)
        counts, wrong = compare(paths, run_lister(options.tarlist, paths),
                                run_lister(golist, paths))
        for outcome, count in sorted(counts.items()):
            print(f"{count:7} {outcome}")
        if wrong:
            report(wrong, options.keep)
            print(f"FAILED: {len(wrong)} archives are read differently")
            return 1
    # A maker of nothing but rubbish would prove nothing.
    if counts["read alike"] < options.count // 4 or counts["refused by both"] < options.count // 20:
        print("FAILED: the archives are too good or too bad to prove anything")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
