# SPDX-License-Identifier: Apache-2.0
"""The programs of README.md run as they are printed there."""

import contextlib
import io
import pathlib
import re
import subprocess
import sys
import types

import sdk
import test_python_wire as wire

README = pathlib.Path(__file__).resolve().parents[2] / "README.md"
SCREEN_LINES = 50


def program(language):
    """The only block of a language in README.md."""
    [text] = re.findall(rf"^```{language}\n(.*?)^```$", README.read_text(), re.M | re.S)
    assert len(text.splitlines()) <= 10
    return text


def test_the_variables_are_those_that_the_packages_read(server):
    [line] = re.findall(r"^export (E2B_API_URL=.*)$", README.read_text(), re.M)
    named = dict(word.split("=", 1) for word in line.split(" ", 2))
    assert set(named) == {"E2B_API_URL", "E2B_SANDBOX_URL", "E2B_API_KEY"}
    assert named["E2B_API_URL"] == named["E2B_SANDBOX_URL"] == "http://127.0.0.1:3999"
    assert named["E2B_API_KEY"] == "$(viv key create sdk)"


def test_the_first_screen_has_how_to_start():
    first = "\n".join(README.read_text().split("\n")[:SCREEN_LINES])
    for text in ("make run", "viv run", "viv create", "viv exec", "viv rm"):
        assert text in first, text


def test_javascript(server, packages):
    app = packages / "readme.mjs"  # where node finds the package
    app.write_text(program("js"))
    env = server.env(packages, "e2b", "")
    done = subprocess.run([sdk.node(packages), app], env=env, stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (0, "42\n\n", "")
    assert server.instance.request("GET", "/v2/sandboxes?metadata=by%3Dreadme")[1] == []


class Files:
    def __init__(self, agent):
        self.agent = agent

    def write(self, path, data):
        kind, body = wire.form([("file", path, data.encode())])
        status, _, answer = self.agent.send("POST", f"/files?path={path}", body, Content_Type=kind)
        assert status == 200, answer


class Commands:
    def __init__(self, agent):
        self.agent = agent

    def run(self, command):
        out, err, end = self.agent.run(command)
        return types.SimpleNamespace(stdout=out, stderr=err, exit_code=end.get("exitCode", 0))


def stand_in(server):
    """A module e2b with what the program uses of it; it sends what was recorded of the package. The package itself
    is not to be had from Debian."""
    class Sandbox:
        @classmethod
        def create(cls, **options):
            status, made = wire.create(server, **options)
            assert status == 201, made
            box = cls()
            box.id, agent = made["sandboxID"], wire.Client(server, made)
            box.files, box.commands = Files(agent), Commands(agent)
            return box

        def kill(self):
            assert wire.Client(server).send("DELETE", f"/sandboxes/{self.id}")[0] == 204

    module = types.ModuleType("e2b")
    module.Sandbox = Sandbox
    return module


def test_python(server, monkeypatch):
    monkeypatch.setitem(sys.modules, "e2b", stand_in(server))
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(program("python"), "README.md", "exec"), {"__name__": "__main__"})
    assert said.getvalue() == "42\n\n"
    assert server.instance.request("GET", "/v2/sandboxes?metadata=by%3Dreadme")[1] == []
