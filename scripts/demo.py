#!/usr/bin/env python3
"""Two versions of a real image, ordinary and converted, side by side.

    scripts/demo.py [--mbit N] [--latency MS]

Pushes nginx, PHP and ImageMagick on Debian 12, version 1 as released and version 2 with security
updates, to a registry on loopback; converts both, version 2 with version 1 as its base; then pulls
and runs each version with containerd: first with its overlayfs snapshotter, then with imsy. Bytes
are counted on the wire, between the registry and the node. By default the wire is as fast as
loopback; --mbit and --latency make it a real one.

Nothing stays behind but the cache below .cache.
"""

import argparse
import dataclasses
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests" / "support"))

from imsytest import env, images, imsy  # noqa: E402
from imsytest.node import Node  # noqa: E402
from imsytest.process import Failed  # noqa: E402
from imsytest.registry import Registry  # noqa: E402
from imsytest.sandbox import Sandbox  # noqa: E402

COMMAND = "php -v && nginx -v"
MAX_UPGRADE = 0.3  # of the bytes of a full pull


@dataclasses.dataclass
class Measured:
    """Bytes on the wire and seconds, since the pull began; complete: None where not waited for."""
    answered: tuple
    complete: tuple | None


def say(text):
    print(text, flush=True)


def step(text, action):
    """Does one step, and says how long it took."""
    print(f"  {text} ... ", end="", flush=True)
    start = time.monotonic()
    result = action()
    say(f"{time.monotonic() - start:.1f} s")
    return result


def answer(node, reference, snapshotter):
    output = node.containerd.nerdctl("run", "--rm", "--net", "none", "--pull", "never", reference,
                                     "sh", "-c", COMMAND, snapshotter=snapshotter)
    text = output.stdout + output.stderr  # nginx answers on the second
    if "PHP 8.2" not in text or "nginx version" not in text:
        raise Failed(f"{COMMAND} answered {text!r}")


def with_overlayfs(node, version):
    wire, start = node.plain_wire, time.monotonic()
    before = wire.bytes_down

    def now():
        return wire.bytes_down - before, time.monotonic() - start
    reference = node.plain("web", version)
    node.containerd.pull(reference)
    complete = now()
    answer(node, reference, "overlayfs")
    return Measured(now(), complete)


def with_imsy(node, version, known):
    """known: images that the node will have completely; 0: do not wait for that."""
    wire, start = node.imsy_wire, time.monotonic()
    before = wire.bytes_down

    def now():
        return wire.bytes_down - before, time.monotonic() - start
    reference = node.pull("web-imsy", version)
    answer(node, reference, "imsy")
    answered = now()
    if known == 0:
        return Measured(answered, None)
    node.snapshotter.wait_resident(known)
    return Measured(answered, now())


def table(results):
    say("")
    say(f"  {'':<26}{f'until `{COMMAND}` answered':>34}{'until all is on the node':>28}")
    for name, measured in results:
        answered, complete = (f"{fact[0] / 1e6:.1f} MB {fact[1]:>7.2f} s" if fact else "-"
                              for fact in (measured.answered, measured.complete))
        say(f"  {name:<26}{answered:>34}{complete:>28}")
    say("")


def publish(registry, layouts):
    base = []
    for version, layout in layouts.items():
        packed, raw = images.real_size(layout, version)
        step(f"push version {version} as it is ({raw / 1e6:.0f} MB in "
             f"{len(layout.read_json(layout.tags()[version])['layers'])} layers, "
             f"{packed / 1e6:.0f} MB compressed)",
             lambda: registry.client("web").push(layout, version))
        target = registry.reference("web-imsy", version)
        step(f"convert version {version}{' for upgrades from the one before' if base else ''}",
             lambda: imsy.convert(registry.reference("web", version), target, *base))
        base = ["--base", target]


def measure(box, registry, wire):
    """Rows of the table; the last two are the upgrade and version 2 on a node of its own."""
    lazy = Node(box, registry, "lazy", background_fill=False, **wire)
    results = [("version 1, imsy on demand", step(
        "version 1 with imsy, fetching nothing but what is read",
        lambda: with_imsy(lazy, "1", 0)))]
    node = Node(box, registry, "node", **wire)
    for number, version in enumerate(images.VERSIONS, 1):
        kind = "first pull" if number == 1 else "upgrade"
        results.append((f"version {version}, overlayfs", step(
            f"pull and run version {version} with overlayfs ({kind})",
            lambda: with_overlayfs(node, version))))
        results.append((f"version {version}, imsy", step(
            f"pull and run version {version} with imsy ({kind})",
            lambda: with_imsy(node, version, number))))
    fresh = Node(box, registry, "fresh", **wire)
    results.append(("version 2 alone, imsy", step(
        "version 2 with imsy on a node that has nothing", lambda: with_imsy(fresh, "2", 1))))
    return results


def demo(options):
    wire = {"latency": options.latency / 1e3,
            "rate": options.mbit * 1e6 / 8 if options.mbit else None}
    say("Two versions of nginx + PHP + ImageMagick on Debian 12")
    layouts = images.real_versions()
    with Sandbox("demo", limit=1800) as box:
        registry = Registry(box)
        publish(registry, layouts)
        results = measure(box, registry, wire)
    table(results)
    overlayfs, upgrade, full = (measured.complete[0] for _, measured in results[-3:])
    say(f"  The upgrade from version 1 to version 2 fetched {upgrade / 1e6:.1f} MB: "
        f"{100 * upgrade / full:.0f} % of a full pull with imsy,")
    say(f"  {100 * upgrade / overlayfs:.0f} % of what overlayfs fetched.")
    if upgrade >= MAX_UPGRADE * full:
        raise Failed(f"the upgrade fetched more than {MAX_UPGRADE:.0%} of a full pull")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mbit", type=float, help="rate of the wire in Mbit/s (unlimited)")
    parser.add_argument("--latency", type=float, default=0, help="of the wire, in ms (0)")
    options = parser.parse_args()
    try:
        env.main(lambda: demo(options))
    except (Failed, FileNotFoundError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
