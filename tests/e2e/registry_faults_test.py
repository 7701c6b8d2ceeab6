#!/usr/bin/env python3
"""A registry that misbehaves under a node that reads lazily: whatever it answers, readers get right
bytes or an error, the store keeps nothing wrong, and what the registry asks for is bounded."""

import errno
import hashlib
import json
import os

from imsytest import check, env, images, imsy, oci
from imsytest.faultreg import FaultyRegistry
from imsytest.node import DirectNode
from imsytest.process import run, wait_for
from imsytest.sandbox import Sandbox

SIZE = 32_000_000
STRIDE = 1_700_000  # between pieces that no frame, and nothing the kernel reads ahead, has both of
PIECE = 500_000     # about a frame
# Every wrong answer to a range that is refused. None of them may pass by itself.
REFUSED = ("whole", "start", "total", "no-range", "multipart", "long", "encoded", "flip")
# Those that look like a broken connection, which is tried again.
# What comes behind the bytes that were asked for is cut off; they have been used by then.
BROKEN = ({"wrong": "short"}, {"wrong": "endless"}, {"cut": 1000}, {"cut": 1000, "end": "reset"},
          {"status": 500}, {"status": 503, "headers": {"Retry-After": "-1"}},
          {"status": 503, "headers": {"Retry-After": "never"}})


class Image:
    """What is published, and where the registry has it."""

    def __init__(self, box, registry, name):
        self.large = images.noise(SIZE, name)
        self.small = {f"small{number}": images.prose(3000 + number, number)
                      for number in range(20)}
        tree = images.Tree().file("large", self.large)
        for path, data in self.small.items():
            tree.file(path, data)
        layout = oci.Layout(box.path(f"{name}-layout"))
        layout.add_image("v1", [tree.tar()])
        imsy.publish(registry, "large", layout, "v1")
        manifest, _, _ = registry.client("large-imsy").image("v1")
        self.blob = manifest["layers"][-1]["digest"]
        registry.forget()

    def piece(self, at):
        return self.large[at:at + PIECE]

    def digests(self):
        return {hashlib.sha256(data).hexdigest() for data in (self.large, *self.small.values())}


def pulled(box, registry, name, **more):
    """A node that has pulled the image."""
    node = DirectNode(box, registry, name, **more)
    node.pull("large-imsy", "v1")
    return node


def read_piece(root, at):
    """A piece of the large file, or the number of an error."""
    data = b""
    with open(root / "large", "rb") as file:
        try:
            while len(data) < PIECE:
                data += os.pread(file.fileno(), PIECE - len(data), at + len(data))
        except OSError as error:
            return error.errno
    return data


def check_store(node, image):
    """Every complete content in the store is that of a file of the image, and there are some."""
    objects = [path for path in (node.snapshotter.root / "store" / "objects").rglob("*")
               if path.is_file()]
    found = {hashlib.sha256(path.read_bytes()).hexdigest() for path in objects}
    check.empty(sorted(found - image.digests()), "contents of the store that are no file's")
    check.equal(image.digests(), found, "contents of the store")


def check_wrong_answers(box):
    registry = FaultyRegistry(box, "wrong")
    image = Image(box, registry, "wrong-image")
    node = pulled(box, registry, "wrong-node", background_fill=False)
    with node.mounted("large-imsy", "v1") as root:
        for number, kind in enumerate(REFUSED):
            at = number * STRIDE
            registry.fault(method="GET", path=image.blob, wrong=kind)
            check.equal(errno.EIO, read_piece(root, at), f"a read that is answered: {kind}")
            registry.mend()
            check.true(image.piece(at) == read_piece(root, at), f"the same, then right: {kind}")
        registry.forget()
        for number, fault in enumerate(BROKEN):
            at = SIZE // 2 + number * STRIDE
            registry.fault(method="GET", path=image.blob, times=1, **fault)
            check.true(image.piece(at) == read_piece(root, at), f"after {fault}")
        # The kernel reads ahead, so that there may be more than one range for each.
        check.true(len(registry.log(path=image.blob)) <= 6 * len(BROKEN), "requests are bounded")
        check.true(image.large == (root / "large").read_bytes(), "all of it")
        for path, data in image.small.items():
            check.true(data == (root / path).read_bytes(), path)
    check_store(node, image)


def check_counts(node, registry, *purposes):
    """What imsy has counted is what the registry has sent it; for nothing but these purposes."""
    def counted():
        log, stats = registry.log(), node.snapshotter.stats()
        sent = sum(one["sent"] for one in log)
        same = (len(log), sent) == (stats["requests"], stats["bytes_fetched"])
        return (log, sent, stats) if same else None
    # The kernel may have read ahead, and the numbers are written once a second.
    log, sent, stats = wait_for(counted, "imsy to count what the registry has sent")
    sums = [(purpose, one) for place in stats["places"].values() for purpose, one in place.items()]
    check.equal(set(purposes), {purpose for purpose, _ in sums}, "what was asked for")
    check.equal(len(log), sum(one["requests"] for _, one in sums), "requests of all places")
    check.equal(sent, sum(one["bytes"] for _, one in sums), "bytes of all places")
    shown = json.loads(run([env.program("imsy"), "stat", "--json", "--root", node.snapshotter.root,
                            "--state", node.snapshotter.state]).stdout)["traffic"]
    check.equal((len(log), sent, stats["places"]),
                (shown["requests"], shown["bytes"], shown["places"]), "what imsy stat shows")


def check_breaks(box):
    """Answers that break off anywhere, and one that drips: what has come is not asked for again."""
    registry = FaultyRegistry(box, "breaks")
    image = Image(box, registry, "breaks-image")
    node = pulled(box, registry, "breaks-node", background_fill=False)
    registry.forget()
    faults = [{"cut": cut, "end": ("close", "reset")[cut % 2]} for cut in range(0, 500_000, 33_333)]
    with node.mounted("large-imsy", "v1") as root:
        for number, fault in enumerate([*faults, {"drip": 1}]):
            registry.fault(method="GET", path=image.blob, times=1, **fault)
            check.true(image.piece(number * STRIDE) == read_piece(root, number * STRIDE),
                       f"what came in pieces: {fault}")
        check.true(image.large == (root / "large").read_bytes(), "all of it")
    check.true("answered EIO" not in node.snapshotter.log(), "no read has failed")
    stats = node.snapshotter.stats()
    check.true(stats["bytes_broken"] > 0, "what broke off is counted")
    received = sum(one["sent"] for one in registry.log(path=image.blob))
    check.true(received < 1.4 * SIZE, f"bytes of {SIZE}: {received}")


def overlaps(requests):
    """How many of the requests were under way at the same time, at most."""
    ends = sorted([(one["began"], 1) for one in requests]
                  + [(one["ended"], -1) for one in requests])
    most = now = 0
    for _, step in ends:
        now += step
        most = max(most, now)
    return most


def refuse(registry, image, **more):
    """Tokens for the blob are good no longer."""
    registry.fault(method="GET", path=image.blob, status=401, headers={
        "WWW-Authenticate": f'Bearer realm="{registry.endpoint}/token",service="fake"'}, **more)


def check_tokens(box):
    """Tokens that are soon over, a slow realm, and a 401 for a token that was good."""
    registry = FaultyRegistry(box, "tokens")
    image = Image(box, registry, "tokens-image")
    registry.set(bearer=["user", "secret"], token_lifetime=2)
    registry.fault(path="/token", delay=0.3)
    refuse(registry, image, times=2)
    registry.fault(method="GET", path=image.blob, delay=1.2)
    node = pulled(box, registry, "tokens-node", login=("user", "secret"))
    node.snapshotter.wait_resident()
    with node.mounted("large-imsy", "v1") as root:
        check.true(image.large == (root / "large").read_bytes(), "what was pulled with tokens")
    tokens = registry.log(path="/token")
    check.true(len(tokens) >= 3, f"tokens are asked for anew: {len(tokens)}")
    check.equal(1, overlaps(tokens), "requests for tokens at the same time")
    refused = [one for one in registry.log(path=image.blob) if one["status"] == 401]
    check.true(len(refused) <= 2 * len(tokens), f"refusals: {len(refused)}")
    check_counts(node, registry, "background", "manifest", "login")


def check_revoked(box):
    """A login that is withdrawn after the pull, and given back."""
    registry = FaultyRegistry(box, "revoked")
    image = Image(box, registry, "revoked-image")
    registry.set(bearer=["user", "secret"])
    node = pulled(box, registry, "revoked-node", login=("user", "secret"), background_fill=False)
    with node.mounted("large-imsy", "v1") as root:
        check.true(image.piece(0) == read_piece(root, 0), "while the login is good")
        registry.set(bearer=["user", "another"])
        refuse(registry, image)
        check.equal(errno.EIO, read_piece(root, 4 * STRIDE), "what is absent")
        check.true(image.piece(0) == read_piece(root, 0), "what is there")
        registry.set(bearer=["user", "secret"])
        registry.mend()
        check.true(image.large == (root / "large").read_bytes(), "when the login is good again")


def check_second_namespace(box):
    """A private image that is here is given to another namespace when its registry was asked."""
    registry = FaultyRegistry(box, "second")
    image = Image(box, registry, "second-image")
    registry.set(bearer=["user", "secret"])
    node = pulled(box, registry, "second-node", login=("user", "secret"), background_fill=False)
    registry.forget()
    first = node.containerd.namespace
    node.containerd.namespace += "-two"
    node.pull("large-imsy", "v1")
    answers = [one["status"] for one in registry.log(path=image.blob) if one["status"] != 401]
    check.equal([206], answers, "requests for its content, once for all layers")
    with node.mounted("large-imsy", "v1") as root:
        check.true(image.piece(0) == read_piece(root, 0), "its content")
    node.containerd.namespace = first


def check_signed_urls(box):
    """Addresses that are good for a second, as of storage that the registry redirects to."""
    registry = FaultyRegistry(box, "signed")
    image = Image(box, registry, "signed-image")
    # Each answer takes so long that the address is over when it is used for the second time.
    registry.fault(method="GET", path=image.blob, expires=1.0, delay=0.6)
    node = pulled(box, registry, "signed-node", background_fill=False)
    with node.mounted("large-imsy", "v1") as root:
        for at in range(0, SIZE - PIECE, 4 * STRIDE):
            check.true(image.piece(at) == read_piece(root, at), "behind a signed URL")
        expired = sum(one["status"] == 403 for one in registry.log(path=image.blob))
        check.true(expired >= 2, f"signatures that have expired: {expired}")
    check.true("answered EIO" not in node.snapshotter.log(), "no read has failed")
    check_counts(node, registry, "demand", "manifest")


def test():
    with Sandbox("registry_faults") as box:
        check_wrong_answers(box)
        check_breaks(box)
        check_tokens(box)
        check_revoked(box)
        check_second_namespace(box)
        check_signed_urls(box)


if __name__ == "__main__":
    env.main(test)
