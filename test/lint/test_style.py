# SPDX-License-Identifier: Apache-2.0
"""House rules that a machine can count: sizes, words, calls, licence lines."""

import re
import shutil
import subprocess

import pytest

FILE_LINES, FUNCTION_LINES, COLUMNS = 600, 100, 100
BANNED = {
    "strcpy", "strcat", "sprintf", "vsprintf", "strtok", "atoi", "atol", "strtol", "strtoul", "system",
    "popen", "usleep", "sleep", "nanosleep", "signal", "dup", "gets", "tmpnam", "mktemp",
}
# Where a call that is banned elsewhere belongs.
ONLY_IN = {"fork": {"agent/spawn.c"}, "exit": {"agent/main.c", "cli/main.c", "daemon/main.c"}}


def sources(root, *patterns):
    found = [p for pattern in patterns for p in sorted(root.glob(pattern))]
    assert found
    return found


def functions(text):
    """Name and length of each function, as kernel style has them: braces in column 0."""
    name, start = None, None
    lines = text.split("\n")
    for i, line in enumerate(lines):
        if line == "{":
            start = i
            head = " ".join(lines[max(0, i - 4) : i])
            match = re.findall(r"(\w+)\(", head)
            name = match[0] if match else "?"
        elif line == "}" and start is not None:
            yield name, i - start - 1
            start = None


def test_files_and_functions_are_small(root):
    bad = []
    for path in sources(root, "src/*/*.[ch]"):
        text = path.read_text()
        if text.count("\n") > FILE_LINES:
            bad.append(f"{path.name}: {text.count(chr(10))} lines")
        bad += [f"{path.name}: {n}() has {k} lines" for n, k in functions(text) if k > FUNCTION_LINES]
    assert bad == []


def test_lines_are_short(root):
    bad = []
    for path in sources(root, "src/*/*.[ch]"):
        for i, line in enumerate(path.read_text().split("\n"), 1):
            if len(line.expandtabs(8)) > COLUMNS:
                bad.append(f"{path.relative_to(root)}:{i}")
    assert bad == []


def test_every_file_names_its_licence(root):
    files = sources(root, "src/*/*.[ch]", "test/**/*.c", "test/**/*.py", "tools/*")
    assert [str(p) for p in files if p.is_file() and "SPDX-License-Identifier: Apache-2.0"
            not in p.read_text().split("\n\n")[0]] == []


def test_no_goto_and_no_unfinished_words(root):
    words = re.compile(r"^\s*goto |TODO|FIXME|\bXXX\b|\bnot (yet )?implemented\b|\bplaceholder\b", re.M)
    bad = [str(p) for p in sources(root, "src/*/*.[ch]", "test/**/*.c") if words.search(p.read_text())]
    assert bad == []


def test_no_banned_calls(root, build):
    """Reads what the objects import, so that no macro hides a call."""
    bad = []
    objects = list(build.glob("src/**/*.o"))
    if not objects:
        pytest.skip(f"no objects in {build}: build first")
    for obj in objects:
        name = obj.name.rsplit(".c.o", 1)[0].replace("_", "/", 1) + ".c"
        out = subprocess.run(["nm", "-u", obj], check=True, capture_output=True, text=True).stdout
        used = {line.split()[-1].split("@")[0] for line in out.splitlines()}
        bad += [f"{obj.name}: {call}" for call in used & BANNED]
        for call, places in ONLY_IN.items():
            source = next((p for p in places if obj.name.endswith(p.split("/")[1] + ".o")), None)
            if call in used and source is None:
                bad.append(f"{obj.name}: {call} ({name})")
    assert bad == []


def test_formatted(root):
    if shutil.which("clang-format") is None:
        pytest.skip("clang-format is not installed")
    files = sources(root, "src/*/*.[ch]", "test/unit/*.[ch]", "test/fuzz/*.[ch]")
    r = subprocess.run(["clang-format", "--dry-run", "-Werror", *files], capture_output=True, text=True)
    assert r.returncode == 0, r.stderr[:2000]


def test_shell_scripts(root):
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    scripts = [p for p in (*root.glob("tools/*"), *root.glob(".ci/*"))
               if p.is_file() and p.read_text().startswith("#!") and "sh" in p.read_text().split("\n")[0]]
    assert scripts
    r = subprocess.run(["shellcheck", *scripts], capture_output=True, text=True)
    assert r.returncode == 0, r.stdout


def test_exported_functions_are_documented(root):
    """Each function that a header declares is named in a comment of that header."""
    declared = re.compile(r"^(?!static|typedef|#)[a-z][\w \*]*?[ \*](\w+)\((?!\*)", re.M)
    bad = []
    for path in sources(root, "src/*/*.h"):
        if path.name.endswith("-internal.h"):
            continue
        text = path.read_text()
        comments = " ".join(re.findall(r"/\*.*?\*/", text, re.S))
        code = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
        code = re.sub(r"^#define.*?(?<!\\)$", "", code, flags=re.M | re.S)
        code = re.sub(r"^must_check ", "", code, flags=re.M)
        for name in declared.findall(code):
            if f"{name}()" not in comments and name not in comments:
                bad.append(f"{path.relative_to(root)}: {name}")
    assert bad == []
