"""Images to test with: tiny ones, and two versions of a real one made from Debian packages."""

import concurrent.futures
import contextlib
import hashlib
import io
import os
import pathlib
import random
import re
import shutil
import sys
import tarfile
import tempfile

from . import env, oci
from .process import Failed, run

# ---- tiny images -----------------------------------------------------------------------------


class Tree:
    """A layer as a list of entries; tar() gives the same bytes for the same calls."""

    def __init__(self, mtime=1_700_000_000):
        self._out = io.BytesIO()
        self._tar = tarfile.open(fileobj=self._out, mode="w", format=tarfile.PAX_FORMAT)
        self._mtime = mtime

    def _add(self, name, kind, mode, data=b"", link="", xattrs=None, **attributes):
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode, entry.linkname, entry.size = kind, mode, link, len(data)
        entry.mtime = self._mtime
        for key, value in attributes.items():
            setattr(entry, key, value)
        entry.pax_headers = {f"SCHILY.xattr.{key}": value for key, value in (xattrs or {}).items()}
        self._tar.addfile(entry, io.BytesIO(data))
        return self

    def directory(self, name, mode=0o755, **more):
        return self._add(name, tarfile.DIRTYPE, mode, **more)

    def file(self, name, data, mode=0o644, **more):
        return self._add(name, tarfile.REGTYPE, mode, data=data, **more)

    def symlink(self, name, target, **more):
        return self._add(name, tarfile.SYMTYPE, 0o777, link=target, **more)

    def hardlink(self, name, target, **more):
        return self._add(name, tarfile.LNKTYPE, 0o644, link=target, **more)

    def node(self, name, kind, mode=0o644, major=0, minor=0, **more):
        return self._add(name, kind, mode, devmajor=major, devminor=minor, **more)

    def whiteout(self, name):
        folder, _, leaf = name.rpartition("/")
        return self.file(f"{folder}/.wh.{leaf}" if folder else f".wh.{leaf}", b"")

    def opaque(self, folder):
        return self.file(f"{folder}/.wh..wh..opq", b"")

    def tar(self):
        self._tar.close()
        return self._out.getvalue()


def noise(size, seed):
    """Bytes that do not compress; the same for the same seed."""
    return random.Random(seed).randbytes(size)


def prose(size, seed):
    """Bytes that compress like text; the same for the same seed."""
    source = random.Random(seed)
    words = [f"{source.getrandbits(30):x}" for _ in range(500)]
    text = io.StringIO()
    while text.tell() < size:
        text.write(" ".join(source.choices(words, k=12)) + "\n")
    return text.getvalue().encode()[:size]


def base_layer():
    """A root filesystem in which containers run: busybox and the folders that runc wants."""
    tree = Tree()
    for folder in ("bin", "dev", "etc", "proc", "root", "sys", "tmp", "usr", "usr/bin"):
        tree.directory(folder, 0o1777 if folder == "tmp" else 0o755)
    tree.file("bin/busybox", env.tool("busybox").read_bytes(), 0o755)
    for name in ("sh", "cat", "ls", "sha256sum", "sleep", "touch", "find", "echo", "rm", "stat"):
        tree.symlink(f"bin/{name}", "busybox")
    tree.file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")
    tree.file("etc/group", b"root:x:0:\n")
    return tree


def tiny_versions(layout):
    """Stores tags v1 and v2 of a small image: some large files, of which v2 changes a little."""
    for tag in ("v1", "v2"):
        second = tag == "v2"
        data = Tree().directory("data").directory("data/many")
        data.file("data/same.bin", noise(3_000_000, "same"))
        changed = bytearray(noise(2_000_000, "changed"))
        if second:
            changed[900_000:900_010] = b"0123456789abc"
        data.file("data/changed.bin", bytes(changed))
        data.file("data/text", prose(1_000_000, "text") + (b"one more line\n" if second else b""))
        for number in range(200):
            data.file(f"data/many/{number}", prose(500 + 37 * number, number))
        data.file("data/version", tag.encode() + b"\n")
        data.hardlink("data/link", "data/version")
        last = Tree().directory("data").directory("data/many").whiteout("data/many/7")
        last.file("data/new", tag.encode())
        layout.add_image(tag, [base_layer().tar(), data.tar(), last.tar()],
                         [oci.LAYER_GZIP, oci.LAYER_ZSTD, oci.LAYER_TAR],
                         config={"Cmd": ["/bin/sh"]})
    return layout


# ---- two versions of a real image ------------------------------------------------------------

PACKAGES = ["nginx", "php8.2-cli", "php8.2-fpm", "curl", "openssl", "imagemagick"]
CODENAME = "bookworm"
# Version 1 is the release alone, version 2 has what was published for it since. Files that the
# installation itself writes get these times, so that building again gives the same image.
VERSIONS = {"1": ([CODENAME], 1_735_689_600),
            "2": ([CODENAME, f"{CODENAME}-updates", f"{CODENAME}-security"], 1_738_368_000)}
_CONFIG = {"Cmd": ["nginx", "-g", "daemon off;"], "ExposedPorts": {"80/tcp": {}},
           "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]}


def package_sources(suites):
    """The lines of a sources.list for these suites of Debian, from what apt is configured for."""
    listed = run(["apt-get", "indextargets", "--format",
                  "$(RELEASE)|$(COMPONENT)|$(ORIGIN)|$(REPO_URI)", "Created-By: Packages"]).stdout
    lines = []
    for suite in suites:
        # The origin is known once the package lists were fetched.
        found = [line.split("|", 3)[3] for line in listed.splitlines()
                 if line.startswith((f"{suite}|main|Debian|", f"{suite}|main||"))]
        if not found:
            raise env.Skip(f"apt on this machine is not configured for Debian's {suite}")
        lines += [f"deb {uri} {suite} main\n" for uri in dict.fromkeys(found)]
    return "".join(lines)


def apt_options():
    """The machine's settings without which its mirror or proxy does not work."""
    dump = run(["apt-config", "dump"]).stdout
    wanted = re.findall(r'^(Acquire::(?:Check-Valid-Until|Check-Date|https?::Proxy) ".*");$', dump,
                        re.M)
    return [f"--aptopt={setting}" for setting in wanted + ["APT::Install-Recommends \"false\""]]


def _bootstrap(version, scratch):
    """Makes base.tar (the essential system) and full.tar (with the packages) in scratch."""
    suites, epoch = VERSIONS[version]
    (scratch / "sources.list").write_text(package_sources(suites))
    snapshot = (f'tar -C "$1" --one-file-system --numeric-owner --sort=name --format=posix '
                f"--pax-option=delete=atime,delete=ctime --mtime=@{epoch} --clamp-mtime "
                f"-cf '{scratch}/base.tar' .")
    run(["mmdebstrap", "--mode=root", "--variant=minbase", f"--include={','.join(PACKAGES)}",
         *apt_options(), f"--essential-hook={snapshot}",
         '--customize-hook=rm -f "$1"/etc/apt/apt.conf.d/99mmdebstrap "$1"/etc/hostname '
         '"$1"/etc/resolv.conf "$1"/var/log/*.log "$1"/var/log/apt/* "$1"/var/cache/ldconfig/*',
         CODENAME, scratch / "full.tar", scratch / "sources.list"],
        env={**os.environ, "SOURCE_DATE_EPOCH": str(epoch), "TMPDIR": str(scratch)}, timeout=1800)


def _same(archives, entries):
    """True when two entries of two tars would give the same file."""
    old, new = entries
    facts = [(e.type, e.mode, e.uid, e.gid, e.size, int(e.mtime), e.linkname, e.devmajor,
              e.devminor, {k: v for k, v in e.pax_headers.items() if "xattr" in k})
             for e in entries]
    if facts[0] != facts[1]:
        return False
    if not old.isreg():
        return True
    return archives[0].extractfile(old).read() == archives[1].extractfile(new).read()


def _copy(source, entry, target):
    target.addfile(entry, source.extractfile(entry) if entry.isreg() else None)


def _split(scratch, epoch):
    """The layers: the base system, what the packages added or changed, and an application."""
    layers = [scratch / "layer0.tar", scratch / "layer1.tar"]
    with contextlib.ExitStack() as stack:
        base = stack.enter_context(tarfile.open(scratch / "base.tar"))
        full = stack.enter_context(tarfile.open(scratch / "full.tar"))
        lower, upper = (stack.enter_context(tarfile.open(path, "w", format=tarfile.PAX_FORMAT))
                        for path in layers)
        old = {os.path.normpath(entry.name): entry for entry in base}
        new = {os.path.normpath(entry.name): entry for entry in full}
        # What the packages take away of the base again is left out of the base right away.
        kept = {name: entry for name, entry in old.items() if name in new}
        for name, entry in kept.items():
            if not entry.islnk() or os.path.normpath(entry.linkname) in kept:
                _copy(base, entry, lower)
        changed = {name for name, entry in new.items()
                   if name not in kept or not _same((base, full), (kept[name], entry))}
        # With the folders above them, as builders write layers: else an unpacker has to invent
        # the times of folders that it adds something to.
        changed |= {str(folder) for name in changed for folder in pathlib.PurePath(name).parents}
        for name, entry in new.items():
            if name in changed:
                _copy(full, entry, upper)
    application = Tree(epoch)
    for folder in ("etc", "etc/nginx", "etc/nginx/conf.d", "etc/nginx/sites-enabled", "srv",
                   "srv/app", "var", "var/www", "var/www/html"):
        application.directory(folder)
    application.whiteout("etc/nginx/sites-enabled/default")
    application.file("etc/nginx/conf.d/app.conf", b"server { listen 80; root /srv/app; }\n")
    application.file("srv/app/index.php", b"<?php phpinfo();\n")
    application.whiteout("var/www/html/index.nginx-debian.html")
    return [path.read_bytes() for path in layers] + [application.tar()]


def _recipe():
    return hashlib.sha256(pathlib.Path(__file__).read_bytes()).hexdigest()


def real_version(version):
    """The layout with tag `version` ("1" or "2"), from the cache or made now."""
    target = env.CACHE / "images" / f"web-{version}"
    stamp = target.with_name(target.name + ".stamp")
    if stamp.exists() and stamp.read_text() == _recipe():
        return oci.Layout(target)
    if not shutil.which("mmdebstrap"):
        raise env.Skip("mmdebstrap is not here; scripts/deps.sh installs it")
    target.parent.mkdir(parents=True, exist_ok=True)
    print(f"images: making version {version} of {', '.join(PACKAGES)}", file=sys.stderr, flush=True)
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="making-", dir=target.parent))
    try:
        _bootstrap(version, scratch)
        layout = oci.Layout(scratch / "layout")
        layout.add_image(version, _split(scratch, VERSIONS[version][1]), config=_CONFIG)
        stamp.unlink(missing_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        layout.folder.rename(target)
        stamp.write_text(_recipe())
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return oci.Layout(target)


def real_versions():
    """Both versions by name; made at the same time when they have to be made."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return dict(zip(VERSIONS, pool.map(real_version, VERSIONS)))


def real_size(layout, version):
    """Bytes of all layers, compressed and not."""
    manifest = layout.read_json(layout.tags()[version])
    packed = sum(layer["size"] for layer in manifest["layers"])
    raw = sum(int.from_bytes(layout.blob_path(layer["digest"]).read_bytes()[-4:], "little")
              for layer in manifest["layers"])
    return packed, raw
