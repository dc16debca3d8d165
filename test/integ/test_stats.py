# SPDX-License-Identifier: Apache-2.0
"""viv stats and viv top, as a person at a terminal and a script use them."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

import pytest
import vivarium

COLUMNS, LINES = 130, 24


@pytest.fixture(scope="module")
def boxes(shared):
    ids = []
    for name in ("alpha", "beta"):
        r = shared.viv("create", "--name", name)
        assert r.returncode == 0, r.stderr
        ids.append(r.stdout.decode().strip())
    for box in ids:
        vivarium.wait_for(lambda: shared.get(f"/sandboxes/{box}/metrics"), what="a sample")
    return ids


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, instance, *argv):
        self.main, self.other = pty.openpty()
        self.size(LINES, COLUMNS)
        self.before = termios.tcgetattr(self.other)
        self.process = subprocess.Popen([instance.build / "src" / "viv", *argv], env=instance.env(), stdin=self.other,
                                        stdout=self.other, stderr=self.other, start_new_session=True)
        self.text = ""

    def size(self, lines, columns):
        fcntl.ioctl(self.main, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def read(self, until, timeout=60):
        """Reads until what came since the last call has a pattern."""
        end = time.monotonic() + timeout
        while not (found := re.search(until, self.text, re.S)):
            assert time.monotonic() < end, self.text
            if select.select([self.main], [], [], 0.1)[0]:
                self.text += os.read(self.main, 65536).decode()
        self.text = self.text[found.end():]
        return found

    def keys(self, text):
        os.write(self.main, text)

    def wait(self):
        """Its exit code; the terminal has to be as it was."""
        tail = self.text
        while self.process.poll() is None:
            if select.select([self.main], [], [], 0.1)[0]:
                tail += os.read(self.main, 65536).decode()
        while select.select([self.main], [], [], 0)[0]:
            tail += os.read(self.main, 65536).decode()
        assert termios.tcgetattr(self.other) == self.before
        os.close(self.main)
        os.close(self.other)
        return self.process.returncode, tail


def test_stats_once(shared, boxes):
    r = shared.viv("stats", "--no-stream")
    assert r.returncode == 0 and r.stderr == b""
    head, *rows = r.stdout.decode().splitlines()
    assert head.split() == "ID NAME STATE CPU % MEMORY / LIMIT IN GUEST DISK / SIZE IN GUEST".split()
    assert {row.split()[1] for row in rows} >= {"alpha", "beta"}
    for row in rows:
        assert re.search(r"running +\d+\.\d +[\d.]+[KMGT] / +512M +[\d.]+[KMGT] +[\d.]+[KMGT] / +[\d.]+[KMGT] +[\d.]+[KMGT]$",
                         row), row


def test_stats_of_some_as_json(shared, boxes):
    r = shared.viv("stats", "--no-stream", "--json", "beta", boxes[0][:12])
    assert r.returncode == 0, r.stderr
    rows = [json.loads(line) for line in r.stdout.splitlines()]
    assert [row["name"] for row in rows] == ["beta", "alpha"]
    for row in rows:
        assert row["state"] == "running" and 0 <= row["cpuPct"] <= 100
        assert row["memLimitBytes"] == 512 << 20 and 0 < row["guestMemBytes"] < 512 << 20
        assert row["hostMemBytes"] > 0 and row["hostDiskBytes"] > 0
        assert 0 < row["guestDiskBytes"] < row["diskLimitBytes"]


def test_stats_of_nobody(shared, boxes):
    r = shared.viv("stats", "--no-stream", "no-such")
    assert r.returncode == 1 and b"no-such" in r.stderr and r.stdout == b""
    assert shared.viv("stats", "--wrong").returncode == 2


def test_stats_goes_on_until_it_is_interrupted(shared, boxes):
    p = shared.popen("stats", "--json", "alpha", stdout=subprocess.PIPE)
    lines = [json.loads(p.stdout.readline()) for _ in range(3)]
    assert [row["name"] for row in lines] == ["alpha"] * 3
    p.send_signal(signal.SIGINT)
    assert p.wait(timeout=60) == 0
    p = shared.popen("stats", "alpha", stdout=subprocess.PIPE)
    assert p.stdout.readline().startswith(b"ID ")
    p.send_signal(signal.SIGTERM)
    assert p.wait(timeout=60) == 128 + signal.SIGTERM


def test_top_once(shared, boxes):
    r = shared.viv("top", "--once")
    assert r.returncode == 0, r.stderr
    summary, head, *rows = r.stdout.decode().splitlines()
    assert re.match(r"2 sandboxes, 2 running; they use [\d.]+ % of a CPU and [\d.]+ MiB of the host$", summary)
    assert head.startswith("ID ") and len(rows) == 2
    cpu = [float(row.split()[3]) for row in rows]
    assert cpu == sorted(cpu, reverse=True)
    assert b"\033" not in r.stdout


def test_top_needs_a_terminal(shared):
    r = shared.viv("top")
    assert r.returncode == 2 and b"--once" in r.stderr
    assert shared.viv("top", "what").returncode == 2


def test_top_on_a_terminal(shared, boxes):
    t = Terminal(shared, "top")
    t.read(r"2 running; .*by CPU.*alpha.*\033\[J")
    t.keys(b"n")
    t.read(r"by name.*alpha.*beta.*\033\[J")
    t.keys(b"m")
    t.read(r"by memory.*\033\[J")
    t.keys(b"\x1a")  # Ctrl-Z does not stop it with the terminal in disorder
    t.size(5, 40)
    screen = t.read(r"2 sandboxes(.*?)\033\[J.*2 sandboxes(.*?)\033\[J")[2]
    lines = screen.replace("\033[K", "").split("\r\n")
    assert len(lines) <= 5 and all(len(line) <= 40 for line in lines), lines
    t.keys(b"q")
    code, tail = t.wait()
    assert code == 0 and tail.endswith("\033[?25h\033[?1049l")


@pytest.mark.parametrize("how,code", [(b"\x03", 0), (signal.SIGINT, 0), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_top_gives_the_terminal_back(shared, boxes, how, code):
    t = Terminal(shared, "top")
    t.read(r"\033\[\?1049h.*alpha")
    if isinstance(how, bytes):
        t.keys(how)
    else:
        t.process.send_signal(how)
    ended, tail = t.wait()
    assert ended == code and tail.endswith("\033[?25h\033[?1049l")


def test_top_without_a_daemon(shared, boxes, tmp_path):
    r = shared.viv("--socket", tmp_path / "none.sock", "top", "--once")
    assert r.returncode == 1 and b"none.sock" in r.stderr
