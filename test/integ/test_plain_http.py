# SPDX-License-Identifier: Apache-2.0
"""What people with curl have beside E2B's API: commands that run to their end, changes, pings."""

import base64
import os
import signal

import pytest
import vivarium


@pytest.fixture(scope="module")
def box(shared):
    status, sandbox = shared.create(envVars={"KEPT": "1", "GONE": "1"})
    assert status == 201, sandbox
    return sandbox["sandboxID"]


def run(instance, box, **fields):
    status, reply = instance.request("POST", f"/sandboxes/{box}/exec", fields)
    assert status == 200, reply
    return reply


def refused(instance, box, **fields):
    status, reply = instance.request("POST", f"/sandboxes/{box}/exec", fields)
    assert reply["code"] == status
    return status, reply["message"]


def test_exec_answers_with_output_and_code(shared, box):
    assert run(shared, box, cmd="echo out; echo err >&2; exit 7") == {
        "stdout": "out\n", "stderr": "err\n", "encoding": "utf-8", "exitCode": 7, "truncated": False,
        "timedOut": False}
    assert run(shared, box, args=["printf", "%s|", "a b", "$HOME"])["stdout"] == "a b|$HOME|"
    assert run(shared, box, cmd="kill -9 $$")["exitCode"] == 128 + 9
    assert run(shared, box, cmd=":", stdin=None, envs=None, timeout=None)["exitCode"] == 0


def test_exec_takes_envs_cwd_and_user(shared, box):
    r = run(shared, box, cmd="echo $A $KEPT; pwd; id -un", envs={"A": "x"}, cwd="/tmp", user="root")
    assert r["stdout"] == "x 1\n/tmp\nroot\n"
    assert run(shared, box, cmd="id -un")["stdout"] == "user\n"


def test_exec_feeds_stdin(shared, box):
    text = "Grüße\n" * 50_000
    assert run(shared, box, cmd="cat", stdin=text)["stdout"] == text
    data = bytes(range(256)) * 100
    r = run(shared, box, args=["cat"], stdin=base64.b64encode(data).decode(), stdinEncoding="base64")
    assert (r["encoding"], base64.b64decode(r["stdout"])) == ("base64", data)
    assert run(shared, box, cmd="true", stdin="x" * 1_000_000)["exitCode"] == 0  # it need not be read
    assert run(shared, box, cmd="cat")["stdout"] == ""  # none is an end at once
    assert run(shared, box, cmd="wc -c", stdin="")["stdout"].strip() == "0"


def test_exec_keeps_a_bounded_output_and_says_so(shared, box):
    r = run(shared, box, cmd="head -c 3000000 /dev/zero | tr '\\0' x; echo e >&2; exit 3")
    assert (r["truncated"], len(r["stdout"]), r["stderr"], r["exitCode"]) == (True, 1 << 20, "e\n", 3)
    r = run(shared, box, cmd="head -c 4096 /dev/zero; sleep 0.1; head -c 1200000 /dev/zero")
    assert (r["truncated"], len(r["stdout"])) == (True, 1 << 20)  # cut within what is read at once
    r = run(shared, box, cmd="head -c 1048575 /dev/zero | tr '\\0' x; printf ü")  # cut within a character
    assert (r["truncated"], r["encoding"], len(r["stdout"])) == (True, "utf-8", (1 << 20) - 1)


def test_exec_ends_at_its_timeout(shared, box):
    r = run(shared, box, cmd="echo begun; sleep 1000 & sleep 1000", timeout=1)
    assert (r["timedOut"], r["stdout"], r["exitCode"]) == (True, "begun\n", 128 + 9)
    wait_no_sleep(shared, box, "1000")


def wait_no_sleep(instance, box, argument):
    vivarium.wait_for(lambda: run(instance, box, args=["pgrep", "-f", f"sleep {argument}$"])["exitCode"] == 1,
                      what="the group is killed")


def test_a_client_that_leaves_ends_the_command(shared, box):
    c = vivarium.UnixConnection(shared.run_dir / "vivd.sock")
    c.request("POST", f"/sandboxes/{box}/exec", '{"cmd": "sleep 2000; :", "timeout": 0}')
    vivarium.wait_for(lambda: run(shared, box, args=["pgrep", "-f", "sleep 2000$"])["exitCode"] == 0,
                      what="the command runs")
    c.close()
    wait_no_sleep(shared, box, "2000")


@pytest.mark.parametrize("fields, words", [
    ({}, "'cmd'"), ({"cmd": "x", "args": ["x"]}, "'cmd'"), ({"args": []}, "'args'"), ({"args": [1]}, "args"),
    ({"cmd": 1}, "cmd"), ({"cmd": "x", "envs": {"A": 1}}, "envs"), ({"cmd": "x", "cwd": "/none"}, "/none"),
    ({"cmd": "x", "user": "nobody-here"}, "nobody-here"), ({"cmd": "x", "timeout": -1}, "timeout"),
    ({"cmd": "x", "stdin": 1}, "stdin"), ({"cmd": "x", "stdin": "?", "stdinEncoding": "base64"}, "stdin"),
    ({"cmd": "x", "stdinEncoding": "utf-16"}, "stdinEncoding"), ({"args": ["no-such-program"]}, "not found"),
    ({"cmd": "x", "env": {}}, "'env'")])
def test_exec_says_what_is_wrong(shared, box, fields, words):
    status, message = refused(shared, box, **fields)
    assert status == 400 and words in message, message


def test_exec_needs_a_sandbox(shared, box):
    status, reply = shared.request("POST", "/sandboxes/inosuchsandbox000000/exec", {"cmd": "x"})
    assert (status, reply["code"], reply["error_code"]) == (404, 404, "not_found")
    assert shared.request("POST", f"/sandboxes/{box}/exec", "not json")[0] == 400
    assert shared.request("POST", f"/sandboxes/{box}/exec", "x" * 5_000_000)[0] == 413


def test_ping(shared, box):
    assert shared.request("POST", f"/sandboxes/{box}/ping") == (204, "")
    assert shared.request("POST", "/sandboxes/inosuchsandbox000000/ping")[0] == 404


def patch(instance, box, **fields):
    return instance.request("PATCH", f"/sandboxes/{box}", fields)


def seen(instance, box):
    return run(instance, box, cmd="echo $(id -un) $KEPT $GONE $NEW")["stdout"].split()


def test_patch_changes_what_commands_get(shared):
    box = shared.create(envVars={"KEPT": "kept", "GONE": "gone"})[1]["sandboxID"]
    assert seen(shared, box) == ["user", "kept", "gone"]
    status, detail = patch(shared, box, defaultUser="root", envs={"NEW": "new", "GONE": None})
    assert (status, detail["sandboxID"], detail["vivarium"]["user"]) == (200, box, "root")
    assert seen(shared, box) == ["root", "kept", "new"]
    assert patch(shared, box)[0] == 200  # nothing
    shared.stop(signal.SIGKILL)
    assert shared.start()
    assert seen(shared, box) == ["root", "kept", "new"]
    assert patch(shared, box, envs={"NEW": "2"})[0] == 200  # upon what the row kept
    assert seen(shared, box) == ["root", "kept", "2"]
    assert shared.request("DELETE", f"/sandboxes/{box}")[0] == 204


@pytest.mark.parametrize("fields, word", [
    ({"defaultUser": ""}, "defaultUser"), ({"defaultUser": None}, "defaultUser"), ({"defaultUser": "a:b"}, "defaultUser"),
    ({"envs": {"A": 1}}, "'A'"), ({"envs": {"A=B": "x"}}, "'A=B'"), ({"envs": []}, "envs"), ({"name": "x"}, "'name'")])
def test_patch_says_what_is_wrong(shared, box, fields, word):
    status, reply = patch(shared, box, **fields)
    assert (status, reply["error_code"]) == (400, "invalid") and word in reply["message"]
    assert seen(shared, box) == ["user", "1", "1"]


def test_a_change_that_the_guest_does_not_learn_is_taken_back(shared):
    box = shared.create(envVars={"KEPT": "1"})[1]["sandboxID"]
    pid = shared.get(f"/sandboxes/{box}")["vivarium"]["vmmPid"]
    os.kill(pid, signal.SIGSTOP)
    status, reply = patch(shared, box, defaultUser="root", envs={"KEPT": "2"})
    os.kill(pid, signal.SIGCONT)
    assert (status, reply["error_code"]) == (504, "timeout")
    assert shared.get(f"/sandboxes/{box}")["vivarium"]["user"] == "user"
    assert patch(shared, box, envs={"NEW": "1"})[0] == 200
    assert seen(shared, box) == ["user", "1", "1"]
    assert shared.request("DELETE", f"/sandboxes/{box}")[0] == 204
