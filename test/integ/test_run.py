# SPDX-License-Identifier: Apache-2.0
"""viv as a person uses it: run, create, exec, ls, inspect, rm, logs, version."""

import json
import re
import signal
import time

import pytest
import vivarium


@pytest.fixture(scope="module")
def box(shared):
    """One sandbox for the tests that only run commands in it."""
    r = shared.viv("create", "--name", "box", "--env", "COLOUR=blue")
    assert r.returncode == 0, r.stderr
    return r.stdout.decode().strip()


def test_run_runs_a_real_program(shared):
    program = b"import platform; print(platform.uname(), sum(range(10**6)))"
    r = shared.viv("run", "--", "python3", "-", stdin=program)
    assert r.returncode == 0, r.stderr
    assert b"499999500000" in r.stdout and b"Linux" in r.stdout
    assert r.stderr == b""
    assert shared.get("/v2/sandboxes?all=true") == [] or all(
        s["vivarium"].get("name") == "box" for s in shared.get("/v2/sandboxes?all=true"))


def test_streams_are_kept_apart(shared, box):
    r = shared.viv("exec", "box", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (r.returncode, r.stdout, r.stderr) == (7, b"out\n", b"err\n")


def test_programs_are_not_translated_each_time(shared, box):
    """Under TCG: what is loaded at another address is."""
    r = shared.viv("exec", "box", "--", "sh", "-c", "cat /proc/sys/kernel/randomize_va_space; "
                   "ldd /bin/true; ldd /bin/true")
    first, *maps = r.stdout.splitlines()
    assert r.returncode == 0 and first == b"0", r.stderr
    assert len(maps) > 2 and maps[:len(maps) // 2] == maps[len(maps) // 2:]


def test_stdin_of_any_bytes(shared, box):
    data = bytes(range(256)) * 4096 + b"no newline at the end"
    r = shared.viv("exec", "box", "--", "cat", stdin=data)
    assert r.returncode == 0 and r.stdout == data


def test_stdin_that_nobody_reads(shared, box):
    r = shared.viv("exec", "box", "--", "true", stdin=b"x" * (1 << 22))
    assert r.returncode == 0


def test_output_arrives_while_it_runs(shared, box):
    p = shared.popen("exec", "box", "--", "sh", "-c", "echo first; read line; echo got $line",
                     stdin=-1, stdout=-1)
    assert p.stdout.readline() == b"first\n"
    p.stdin.write(b"second\n")
    p.stdin.flush()
    assert p.stdout.readline() == b"got second\n"
    assert p.wait(timeout=30) == 0


def test_large_output(shared, box):
    r = shared.viv("exec", "box", "--", "sh", "-c", "head -c 20000000 /dev/zero")
    assert r.returncode == 0 and len(r.stdout) == 20000000


@pytest.mark.parametrize("name,code", [("INT", 130), ("TERM", 143), ("HUP", 129), ("QUIT", 131)])
def test_signals_reach_the_command(shared, box, name, code):
    p = shared.popen("exec", "box", "--", "sh", "-c", "echo ready; exec sleep 1000", stdout=-1)
    assert p.stdout.readline() == b"ready\n"
    p.send_signal(getattr(signal, f"SIG{name}"))
    assert p.wait(timeout=30) == code


def test_a_signal_can_be_handled(shared, box):
    p = shared.popen("exec", "box", "--", "bash", "-c",
                     "trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 0.1; done", stdout=-1)
    assert p.stdout.readline() == b"ready\n"
    p.send_signal(signal.SIGINT)
    assert p.stdout.read() == b"caught\n"
    assert p.wait(timeout=30) == 5


def test_ctrl_c_of_run_leaves_nothing(shared, box):
    p = shared.popen("run", "--name", "gone", "--", "sh", "-c", "echo ready; exec sleep 1000", stdout=-1)
    assert p.stdout.readline() == b"ready\n"
    p.send_signal(signal.SIGINT)
    assert p.wait(timeout=60) == 130
    assert shared.request("GET", "/sandboxes/gone")[0] == 404


def test_ctrl_c_during_the_boot_leaves_nothing(shared, box):
    p = shared.popen("run", "--name", "early", "--", "true")
    vivarium.wait_for(lambda: shared.request("GET", "/sandboxes/early")[0] == 200, what="being created")
    p.send_signal(signal.SIGINT)
    assert p.wait(timeout=60) == 130
    vivarium.wait_for(lambda: shared.request("GET", "/sandboxes/early")[0] == 404, what="undone")


@pytest.mark.parametrize("argv,code,word", [
    (["no-such-command"], 127, b"no-such-command"),
    (["/no/such/path"], 127, b"/no/such/path"),
    (["/etc/passwd"], 126, b"/etc/passwd"),
    (["/etc"], 126, b"/etc"),
])
def test_commands_that_cannot_run(shared, box, argv, code, word):
    r = shared.viv("exec", "box", "--", *argv)
    assert r.returncode == code and word in r.stderr and r.stderr.count(b"\n") == 1


def test_user_workdir_and_environment(shared, box):
    def out(*argv):
        r = shared.viv("exec", *argv)
        assert r.returncode == 0, r.stderr
        return r.stdout.decode().strip()

    assert out("box", "--", "sh", "-c", "echo $USER $HOME $PWD $COLOUR") == "user /home/user /home/user blue"
    assert out("--user", "root", "box", "--", "id", "-u") == "0"
    assert out("--workdir", "/tmp", "box", "--", "pwd") == "/tmp"
    assert out("--env", "COLOUR=red", "--env", "N=1", "box", "--", "sh", "-c", "echo $COLOUR$N") == "red1"
    assert out("box", "--", "sh", "-c", "echo $E2B_SANDBOX_ID") == box
    assert out("box", "--", "sudo", "id", "-un") == "root"


def test_unknown_user_and_missing_directory(shared, box):
    r = shared.viv("exec", "--user", "nobody-here", "box", "--", "true")
    assert r.returncode == 125 and b"nobody-here" in r.stderr
    r = shared.viv("exec", "--workdir", "/nowhere", "box", "--", "true")
    assert r.returncode == 125 and b"/nowhere" in r.stderr


def test_the_guest_is_what_was_asked_for(shared):
    r = shared.viv("run", "--cpus", "2", "--memory", "300M", "--disk", "7G", "--user", "root", "--", "sh", "-c",
                   "nproc; grep MemTotal /proc/meminfo; df -BM --output=size / | tail -1; hostname")
    assert r.returncode == 0, r.stderr
    cpus, memory, disk, _ = r.stdout.decode().splitlines()
    assert cpus == "2"
    assert 200_000 < int(re.search(r"\d+", memory)[0]) < 300 * 1024
    assert 6500 < int(disk.strip().rstrip("M")) <= 7 * 1024


def test_the_image_is_as_e2b_asks(shared, box):
    script = """set -e
    for p in bash python python3 curl git tput sudo ps ip; do command -v $p >/dev/null; done
    test "$(id -u)" = 1000; test "$HOME" = /home/user; sudo -n true
    python3 -c 'import os; os.setxattr("/home/user/x", "user.e2b.a", b"1")' 2>/dev/null ||
      { touch /home/user/x; python3 -c 'import os; os.setxattr("/home/user/x", "user.e2b.a", b"1")'; }
    test -s /etc/ssl/certs/ca-certificates.crt; test -w /tmp; test -e /dev/pts/ptmx; test -d /dev/shm"""
    r = shared.viv("exec", "box", "--", "bash", "-lc", script)
    assert r.returncode == 0, r.stderr


def test_ls_inspect_and_names(shared, box):
    table = shared.viv("ls").stdout.decode()
    assert "box" in table and box in table and "running" in table
    rows = json.loads(shared.viv("ls", "--json").stdout)
    assert [s["sandboxID"] for s in rows] == [box]
    for name in ("box", box, box[:6]):
        detail = json.loads(shared.viv("inspect", "--json", name).stdout)
        assert detail["sandboxID"] == box
    own = detail["vivarium"]
    assert (own["cpus"], own["memoryMB"], own["diskSizeMB"]) == (1, 512, 5120)
    assert 0 < own["diskAllocatedBytes"] < 200 << 20
    for key in ("kernelVersion", "vmmVersion", "vivdVersion", "agentVersion", "vmmPid", "address"):
        assert own[key]
    assert re.match(r"6\.\d+\.\d+-\d+-cloud-amd64", own["kernelVersion"])
    assert "kernelVersion" in shared.viv("inspect", "box").stdout.decode()


def test_logs_show_the_console(shared):
    """Of one that booted: those from an image begin when they wake."""
    status, _ = shared.create(name="talker", **vivarium.BOOTED)
    assert status == 201
    r = shared.viv("logs", "talker")
    assert r.returncode == 0 and b"viv-agent: ready" in r.stdout
    assert shared.viv("rm", "talker").returncode == 0


def test_version(shared):
    out = json.loads(shared.viv("version", "--json").stdout)
    assert out["viv"] == out["server"]["vivd"] and out["server"]["kernel"]


def test_keep_and_rm(shared, box):
    r = shared.viv("run", "--keep", "--name", "kept", "--", "sh", "-c", "echo data >file; sync")
    assert r.returncode == 0 and b"kept sandbox" in r.stderr
    assert shared.viv("exec", "kept", "--", "cat", "file").stdout == b"data\n"
    r = shared.viv("rm", "kept")
    assert (r.returncode, r.stdout) == (0, b"kept\n")
    r = shared.viv("rm", "kept")
    assert r.returncode == 1 and b"no sandbox 'kept'" in r.stderr


def test_create_with_a_command_keeps_the_sandbox(shared, box):
    r = shared.viv("create", "--name", "made", "--", "sh", "-c", "echo hello; exit 3")
    assert (r.returncode, r.stdout) == (3, b"hello\n")
    assert shared.viv("rm", "made").returncode == 0


def test_exec_streams_end_when_the_sandbox_is_removed(shared, box):
    assert shared.viv("create", "--name", "doomed").returncode == 0
    p = shared.popen("exec", "doomed", "--", "sh", "-c", "echo ready; exec sleep 1000", stdout=-1, stderr=-1)
    other = shared.popen("exec", "box", "--", "sh", "-c", "echo ready; read line; echo alive", stdin=-1,
                         stdout=-1)
    assert p.stdout.readline() == b"ready\n" and other.stdout.readline() == b"ready\n"
    assert shared.viv("rm", "doomed").returncode == 0
    assert p.wait(timeout=10) == 125
    other.stdin.write(b"\n")
    other.stdin.close()
    assert other.stdout.read() == b"alive\n" and other.wait(timeout=10) == 0


def test_a_guest_that_powers_off_is_stopped(shared, box):
    assert shared.viv("create", "--name", "off").returncode == 0
    shared.viv("exec", "--user", "root", "off", "--", "sh", "-c", "echo o >/proc/sysrq-trigger")
    vivarium.wait_for(lambda: shared.get("/sandboxes/off")["vivarium"]["state"] == "stopped", what="stopped")
    r = shared.viv("exec", "off", "--", "true")
    assert r.returncode == 125 and r.stderr
    assert shared.viv("rm", "off").returncode == 0


def test_what_was_written_survives_a_shutdown(shared, box):
    """The guest's init, told to end, writes out what no program has synced, after the programs' own last words."""
    assert shared.viv("create", "--name", "last").returncode == 0
    script = "trap 'echo said at the end >/root/word; exit' TERM; touch /root/up; while :; do sleep 0.1; done"
    r = shared.viv("exec", "-d", "--user", "root", "last", "--", "sh", "-c", script)
    assert r.returncode == 0, r.stderr
    wait = "until [ -e /root/up ]; do sleep 0.1; done; head -c 3000000 /dev/urandom >/root/big; sha256sum /root/big"
    before = shared.viv("exec", "--user", "root", "last", "--", "sh", "-c", wait)
    assert before.returncode == 0, before.stderr
    shared.viv("exec", "--user", "root", "last", "--", "kill", "-TERM", "1")
    vivarium.wait_for(lambda: shared.get("/sandboxes/last")["vivarium"]["state"] == "stopped", what="stopped")
    status, reply = shared.request("POST", "/v2/sandboxes/last/connect", {"timeout": None})
    assert status == 201, reply
    after = shared.viv("exec", "--user", "root", "last", "--", "sh", "-c", "sha256sum /root/big; cat /root/word")
    assert after.stdout == before.stdout + b"said at the end\n", after
    assert shared.viv("rm", "last").returncode == 0


def test_three_boots_at_once(shared, box):
    start = time.monotonic()
    ps = [shared.popen("run", "--", "echo", str(i), stdout=-1) for i in range(3)]
    assert [p.communicate(timeout=120)[0] for p in ps] == [b"0\n", b"1\n", b"2\n"]
    assert time.monotonic() - start < 90
