#!/usr/bin/env python3
"""Large images: converted in bounded memory, and proved to be what they were."""

import json
import os
import subprocess
import sys

from imsytest import check, corpus, env
from imsytest.process import run
from imsytest.sandbox import Sandbox

JOBS = 2
# What a conversion may hold: a constant, something for each file, and for each thread its frames
# and the tables of its compressor.
CONSTANT = 256 << 20
PER_FILE = 300
PER_JOB = 32 << 20


def convert(tar, target, report):
    """Converts, and returns the peak of the resident memory in bytes."""
    process = subprocess.Popen([env.program("imsy-convert"), "--quiet", "--jobs", str(JOBS),
                                "--report", report, f"tar:{tar}", f"oci:{target}:x"])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    check.equal(0, process.returncode, f"conversion of {tar}")
    return usage.ru_maxrss * 1024


def test():
    names = sys.argv[1:] or corpus.NAMES
    tars = {name: corpus.tar(name) for name in names}
    with Sandbox("large_images", limit=7200) as box:
        for name, tar in tars.items():
            target = box.folder / name.replace(" ", "-").replace(",", "")
            report = box.folder / "report.json"
            peak = convert(tar, target, report)
            image = json.loads(report.read_text())["images"][0]
            bound = CONSTANT + PER_FILE * image["inodes"] + PER_JOB * JOBS
            print(f"{name}: {image['data_layer']['raw_size'] / 1e6:.0f} MB of tar, "
                  f"{image['inodes']} inodes, {image['data_layer']['size'] / 1e6:.1f} MB of data "
                  f"layer, peak {peak / 2**20:.0f} MiB of {bound / 2**20:.0f}", flush=True)
            check.true(peak <= bound, f"{name}: {peak} bytes of memory, {bound} allowed")
            run([env.program("imsy"), "check", f"oci:{target}:x", "--against", f"tar:{tar}"],
                timeout=7200)


if __name__ == "__main__":
    env.main(test)
