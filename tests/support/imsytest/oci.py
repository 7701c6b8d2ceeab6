"""OCI layouts, written and read; enough to build images to test with, and to look into them."""

import gzip
import hashlib
import json
import pathlib
import subprocess

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER_TAR = "application/vnd.oci.image.layer.v1.tar"
LAYER_GZIP = LAYER_TAR + "+gzip"
LAYER_ZSTD = LAYER_TAR + "+zstd"


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def document(value):
    """The bytes of a JSON document; the same value gives the same bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def compress(tar, media_type):
    """The blob of a layer, from the bytes of its tar."""
    if media_type == LAYER_GZIP:
        return gzip.compress(tar, compresslevel=6, mtime=0)
    if media_type == LAYER_ZSTD:
        return subprocess.run(["zstd", "-q", "-3", "-c"], input=tar, stdout=subprocess.PIPE,
                              check=True).stdout
    return tar


def decompress(blob, media_type):
    """The bytes of a layer's tar; skippable frames of zstd are skipped."""
    if media_type == LAYER_GZIP:
        return gzip.decompress(blob)
    if media_type == LAYER_ZSTD:
        return subprocess.run(["zstd", "-q", "-d", "-c"], input=blob, stdout=subprocess.PIPE,
                              check=True).stdout
    return blob


class Layout:
    """A directory as the OCI image layout describes it."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        (self.folder / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
        (self.folder / "oci-layout").write_bytes(document({"imageLayoutVersion": "1.0.0"}))
        if not (self.folder / "index.json").exists():
            self._write_index([])

    def blob_path(self, name):
        return self.folder / "blobs" / "sha256" / name.removeprefix("sha256:")

    def read(self, descriptor):
        return self.blob_path(descriptor["digest"]).read_bytes()

    def read_json(self, descriptor):
        return json.loads(self.read(descriptor))

    def add(self, data, media_type, **more):
        """Stores a blob; returns its descriptor."""
        name = digest(data)
        self.blob_path(name).write_bytes(data)
        return {"mediaType": media_type, "digest": name, "size": len(data), **more}

    def add_image(self, tag, tars, media_types=LAYER_GZIP, config=None, architecture="amd64"):
        """Stores an image of these layers (bytes of tars, bottom first); returns its descriptor."""
        if isinstance(media_types, str):
            media_types = [media_types] * len(tars)
        layers = [self.add(compress(tar, kind), kind) for tar, kind in zip(tars, media_types)]
        image = {"architecture": architecture, "os": "linux",
                 "config": {"Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"], **(config or {})},
                 "rootfs": {"type": "layers", "diff_ids": [digest(tar) for tar in tars]},
                 "history": [{"created_by": f"layer {i}"} for i in range(len(tars))]}
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST,
                    "config": self.add(document(image), CONFIG), "layers": layers}
        return self.tag(tag, self.add(document(manifest), MANIFEST,
                                      platform={"os": "linux", "architecture": architecture}))

    def tag(self, tag, descriptor):
        """Makes a tag point to a manifest or an index."""
        named = {"annotations": {"org.opencontainers.image.ref.name": tag}, **descriptor}
        others = [entry for entry in self.tags().values()
                  if entry["annotations"]["org.opencontainers.image.ref.name"] != tag]
        self._write_index(others + [named])
        return descriptor

    def _write_index(self, manifests):
        (self.folder / "index.json").write_bytes(document(
            {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}))

    def tags(self):
        """Every tag with the descriptor it points to."""
        index = json.loads((self.folder / "index.json").read_bytes())
        return {entry["annotations"]["org.opencontainers.image.ref.name"]: entry
                for entry in index["manifests"]
                if "org.opencontainers.image.ref.name" in entry.get("annotations", {})}
