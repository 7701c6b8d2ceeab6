#!/usr/bin/env python3
"""The tree checks itself: what a compiler and a formatter do not see.

    tests/tidy_test.py          check the tree; one line per finding, exit code 1 if there is any
    tests/tidy_test.py --self   check the rules themselves on planted faults
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
SKIPPED = {"build", ".cache", ".git"}
MAX_COLUMNS = 100
MAX_FUNCTION_LINES = 70

# Who may include whom; everybody may include itself. cas/source is the one place where the
# store meets the registry.
ALL = {"common", "cdc", "oci", "cas", "cas/source", "fuse", "converter", "proto", "snapshotter"}
MAY_INCLUDE = {
    "common": set(),
    "cdc": {"common"},
    "oci": {"common"},
    "cas": {"cdc", "common"},
    "cas/source": {"cas", "oci", "cdc", "common"},
    "fuse": {"cas", "cdc", "common"},
    "converter": {"oci", "cdc", "common"},
    "proto": set(),
    "snapshotter": {"proto", "fuse", "cas", "cas/source", "oci", "cdc", "common"},
    "cli": ALL - {"snapshotter"},
}

# Libraries that stay behind one folder, so that they can be replaced there.
THIRD_PARTY = {
    r"curl/": {"oci"},
    r"(fuse3/)?fuse(_lowlevel)?\.h": {"fuse"},
    r"grpcpp/": {"snapshotter", "cli"},
    r"prometheus/": {"snapshotter"},
    r"yaml\.h": {"snapshotter"},
    r"sqlite3\.h": {"cas", "snapshotter", "cli"},
}

# Words that must not stay in the tree, and paths that exist on one machine only. Written in
# pieces, so that this file does not find itself.
UNFINISHED = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "X" + "XX"]) + r")\b")
MACHINE_PATH = re.compile(r"(?<![\w.])/(" + "|".join(["home", "work", "Users"]) + r")/\w")
TEXT = {".cc", ".h", ".py", ".sh", ".go", ".proto", ".cmake", ".txt", ".md", ".toml", ".json",
        ".service", ".socket", ".yml"}


def sources(suffixes):
    """All files of the tree with one of these suffixes, as paths relative to the root."""
    found = []
    for path in sorted(ROOT.rglob("*")):
        relative = path.relative_to(ROOT)
        if not SKIPPED & set(relative.parts) and path.suffix in suffixes and path.is_file():
            found.append(relative)
    return found


def folder_of(path):
    """The folder whose include rules hold for a path such as cas/source/registry.h."""
    parts = pathlib.PurePath(path).parts
    if parts[:2] == ("cas", "source"):
        return "cas/source"
    return parts[0] if len(parts) > 1 else ""


def blank_text(code):
    """The code with comments, strings and characters blanked, lines kept."""
    token = re.compile(r'//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"'
                       r"|(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'", re.S)
    return token.sub(lambda m: re.sub(r"[^\n]", " ", m[0]), code)


def functions(code):
    """Yields (first line, number of lines) of every function with a body, lambdas left out."""
    code = re.sub(r"^[ \t]*#.*(?:\\\n.*)*$", "", blank_text(code), flags=re.M)
    stack = []  # (is_function, first line)
    head = ""   # the text since the last brace or semicolon
    line = head_line = 1
    for char in code:
        if char == "\n":
            line += 1
        if char in "{};":
            if char == "{":
                inside = any(is_function for is_function, _ in stack)
                is_scope = re.search(r"\b(namespace|class|struct|union|enum|extern)\b[^()]*$", head)
                is_function = not inside and not is_scope and "(" in head
                stack.append((is_function, head_line))
            elif char == "}" and stack:
                is_function, first = stack.pop()
                if is_function:
                    yield first, line - first + 1
            head = ""
        elif head or not char.isspace():
            if not head:
                head_line = line
            head += char


def check_includes(path, text):
    folder = folder_of(path)
    if folder not in MAY_INCLUDE:
        return
    for number, line in enumerate(text.splitlines(), 1):
        ours = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
        if ours:
            target = folder_of(ours[1])
            if target in MAY_INCLUDE and target != folder and target not in MAY_INCLUDE[folder]:
                yield number, f"{folder} may not include {target}"
        theirs = re.match(r"\s*#\s*include\s+<([^>]+)>", line)
        for pattern, owners in THIRD_PARTY.items() if theirs else ():
            if re.match(pattern, theirs[1]) and folder not in owners:
                yield number, f"<{theirs[1]}> stays in {', '.join(sorted(owners))}"


def check_lines(path, text):
    for number, line in enumerate(text.splitlines(), 1):
        if path.suffix in {".cc", ".h", ".py", ".sh", ".cmake"} and len(line) > MAX_COLUMNS:
            yield number, f"{len(line)} columns, at most {MAX_COLUMNS}"
        if UNFINISHED.search(line):
            yield number, "finish it or leave it out"
        if MACHINE_PATH.search(line):
            yield number, "a path of one machine"


def check_code(path, text):
    if path.suffix == ".h" and not re.search(r"^#pragma once$", text, re.M):
        yield 1, "#pragma once is missing"
    for first, lines in functions(text):
        if lines > MAX_FUNCTION_LINES:
            yield first, f"function of {lines} lines, at most {MAX_FUNCTION_LINES}"


def check_listed(path):
    """A source that no CMakeLists.txt lists is a source that nobody builds."""
    for folder in path.parents:
        listing = ROOT / folder / "CMakeLists.txt"
        if listing.exists():
            name = str(path.relative_to(folder))
            if re.search(rf"(^|[\s(\"/]){re.escape(name)}($|[\s)\"])", listing.read_text(), re.M):
                return
    yield 1, "no CMakeLists.txt lists it"


def check_tree():
    findings = []
    for path in sources(TEXT):
        text = (ROOT / path).read_text(encoding="utf-8", errors="replace")
        checks = [check_lines(path, text)]
        if path.suffix in {".cc", ".h"}:
            checks += [check_includes(path, text), check_code(path, text)]
        if path.suffix == ".cc":
            checks.append(check_listed(path))
        findings += [f"{path}:{line}: {what}" for check in checks for line, what in check]
    return findings


def check_rules():
    """Every rule finds its planted fault, and is quiet beside it."""
    def finds(check, path, text):
        return [what for _, what in check(pathlib.Path(path), text)]

    cases = [
        (check_includes, "cdc/a.cc", '#include "oci/tar.h"', True),
        (check_includes, "cdc/a.cc", '#include "common/io.h"', False),
        (check_includes, "cas/a.cc", '#include "oci/tar.h"', True),
        (check_includes, "cas/source/a.cc", '#include "oci/tar.h"', False),
        (check_includes, "cas/a.cc", '#include "cas/source/a.h"', True),
        (check_includes, "cli/a.cc", '#include "snapshotter/a.h"', True),
        (check_includes, "cas/a.cc", "#include <curl/curl.h>", True),
        (check_includes, "oci/a.cc", "#include <curl/curl.h>", False),
        (check_lines, "a.h", "x" * (MAX_COLUMNS + 1), True),
        (check_lines, "a.h", "x" * MAX_COLUMNS, False),
        (check_lines, "a.h", "// TO" + "DO: later", True),
        (check_lines, "a.md", "see /ho" + "me/someone/imsy", True),
        (check_code, "a.h", "int f();\n", True),
        (check_code, "a.h", "#pragma once\nint f();\n", False),
        (check_code, "a.cc", "namespace n {\nint f(\n  int a) {\n" + "g();\n" * 70 + "}}", True),
        (check_code, "a.cc", "struct S {\n" + "int f() { return '{'; }\n" * 80 + "};\n", False),
        (check_code, "a.cc", "namespace n {\n" + "int f() {}  // \"{\n" * 80 + "}\n", False),
    ]
    return [f"{check.__name__}: wrong about {text[:40]!r} in {path}"
            for check, path, text, expected in cases if bool(finds(check, path, text)) != expected]


def main():
    findings = check_rules() if "--self" in sys.argv[1:] else check_tree()
    print("\n".join(findings), end="\n" if findings else "")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
