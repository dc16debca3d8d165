# SPDX-License-Identifier: Apache-2.0
"""The agent's services, driven over loopback on the host, without a VM."""

import base64
import hashlib
import http.client
import json
import os
import pwd
import re
import signal
import socket
import struct
import subprocess
import threading
import time

import pytest
from native import MIB, Agent, RpcError, Stream, b64, basic, is_alive, program, wait_until

RING_OVERHEAD = 64  # record heads count against the MiB that is kept


# Plain HTTP


def test_version(build):
    out = subprocess.run([program(build), "--version"], check=True,
                         capture_output=True, text=True).stdout
    assert re.fullmatch(r"viv-agent \d+\.\d+\.\d+\n", out)


def test_bad_command_lines(build):
    for args in ([], ["--listen", "nowhere"], ["--listen", "127.0.0.1:99999"], ["--what"]):
        r = subprocess.run([program(build), *args], capture_output=True, text=True)
        assert r.returncode == 1 and r.stderr


def test_health(agent):
    response, data = agent.request("GET", "/health")
    assert response.status == 204 and data == b""


def test_unknown_paths(agent):
    response, data = agent.request("GET", "/nothing")
    assert response.status == 404 and json.loads(data)["code"] == 404
    response, data = agent.request("GET", "/process.Process/List")
    assert response.status == 405 and response.headers["Allow"] == "POST"


def test_unix_socket(build, tmp_path):
    path = tmp_path / "agent.sock"
    with subprocess.Popen([program(build), "--listen", f"unix:{path}"],
                          stdout=subprocess.PIPE, text=True) as p:
        assert p.stdout.readline() == f"listening on unix:{path}\n"
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(str(path))
            s.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert s.recv(4096).startswith(b"HTTP/1.1 204")
        p.terminate()


def test_init_sets_identity_and_token(own_agent):
    agent = own_agent
    host = socket.gethostname()
    body = {"id": "i0123456789abcdefghi", "templateId": "base", "hostname": "elsewhere",
            "timestampMs": 1000, "entropy": b64(os.urandom(64)), "env": {"GREETING": "hi"},
            "accessToken": "secret", "defaultUser": "nobody", "defaultWorkdir": "/tmp"}
    response, data = agent.request("POST", "/init", json.dumps(body))
    assert response.status == 200 and re.fullmatch(r"\d+\.\d+\.\d+", json.loads(data)["version"])
    # On a host nothing of the machine changes.
    assert socket.gethostname() == host and time.time() > 1e9

    for headers in ({}, {"X-Access-Token": "secre"}, {"X-Access-Token": "secreT"}):
        response, data = agent.request("GET", "/envs", headers=headers)
        assert response.status == 401 and json.loads(data)["code"] == 401
        with pytest.raises(RpcError) as e:
            agent.call("List", {}, headers)
        assert e.value.http == 401
    assert agent.request("GET", "/health")[0].status == 204

    token = {"X-Access-Token": "secret"}
    response, data = agent.request("GET", "/envs", headers=token)
    assert json.loads(data) == {"E2B_SANDBOX": "true", "E2B_SANDBOX_ID": "i0123456789abcdefghi",
                                "E2B_TEMPLATE_ID": "base", "GREETING": "hi"}
    out, _, end = agent.run('id -un; pwd; echo $GREETING $E2B_SANDBOX_ID', headers=token)
    assert out == b"nobody\n/tmp\nhi i0123456789abcdefghi\n" and end["exitCode"] == 0
    out, _, _ = agent.run("id -un; pwd", headers={**token, **basic("root")}, cwd="")
    assert out == b"root\n/tmp\n"

    # A second one replaces the first whole.
    assert agent.request("POST", "/init", "{}")[0].status == 200
    response, data = agent.request("GET", "/envs")
    assert json.loads(data) == {"E2B_SANDBOX": "true"}
    assert agent.run("id -un")[0] == b"root\n"


@pytest.mark.parametrize("body", ["", "[]", "{", '{"env":{"A":1}}', '{"env":{"A=B":"x"}}',
                                  '{"entropy":"***"}', '{"timestampMs":-1}', '{"id":7}'])
def test_init_refuses(own_agent, body):
    response, data = own_agent.request("POST", "/init", body)
    assert response.status == 400 and json.loads(data)["code"] == 400
    assert json.loads(own_agent.request("GET", "/envs")[1]) == {}


# The Connect protocol


def refused(agent, method="List", body=b"{}", content_type="application/json", **headers):
    headers = {k.replace("_", "-"): v for k, v in headers.items()}
    response, data = agent.request("POST", f"/process.Process/{method}", body,
                                   {"Content-Type": content_type, **headers})
    return response, json.loads(data)


def test_unary_errors(agent):
    for body in (b"", b"{", b"[]", b"{} {}", b'{"a":"\xff"}'):
        response, error = refused(agent, body=body)
        assert (response.status, error["code"]) == (400, "invalid_argument")
    response, error = refused(agent, method="Nothing")
    assert (response.status, error["code"]) == (404, "unimplemented")
    response, error = refused(agent, content_type="application/proto")
    assert response.status == 415 and response.headers["Accept-Post"] == "application/json"
    response, error = refused(agent, method="Start", content_type="application/json")
    assert response.status == 415
    assert response.headers["Accept-Post"] == "application/connect+json"
    response, error = refused(agent, Content_Encoding="gzip")
    assert (response.status, error["code"]) == (501, "unimplemented")
    response, error = refused(agent, Connect_Protocol_Version="2")
    assert (response.status, error["code"]) == (400, "invalid_argument")
    response, error = refused(agent, Connect_Timeout_Ms="soon")
    assert (response.status, error["code"]) == (400, "invalid_argument")
    response, error = refused(agent, body=b'{"x":"' + b"a" * (4 * MIB) + b'"}')
    assert (response.status, error["code"]) == (429, "resource_exhausted")


def test_unary_tolerates(agent):
    response, answer = refused(agent, content_type="application/json; charset=utf-8",
                               Accept_Encoding="gzip, br", Content_Encoding="identity",
                               Connect_Timeout_Ms="1500.5", body=b'{"unknown":[1,{}]}')
    assert response.status == 200 and "processes" in answer


@pytest.mark.parametrize("raw, code", [
    (b"", "invalid_argument"),
    (b"\0\0\0", "invalid_argument"),
    (b"\0\0\0\0\x09{}", "invalid_argument"),
    (b"\0\0\0\0\x02{}x", "invalid_argument"),
    (b"\0\0\0\0\x02[]", "invalid_argument"),
    (b"\0\0\0\0\x00", "invalid_argument"),
    (b"\x01\0\0\0\x02{}", "internal"),
    (b"\x02\0\0\0\x02{}", "invalid_argument"),
    (b"\0\xff\xff\xff\xff", "resource_exhausted"),
    (b"\0\x00\x40\x00\x01" + b" " * (4 * MIB + 1), "resource_exhausted"),
])
def test_broken_envelopes(agent, raw, code):
    stream = Stream(agent, "Start", None, raw=raw)
    with pytest.raises(RpcError) as e:
        stream.next()
    assert e.value.code == code and e.value.message


def test_envelope_in_pieces(agent):
    body = json.dumps({"process": {"cmd": "true"}}).encode()
    body = b"\0" + struct.pack(">I", len(body)) + body
    conn = agent.connect()
    conn.request("POST", "/process.Process/Start", iter([body[i:i + 1] for i in range(len(body))]),
                 {"Content-Type": "application/connect+json"}, encode_chunked=True)
    data = conn.getresponse().read()
    assert b'"start"' in data and b'"exitCode":0' in data and data.endswith(b"\x02\0\0\0\x02{}")
    conn.close()


def test_wrong_fields(agent):
    for request in ({}, {"process": {}}, {"process": {"cmd": ""}}, {"process": 7},
                    {"process": {"cmd": 7}}, {"process": {"cmd": "ls", "args": "x"}},
                    {"process": {"cmd": "ls", "args": [1]}},
                    {"process": {"cmd": "ls", "envs": {"A": 1}}},
                    {"process": {"cmd": "ls", "envs": {"A=": "1"}}},
                    {"process": {"cmd": "ls"}, "stdin": "yes"}):
        with pytest.raises(RpcError) as e:
            Stream(agent, "Start", request).next()
        assert e.value.code == "invalid_argument", request


# Processes


def test_stdout_and_stderr_apart(agent):
    out, err, end = agent.run("echo out; echo err >&2; exit 3")
    assert (out, err) == (b"out\n", b"err\n")
    assert end == {"exitCode": 3, "exited": True, "status": "exit status 3",
                   "error": "exit status 3"}


def test_success(agent):
    assert agent.run("true")[2] == {"exitCode": 0, "exited": True, "status": "exit status 0"}


def test_output_comes_as_it_is_written(agent):
    stream = agent.sh("echo one; read x; echo two; read x", stdin=True)
    assert stream.data() == b"one\n"
    agent.send(stream.pid, b"\n")
    assert stream.data() == b"two\n"
    agent.send(stream.pid, b"\n")
    assert stream.rest()[2]["exitCode"] == 0


def test_stdin_is_a_pipe_unless_refused(agent):
    assert agent.run("readlink /proc/self/fd/0", stdin=False)[0] == b"/dev/null\n"
    out = agent.start("readlink", "/proc/self/fd/0").rest()[0]
    assert out.startswith(b"pipe:")


def test_nothing_else_is_open(agent):
    out, _, _ = agent.run("ls /proc/$$/fd; true")
    assert set(out.split()) == {b"0", b"1", b"2"}


def test_own_session_and_clean_signals(agent):
    stream = agent.sh("ps -o pid=,sid=,pgid= -p $$; umask")
    ids, mask = stream.rest()[0].decode().splitlines()
    assert ids.split() == [str(stream.pid)] * 3 and mask == "0022"
    out = agent.start("grep", "-E", "Sig(Blk|Ign)", "/proc/self/status").rest()[0]
    assert [int(line.split()[1], 16) for line in out.splitlines()] == [0, 0]


def test_stdin_10_mib_with_back_pressure(agent):
    data = os.urandom(10 * MIB)
    stream = agent.start("sha256sum", stdin=True)
    for i in range(0, len(data), MIB):
        assert agent.send(stream.pid, data[i:i + MIB]) == {}
    assert agent.call("CloseStdin", {"process": {"pid": stream.pid}}) == {}
    out, _, end = stream.rest()
    assert out.split()[0].decode() == hashlib.sha256(data).hexdigest() and end["exitCode"] == 0


def test_echo_10_mib(agent):
    data = os.urandom(10 * MIB)
    stream = agent.start("cat")

    def feed():
        for i in range(0, len(data), 3 * MIB // 2):
            agent.send(stream.pid, data[i:i + 3 * MIB // 2])
        agent.call("CloseStdin", {"process": {"pid": stream.pid}})

    feeder = threading.Thread(target=feed)
    feeder.start()
    out, _, end = stream.rest()
    feeder.join()
    assert out == data and end["exitCode"] == 0


def test_send_input_waits_for_the_process(agent):
    """An answer comes when the bytes are in the pipe; those who wait keep their order."""
    stream = agent.start("bash", "-c", "kill -STOP $$; exec cat")
    first, second = b"a" * MIB, b"b" * MIB
    done = []
    threads = [threading.Thread(target=lambda d=d: done.append(agent.send(stream.pid, d)))
               for d in (first, second)]
    threads[0].start()
    time.sleep(0.2)
    threads[1].start()
    time.sleep(0.2)
    assert done == []
    with pytest.raises(RpcError) as e:
        agent.call("SendInput", {"process": {"pid": stream.pid}, "input": {"stdin": b64(b"late")}},
                   {"Connect-Timeout-Ms": "100"})
    assert (e.value.code, e.value.http) == ("deadline_exceeded", 504)
    agent.signal(stream.pid, "SIGNAL_SIGCONT")
    closer = threading.Thread(
        target=lambda: agent.call("CloseStdin", {"process": {"pid": stream.pid}}))
    closer.start()
    out, _, _ = stream.rest()
    for t in (*threads, closer):
        t.join()
    assert out == first + second and done == [{}, {}]


def test_stdin_errors(agent):
    stream = agent.sh("exec 0<&-; echo closed; sleep 100", stdin=True)
    assert stream.data() == b"closed\n"
    with pytest.raises(RpcError) as e:
        agent.send(stream.pid, b"x")
    assert (e.value.code, e.value.http) == ("failed_precondition", 400)
    agent.signal(stream.pid, "SIGNAL_SIGKILL")
    stream.rest()

    stream = agent.sh("sleep 100")
    for call in (lambda: agent.send(stream.pid, b"x"),
                 lambda: agent.call("CloseStdin", {"process": {"pid": stream.pid}})):
        with pytest.raises(RpcError) as e:
            call()
        assert e.value.code == "failed_precondition"
    for bad in ({}, {"stdin": "***"}, {"stdin": 7}):
        with pytest.raises(RpcError) as e:
            agent.call("SendInput", {"process": {"pid": stream.pid}, "input": bad})
        assert e.value.code == "invalid_argument"
    agent.signal(stream.pid, "SIGNAL_SIGKILL")
    stream.rest()


def test_waiting_input_fails_when_the_process_ends(agent):
    stream = agent.start("sleep", "100")
    result = []

    def send():
        try:
            agent.send(stream.pid, b"x" * MIB)
        except RpcError as e:
            result.append(e.code)

    t = threading.Thread(target=send)
    t.start()
    time.sleep(0.1)
    agent.signal(stream.pid, "SIGNAL_SIGKILL")
    t.join(10)
    assert result == ["failed_precondition"]
    stream.rest()


@pytest.mark.parametrize("name, number, text", [
    ("SIGNAL_SIGTERM", 15, "terminated"), ("SIGNAL_SIGKILL", 9, "killed"),
    ("SIGNAL_SIGINT", 2, "interrupt"), ("SIGNAL_SIGHUP", 1, "hangup"),
    (15, 15, "terminated"), (9, 9, "killed"), (34, 34, "signal 34"),
])
def test_signals(agent, name, number, text):
    stream = agent.start("sleep", "100")
    assert agent.signal(stream.pid, name) == {}
    assert stream.rest()[2] == {"exitCode": -1, "exited": False, "status": f"signal: {text}",
                                "error": f"signal: {text}", "signal": number}


@pytest.mark.parametrize("group", [True, False])
def test_signal_to_the_group(agent, group):
    stream = agent.sh("sleep 1000 >&- 2>&- & echo $!; wait")
    child = int(stream.data())
    agent.signal(stream.pid, "SIGNAL_SIGTERM", group=group)
    assert stream.rest()[2]["signal"] == 15
    if group:
        wait_until(lambda: not is_alive(child), "the child is gone")
    else:
        assert is_alive(child)
        os.kill(child, signal.SIGKILL)


def test_wrong_signals(agent):
    stream = agent.start("sleep", "100")
    for value in ("SIGNAL_UNSPECIFIED", "SIGNAL_SIGNOTHING", 0, 65, -1, None, [9]):
        with pytest.raises(RpcError) as e:
            agent.signal(stream.pid, value)
        assert e.value.code == "invalid_argument", value
    agent.signal(stream.pid, "SIGNAL_SIGKILL")
    stream.rest()
    with pytest.raises(RpcError) as e:
        agent.signal(stream.pid, "SIGNAL_SIGKILL")
    assert (e.value.code, e.value.http) == ("not_found", 404)
    with pytest.raises(RpcError) as e:
        agent.signal(1, "SIGNAL_SIGKILL")
    assert e.value.code == "not_found"
    with pytest.raises(RpcError) as e:
        agent.call("SendSignal", {"signal": 9})
    assert e.value.code == "invalid_argument"


def fails(agent, *argv, **options):
    with pytest.raises(RpcError) as e:
        agent.start(*argv, **options)
    assert e.value.http == 200
    return e.value


def test_not_found_and_not_executable(agent, tmp_path):
    for name in ("no-such-command", "/no/such/command", "./no-such-command"):
        e = fails(agent, name)
        assert e.code == "not_found" and f"command not found: {name}" in e.message
    plain = tmp_path / "plain"
    plain.write_text("echo hi")
    for name in (str(plain), "/tmp", str(plain) + "/below"):
        e = fails(agent, name)
        assert e.code in ("permission_denied", "not_found")
        assert (e.code == "permission_denied") == ("below" not in name)
        if e.code == "permission_denied":
            assert f"not executable: {name}" in e.message
    # Found in PATH, but not to be run: told as such; a better one behind it is taken.
    (tmp_path / "true").write_text("no program")
    assert fails(agent, "true", envs={"PATH": str(tmp_path)}).code == "permission_denied"
    assert agent.start("true", envs={"PATH": f"{tmp_path}:/usr/bin"}).rest()[2]["exitCode"] == 0
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF no program")
    broken.chmod(0o755)
    assert fails(agent, str(broken)).code == "permission_denied"


def test_path_of_the_request(agent, tmp_path):
    script = tmp_path / "greet"
    script.write_text("#!/bin/sh\necho found $0\n")
    script.chmod(0o755)
    assert fails(agent, "greet").code == "not_found"
    out = agent.start("greet", envs={"PATH": f"/nowhere:{tmp_path}"}).rest()[0]
    assert out.decode() == f"found {script}\n"
    assert agent.start("./greet", cwd=str(tmp_path)).rest()[0] == b"found ./greet\n"
    assert agent.start("greet", envs={"PATH": ":/nowhere"}, cwd=str(tmp_path)).rest()[0] \
        == b"found ./greet\n"


def test_too_long(agent):
    assert fails(agent, "true", "x" * 200000).code == "invalid_argument"


def test_users(agent):
    for user in ("root", "nobody"):
        entry = pwd.getpwnam(user)
        out, _, _ = agent.run("id -u; id -g; id -G; echo $USER $LOGNAME $HOME", cwd="/",
                              headers=basic(user))
        uid, gid, groups, names = out.decode().splitlines()
        assert (int(uid), int(gid)) == (entry.pw_uid, entry.pw_gid)
        want = subprocess.run(["id", "-G", user], check=True, capture_output=True, text=True).stdout
        assert sorted(groups.split()) == sorted(want.split())
        assert names == f"{user} {user} {entry.pw_dir}"
    e = fails(agent, "true", headers=basic("nemo"))
    assert e.code == "unauthenticated" and e.message == "invalid username: 'nemo'"
    assert fails(agent, "true", headers={"Authorization": "Basic %%%"}).code == "unauthenticated"
    assert agent.run("id -un", headers={"Authorization": "Basic " + b64(b":")})[0] == b"root\n"


def test_user_has_no_way_back(agent):
    out, _, _ = agent.run("grep -E '^(Uid|Gid)' /proc/self/status; cat /etc/shadow", cwd="/",
                          headers=basic("nobody"))
    ids = {word for line in out.decode().splitlines() for word in line.split()[1:]}
    assert ids == {str(pwd.getpwnam("nobody").pw_uid)}


def test_rights_are_the_users(agent, tmp_path):
    secret = tmp_path / "secret"
    secret.mkdir(mode=0o700)
    (secret / "run").write_text("#!/bin/sh\n")
    (secret / "run").chmod(0o755)
    e = fails(agent, str(secret / "run"), cwd="/", headers=basic("nobody"))
    assert e.code == "permission_denied"
    e = fails(agent, "true", cwd=str(secret), headers=basic("nobody"))
    assert e.code == "invalid_argument" and str(secret) in e.message


def test_root_user_only(build):
    a = Agent(program(build), "--root-user-only")
    assert a.run("id -un")[0] == b"root\n"
    assert fails(a, "true", headers=basic("nobody")).code == "unauthenticated"
    assert a.stop() == 0


def test_cwd(agent, tmp_path):
    home = pwd.getpwnam("root").pw_dir
    assert agent.run("pwd", cwd=str(tmp_path))[0].decode() == f"{tmp_path}\n"
    assert agent.run("pwd")[0].decode() == f"{home}\n"
    assert agent.run("pwd", cwd="~")[0].decode() == f"{home}\n"
    assert agent.run("pwd -P", cwd="../tmp")[0] == b"/tmp\n"
    assert agent.run("pwd", cwd=f"~/..//./{tmp_path}/.")[0].decode() == f"{tmp_path}\n"
    for cwd, word in (("~nobody", "~"), ("x/" * 3000, "too long")):
        e = fails(agent, "true", cwd=cwd)
        assert e.code == "invalid_argument" and word in e.message
    e = fails(agent, "true", cwd="/no/such/dir")
    assert e.code == "invalid_argument" and "/no/such/dir" in e.message
    e = fails(agent, "true", cwd="/etc/passwd")
    assert e.code == "invalid_argument" and "/etc/passwd" in e.message


def test_environment(agent):
    out, _, _ = agent.start("env", envs={"B": "2", "A": "x=y z", "EMPTY": ""}).rest()
    env = dict(line.split("=", 1) for line in out.decode().splitlines())
    assert env == {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                   "HOME": pwd.getpwnam("root").pw_dir, "USER": "root", "LOGNAME": "root",
                   "A": "x=y z", "B": "2", "EMPTY": ""}
    out, _, _ = agent.run("echo $HOME $USER", envs={"HOME": "/tmp"})
    assert out == b"/tmp root\n"


def test_snake_case_and_null(agent):
    stream = Stream(agent, "Start", {"process": {"cmd": "true", "args": None, "envs": None,
                                                 "cwd": None}, "tag": None, "pty": None})
    assert stream.start().rest()[2]["exitCode"] == 0


def test_list_and_tag(agent):
    stream = agent.start("sleep", "100", tag="my tag", envs={"A": "1"}, cwd="/")
    entry = next(p for p in agent.call("List", {})["processes"] if p["pid"] == stream.pid)
    assert entry == {"pid": stream.pid, "tag": "my tag", "user": "root", "pty": False,
                     "config": {"cmd": "sleep", "args": ["100"], "envs": {"A": "1"}, "cwd": "/"}}
    agent.call("SendSignal", {"process": {"tag": "my tag"}, "signal": 15})
    stream.rest()
    assert stream.pid not in agent.pids()
    with pytest.raises(RpcError) as e:
        agent.call("SendSignal", {"process": {"tag": "my tag"}, "signal": 15})
    assert e.value.code == "not_found"


# Listeners


def test_who_waits_for_the_end_takes_no_output(agent):
    stream = agent.sh("echo 1; read x; head -c 300000 /dev/zero; exit 4", stdin=True)
    assert stream.data() == b"1\n"
    stream.close()
    waits = Stream(agent, "Connect", {"process": {"pid": stream.pid}, "endOnly": True}).start()
    agent.send(stream.pid, b"\n")
    assert waits.next()["end"]["exitCode"] == 4 and waits.next() is None
    out, _, end = agent.listen(stream.pid).rest()
    assert out == bytes(300000) and end["exitCode"] == 4
    starts = Stream(agent, "Start", {"process": {"cmd": "echo", "args": ["kept"]}, "endOnly": True}).start()
    assert starts.next()["end"]["exitCode"] == 0
    assert agent.listen(starts.pid).rest()[0] == b"kept\n"
    late = Stream(agent, "Connect", {"process": {"pid": stream.pid}, "endOnly": True}).start()
    assert late.next()["end"]["exitCode"] == 4
    with pytest.raises(RpcError) as e:
        Stream(agent, "Connect", {"process": {"pid": stream.pid}, "endOnly": 1}).next()
    assert e.value.code == "invalid_argument"


def test_connect_joins(agent):
    first = agent.sh("read x; echo $x; read x", stdin=True)
    second = agent.listen(first.pid)
    agent.send(first.pid, b"both\n")
    assert first.data() == second.data() == b"both\n"
    agent.send(first.pid, b"\n")
    assert first.rest() == second.rest()


def test_client_that_vanishes_kills_nothing(agent):
    stream = agent.sh("echo 1; read x; echo 2; read x; echo 3; exit 4", stdin=True)
    assert stream.data() == b"1\n"
    stream.close()
    agent.send(stream.pid, b"\n")
    wait_until(lambda: stream.pid in agent.pids(), "it runs")
    again = agent.listen(stream.pid)
    assert again.pid == stream.pid and again.dropped == 0
    assert again.data() == b"2\n"
    agent.send(stream.pid, b"\n")
    out, _, end = again.rest()
    assert out == b"3\n" and end["exitCode"] == 4


def test_late_connect_gets_what_was_missed_and_the_end(agent):
    stream = agent.sh("read x; echo out; echo err >&2; exit 7", stdin=True)
    stream.close()
    agent.send(stream.pid, b"\n")
    wait_until(lambda: stream.pid not in agent.pids(), "it ended")
    out, err, end = agent.listen(stream.pid).rest()
    assert (out, err, end["exitCode"]) == (b"out\n", b"err\n", 7)
    # What was delivered comes only to those who ask for it, the end to all.
    assert agent.listen(stream.pid).rest()[2]["exitCode"] == 7


def test_connect_unknown(agent):
    for process in ({"pid": 1}, {"tag": "nothing"}):
        stream = Stream(agent, "Connect", {"process": process})
        with pytest.raises(RpcError) as e:
            stream.next()
        assert e.value.code == "not_found"
    with pytest.raises(RpcError) as e:
        Stream(agent, "Connect", {"process": {}}).next()
    assert e.value.code == "invalid_argument"


def test_ring_keeps_the_last_mib(agent):
    stream = agent.sh("read x; seq 1000000; exit 3", stdin=True)
    stream.close()
    agent.send(stream.pid, b"\n")
    wait_until(lambda: stream.pid not in agent.pids(), "it ended", 60)
    whole = b"".join(b"%d\n" % i for i in range(1, 1000001))
    late = agent.listen(stream.pid)
    out, _, end = late.rest()
    assert MIB - RING_OVERHEAD < len(out) <= MIB
    assert whole.endswith(out) and late.dropped == len(whole) - len(out)
    assert end["exitCode"] == 3


@pytest.mark.usefixtures("no_sanitizers")
def test_100_mb_without_listener(own_agent):
    agent = own_agent
    stream = agent.sh("read x; head -c 100000000 /dev/zero; echo end >&2", stdin=True)
    stream.close()
    before = agent.status("VmRSS")
    agent.send(stream.pid, b"\n")
    wait_until(lambda: stream.pid not in agent.pids(), "it ended", 60)
    assert agent.status("VmRSS") - before < 2048
    late = agent.listen(stream.pid)
    out, err, _ = late.rest()
    assert err == b"end\n" and len(out) + late.dropped == 100000000


def test_100_mb_with_listener(agent):
    stream = agent.sh("head -c 100000000 /dev/zero | tr '\\0' x")
    size = 0
    while (event := stream.next()) is not None:
        size += len(base64.b64decode(event.get("data", {}).get("stdout", "")))
    assert size == 100000000


@pytest.mark.usefixtures("no_sanitizers")
def test_slow_listener_holds_the_process_back(own_agent):
    agent = own_agent
    stream = agent.sh("head -c 30000000 /dev/zero; echo done >&2")
    time.sleep(0.5)
    assert stream.pid in agent.pids(), "the process must wait for its listener"
    assert agent.status("VmRSS") < 8192
    out, err, end = stream.rest()
    assert len(out) == 30000000 and err == b"done\n" and end["exitCode"] == 0


def test_stalled_listener_is_cut_and_ends_are_kept_30_s(own_agent):
    """The two waits of half a minute, side by side."""
    agent = own_agent
    ended = agent.sh("exit 9")
    assert ended.rest()[2]["exitCode"] == 9
    stalled = agent.sh("head -c 30000000 /dev/zero; exit 8")
    started = time.monotonic()
    time.sleep(20)
    assert agent.listen(ended.pid).rest()[2]["exitCode"] == 9
    assert stalled.pid in agent.pids()
    wait_until(lambda: stalled.pid not in agent.pids(), "the stalled listener was cut", 30)
    assert 29 < time.monotonic() - started < 40
    with pytest.raises((AssertionError, ConnectionError, http.client.HTTPException)):
        stalled.rest()
    late = agent.listen(stalled.pid)
    out, _, end = late.rest()
    assert len(out) <= MIB and late.dropped > 20000000 and end["exitCode"] == 8
    with pytest.raises(RpcError) as e:
        agent.listen(ended.pid)
    assert e.value.code == "not_found"


def test_keepalive(agent):
    stream = Stream(agent, "Start", {"process": {"cmd": "sleep", "args": ["100"]}},
                    {"Keepalive-Ping-Interval": "1"}).start()
    started = time.monotonic()
    for _ in range(3):
        assert stream.next() == {"keepalive": {}}
    assert 1.5 < time.monotonic() - started  # at once would be 0, and the first may have waited for us
    agent.signal(stream.pid, 9)
    assert stream.rest()[2]["signal"] == 9


def test_timeout_kills_the_group(agent):
    stream = agent.sh("sleep 1000 & echo $!; wait", headers={"Connect-Timeout-Ms": "500"})
    child = int(stream.data())
    other = agent.listen(stream.pid)
    started = time.monotonic()
    with pytest.raises(RpcError) as e:
        stream.rest()
    assert e.value.code == "deadline_exceeded" and e.value.http == 200
    assert time.monotonic() - started < 5
    assert other.rest()[2]["signal"] == 9
    wait_until(lambda: not is_alive(child), "the group is gone")


def test_timeout_holds_without_client(agent):
    stream = agent.start("sleep", "1000", headers={"Connect-Timeout-Ms": "300"})
    stream.close()
    wait_until(lambda: stream.pid not in agent.pids(), "it was killed")
    assert agent.listen(stream.pid).rest()[2]["signal"] == 9


def test_timeout_of_connect_ends_only_the_stream(agent):
    stream = agent.start("sleep", "1000")
    other = Stream(agent, "Connect", {"process": {"pid": stream.pid}},
                   {"Connect-Timeout-Ms": "200"}).start()
    with pytest.raises(RpcError) as e:
        other.next()
    assert e.value.code == "deadline_exceeded"
    assert stream.pid in agent.pids()
    agent.signal(stream.pid, 9)
    stream.rest()


def test_grandchild_keeps_the_pipes(agent):
    """The end does not wait for it, and it neither blocks nor dies of a broken pipe."""
    stream = agent.sh("(read x < <(sleep 1); head -c 1000000 /dev/zero; echo $?; sleep 1000) &"
                      " echo $!; echo last")
    started = time.monotonic()
    out, _, end = stream.rest()
    assert time.monotonic() - started < 1 and end["exitCode"] == 0
    pid, last = out.split()
    assert last == b"last"
    wait_until(lambda: subprocess.run(["pgrep", "-P", pid, "-x", "sleep"], check=False,
                                      stdout=subprocess.DEVNULL).returncode == 0,
               "it came to its last command")
    os.killpg(stream.pid, signal.SIGKILL)


def test_all_output_before_the_end(agent):
    for _ in range(20):
        out, err, end = agent.run("head -c 200000 /dev/zero; head -c 100000 /dev/zero >&2; exit 1")
        assert (len(out), len(err), end["exitCode"]) == (200000, 100000, 1)


def test_many_at_once_leave_nothing(own_agent):
    agent = own_agent
    agent.run("true")
    fds = agent.open_fds()
    streams = [agent.sh(f"echo {i}; exit {i}") for i in range(60)]
    for i, stream in enumerate(streams):
        out, _, end = stream.rest()
        assert out == b"%d\n" % i and end["exitCode"] == i
    for name in ("no-such-command",) * 20:
        fails(agent, name)
    wait_until(lambda: agent.open_fds() <= fds, "all descriptors are closed")
    children = subprocess.run(["ps", "--ppid", str(agent.process.pid), "-o", "pid="], check=False,
                              capture_output=True, text=True).stdout
    assert children == ""


def test_clients_that_break_off(own_agent):
    agent = own_agent
    fds = agent.open_fds()
    request = b"POST /process.Process/Start HTTP/1.1\r\nHost: x\r\n" \
              b"Content-Type: application/connect+json\r\nContent-Length: 100\r\n\r\n"
    for cut in (10, len(request), len(request) + 3, len(request) + 20):
        with socket.create_connection(("127.0.0.1", agent.port)) as s:
            s.sendall((request + b"\0\0\0\0\x5f{\"process\":{\"cmd\":")[:cut])
    stream = agent.start("sleep", "100")
    with socket.create_connection(("127.0.0.1", agent.port)) as s:
        body = json.dumps({"process": {"pid": stream.pid}, "input": {"stdin": b64(b"x" * MIB)}})
        s.sendall(f"POST /process.Process/SendInput HTTP/1.1\r\nHost: x\r\nContent-Length: "
                  f"{len(body)}\r\nContent-Type: application/json\r\n\r\n{body}".encode())
        time.sleep(0.2)
    agent.signal(stream.pid, 9)
    stream.rest()
    wait_until(lambda: agent.open_fds() <= fds, "all connections are closed")
    assert agent.run("echo fine")[0] == b"fine\n"


def test_sigterm_ends_the_processes(build):
    a = Agent(program(build))
    stream = a.sh("sleep 1000 & echo $!; wait")
    child = int(stream.data())
    assert a.stop() == 0
    wait_until(lambda: not is_alive(child) and not is_alive(stream.pid), "they are gone")


@pytest.mark.usefixtures("no_sanitizers")
def test_idle_agent_sleeps_and_is_small(own_agent):
    agent = own_agent
    stream = agent.start("sleep", "100")
    agent.request("GET", "/health")
    time.sleep(0.3)
    before = agent.status("voluntary_ctxt_switches")
    time.sleep(1.5)
    assert agent.status("voluntary_ctxt_switches") == before
    assert agent.status("VmRSS") < 4096
    agent.signal(stream.pid, 9)
    stream.rest()


def test_the_time(agent):
    """What the host asks for; that it sets it is for a guest (test_silent.py)."""
    before = time.time_ns()
    response, body = agent.request("GET", "/clock")
    assert response.status == 200 and before <= int(body) <= time.time_ns(), body
    for wrong in ("x", "-", "--1", "1.5", "99999999999999999999"):
        assert agent.request("POST", f"/clock/{wrong}")[0].status == 400
