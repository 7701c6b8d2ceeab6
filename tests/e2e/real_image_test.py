#!/usr/bin/env python3
"""Two versions of a real image, made of Debian packages: same trees, and they do their work."""

from imsytest import check, env, images, imsy, trees
from imsytest.node import Node
from imsytest.registry import Registry
from imsytest.sandbox import Sandbox


def compare(node, version):
    original = node.plain("web", version)
    node.containerd.pull(original)
    with node.containerd.mounted(original) as root:
        expected = trees.walk(root)
    lazy = node.pull("web-imsy", version)
    with node.containerd.mounted(lazy, "imsy") as root:
        trees.check_equal(expected, trees.walk(root), f"version {version}: overlayfs and imsy")
    return lazy


def works(node, reference):
    check.contains("PHP 8.2", node.run(reference, "php", "-v"), "php -v")
    server = node.containerd.nerdctl("run", "--rm", "--net", "none", "--pull", "never", reference,
                                     "nginx", "-t", snapshotter="imsy")
    check.contains("test is successful", server.stderr + server.stdout, "nginx -t")
    check.contains("ImageMagick", node.run(reference, "convert", "-version"), "convert -version")


def test():
    layouts = images.real_versions()
    with Sandbox("real_image", limit=3000) as box:
        registry = Registry(box)
        for version, layout in layouts.items():
            imsy.publish(registry, "web", layout, version)
        node = Node(box, registry)
        for version in layouts:
            works(node, compare(node, version))
        fetched = node.imsy_wire.bytes_down
        whole = images.real_size(layouts["1"], "1")[0]
        print(f"both versions: {fetched} bytes; version 1 as an ordinary image: {whole} bytes")
        check.true(fetched < 1.5 * whole, f"both versions together fetched {fetched} bytes")


if __name__ == "__main__":
    env.main(test)
