#!/usr/bin/env python3
"""The examples for CI systems are valid YAML, and the commands in them are commands that exist.

    examples_test.py IMSY_CONVERT
"""

import pathlib
import re
import shlex
import subprocess
import sys

try:
    import yaml
except ImportError:
    print("SKIP: python3-yaml is not here")
    sys.exit(77)

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples" / "ci"
PROGRAM = "imsy-convert"


def commands(node):
    """Every command line of imsy-convert in a document, as a list of words."""
    if isinstance(node, dict):
        if node.get("command") == [PROGRAM]:
            yield [str(word) for word in node["args"]]
        for value in node.values():
            yield from commands(value)
    elif isinstance(node, list):
        for value in node:
            yield from commands(value)
    elif isinstance(node, str):
        for line in node.replace("\\\n", " ").splitlines():
            found = re.search(rf"(?:^|[|;(]\s*){PROGRAM} ([^|;>]*)", line.strip())
            if found:
                # A substitution is one word; what closes the one around us is none of ours.
                text = re.sub(r"\$\([\w.]+\)", "substituted", found[1]).rstrip(")")
                yield shlex.split(text)


def flags(program):
    """The options that the program knows, and whether each wants a value."""
    help_text = subprocess.run([program, "--help"], stdout=subprocess.PIPE, text=True,
                               check=True).stdout
    return {flag: bool(value) for flag, value in
            re.findall(r"^\s+(?:-\w,)?(--[\w-]+)(?: ([A-Z]+\b))?", help_text, re.M)}


def complaints(words, known):
    """What is wrong with a command line."""
    places = []
    words = iter(words)
    for word in words:
        if not word.startswith("-"):
            places.append(word)
            continue
        flag, equals, _ = word.partition("=")
        if flag not in known:
            yield f"{flag} is no option"
        elif known[flag] and not equals and next(words, None) is None:
            yield f"{flag} has no value"
    if len(places) != 2:
        yield f"SRC and DST are wanted, there is {places}"


def main(program):
    known = flags(program)
    assert known["--tmp"] and not known["--quiet"], known
    assert list(complaints(["--nonsense", "a"], known)), "a wrong command line goes unnoticed"
    failed = False
    for path in sorted(EXAMPLES.iterdir()):
        documents = list(yaml.safe_load_all(path.read_text()))
        found = [words for document in documents for words in commands(document)]
        problems = [] if found else [f"holds no command of {PROGRAM}"]
        for words in found:
            problems += complaints(words, known)
        for problem in problems:
            print(f"{path.name}: {problem}")
            failed = True
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
