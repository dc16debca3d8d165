# SPDX-License-Identifier: Apache-2.0
"""doc/e2b.md says what works; this reads it, and the packages, and checks."""

import pathlib
import re

import pytest

import sdk

DOC = pathlib.Path(__file__).resolve().parents[2] / "doc" / "e2b.md"
ROW = re.compile(r"^\| `([^`]+)` \| (works|pending|client|refused, (\d+)) \| (.*) \|$")
# How a method of a class is called in the table: static ones, and those of an object.
CLASSES = {"SandboxApi": ("Sandbox", None), "Sandbox": ("Sandbox", "sandbox"),
           "Commands": (None, "commands"), "CommandHandle": (None, "handle"), "Pty": (None, "pty"),
           "Filesystem": (None, "files"), "WatchHandle": (None, "watch"), "Git": (None, "git"),
           "Volume": ("Volume", "volume"), "Secret": ("Secret", None),
           "TemplateBase": ("Template", None)}


class Row:
    def __init__(self, name, state, status, proof):
        self.name, self.state, self.status = name, state.split(",")[0], int(status or 0)
        self.proofs = re.findall(r"`([^`]+)`", proof)


def rows():
    text = DOC.read_text()
    table = [l for l in text.splitlines() if l.startswith("| ") and not re.match(r"\| (---|\w+ \| State)", l)]
    matches = [(line, ROW.match(line)) for line in table]
    assert [line for line, m in matches if not m] == []
    return [Row(*m.groups()) for _, m in matches]


ROWS = rows()


def types(packages):
    return (packages / "node_modules" / "e2b" / "dist" / "index.d.ts").read_text()


def methods(text):
    """Each public method of the package, as the table calls it."""
    found = set()
    for name, (static, instance) in CLASSES.items():
        body = re.search(rf"^declare class {name}[ {{<].*?^}}", text, re.M | re.S)[0]
        for is_static, method in re.findall(r"^  (static )?([a-z]\w*)[(<]", body, re.M):
            owner = static if is_static else instance
            if method != "constructor" and owner:
                found.add(f"{owner}.{method}")
    return found


def endpoints(text, start, end):
    """Each method and path between two lines of the types."""
    part = text[text.index(start):text.index(end)]
    found = set()
    for path, body in re.findall(r'^  "([^"]+)": \{\n(.*?)^  \};', part, re.M | re.S):
        for method in re.findall(r"^    (get|put|post|delete|patch): ", body, re.M):
            found.add(f"{method.upper()} {path}")
    return found


def python_tests():
    text = (pathlib.Path(__file__).parent / "test_python_wire.py").read_text()
    return {f"python/{name}" for name in re.findall(r"^def (test_\w+)\(", text, re.M)}


def integ_tests():
    found = set()
    for path in (pathlib.Path(__file__).resolve().parents[1] / "integ").glob("test_*.py"):
        found |= {f"integ/{name}" for name in re.findall(r"^def (test_\w+)\(", path.read_text(), re.M)}
    return found


def test_every_method_of_the_package_is_in_the_table(packages):
    assert methods(types(packages)) - {row.name for row in ROWS} == set()


def test_every_endpoint_of_the_package_is_in_the_table(packages):
    text = types(packages)
    known = endpoints(text, "interface paths {", "interface components {")
    known |= endpoints(text, "interface paths$1 {", "interface components$2 {")
    assert len(known) > 50
    assert known - {row.name for row in ROWS} == set()


def test_rows_that_work_have_tests_that_pass():
    known = (set(sdk.tests()) | python_tests() | integ_tests()) - set(sdk.pending())
    proofs = {p for row in ROWS if row.state == "works" for p in row.proofs}
    assert proofs - known == set()
    assert [row.name for row in ROWS if row.state == "works" and not row.proofs] == []


def test_rows_that_are_pending_wait_for_a_test():
    pending = set(sdk.pending())
    assert [row.name for row in ROWS if row.state == "pending" and not pending & set(row.proofs)] == []
    named = {p for row in ROWS if row.state == "pending" for p in row.proofs}
    assert pending - named == set()
    assert named - set(sdk.tests()) - python_tests() == set()


@pytest.fixture(scope="module")
def box(server):
    status, box = server.instance.create()
    assert status == 201, box
    return box["sandboxID"]


@pytest.mark.parametrize("row", [r for r in ROWS if r.state == "refused"], ids=lambda r: r.name)
def test_what_is_refused(server, box, row):
    assert row.proofs
    for proof in row.proofs:
        method, target, *body = proof.replace("{id}", box, 1).split(" ", 2)
        status, answer = server.instance.request(method, target, body[0] if body else None)
        assert status == row.status, answer
        assert answer["code"] == row.status
        what = target.split("?")[0] if row.status == 501 else row.name
        assert what in answer["message"], answer
