# SPDX-License-Identifier: Apache-2.0
"""The agent's terminals, replay of output, input streams and limits, over loopback on the host, without a VM."""

import base64
import contextlib
import grp
import hashlib
import json
import os
import random
import re
import resource
import select
import signal
import struct
import threading
import time

import pytest

from native import MIB, RpcError, Stream, b64, basic, is_alive, wait_until

SIZE = {"cols": 80, "rows": 24}


@pytest.fixture(scope="module", autouse=True)
def many_files():
    """For tests with thousands of connections, on both sides."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Terminal:
    """A process on a pty, with one stream of its output."""

    def __init__(self, agent, *argv, size=None, **extra):
        self.agent = agent
        headers = extra.pop("headers", None)
        process = {"cmd": argv[0], "args": list(argv[1:]), "envs": extra.pop("envs", {"TERM": "dumb"}),
                   "cwd": extra.pop("cwd", "/")}
        self.stream = Stream(agent, "Start", {"process": process, "pty": {"size": size or SIZE}, **extra},
                             headers).start()
        self.pid = self.stream.pid
        self.screen = b""
        self.end = None

    def send(self, data):
        return self.agent.call("SendInput", {"process": {"pid": self.pid}, "input": {"pty": b64(data)}})

    def resize(self, cols, rows):
        return self.agent.call("Update", {"process": {"pid": self.pid}, "pty": {"size": {"cols": cols, "rows": rows}}})

    def read(self):
        """Takes one event into the screen; False at the end."""
        event = self.stream.next()
        if event is None:
            return False
        assert self.end is None, "an event came behind the end"
        if "data" in event:
            assert set(event["data"]) == {"pty", "offset"}
            self.screen += base64.b64decode(event["data"]["pty"])
        self.end = event.get("end")
        return True

    def expect(self, pattern):
        """Reads on until the screen matches; takes that off it."""
        while not (match := re.search(pattern, self.screen)):
            assert self.read(), f"ended before {pattern}: {self.screen}"
        self.screen = self.screen[match.end():]
        return match

    def rest(self):
        while self.read():
            pass
        return self.screen, self.end


def bash(agent, **extra):
    """An interactive shell, as far as its first prompt."""
    extra.setdefault("envs", {"TERM": "dumb", "PS1": "<ready>", "HISTFILE": "/dev/null"})
    t = Terminal(agent, "/bin/bash", "--norc", "--noprofile", "-i", **extra)
    t.expect(b"<ready>")
    return t


def fails(code, fn, *args, **kw):
    with pytest.raises(RpcError) as e:
        fn(*args, **kw)
    assert e.value.code == code, e.value
    return e.value


# Terminals


def test_the_terminal_is_the_users(agent):
    ours = os.openpty()
    group = grp.getgrgid(os.fstat(ours[1]).st_gid).gr_name  # as devpts is mounted
    script = "tty; stty size; stat -c '%U %a %G' $(tty); id -un; ps -o pid=,sid=,tpgid= -p $$; : </dev/tty && echo mine"
    for user in ("root", "nobody"):
        out, end = Terminal(agent, "/bin/sh", "-c", script, headers=basic(user)).rest()
        tty, size, owner, name, ids, mine = out.decode().replace("\r\n", "\n").strip().split("\n")
        assert tty.startswith("/dev/pts/") and size == "24 80" and mine == "mine"
        assert owner == f"{user} 620 {group}" and name == user
        assert len(set(ids.split())) == 1, "leader of its session and in the foreground"
        assert end == {"exitCode": 0, "exited": True, "status": "exit status 0"}
    for fd in ours:
        os.close(fd)


def test_nothing_else_is_open(agent):
    out, _ = Terminal(agent, "/bin/bash", "-c", "ls -l /proc/$$/fd; true").rest()
    assert {line.split()[-1][:9] for line in out.splitlines()[1:]} == {b"/dev/pts/"} and len(out.splitlines()) == 4


def test_interactive_shell(agent):
    t = bash(agent)
    t.send(b"echo $((6 * 7)) $TERM\n")
    t.expect(rb"42 dumb\r\n<ready>")
    # What runs is told of a new size, and so is who asks.
    t.send(b"trap 'echo changed' WINCH; stty size\n")
    t.expect(rb"24 80\r\n<ready>")
    t.resize(132, 50)
    t.send(b"\nstty size\n")
    t.expect(rb"changed(.|\r|\n)*50 132\r\n<ready>")
    # ^C ends what is in the foreground, not the shell; ^Z stops it.
    t.send(b"sleep 1000; echo slept\n")
    wait_until(lambda: foreground(t.pid) == "sleep", "it runs")
    t.send(b"\x03")
    t.expect(rb"\^C\r\n<ready>")
    t.send(b"echo status $?\n")
    t.expect(rb"status 130\r\n<ready>")
    t.send(b"sleep 1000\n")
    wait_until(lambda: foreground(t.pid) == "sleep", "it runs")
    t.send(b"\x1a")
    t.expect(rb"Stopped +sleep 1000\r\n<ready>")
    t.send(b"fg\n")
    wait_until(lambda: foreground(t.pid) == "sleep", "it runs again")
    t.send(b"\x03")
    t.expect(rb"\^C\r\n<ready>")
    # ^D on an empty line is the end.
    t.send(b"\x04")
    _, end = t.rest()
    assert end["exited"]


def foreground(pid):
    """The program that is in the foreground of a process's terminal."""
    with open(f"/proc/{pid}/stat") as f:
        group = f.read().rsplit(")", 1)[1].split()[5]
    try:
        with open(f"/proc/{group}/comm") as f:
            return f.read().strip()
    except FileNotFoundError:
        return None


def test_echo_utf8_and_bytes(agent):
    # What is erased are characters, not bytes.
    t = Terminal(agent, "cat")
    t.send("grüße\x7f\x7f!\n\x04".encode())
    out, _ = t.rest()
    assert out.endswith("\r\ngrü!\r\n".encode()), out
    # In raw mode every byte comes through, both ways.
    t = Terminal(agent, "/bin/bash", "-c",
                 "stty raw -echo; echo go; head -c 256 | od -An -v -tu1; head -c 256 /dev/zero")
    t.expect(b"go\n")
    t.send(bytes(range(256)))
    out, _ = t.rest()
    assert [int(n) for n in out[:-256].split()] == list(range(256)) and out[-256:] == bytes(256)


def test_sizes(agent):
    for size in ({}, {"cols": 80}, {"cols": 0, "rows": 24}, {"cols": 80, "rows": 65536}, {"cols": -1, "rows": 1},
                 {"cols": "x", "rows": 1}, 7, None):
        e = fails("invalid_argument", lambda s=size: Stream(
            agent, "Start", {"process": {"cmd": "true"}, "pty": {"size": s}}).next())
        assert e.message
    t = Terminal(agent, "/bin/sh", "-c", "stty size; read x; stty size", size={"cols": 1, "rows": 65535})
    t.expect(b"65535 1\r\n")
    fails("invalid_argument", t.resize, 0, 1)
    fails("invalid_argument", t.resize, 65536, 1)
    assert agent.call("Update", {"process": {"pid": t.pid}}) == {}
    assert t.resize(65535, 1) == {}
    t.send(b"\n")
    t.expect(b"1 65535\r\n")
    t.rest()
    fails("not_found", t.resize, 80, 24)


def test_input_goes_where_it_belongs(agent):
    t = Terminal(agent, "cat")
    pipe = agent.start("cat")
    fails("failed_precondition", agent.send, t.pid, b"x")
    fails("failed_precondition", agent.call, "CloseStdin", {"process": {"pid": t.pid}})
    fails("failed_precondition", agent.call, "SendInput", {"process": {"pid": pipe.pid}, "input": {"pty": b64(b"x")}})
    fails("failed_precondition", agent.call, "Update", {"process": {"pid": pipe.pid}, "pty": {"size": SIZE}})
    for bad in ({}, {"pty": "***"}, {"pty": 7}):
        fails("invalid_argument", agent.call, "SendInput", {"process": {"pid": t.pid}, "input": bad})
    agent.signal(t.pid, 9)
    agent.signal(pipe.pid, 9)
    assert t.rest()[1]["signal"] == 9
    pipe.rest()


def test_much_input_waits_for_the_reader(agent):
    data = random.Random(1).randbytes(MIB)
    t = Terminal(agent, "/bin/bash", "-c", f"stty raw -echo; echo go; head -c {len(data)} | sha256sum")
    t.expect(b"go\n")
    for i in range(0, len(data), 100000):
        t.send(data[i:i + 100000])
    assert t.rest()[0].split()[0].decode() == hashlib.sha256(data).hexdigest()


def test_two_listeners_see_the_same(agent):
    t = bash(agent)
    other = agent.listen(t.pid)
    t.send(b"seq 1 20000\nexit 3\n")
    screen, end = t.rest()
    seen = b""
    while (event := other.next()) is not None and "end" not in event:
        seen += base64.b64decode(event["data"]["pty"])
    assert seen == screen and b"\r\n20000\r\n" in seen
    assert end["exitCode"] == 3 and event["end"] == end


def test_the_end_does_not_wait_for_those_in_the_background(agent):
    """They keep the terminal, and are neither hung up nor held up."""
    t = Terminal(agent, "/bin/bash", "-c",
                 "trap '' HUP; (read x < <(sleep 0.5); head -c 500000 /dev/zero; echo $? >/proc/self/fd/2; "
                 "exec sleep 1000) & echo $!; echo last")
    started = time.monotonic()
    out, end = t.rest()
    assert time.monotonic() - started < 0.5 and end["exitCode"] == 0
    pid, last = out.split()
    assert last == b"last"
    wait_until(lambda: open(f"/proc/{int(pid)}/comm").read() == "sleep\n", "it came to its last command")
    os.kill(int(pid), signal.SIGKILL)


def test_the_foreground_is_hung_up_at_the_end(agent):
    t = Terminal(agent, "/bin/bash", "-c", "sleep 1000 & echo $!; exec sleep 0.2")
    child = int(t.expect(rb"(\d+)\r\n")[1])
    assert is_alive(child)
    t.rest()
    wait_until(lambda: not is_alive(child), "SIGHUP of the kernel ended it")


def test_all_output_before_the_end(agent):
    """Also what the kernel has not brought to our end when the leader is reaped, with others at the terminal."""
    for i in range(30):
        n = random.Random(i).randrange(1, 60000)
        t = Terminal(agent, "/bin/bash", "-c",
                     f"stty -opost; trap '' HUP; sleep 5 & echo $!; head -c {n} /dev/zero | tr '\\0' x; exit 1")
        pid, out = t.rest()[0].split(b"\n")
        os.kill(int(pid), signal.SIGKILL)
        assert len(out) == n and t.end["exitCode"] == 1


def test_signals_of_keys_go_to_the_foreground(agent):
    t = bash(agent)
    t.send(b"sleep 1000\n")
    wait_until(lambda: foreground(t.pid) == "sleep", "it runs")
    agent.signal(t.pid, "SIGNAL_SIGINT", group=True)
    t.expect(rb"<ready>")
    # Others reach the process too: a shell hears of a hang-up.
    t.send(b"sleep 1001\n")
    wait_until(lambda: foreground(t.pid) == "sleep", "it runs")
    agent.signal(t.pid, "SIGNAL_SIGHUP", group=True)
    # A shell about to wait for a line looks at signals when it has one.
    with contextlib.suppress(RpcError):
        t.send(b"\n")
    _, end = t.rest()
    assert end["signal"] == signal.SIGHUP


def test_kill_by_deadline(agent):
    t = Terminal(agent, "sleep", "1000", headers={"Connect-Timeout-Ms": "300"})
    fails("deadline_exceeded", t.rest)
    wait_until(lambda: t.pid not in agent.pids(), "it was killed")


def test_terminals_leave_nothing(own_agent):
    agent = own_agent
    agent.run("true")
    fds = agent.open_fds()
    before = len(os.listdir("/dev/pts"))
    for _ in range(3):
        terminals = [Terminal(agent, "echo", str(i)) for i in range(40)]
        for i, t in enumerate(terminals):
            assert t.rest()[0] == b"%d\r\n" % i
        fails("not_found", Terminal, agent, "no-such-command")
    wait_until(lambda: agent.open_fds() <= fds, "all descriptors are closed")
    wait_until(lambda: len(os.listdir("/dev/pts")) <= before, "all terminals are gone")


# Replay

# Writes the bytes of random.Random(0), stdout and stderr in turns, half a megabyte for each line of input.
WRITER = """
import os, random, sys
r = random.Random(0)
while sys.stdin.readline():
    for _ in range(10):
        for fd in (1, 2):
            data = r.randbytes(r.randrange(50000))
            while data:
                data = data[os.write(fd, data):]
"""


def writer_output(rounds):
    out = {"stdout": b"", "stderr": b""}
    r = random.Random(0)
    for _ in range(rounds * 10):
        for name in out:
            out[name] += r.randbytes(r.randrange(50000))
    return out


def resume(agent, pid, at, **extra):
    return Stream(agent, "Connect", {"process": {"pid": pid}, "resumeFrom": at}, **extra).start()


def take(event, got):
    """Adds a data event to what was got, where its position says that it belongs: at the end."""
    offset = event["data"].pop("offset")
    ((name, text),) = event["data"].items()
    assert offset == len(got[name]), f"{name}: {offset} instead of {len(got[name])}"
    got[name] += base64.b64decode(text)


def positions(got):
    return {name: len(data) for name, data in got.items()}


def test_replay_after_cuts_loses_and_doubles_nothing(agent):
    """5 MB, with the connection cut again and again in the midst of them."""
    cuts, rounds = 0, 10
    dice = random.Random(4)
    want = writer_output(rounds)
    got = {"stdout": b"", "stderr": b""}
    stream = agent.start("/usr/bin/python3", "-c", WRITER)
    pid = stream.pid
    for n in range(1, rounds + 1):
        agent.send(pid, b"\n")
        until = positions(writer_output(n))
        while positions(got) != until:
            take(stream.next(), got)
            if dice.random() < 0.1:
                stream.close()
                stream = resume(agent, pid, positions(got))
                assert not stream.dropped
                cuts += 1
    assert sum(positions(got).values()) > 4000000 and cuts > 20
    # The end of the process is told as well.
    agent.call("CloseStdin", {"process": {"pid": pid}})
    event = stream.next()
    assert event["end"]["exitCode"] == 0 and got == want


def test_replay_while_it_goes_on_writing(agent):
    """All of it is held, however late a client comes back."""
    got, cuts = {"stdout": b""}, 0
    stream = agent.sh("for i in {1..300}; do head -c 3000 /dev/zero; read -t 0.003; done <> <(:)")
    pid, dice, event = stream.pid, random.Random(5), {}
    while "end" not in (event := stream.next()):
        take(event, got)
        if dice.random() < 0.2:
            stream.close()
            stream = resume(agent, pid, positions(got))
            cuts += 1
    assert got["stdout"] == bytes(900000) and cuts > 3


def test_replay_of_a_terminal(agent):
    t = bash(agent)
    t.send(b"seq 1 30000; exit\n")
    whole, _ = t.rest()
    got = {"pty": b""}
    stream = resume(agent, t.pid, {})
    while "end" not in (event := stream.next()):
        take(event, got)
    assert got["pty"].endswith(b"<ready>" + whole)
    middle = len(got["pty"]) // 2
    stream = Stream(agent, "Connect", {"process": {"pid": t.pid}, "resume_from": {"pty": str(middle)}})
    assert stream.next()["start"]["offsets"] == {"stdout": 0, "stderr": 0, "pty": middle}
    event = stream.next()
    assert base64.b64decode(event["data"]["pty"]) == got["pty"][middle:middle + 32768]
    assert event["data"]["offset"] == middle
    stream.close()


def held(agent, pid, name="stdout", **others):
    """Which bytes of an output can be replayed, as the refusal of others says; of the @others those from there on."""
    e = fails("out_of_range", resume, agent, pid, {**others, name: 1 << 60})
    assert e.message.startswith(name)
    return [int(n) for n in re.search(r"bytes (\d+) to (\d+) are held", e.message).groups()]


def test_replay_of_what_is_not_there(agent):
    stream = agent.sh("read x; head -c 3000000 /dev/zero; echo end >&2; read x", stdin=True)
    pid = stream.pid
    stream.close()
    e = fails("out_of_range", resume, agent, pid, {"stdout": 1})
    assert "stdout from byte 1" in e.message and "0 to 0" in e.message
    agent.send(pid, b"\n")
    wait_until(lambda: held(agent, pid)[1] == 3000000, "all was read")
    wait_until(lambda: held(agent, pid, "stderr", stdout=3000000)[1] == 4, "what was said behind it, too")
    first, _ = held(agent, pid)
    assert 3000000 - MIB <= first < 3000000 - MIB + 100
    fails("out_of_range", resume, agent, pid, {"stdout": first - 1})
    resume_some(agent, pid, {"stdout": first}, 3000000 - first)
    for bad in ({"stdout": -1}, {"stdout": "x"}, {"pty": 1.5}, [], "x"):
        fails("invalid_argument", resume, agent, pid, bad)
    # Without positions: where nobody has listened yet, which the one above has done.
    late = agent.listen(pid)
    assert late.dropped == 0
    agent.send(pid, b"\n")
    assert late.rest()[:2] == (b"", b"")


def resume_some(agent, pid, at, n):
    """Reads @n bytes of stdout and four of stderr, in whichever order."""
    got = {"stdout": b"", "stderr": b""}
    stream = resume(agent, pid, at)
    base = dict(at)
    while len(got["stdout"]) < n or len(got["stderr"]) < 4:
        event = stream.next()
        offset = event["data"].pop("offset")
        ((name, text),) = event["data"].items()
        assert offset == base.get(name, 0) + len(got[name])
        got[name] += base64.b64decode(text)
    stream.close()
    assert len(got["stdout"]) == n and got["stderr"] == b"end\n"


def test_what_nobody_heard_and_what_was_lost(agent):
    stream = agent.sh("echo one; read x; head -c 2000000 /dev/zero; read x; echo two; read x", stdin=True)
    assert stream.data() == b"one\n"
    pid = stream.pid
    stream.close()
    agent.send(pid, b"\n")
    wait_until(lambda: held(agent, pid)[1] == 2000004, "all was read")
    stream = Stream(agent, "Connect", {"process": {"pid": pid}})
    start = stream.next()["start"]
    lost = start["droppedBytes"]
    assert start["offsets"]["stdout"] == 4 + lost and 2000000 - MIB <= lost < 2000000 - MIB + 100
    got = b""
    while len(got) < 2000000 - lost:
        event = stream.next()
        assert event["data"]["offset"] == 4 + lost + len(got)
        got += base64.b64decode(event["data"]["stdout"])
    # A second one while the first is there: from now on.
    other = agent.listen(pid)
    agent.send(pid, b"\n")
    assert stream.data() == other.data() == b"two\n"
    agent.signal(pid, 9)
    other.rest()
    stream.rest()


def test_a_listener_that_is_behind_does_not_hide_from_the_next(own_agent):
    """One blocked listener, one that joins: nothing is heard by nobody."""
    agent = own_agent
    blocked = agent.sh("head -c 30000000 /dev/zero; echo done >&2")
    time.sleep(0.3)
    other = Stream(agent, "Connect", {"process": {"pid": blocked.pid}})
    begin = other.next()["start"]["offsets"]["stdout"]
    blocked.close()
    out, err, _ = other.rest()
    assert begin + len(out) == 30000000 and err == b"done\n"


# Input streams


def envelope(message, **style):
    data = message if isinstance(message, bytes) else json.dumps(message, **style).encode()
    return b"\0" + struct.pack(">I", len(data)) + data


class InputStream:
    """A StreamInput call whose messages are sent as one likes."""

    def __init__(self, agent, selector=None, separators=(",", ":"), **headers):
        self.separators = separators
        self.conn = agent.connect()
        self.conn.putrequest("POST", "/process.Process/StreamInput")
        for name, value in {"Content-Type": "application/connect+json", "Transfer-Encoding": "chunked",
                            **{k.replace("_", "-"): v for k, v in headers.items()}}.items():
            self.conn.putheader(name, value)
        self.conn.endheaders()
        if selector is not None:
            self.send({"start": {"process": selector}})

    def raw(self, data):
        self.conn.send(b"%x\r\n%s\r\n" % (len(data), data))

    def send(self, message):
        self.raw(envelope(message, separators=self.separators))

    def data(self, data, name="stdin"):
        self.send({"data": {"input": {name: b64(data)}}})

    def answer(self):
        """The one message; raises if there is an error instead."""
        response = self.conn.getresponse()
        assert response.status == 200 and response.headers["Content-Type"] == "application/connect+json"
        messages = []
        while head := response.read(5):
            flags, size = struct.unpack(">BI", head)
            messages.append((flags, json.loads(response.read(size))))
        self.conn.close()
        flags, end = messages.pop()
        assert flags == 2
        if "error" in end:
            raise RpcError(200, end["error"])
        ((flags, message),) = messages
        assert flags == 0 and end == {}
        return message

    def end(self):
        self.conn.send(b"0\r\n\r\n")
        return self.answer()


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
@pytest.mark.parametrize("step", [1000, 65536, 2 * MIB])
def test_stream_input(agent, step, separators):
    data = random.Random(2).randbytes(10 * MIB if step > 1000 else MIB)
    stream = agent.start("sha256sum", tag="hash")
    s = InputStream(agent, {"tag": "hash"}, separators)
    for i in range(0, len(data), step):
        s.data(data[i:i + step])
        if i % 7 == 0:
            s.send({"keepalive": {}})
    assert s.end() == {}
    # Its end is not the end of stdin.
    assert stream.pid in agent.pids()
    agent.call("CloseStdin", {"process": {"pid": stream.pid}})
    assert stream.rest()[0].split()[0].decode() == hashlib.sha256(data).hexdigest()


def test_stream_input_in_any_pieces(agent):
    stream = agent.start("cat")
    data = [{"data": {"input": {"stdin": text}}} for text in (b64(b"ab"), "", b64(b"c"))]
    body = b"".join(map(envelope, [{"start": {"process": {"pid": stream.pid}}}, *data]))
    for step in (1, 7, len(body)):
        s = InputStream(agent)
        for i in range(0, len(body), step):
            s.raw(body[i:i + step])
        assert s.end() == {}
        got = b""
        while len(got) < 3:
            got += stream.data()
        assert got == b"abc"
    agent.call("CloseStdin", {"process": {"pid": stream.pid}})
    stream.rest()


def test_stream_input_of_a_terminal_as_it_comes(agent):
    t = bash(agent)
    s = InputStream(agent, {"pid": t.pid})
    for i in range(3):
        s.data(b"echo $((%d + 1))\n" % i, "pty")
        t.expect(rb"\r\n%d\r\n<ready>" % (i + 1))
    s.data(b"exit\n", "pty")
    t.rest()
    # The process has ended: the stream hears of it without asking.
    assert fails("failed_precondition", s.answer).message == "the process has ended"


@pytest.mark.usefixtures("no_sanitizers")
def test_stream_input_is_held_back(own_agent):
    agent = own_agent
    stream = agent.start("bash", "-c", "kill -STOP $$; exec sha256sum")
    before = agent.status("VmRSS")
    s = InputStream(agent, {"pid": stream.pid})
    data = bytes(MIB // 2)
    message = envelope({"data": {"input": {"stdin": b64(data)}}})
    chunk = b"%x\r\n%s\r\n" % (len(message), message)
    s.conn.sock.setblocking(False)
    left, sent = b"", 0
    while select.select([], [s.conn.sock], [], 0.5)[1]:
        left, sent = (left, sent) if left else (chunk, sent + 1)
        left = left[s.conn.sock.send(left):]
        assert sent < 100, "a process that does not read holds its client back"
    assert agent.status("VmRSS") - before < 8192
    agent.signal(stream.pid, "SIGNAL_SIGCONT")
    s.conn.sock.setblocking(True)
    s.conn.sock.sendall(left)
    assert s.end() == {}
    agent.call("CloseStdin", {"process": {"pid": stream.pid}})
    assert stream.rest()[0].split()[0].decode() == hashlib.sha256(data * sent).hexdigest()


def test_stream_input_errors(agent):
    stream = agent.start("cat")
    cases = [
        (b"", "invalid_argument"),
        (envelope({}), "invalid_argument"),
        (envelope({"data": {"input": {"stdin": ""}}}), "invalid_argument"),
        (envelope({"start": {}}), "invalid_argument"),
        (envelope({"start": {"process": {"pid": 1}}}), "not_found"),
        (envelope(b"[]"), "invalid_argument"),
        (envelope(b""), "invalid_argument"),
        (b"\x01\0\0\0\x02{}", "internal"),
        (b"\0\xff\xff\xff\xff", "resource_exhausted"),
    ]
    start = envelope({"start": {"process": {"pid": stream.pid}}})
    cases += [(start + tail, code) for tail, code in (
        (b"\0\0", "invalid_argument"), (envelope(b"x"), "invalid_argument"),
        (envelope({"data": {"input": {"stdin": "***"}}}), "invalid_argument"),
        (envelope(b'{"data":{"input":{"stdin":"YQ==","stdin":"YQ=="}}}'), "invalid_argument"),
        (envelope(b'{"data":{"input":{"stdin":"}}}'), "invalid_argument"),
        (envelope({"data": {"input": {}}}), "invalid_argument"), (envelope({"data": 7}), "invalid_argument"),
        (envelope({"data": {"input": {"pty": "aa"}}}), "failed_precondition"))]
    for raw, code in cases:
        s = InputStream(agent)
        if raw:
            s.raw(raw)
        assert fails(code, s.end).message, raw
    no_stdin = agent.sh("sleep 100")
    fails("failed_precondition", InputStream(agent, {"pid": no_stdin.pid}).answer)
    closed = agent.sh("exec 0<&-; echo closed; sleep 100", stdin=True)
    assert closed.data() == b"closed\n"
    s = InputStream(agent, {"pid": closed.pid})
    s.data(b"x")
    assert "closed its stdin" in fails("failed_precondition", s.answer).message
    s = InputStream(agent, {"pid": stream.pid}, Connect_Timeout_Ms="200")
    fails("deadline_exceeded", s.answer)
    for p in (stream, no_stdin, closed):
        agent.signal(p.pid, 9)
        p.rest()


def test_stream_input_whose_client_vanishes(agent):
    stream = agent.start("bash", "-c", "kill -STOP $$; exec wc -c")
    s = InputStream(agent, {"pid": stream.pid})
    for _ in range(2):
        s.data(bytes(100000))
    time.sleep(0.2)
    fds = agent.open_fds()
    s.conn.close()
    wait_until(lambda: agent.open_fds() < fds, "it was noticed")
    agent.signal(stream.pid, "SIGNAL_SIGCONT")
    # Of what had begun to be written all is written, of the rest nothing.
    agent.call("CloseStdin", {"process": {"pid": stream.pid}})
    assert int(stream.rest()[0]) == 100000


def test_streams_and_calls_keep_their_order(agent):
    stream = agent.start("bash", "-c", "kill -STOP $$; exec cat")
    first = InputStream(agent, {"pid": stream.pid})
    first.data(b"a" * 200000)
    time.sleep(0.1)
    call = threading.Thread(target=agent.send, args=(stream.pid, b"b" * 100))
    call.start()
    time.sleep(0.1)
    second = InputStream(agent, {"pid": stream.pid})
    second.data(b"c" * 100)
    time.sleep(0.1)
    agent.signal(stream.pid, "SIGNAL_SIGCONT")
    assert second.end() == first.end() == {}
    call.join()
    agent.call("CloseStdin", {"process": {"pid": stream.pid}})
    assert stream.rest()[0] == b"a" * 200000 + b"b" * 100 + b"c" * 100


# Tags and limits


def test_a_tag_names_one_running_process(agent):
    stream = agent.start("cat", tag="one")
    e = fails("already_exists", agent.start, "cat", tag="one")
    assert "one" in e.message and str(stream.pid) in e.message
    t = Terminal(agent, "cat", tag="two")
    assert {p["tag"]: p["pid"] for p in agent.call("List", {})["processes"] if "tag" in p} \
        == {"one": stream.pid, "two": t.pid}
    agent.call("SendInput", {"process": {"tag": "one"}, "input": {"stdin": b64(b"hello")}})
    assert stream.data() == b"hello"
    assert Stream(agent, "Connect", {"process": {"tag": "two"}}).start().pid == t.pid
    assert agent.call("Update", {"process": {"tag": "two"}, "pty": {"size": SIZE}}) == {}
    agent.call("SendSignal", {"process": {"tag": "two"}, "signal": 9})
    t.rest()
    agent.call("CloseStdin", {"process": {"tag": "one"}})
    stream.rest()
    # The end of one that is gone is found by its tag, until the tag is taken again.
    assert Stream(agent, "Connect", {"process": {"tag": "one"}}).start().rest()[2]["exitCode"] == 0
    again = agent.start("cat", tag="one")
    assert Stream(agent, "Connect", {"process": {"tag": "one"}}).start().pid == again.pid
    # No name is no tag.
    nameless = [agent.start("cat", tag="") for _ in range(2)]
    assert [p["pid"] for p in agent.call("List", {})["processes"] if "tag" in p] == [again.pid]
    for p in (again, *nameless):
        agent.signal(p.pid, 9)
        p.rest()


@pytest.mark.usefixtures("no_sanitizers")
def test_processes_are_bounded(own_agent):
    agent = own_agent
    before = agent.status("VmRSS")
    pids = []
    for _ in range(1024):
        stream = agent.start("sleep", "1000", stdin=False)
        stream.close()
        pids.append(stream.pid)
    e = fails("resource_exhausted", agent.start, "sleep", "1000")
    assert "1024" in e.message
    assert len(agent.pids()) == 1024
    assert agent.status("VmRSS") - before < 8192
    agent.signal(pids[0], 9)
    wait_until(lambda: pids[0] not in agent.pids(), "one has ended")
    assert agent.run("echo there is room")[0] == b"there is room\n"
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: agent.pids() == [], "all have ended")
    # The ends of no more than 1024 are kept, the newest ones.
    last = agent.sh("exit 7")
    last.rest()
    first = [pid for pid in pids if is_known(agent, pid)]
    assert 1000 < len(first) < 1024 and is_known(agent, last.pid)


def is_known(agent, pid):
    try:
        agent.listen(pid).close()
    except RpcError as e:
        assert e.code == "not_found"
        return False
    return True


def sleeps(agent):
    wakes = agent.status("voluntary_ctxt_switches")
    time.sleep(0.5)
    return agent.status("voluntary_ctxt_switches") == wakes


@pytest.mark.usefixtures("no_sanitizers")
def test_1000_idle_streams(own_agent):
    agent = own_agent
    stream = agent.start("cat")
    agent.listen(stream.pid).close()
    before = agent.status("VmRSS")
    for _ in range(2):
        streams = [agent.listen(stream.pid) for _ in range(1000)]
        assert agent.status("VmRSS") - before < 5000, "KiB, as many as streams"
        for s in streams[::2]:
            s.close()
    streams = streams[1::2] + [agent.listen(stream.pid) for _ in range(500)]
    wait_until(lambda: sleeps(agent), "it has seen all that left and sleeps")
    agent.send(stream.pid, b"to all")
    assert all(s.data() == b"to all" for s in streams)
    agent.call("CloseStdin", {"process": {"pid": stream.pid}})
    assert all(s.rest()[2]["exitCode"] == 0 for s in streams)
    stream.rest()


def test_keepalives_of_many_streams(agent):
    stream = agent.start("sleep", "100")
    streams = [Stream(agent, "Connect", {"process": {"pid": stream.pid}}, {"Keepalive-Ping-Interval": "1"}).start()
               for _ in range(100)]
    started = time.monotonic()
    assert all(s.next() == {"keepalive": {}} for s in streams)
    assert time.monotonic() - started < 5
    agent.signal(stream.pid, 9)
    for s in (stream, *streams):
        s.rest()


@pytest.mark.usefixtures("no_sanitizers")
def test_200_processes_with_output(own_agent):
    agent = own_agent
    agent.run("true")
    streams = [agent.sh(f"head -c 500000 /dev/zero; echo {i} >&2; exit {i}") for i in range(200)]
    for i, stream in enumerate(streams):
        out, err, end = stream.rest()
        assert (len(out), err, end["exitCode"]) == (500000, b"%d\n" % i, i)
    assert agent.status("VmRSS") < 180 * 1024


@pytest.mark.usefixtures("no_sanitizers")
def test_output_of_all_is_bounded(own_agent):
    """Together an eighth of the memory, 128 MiB at most; what was heard goes first."""
    agent = own_agent
    bound = min(max(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 8, 8 * MIB), 128 * MIB) // 1024
    heard = [agent.sh("head -c 1000000 /dev/zero") for _ in range(60)]
    for stream in heard:
        stream.rest()
    unheard = [agent.sh("read x; head -c 2000000 /dev/zero", stdin=True) for _ in range(100)]
    for stream in unheard:
        stream.close()
        agent.send(stream.pid, b"\n")
    wait_until(lambda: agent.pids() == [], "all have written", 60)
    assert agent.status("VmRSS") < bound + 8192
    if bound >= 128 * 1024:
        assert all(len(agent.listen(s.pid).rest()[0]) > 1000000 for s in unheard)
    fails("out_of_range", resume, agent, heard[0].pid, {})
    # And what remains is enough for those who listen.
    assert len(agent.run("head -c 3000000 /dev/zero")[0]) == 3000000


@pytest.mark.usefixtures("no_sanitizers")
def test_idle_agent_is_small(own_agent):
    agent = own_agent
    assert agent.run("true")[2]["exitCode"] == 0
    Terminal(agent, "true").rest()
    assert agent.status("VmRSS") <= 2048
