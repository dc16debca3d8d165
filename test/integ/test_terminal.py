# SPDX-License-Identifier: Apache-2.0
"""Being at a process: terminals, detaching and coming back, signals, and stdin of any size."""

import contextlib
import fcntl
import hashlib
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

KEYS = b"\x10\x11"  # ctrl-p,ctrl-q
LIMIT = 90 * vivarium.PATIENCE


@pytest.fixture(scope="module")
def box(shared):
    r = shared.viv("create", "--name", "term")
    assert r.returncode == 0, r.stderr
    return r.stdout.decode().strip()


class Terminal:
    """viv on a terminal of its own, as a person has it."""

    def __init__(self, instance, *argv, rows=30, cols=100, env=None):
        self.master, self.slave = pty.openpty()
        self.resize(rows, cols)
        self.before = termios.tcgetattr(self.slave)
        self.seen = b""
        self.process = subprocess.Popen(
            [instance.build / "src" / "viv", *map(str, argv)], stdin=self.slave, stdout=self.slave,
            stderr=self.slave, start_new_session=True, env={**instance.env(), "TERM": "vt220", **(env or {})},
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))

    def resize(self, rows, cols):
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def type(self, data):
        os.write(self.master, data)

    def expect(self, pattern):
        """What was shown up to and with a pattern, which is not shown again."""
        end = time.monotonic() + LIMIT
        while not (found := re.search(pattern, self.seen)):
            assert time.monotonic() < end, (pattern, self.seen)
            if select.select([self.master], [], [], 0.2)[0]:
                self.seen += os.read(self.master, 65536)
        shown, self.seen = self.seen[:found.end()], self.seen[found.end():]
        return shown

    def is_raw(self):
        return not termios.tcgetattr(self.slave)[3] & (termios.ICANON | termios.ECHO | termios.ISIG)

    def wait(self):
        """The exit code; the terminal is as it was."""
        end = time.monotonic() + LIMIT
        while self.process.poll() is None:
            assert time.monotonic() < end, self.seen
            if select.select([self.master], [], [], 0.05)[0]:
                self.seen += os.read(self.master, 65536)
        while select.select([self.master], [], [], 0)[0]:
            self.seen += os.read(self.master, 65536)
        assert termios.tcgetattr(self.slave) == self.before
        return self.process.returncode

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminal(shared):
    with contextlib.ExitStack() as stack:
        def make(*argv, **kw):
            return stack.enter_context(contextlib.closing(Terminal(shared, *argv, **kw)))

        yield make


def processes(instance, name="term"):
    r = instance.viv("ps", "--json", name)
    assert r.returncode == 0, r.stderr
    return json.loads(r.stdout)


def gone(instance, pid, name="term"):
    vivarium.wait_for(lambda: pid not in [p["pid"] for p in processes(instance, name)], what="it ended")


# Terminals


def test_a_shell_on_a_terminal(box, terminal):
    t = terminal("exec", "-it", "term", "--", "bash", "--norc")
    t.expect(rb"\$ ")
    assert t.is_raw()
    t.type(b"tty; echo $TERM $((6 * 7)); stty size\r")
    t.expect(rb"/dev/pts/\d+\r\nvt220 42\r\n30 100\r\n")
    t.resize(41, 133)
    t.expect(rb"\$ ")
    # It goes another way than what is typed.
    t.type(b"until [ \"$(stty size)\" = '41 133' ]; do sleep 0.1; done; stty size\r")
    t.expect(rb"41 133\r\n")
    t.type(b"exit 7\r")
    assert t.wait() == 7


def test_the_terminal_follows_while_a_program_has_it(box, terminal):
    t = terminal("exec", "-t", "term", "--", "bash", "-c",
                 "trap 'stty size' WINCH; trap 'exit 9' INT; echo ready; while :; do sleep 0.1; done")
    t.expect(b"ready")
    t.resize(17, 55)
    t.expect(rb"17 55\r\n")
    t.type(b"\x03")
    assert t.wait() == 9


def test_raw_keys_reach_a_program_that_wants_them(box, terminal):
    program = ("import os, sys, termios, tty; tty.setraw(0); print('ready', flush=True)\n"
               "while (c := os.read(0, 1)) != b'q': os.write(1, b'<%02x>' % c[0])")
    t = terminal("exec", "-it", "term", "--", "python3", "-c", program)
    t.expect(b"ready")
    keys = bytes([3, 4, 26, 28, 17, 19, 13, 10, 127, 27, 255, 0, 16, 16])
    t.type(keys + b"x")
    t.expect(b"".join(b"<%02x>" % k for k in keys) + b"<78>")
    t.type(b"q")
    assert t.wait() == 0


def test_keys_that_interrupt_and_end(box, terminal):
    t = terminal("exec", "-t", "term", "--", "cat")
    t.type(b"line\r")
    t.expect(rb"line\r\nline\r\n")
    t.type(b"\x04")
    assert t.wait() == 0
    t = terminal("exec", "-t", "term", "--", "sh", "-c", "trap 'echo caught; exit 5' INT; echo ready; read x")
    t.expect(b"ready")
    t.type(b"\x03")
    t.expect(b"caught")
    assert t.wait() == 5


@pytest.mark.parametrize("name", ["TERM", "HUP"])
def test_a_signal_ends_viv_and_hangs_its_terminal_up(shared, box, terminal, name):
    t = terminal("exec", "-t", "--tag", f"hung-{name}", "term", "--", "bash", "--norc")
    t.expect(rb"\$ ")
    pid = next(p["pid"] for p in processes(shared) if p.get("tag") == f"hung-{name}")
    assert t.is_raw()
    t.process.send_signal(getattr(signal, f"SIG{name}"))
    assert t.wait() == 128 + getattr(signal, f"SIG{name}")
    gone(shared, pid)


def test_a_lost_connection_leaves_the_terminal_as_it_was(shared, terminal):
    assert shared.viv("create", "--name", "lost").returncode == 0
    t = terminal("exec", "-t", "lost", "--", "bash", "--norc")
    t.expect(rb"\$ ")
    assert shared.viv("rm", "lost").returncode == 0
    assert t.wait() == 125
    assert b"viv: sandbox" in t.seen


def test_a_stopped_viv_takes_the_terminal_again(box, terminal):
    t = terminal("exec", "-t", "term", "--", "cat")
    t.type(b"a\r")
    t.expect(rb"a\r\na\r\n")
    t.process.send_signal(signal.SIGSTOP)
    termios.tcsetattr(t.slave, termios.TCSANOW, t.before)
    t.process.send_signal(signal.SIGCONT)
    vivarium.wait_for(t.is_raw, what="it is raw again")
    t.type(b"\x04")
    assert t.wait() == 0


@pytest.mark.parametrize("argv", [["exec", "-t", "term", "--", "true"], ["run", "-t", "--", "true"]])
def test_no_terminal_without_one(shared, box, argv):
    r = shared.viv(*argv)
    assert r.returncode == 125
    assert r.stderr.decode().startswith(f"viv {argv[0]}: --tty: standard input is not a terminal")


def test_a_command_that_cannot_run_leaves_the_terminal(box, terminal):
    t = terminal("exec", "-t", "term", "--", "no-such-command")
    assert t.wait() == 127 and b"no-such-command" in t.seen


def test_shell_logs_in(shared, box, terminal):
    t = terminal("shell", "term")
    t.type(b"shopt login_shell; echo $SHELL $PWD\r")
    t.expect(rb"login_shell\s+on\r\n/bin/bash /home/user\r\n")
    t.type(b"exit 3\r")
    assert t.wait() == 3
    t = terminal("shell", "-u", "root", "-w", "/tmp", "-e", "A=b", "term")
    t.type(b"id -u; echo $A $PWD\r")
    t.expect(rb"[\r\n]0\r\nb /tmp\r\n")
    t.type(b"exit\r")
    assert t.wait() == 0
    r = shared.viv("shell", "term", stdin=b"shopt login_shell; exit 4\n")
    assert r.returncode == 4 and r.stdout.split() == [b"login_shell", b"on"]


# Leaving and coming back


def test_detach_and_attach(shared, box, terminal):
    t = terminal("exec", "-t", "--tag", "away", "term", "--", "bash", "--norc")
    t.expect(rb"\$ ")
    t.type(b"(sleep 1; echo mean''while) & echo on''ce\r")
    t.expect(b"once")
    t.type(KEYS)
    assert t.wait() == 0
    pid = next(p["pid"] for p in processes(shared) if p.get("tag") == "away")
    assert f"viv: left process {pid}; viv attach {box} {pid} comes back".encode() in t.seen
    for name in ("away", pid):
        t = terminal("attach", "term", name, rows=22, cols=77)
        t.expect(b"meanwhile" if name == "away" else rb"\$ ")
        t.type(b"stty size\r")
        t.expect(rb"22 77\r\n")
        if name == "away":
            t.type(KEYS)
            assert t.wait() == 0
    t.type(b"exit 9\r")
    assert t.wait() == 9


def test_other_keys_to_leave_by(shared, box, terminal):
    t = terminal("exec", "-t", "--detach-keys", "x,ctrl-y", "--tag", "keys", "term", "--", "cat")
    t.type(KEYS + b"xx\r")
    t.expect(rb"\^P\^?Q?xx\r\n")
    t.type(b"x\x19")
    assert t.wait() == 0
    t = terminal("attach", "--detach-keys", "", "term", "keys")
    t.type(b"y" + KEYS + b"\r")
    t.expect(rb"y")
    assert shared.viv("kill", "-s", "KILL", "term", "keys").returncode == 0
    assert t.wait() == 137
    for bad in ("ctrl-", "ctrl-1", "a,,b", "a,", "ab", ",".join("abcdefghijklmnopq")):
        r = shared.viv("exec", "--detach-keys", bad, "term", "--", "true")
        assert r.returncode == 2 and b"--detach-keys" in r.stderr


def test_a_signal_to_an_attached_viv_ends_it_alone(shared, box, terminal):
    r = shared.viv("exec", "-d", "-t", "--tag", "stays", "term", "--", "cat")
    assert r.returncode == 0, r.stderr
    t = terminal("attach", "term", "stays")
    vivarium.wait_for(t.is_raw, what="it is attached")
    t.process.send_signal(signal.SIGTERM)
    assert t.wait() == 143
    assert "stays" in [p.get("tag") for p in processes(shared)]
    r = shared.viv("attach", "term", "stays")
    assert r.returncode == 125 and b"has a terminal, and standard input is none" in r.stderr
    follows = shared.popen("attach", "--no-stdin", "term", "stays", stdin=subprocess.DEVNULL)
    waits = shared.popen("wait", "term", "stays", stdin=subprocess.DEVNULL)
    with pytest.raises(subprocess.TimeoutExpired):
        waits.wait(timeout=2)
    assert shared.viv("kill", "-s", "kill", "term", "stays").returncode == 0
    assert follows.wait(timeout=LIMIT) == waits.wait(timeout=LIMIT) == 137


def test_run_on_a_terminal(shared, box, terminal):
    t = terminal("run", "--name", "once", "-it", "--", "bash", "--norc")
    t.expect(rb"\$ ")
    t.type(b"stty size; exit 6\r")
    t.expect(rb"30 100\r\n")
    assert t.wait() == 6
    assert shared.request("GET", "/sandboxes/once")[0] == 404


def test_a_run_that_is_left_goes_on(shared, box, terminal):
    t = terminal("run", "--name", "left", "-t", "--", "bash", "--norc")
    t.expect(rb"\$ ")
    t.type(KEYS)
    assert t.wait() == 0 and b"kept sandbox" in t.seen
    (process,) = processes(shared, "left")
    assert process["pty"] and process["config"]["cmd"] == "bash"
    assert shared.viv("rm", "left").returncode == 0


def test_a_second_interrupt_of_run_ends_what_ignores_the_first(shared, box):
    p = shared.popen("run", "--name", "deaf", "--", "bash", "-c",
                     "trap 'echo ignored' INT; echo ready; while :; do sleep 0.1; done", stdout=-1)
    assert p.stdout.readline() == b"ready\n"
    p.send_signal(signal.SIGINT)
    assert p.stdout.readline() == b"ignored\n"
    p.send_signal(signal.SIGINT)
    assert p.wait(timeout=LIMIT) == 130
    assert shared.request("GET", "/sandboxes/deaf")[0] == 404


# Processes that nobody stays at


def test_detached_with_a_tag(shared, box):
    r = shared.viv("exec", "-d", "-i", "--tag", "job", "-u", "root", "term", "--", "sh", "-c",
                   "echo one; echo two >&2; read x; echo got $x; exit 3")
    assert r.returncode == 0, r.stderr
    pid = int(r.stdout)
    (entry,) = [p for p in processes(shared) if p["pid"] == pid]
    assert (entry["tag"], entry["user"], entry["pty"]) == ("job", "root", False)
    table = shared.viv("ps", "term").stdout.decode()
    assert re.search(rf"^ *{pid} +job +root +- +sh -c echo one", table, re.M), table
    r = shared.viv("exec", "-d", "--tag", "job", "term", "--", "true")
    assert r.returncode == 125 and b"job" in r.stderr
    waits = shared.popen("wait", "term", "job")
    r = shared.viv("attach", "term", "job", stdin=b"line\n")
    assert (r.returncode, r.stdout, r.stderr) == (3, b"one\ngot line\n", b"two\n")
    assert waits.wait(timeout=LIMIT) == 3
    # Its end is kept for a while.
    assert shared.viv("wait", "term", pid).returncode == 3


def test_what_a_detached_command_writes_at_once_is_kept(shared, box):
    for _ in range(5):
        pid = int(shared.viv("exec", "-d", "term", "--", "echo", "early").stdout)
        r = shared.viv("attach", "--no-stdin", "term", pid)
        assert (r.returncode, r.stdout) == (0, b"early\n")


def test_ps_shows_no_control_characters(shared, box):
    r = shared.viv("exec", "-d", "--tag", "\x1b[31m", "term", "--", "sh", "-c", "sleep 1000 # \x1b\n\u009b\u00e9")
    assert r.returncode == 0, r.stderr
    table = shared.viv("ps", "term").stdout
    assert "# ??".encode() in table and "\u00e9".encode() in table
    assert b"\x1b" not in table and "\u009b".encode() not in table
    assert shared.viv("kill", "term", r.stdout.decode().strip()).returncode == 0


def test_detached_without_stdin_reads_nothing(shared, box):
    pid = int(shared.viv("exec", "-d", "term", "--", "sh", "-c", "cat; echo end").stdout)
    assert shared.viv("wait", "term", pid).returncode == 0
    assert shared.viv("attach", "term", pid, stdin=b"nobody reads this").stdout == b"end\n"


def test_detached_that_cannot_run(shared, box):
    r = shared.viv("exec", "-d", "term", "--", "no-such-command")
    assert (r.returncode, r.stdout) == (127, b"") and b"no-such-command" in r.stderr
    for tag in ("", "123"):
        r = shared.viv("exec", "-d", "--tag", tag, "term", "--", "true")
        assert r.returncode == 2 and b"--tag" in r.stderr


def test_kill_and_wait(shared, box):
    for option, code in ([], 143), (["-s", "KILL"], 137), (["--signal", "sigint"], 130), (["-s", "1"], 129):
        pid = int(shared.viv("exec", "-d", "term", "--", "sh", "-c", "sleep 1000; true").stdout)
        assert shared.viv("kill", *option, "term", pid).returncode == 0
        assert shared.viv("wait", "term", pid).returncode == code
    r = shared.viv("kill", "-s", "BLUE", "term", pid)
    assert r.returncode == 1 and r.stderr.startswith(b"viv: ")
    for verb, code in ("kill", 1), ("wait", 125), ("attach", 125):
        for name in ("nobody", "999999", "99999999999999999999"):
            r = shared.viv(verb, "term", name)
            assert r.returncode == code and b"not found" in r.stderr and r.stderr.count(b"\n") == 1


def test_who_waits_is_not_who_is_waited_for(shared, box):
    pid = int(shared.viv("exec", "-d", "term", "--", "sleep", "1000").stdout)
    for verb in ("wait", "term", pid), ("attach", "--no-signals", "term", pid):
        p = shared.popen(*verb, stdin=-1)
        with pytest.raises(subprocess.TimeoutExpired):
            p.wait(timeout=2)
        p.send_signal(signal.SIGINT)
        assert p.wait(timeout=LIMIT) == 130
    assert pid in [p["pid"] for p in processes(shared)]
    p = shared.popen("attach", "--no-stdin", "term", pid, stdin=-1)
    with pytest.raises(subprocess.TimeoutExpired):
        p.wait(timeout=2)
    p.send_signal(signal.SIGINT)
    assert p.wait(timeout=LIMIT) == 130
    gone(shared, pid)


def test_attach_without_stdin_does_not_close_it(shared, box):
    pid = int(shared.viv("exec", "-d", "-i", "term", "--", "sh", "-c", "echo ready; cat; echo end").stdout)
    p = shared.popen("attach", "--no-stdin", "term", pid, stdin=subprocess.DEVNULL, stdout=-1)
    assert p.stdout.readline() == b"ready\n"
    r = shared.viv("attach", "term", pid, stdin=b"late\n")
    assert r.returncode == 0 and r.stdout.endswith(b"end\n")
    assert p.stdout.read() == b"late\nend\n" and p.wait(timeout=LIMIT) == 0


# Stdin


def test_large_stdin_is_whole(shared, box):
    block = os.urandom(1 << 20)
    want = hashlib.sha256(block * 100).hexdigest().encode()
    p = shared.popen("exec", "-i", "term", "--", "sha256sum", stdin=-1, stdout=-1)
    for _ in range(100):
        p.stdin.write(block)
    p.stdin.close()
    assert p.stdout.read().split()[0] == want
    assert p.wait(timeout=LIMIT) == 0


def test_stdin_that_is_not_read_waits(shared, box):
    """What a process does not read stays with whoever writes it, and ends with the process."""
    p = shared.popen("exec", "term", "--", "sh", "-c", "echo ready; sleep 1000", stdin=-1, stdout=-1)
    assert p.stdout.readline() == b"ready\n"
    os.set_blocking(p.stdin.fileno(), False)
    written, last = 0, time.monotonic()
    while time.monotonic() - last < 3:
        try:
            written += os.write(p.stdin.fileno(), bytes(65536))
            last = time.monotonic()
        except BlockingIOError:
            select.select([], [p.stdin], [], 0.5)
    assert written < 16 << 20
    p.send_signal(signal.SIGTERM)
    assert p.wait(timeout=LIMIT) == 143


def test_a_process_that_reads_a_part(shared, box):
    r = shared.viv("exec", "term", "--", "head", "-c", "100", stdin=b"x" * (8 << 20))
    assert r.returncode == 0 and r.stdout == b"x" * 100


def test_a_process_that_closes_its_stdin_goes_on(shared, box):
    r = shared.viv("exec", "term", "--", "sh", "-c", "exec <&-; sleep 1; echo end", stdin=b"x" * (1 << 22))
    assert r.returncode == 0 and r.stdout == b"end\n"


def test_the_end_of_stdin_comes_after_it(shared, box):
    p = shared.popen("exec", "term", "--", "sh", "-c", "sleep 1; wc -c", stdin=-1, stdout=-1)
    p.stdin.write(b"x" * 300000)
    p.stdin.close()
    assert p.stdout.read().split() == [b"300000"] and p.wait(timeout=LIMIT) == 0
