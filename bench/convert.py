#!/usr/bin/env python3
"""What a conversion costs, beside what others make of the same image.

    bench/convert.py [--runs N] [--level N] [LAYOUT[:TAG]]

Without a layout: version 2 of the demo's image. Each program runs N times (5), in turns; the table
shows medians of wall time, processor time and peak memory, and the size of what was made. The
measure is `zstd -T2` of the squashed tar at the same level. Programs that are not installed are
left out.
"""

import argparse
import dataclasses
import multiprocessing
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests" / "support"))

from imsytest import env, images  # noqa: E402


@dataclasses.dataclass
class Run:
    wall: float
    cpu: float
    memory: int  # bytes, at the peak
    size: int  # bytes of what was made


def measured(command, size_of):
    """Runs a command and measures it with all its children."""
    start = time.monotonic()
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"{command[0]} failed: {os.waitstatus_to_exitcode(status)}")
    return Run(time.monotonic() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024,
               size_of())


def largest_blob(layout):
    return max((path.stat().st_size for path in (layout / "blobs" / "sha256").iterdir()), default=0)


def sum_of_files(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def clean(path):
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def squashed(source, scratch):
    """The tar in the data layer: what the others are given."""
    layout = scratch / "first"
    subprocess.run([env.program("imsy-convert"), "--quiet", "--level", "1", source,
                    f"oci:{layout}:x"], check=True)
    blob = max((layout / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size)
    tar = scratch / "squashed.tar"
    with open(tar, "wb") as out:
        subprocess.run(["zstd", "-dcq", blob], stdout=out, check=True)
    shutil.rmtree(layout)
    return tar


def contestants(source, tar, level, scratch):
    """Name, command, what it writes, how large that is; the first one is the measure."""
    packed, layout, chunked, store = (scratch / name for name in ("tar.zst", "imsy", "chunked",
                                                                  "desync"))
    yield (f"zstd -T2 -{level}",
           ["zstd", "-q", "-T2", f"-{level}", "-f", tar, "-o", packed], packed,
           lambda: packed.stat().st_size)
    yield (f"imsy-convert --level {level}",
           [env.program("imsy-convert"), "--quiet", "--level", level, source, f"oci:{layout}:x"],
           layout, lambda: largest_blob(layout))
    base = scratch / "base"
    if not base.exists():
        subprocess.run([env.program("imsy-convert"), "--quiet", "--level", str(level), source,
                        f"oci:{base}:x"], check=True)
    again = scratch / "again"
    yield ("the same with itself as --base",
           [env.program("imsy-convert"), "--quiet", "--level", level, "--base", f"oci:{base}:x",
            source, f"oci:{again}:x"],
           again, lambda: largest_blob(again))
    if shutil.which("skopeo"):
        plain = scratch / "plain"  # skopeo leaves layers that are compressed as they are
        if not plain.exists():
            subprocess.run(["skopeo", "copy", "-q", "--dest-decompress", source, f"dir:{plain}"],
                           check=True)
        yield ("skopeo copy to zstd:chunked",
               ["skopeo", "copy", "-q", "--dest-compress", "--dest-compress-format", "zstd:chunked",
                "--dest-compress-level", level, f"dir:{plain}", f"dir:{chunked}"],
               chunked, lambda: sum_of_files(chunked))
    if shutil.which("desync", path=env.environment()["PATH"]):
        # It wants a store that is there, and was removed for this run.
        script = 'mkdir "$2" && exec "$1" make -s "$2" "$3" "$4"'
        yield ("desync make", ["sh", "-c", script, "sh", env.tool("desync"), store,
                               scratch / "image.caibx", tar],
               store, lambda: sum_of_files(store))


def table(results):
    first = next(iter(results.values()))
    print(f"{'':30}{'time':>9}{'':>8}{'cpu':>9}{'':>8}{'memory':>10}{'size':>11}")
    for name, runs in results.items():
        median, base = ({field: statistics.median(getattr(run, field) for run in group)
                         for field in ("wall", "cpu", "memory", "size")} for group in (runs, first))
        print(f"{name:30}{median['wall']:7.2f} s{median['wall'] / base['wall']:6.2f} x"
              f"{median['cpu']:7.2f} s{median['cpu'] / base['cpu']:6.2f} x"
              f"{median['memory'] / 2**20:6.0f} MiB"
              f"{median['size'] / 1e6:8.1f} MB{median['size'] / base['size']:7.3f} x")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--level", type=int, default=9)
    parser.add_argument("layout", nargs="?")
    options = parser.parse_args()
    if options.layout:
        source = f"oci:{options.layout}"
    else:
        # Elsewhere, for a process begins with the peak memory of the one that started it.
        with multiprocessing.Pool(1) as elsewhere:
            source = f"oci:{elsewhere.apply(images.real_version, ('2',)).folder}:2"
    with tempfile.TemporaryDirectory(prefix="imsy-bench-") as folder:
        scratch = pathlib.Path(folder)
        tar = squashed(source, scratch)
        results = {}
        for number in range(options.runs + 1):  # the first one only warms the caches
            for name, command, made, size_of in contestants(source, tar, options.level, scratch):
                clean(made)
                run = measured(command, size_of)
                if number > 0:
                    results.setdefault(name, []).append(run)
        print(f"{source}: {tar.stat().st_size / 1e6:.1f} MB of tar, {os.cpu_count()} processors")
        table(results)


if __name__ == "__main__":
    main()
