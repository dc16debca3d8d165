# SPDX-License-Identifier: Apache-2.0
"""A file includes only its own folder and folders on lower lines (doc/theory/layers.md)."""

import re

LINES = [
    ["base"],
    ["os", "http"],
    ["vmm", "disk", "net", "template", "guest", "store"],
    ["sandbox"],
    ["api"],
    ["daemon"],
]
EXTRA = {"tls": {"base", "os"}, "hook": {"base"}, "cli": {"base", "os", "http"}, "agent": {"base", "os", "http"},
         "build": {"base", "os", "template"}}
INCLUDE = re.compile(r'^#include "([a-z]+)/[^"]+"', re.M)


def allowed(folder):
    if folder in EXTRA:
        return EXTRA[folder] | {folder}
    names = {folder}
    for line in LINES:
        if folder in line:
            return names
        names.update(line)
    raise AssertionError(f"folder {folder} has no line")


def wrong_includes(root):
    for path in sorted((root / "src").glob("*/*.[ch]")):
        folder = path.parent.name
        for name in INCLUDE.findall(path.read_text()):
            if name not in allowed(folder):
                yield f"{path.relative_to(root)} includes {name}/"


def test_includes_go_down(root):
    assert list(wrong_includes(root)) == []


def test_includes_name_their_folder(root):
    bare = re.compile(r'^#include "(?!viv-config\.h)[^/"]+"', re.M)
    found = [str(p) for p in (root / "src").glob("*/*.[ch]") if bare.search(p.read_text())]
    assert found == []


def test_headers_stand_alone_and_guard(root):
    headers = list((root / "src").glob("*/*.h"))
    assert headers
    assert [str(h) for h in headers if "#pragma once" not in h.read_text()] == []
