#!/usr/bin/env python3
"""What the programs write where: standard output has results alone, and what cannot be written to
it is a failure.

    streams_test.py IMSY IMSY_CONVERT
"""

import pathlib
import re
import socket
import subprocess
import sys
import tempfile

DIGEST = re.compile(r"sha256:[0-9a-f]{64}\n")


def run(*command, **options):
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, **options}
    return subprocess.run([str(word) for word in command], stderr=subprocess.PIPE, text=True,
                          check=False, **options)


def expect(condition, what, ran):
    if not condition:
        raise AssertionError(f"{what}: ended with {ran.returncode}\n{ran.stdout}{ran.stderr}")


def warnings_are_no_results(imsy, convert, folder):
    """A socket in a directory is left out, which is said on standard error alone."""
    root = folder / "root"
    root.mkdir()
    (root / "file").write_text("content")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "socket"))
        made = run(convert, f"dir:{root}", f"oci:{folder}/made")
        expect(made.returncode == 0 and DIGEST.fullmatch(made.stdout), "imsy-convert", made)
        proved = run(imsy, "check", f"oci:{folder}/made", "--against", f"dir:{root}")
    lines = proved.stdout.splitlines()
    expect(proved.returncode == 0 and len(lines) == 1 and " proved: " in lines[0], "check", proved)
    for ran in (made, proved):
        expect("a socket is left out" in ran.stderr, "a warning on standard error", ran)


def a_lost_digest_is_a_failure(convert, folder):
    """Whether the output is full or closed: code 1, and the error says the digest."""
    words = [convert, f"dir:{folder}/root", f"oci:{folder}/lost"]
    with open("/dev/full", "w", encoding="ascii") as full:
        ran = run(*words, stdout=full)
    expect(ran.returncode == 1 and "sha256:" in ran.stderr, "a full output", ran)
    ran = run("sh", "-c", 'exec "$@" >&-', "sh", *words, "--force")
    expect(ran.returncode == 1 and "cannot write to standard output" in ran.stderr,
           "a closed output", ran)
    blobs = [path.read_bytes() for path in (folder / "lost").rglob("*") if path.is_file()]
    expect(not any(blob.startswith(b"sha256:") for blob in blobs), "a digest in a file", ran)


def no_input_is_a_failure(convert, folder):
    ran = run(convert, "tar:-", f"oci:{folder}/nothing")
    expect(ran.returncode == 1 and "is empty" in ran.stderr, "an empty tar", ran)
    ran = run("sh", "-c", 'exec "$@" <&-', "sh", convert, "tar:-", f"oci:{folder}/nothing")
    expect(ran.returncode == 1, "a closed input", ran)
    expect(not (folder / "nothing").exists(), "a target that is not made", ran)


def main(imsy, convert):
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        warnings_are_no_results(imsy, convert, folder)
        a_lost_digest_is_a_failure(convert, folder)
        no_input_is_a_failure(convert, folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
