"""Writes tar archives byte by byte, the wrong ones included.

Python's tarfile writes what is right; tests also need what is not. An archive is a sequence of
blocks that these functions give as bytes:

    archive(entry("a", data=b"x"), entry("b", "5"), end())
"""

BLOCK = 512

REGULAR, HARDLINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = "0123456"
PAX, PAX_GLOBAL, LONG_NAME, LONG_LINK, SPARSE = "xgLKS"


def text(value):
    """A field's bytes; text that is not UTF-8 is given as bytes."""
    return value if isinstance(value, bytes) else value.encode()


def octal(value, width):
    return b"%0*o\0" % (width - 1, value)


def base256(value, width):
    """A number as GNU tar writes it when it is negative or too large for octal digits."""
    raw = value.to_bytes(width, "big", signed=True)
    return bytes([raw[0] | 0x80]) + raw[1:]


def number(value, width):
    """Bytes stand as they are; numbers are octal when they fit, else base-256."""
    if isinstance(value, bytes):
        return value.ljust(width, b"\0")[:width]
    return octal(value, width) if 0 <= value < 8 ** (width - 1) else base256(value, width)


def padded(data):
    return data + bytes(-len(data) % BLOCK)


def header(name, kind=REGULAR, size=0, mode=0o644, uid=0, gid=0, mtime=1_700_000_000, link="",
           major=0, minor=0, magic=b"ustar\x0000", checksum=None, prefix=""):
    """One header block. Numbers given as bytes are written as they are."""
    block = bytearray(BLOCK)
    fields = [(0, 100, text(name)), (100, 8, number(mode, 8)), (108, 8, number(uid, 8)),
              (116, 8, number(gid, 8)), (124, 12, number(size, 12)),
              (136, 12, number(mtime, 12)), (156, 1, text(kind)), (157, 100, text(link)),
              (257, 8, magic), (329, 8, number(major, 8)), (337, 8, number(minor, 8)),
              (345, 155, text(prefix))]
    for start, width, value in fields:
        if len(value) > width:
            raise ValueError(f"{value[:40]!r} does not fit into {width} bytes: use pax")
        block[start:start + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block) if checksum is None else text(checksum)
    return bytes(block)


def record(key, value):
    """One pax record, its length in front counting itself."""
    body = b" " + text(key) + b"=" + text(value) + b"\n"
    length = len(body)
    while len(str(length)) + len(body) != length:
        length = len(str(length)) + len(body)
    return str(length).encode() + body


def pax(records, kind=PAX, name="PaxHeaders/x"):
    """A pax header with these records: a dictionary, or bytes as they are."""
    if isinstance(records, dict):
        records = b"".join(record(key, value) for key, value in records.items())
    return header(name, kind, size=len(records)) + padded(records)


def gnu_long(value, kind=LONG_NAME):
    """GNU tar's header for a name (or link target) that is too long."""
    data = text(value) + b"\0"
    return header("././@LongLink", kind, size=len(data), magic=b"ustar  \0") + padded(data)


def entry(name, kind=REGULAR, data=b"", records=None, size=None, **fields):
    """A header with its data; what does not fit into it goes to a pax header before it."""
    records = dict(records or {})
    name, link = text(name), text(fields.pop("link", ""))
    if len(name) > 100:
        records["path"], name = name, name[:100]
    if len(link) > 100:
        records["linkpath"], link = link, link[:100]
    own = header(name, kind, size=len(data) if size is None else size, link=link, **fields)
    return (pax(records) if records else b"") + own + padded(data)


def directory(name, mode=0o755, **fields):
    return entry(name, DIRECTORY, mode=mode, **fields)


def symlink(name, target, **fields):
    return entry(name, SYMLINK, link=target, mode=0o777, **fields)


def hardlink(name, target, **fields):
    return entry(name, HARDLINK, link=target, **fields)


def whiteout(path):
    """The entry that removes a path of the layers below."""
    folder, _, leaf = text(path).rpartition(b"/")
    return entry((folder + b"/" if folder else b"") + b".wh." + leaf)


def opaque(folder):
    """The entry that removes everything in a folder of the layers below."""
    return entry((text(folder) + b"/" if folder else b"") + b".wh..wh..opq")


def end():
    return bytes(2 * BLOCK)


def archive(*parts, ended=True):
    return b"".join(parts) + (end() if ended else b"")
