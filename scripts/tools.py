#!/usr/bin/env python3
"""Brings the programs that tests and demo run into the cache; nothing gets installed.

    scripts/tools.py servers     registry, containerd, runc, busybox (Debian packages, unpacked)
    scripts/tools.py clients     skopeo, umoci, podman               (the same; may be missing)
    scripts/tools.py mirror      nginx                               (the same; may be missing)
    scripts/tools.py disks       mkfs of ext4, XFS and Btrfs, strace  (the same; may be missing)
    scripts/tools.py nerdctl     from PATH when it is new enough, else built with Go
    scripts/tools.py conformance containerd's own snapshotter suite, built with Go
    scripts/tools.py containerd2 containerd 2 with its shim and ctr, built with Go
    scripts/tools.py cri         a client of Kubernetes' interface to containerd, built with Go
    scripts/tools.py             all of these
    scripts/tools.py desync      a peer for bench/, built with Go    (may be missing)
    scripts/tools.py snapshots   a client for bench/, built with Go  (may be missing)

Packages are downloaded with apt-get from the mirror this machine is configured for and unpacked
below .cache/tools; no maintainer script runs. A Go that is too old or absent is replaced by the
one of Debian's backports, unpacked the same way. Everything is done once: a stamp beside each
result names what it was made of.
"""

import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
CACHE = pathlib.Path(os.environ.get("IMSY_CACHE", ROOT / ".cache"))
TOOLS = CACHE / "tools"
SERVERS = ["docker-registry", "containerd", "runc", "busybox-static"]
CLIENTS = ["skopeo", "umoci", "podman"]
MIRROR = ["nginx-light"]
DISKS = ["e2fsprogs", "xfsprogs", "btrfs-progs", "strace"]
CLOCK = ["libfaketime"]
GO_PACKAGES = ["golang-1.23-go", "golang-1.23-src"]
GO_MINIMUM = (1, 23)
NERDCTL_MINIMUM = (1, 7)
APT = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=3"]

# Go counts its uses in the user's configuration folder: in ours instead. Its settings stay the
# user's, who may have named a module proxy there.
USER_CONFIG = os.environ.get("XDG_CONFIG_HOME", os.path.expanduser("~/.config"))
GO_ENVIRONMENT = {"GOENV": os.path.join(USER_CONFIG, "go", "env"), **os.environ,
                  "GOTOOLCHAIN": "local", "XDG_CONFIG_HOME": str(CACHE / "go" / "config")}


class ToolError(Exception):
    """Something could not be brought; the text says what, and what to do."""


def say(text):
    print(f"tools: {text}", file=sys.stderr, flush=True)


def run(command, **options):
    """Runs a command; its output is shown only when it fails."""
    done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          check=False, **options)
    if done.returncode:
        raise ToolError(f"{' '.join(map(str, command))} failed:\n{done.stdout[-3000:]}")
    return done.stdout


def version_of(text):
    found = re.search(r"(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def fresh(target, recipe):
    """True when target was made by exactly this recipe."""
    stamp = target.with_name(target.name + ".stamp")
    return target.exists() and stamp.exists() and stamp.read_text() == recipe


def mark(target, recipe):
    target.with_name(target.name + ".stamp").write_text(recipe)


def apt_knows(package):
    shown = subprocess.run(["apt-cache", "policy", package], text=True, capture_output=True,
                           check=False).stdout
    return "Candidate:" in shown and "Candidate: (none)" not in shown


def refresh_package_lists():
    as_root = [] if os.getuid() == 0 else ["sudo"]
    run(as_root + APT + ["update"])


def closure(packages):
    """The named packages and those of their needs that the machine does not have."""
    plan = run(APT + ["install", "-s", "--no-install-recommends", "--reinstall"] + packages)
    # "Inst name (version ..." is new; "Inst name [old] (version ..." would be an upgrade of what
    # the machine has, and its own version is good enough to run with.
    new = re.findall(r"^Inst (\S+) \(", plan, re.M)
    return packages + [name for name in new if name not in packages]


def unpack(packages, target, options=()):
    """Downloads Debian packages and unpacks them over each other into target."""
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="debs-", dir=CACHE))
    try:
        run(APT + list(options) + ["download"] + packages, cwd=scratch)
        tree = scratch / "root"
        tree.mkdir()
        for archive in sorted(scratch.glob("*.deb")):
            run(["dpkg-deb", "-x", archive, tree])
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        tree.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def debian(name, packages):
    """Unpacks packages into .cache/tools/<name>, once."""
    target = TOOLS / name
    recipe = " ".join(packages)
    if fresh(target, recipe):
        return target
    if not all(apt_knows(package) for package in packages):
        refresh_package_lists()
    absent = [package for package in packages if not apt_knows(package)]
    if absent:
        raise ToolError(f"the configured package sources do not offer {' '.join(absent)}")
    wanted = closure(packages)
    say(f"unpacking {' '.join(wanted)}")
    unpack(wanted, target)
    mark(target, recipe)
    return target


def mirror_of_release():
    """URI and codename of the Debian release this machine is configured for."""
    codename = re.search(r"^VERSION_CODENAME=(\S+)", pathlib.Path("/etc/os-release").read_text(),
                         re.M)[1]
    listed = run(["apt-get", "indextargets", "--format",
                  "$(REPO_URI) $(RELEASE) $(COMPONENT) $(ORIGIN)", "Created-By: Packages"])
    for line in listed.splitlines():
        uri, release, component, origin = (line.split() + [""] * 4)[:4]
        if release == codename and component == "main" and origin in ("Debian", ""):
            return uri, codename
    raise ToolError(f"apt is not configured for Debian {codename} main")


def go_from_backports():
    """A Go unpacked from Debian's backports, without adding them to the machine's sources."""
    target = TOOLS / "go"
    recipe = " ".join(GO_PACKAGES)
    if not fresh(target, recipe):
        uri, codename = mirror_of_release()
        state = CACHE / "apt-backports"
        (state / "lists" / "partial").mkdir(parents=True, exist_ok=True)
        sources = state / "sources.list"
        sources.write_text(f"deb {uri} {codename}-backports main\n")
        options = ["-o", f"Dir::Etc::SourceList={sources}", "-o", "Dir::Etc::SourceParts=/dev/null",
                   "-o", f"Dir::State::Lists={state / 'lists'}"]
        say("unpacking Go from backports")
        run(APT + options + ["update"])
        unpack(GO_PACKAGES, target, options)
        mark(target, recipe)
    return target / "usr" / "lib" / "go-1.23" / "bin" / "go"


def go():
    """The Go command to build with: PATH's when new enough."""
    found = shutil.which("go")
    if found:
        shown = subprocess.run([found, "version"], text=True, capture_output=True, check=False,
                               env=GO_ENVIRONMENT).stdout
        if version_of(shown) >= GO_MINIMUM:
            return pathlib.Path(found)
    return go_from_backports()


def go_build(module, target, arguments):
    """Builds from the pinned module tests/go/<module>; caches stay below .cache/go.

    Several programs are built into a folder, the target.
    """
    folder = ROOT / "tests" / "go" / module
    pinned = hashlib.sha256()
    for source in sorted(folder.iterdir()):
        pinned.update(source.name.encode() + b"\0" + source.read_bytes())
    recipe = f"{pinned.hexdigest()} {' '.join(arguments)}"
    if fresh(target, recipe):
        return target
    command = go()
    say(f"building {target.name} with {command}")
    environment = dict(GO_ENVIRONMENT, GOWORK="off", CGO_ENABLED="0",
                       GOFLAGS="-mod=mod -modcacherw -buildvcs=false",
                       GOCACHE=str(CACHE / "go" / "build"), GOMODCACHE=str(CACHE / "go" / "mod"),
                       GOPATH=str(CACHE / "go" / "path"))
    # Built in a copy: -mod=mod may write to go.sum, and a checkout must stay as it was.
    with tempfile.TemporaryDirectory(prefix="go-", dir=CACHE) as scratch:
        copy = pathlib.Path(scratch) / "module"
        shutil.copytree(folder, copy)
        target.parent.mkdir(parents=True, exist_ok=True)
        made = pathlib.Path(scratch) / "made"
        if len([word for word in arguments if "/cmd/" in word]) > 1:
            made.mkdir()
        run([command] + arguments[:1] + ["-o", made] + arguments[1:], cwd=copy, env=environment)
        if made.is_dir():
            shutil.rmtree(target, ignore_errors=True)
        made.replace(target)
    mark(target, recipe)
    return target


# For clients of tests, whose speed does not matter: two thirds of the time to build.
PLAIN = "-gcflags=all=-N -l -dwarf=false"


def nerdctl():
    """nerdctl 1.7 or newer: from PATH, else built."""
    found = shutil.which("nerdctl")
    if found and version_of(run([found, "--version"])) >= NERDCTL_MINIMUM:
        return pathlib.Path(found)
    return go_build("nerdctl", TOOLS / "nerdctl",
                    ["build", PLAIN, "-trimpath", "-ldflags=-s -w",
                     "github.com/containerd/nerdctl/cmd/nerdctl"])


def conformance():
    """containerd's snapshotter suite as a test program."""
    return go_build("conformance", TOOLS / "conformance.test", ["test", "-c", PLAIN, "."])


def containerd2():
    """containerd 2, beside Debian's 1.6; as fast as its users', since bench/ measures it."""
    commands = ("containerd", "containerd-shim-runc-v2", "ctr")
    return go_build("containerd", TOOLS / "containerd2",
                    ["build", "-trimpath", "-ldflags=-s -w",
                     *(f"github.com/containerd/containerd/v2/cmd/{name}" for name in commands)])


def cri():
    """A client of the container runtime interface, as the kubelet is one."""
    return go_build("cri", TOOLS / "cri", ["build", PLAIN, "-trimpath", "-ldflags=-s -w", "."])


def desync():
    """The peer that cuts files into chunks, for bench/."""
    return go_build("desync", TOOLS / "desync",
                    ["build", "-trimpath", "-ldflags=-s -w",
                     "github.com/folbricht/desync/cmd/desync"])


def snapshots():
    """A client that times containerd's calls to its snapshotters, for bench/."""
    return go_build("snapshots", TOOLS / "snapshots-bench",
                    ["build", "-trimpath", "-ldflags=-s -w", "."])


def main(wanted):
    CACHE.mkdir(parents=True, exist_ok=True)
    makers = {"servers": lambda: debian("servers", SERVERS),
              "clients": lambda: debian("clients", CLIENTS),
              "mirror": lambda: debian("mirror", MIRROR),
              "disks": lambda: debian("disks", DISKS),
              "clock": lambda: debian("clock", CLOCK),
              "nerdctl": nerdctl, "conformance": conformance, "containerd2": containerd2,
              "cri": cri}
    peers = {"desync": desync, "snapshots": snapshots}
    for name in wanted or makers:
        if name not in makers | peers:
            print(f"tools: no such thing: {name}", file=sys.stderr)
            return 2
        try:
            (makers | peers)[name]()
        except ToolError as error:
            # Tests that want them skip, and say so.
            if name in ("clients", "mirror", "disks", "clock", *peers):
                say(f"going on without {name}: {error}")
                continue
            print(f"tools: {name}: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
