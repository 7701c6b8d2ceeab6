#!/usr/bin/env python3
"""Everything that is hard in tar arrives as written down, or is refused with a clear message."""

import hashlib

import treecmp
from hard_tar_cases import cases, permutations
from imsytest import check, env, imsy, oci, trees
from imsytest.node import Node
from imsytest.process import Failed
from imsytest.registry import Registry
from imsytest.sandbox import Sandbox


class Published:
    """The original and, when it can be converted, the converted image of each case."""

    def __init__(self, registry, layout):
        self._registry = registry
        self._layout = layout
        self._count = 0

    def push(self, case):
        """Pushes and converts; returns the repository, and what imsy-convert did."""
        self._count += 1
        repository = f"hard/{self._count}"
        self._layout.add_image("v1", case.layers, oci.LAYER_TAR)
        self._registry.client(repository).push(self._layout, "v1")
        return repository, imsy.convert(self._registry.reference(repository, "v1"),
                                        self._registry.reference(f"{repository}-imsy", "v1"),
                                        check=False)

    def converted(self, repository):
        return self._registry.client(f"{repository}-imsy")


def compare(case, root):
    """Lines that say where a tree is not as the case has it."""
    actual = treecmp.walk(root)
    groups = treecmp.link_groups(actual)
    lines = [f"{path!r} is there" for path in actual.keys() - case.tree.keys() - {b"."}]
    for path, wanted in case.tree.items():
        if path not in actual:
            lines.append(f"{path!r} is missing")
            continue
        facts = dict(actual[path], group=groups.get(path))
        wanted = dict(wanted)
        if "data" in wanted:
            wanted["sha256"] = hashlib.sha256(wanted.pop("data")).hexdigest()
        lines += [f"{path!r}: {name}: expected {value!r}, got {facts.get(name)!r}"
                  for name, value in wanted.items() if facts.get(name) != value]
    return lines


def check_tree(node, published, case):
    repository, done = published.push(case)
    if done.returncode:
        return [f"not converted: {done.stderr.strip()}"]
    reference = node.pull(f"{repository}-imsy", "v1")
    with node.containerd.mounted(reference, "imsy") as root:
        lines = compare(case, root)
        if case.ordinary:
            original = node.plain(repository, "v1")
            node.containerd.pull(original)
            with node.containerd.mounted(original) as other:
                lines += [f"overlayfs and imsy: {line}" for line in
                          treecmp.differences(trees.walk(other), trees.walk(root))]
    return lines


def check_refusal(published, case):
    repository, done = published.push(case)
    message = done.stderr.strip()
    lines = [f"exit code {done.returncode}, expected 1"] if done.returncode != 1 else []
    lines += [f"{word!r} is not in {message!r}" for word in case.refusal if word not in message]
    if len(message.splitlines()) != 1:
        lines.append(f"not one line: {message!r}")
    if published.converted(repository).tags():
        lines.append("something was pushed under the tag")
    return lines


def check_permutations(published):
    """The order of entries within a layer does not matter: all give the same two layers."""
    for group in permutations():
        first = None
        for case in group:
            repository, done = published.push(case)
            if done.returncode:
                yield f"{case.name}: not converted: {done.stderr.strip()}"
                continue
            manifest = published.converted(repository).image("v1")[0]
            layers = [layer["digest"] for layer in manifest["layers"]]
            first = first or layers
            if layers != first:
                yield f"{case.name}: other layers than {group[0].name}"


def check_case(node, published, case):
    try:
        lines = (check_refusal(published, case) if case.refusal
                 else check_tree(node, published, case))
    except (Failed, OSError) as failure:
        lines = [str(failure)]
    return [f"{case.name}: {line}" for line in lines]


def test():
    with Sandbox("hard_tar") as box:
        registry = Registry(box)
        published = Published(registry, oci.Layout(box.path("layout")))
        node = Node(box, registry)
        wrong = []
        for case in [*cases(), *(group[0] for group in permutations())]:
            wrong += check_case(node, published, case)
        wrong += check_permutations(published)
        check.empty(wrong, "hard tar entries")


if __name__ == "__main__":
    env.main(test)
