# SPDX-License-Identifier: Apache-2.0
"""A guest that does not answer is marked, and, if that is wished for, replaced. One whose clock is wrong is told."""

import os
import signal
import time

import pytest
import vivarium

PROBE_S, TIMEOUT_S = 1, 3


@pytest.fixture(scope="module")
def instance(build, prepared):
    i = vivarium.Instance(build, prepared, agent_probe_s=PROBE_S, agent_probe_timeout_s=TIMEOUT_S)
    assert i.start(), i.log_text()
    yield i
    i.close()


def create(instance, **own):
    status, box = instance.request("POST", "/v2/sandboxes", {"templateID": "base", "timeout": None, "vivarium": own})
    assert status == 201, box
    return box["sandboxID"]


def own(instance, box):
    return instance.get(f"/sandboxes/{box}")["vivarium"]


def events(instance, box):
    return [(e["type"], e.get("cause", "")) for e in instance.get(f"/events?sandbox={box}&limit=1000")]


def silence(instance, box):
    pid = own(instance, box)["vmmPid"]
    os.kill(pid, signal.SIGSTOP)
    return pid


def test_it_is_marked_until_it_answers(instance):
    box = create(instance)
    pid = silence(instance, box)
    try:
        vivarium.wait_for(lambda: own(instance, box).get("condition") == "silent", timeout=180, what="it is noticed")
        assert own(instance, box)["state"] == "running" and "does not answer" in own(instance, box)["lastError"]
        assert events(instance, box)[-1][0] == "error"
        assert any(box in line and " silent " in line for line in instance.viv("ls").stdout.decode().splitlines())
    finally:
        os.kill(pid, signal.SIGCONT)
    vivarium.wait_for(lambda: "condition" not in own(instance, box), timeout=180, what="it answers again")
    assert own(instance, box)["vmmPid"] == pid and "lastError" not in own(instance, box)
    assert instance.viv("exec", box, "--", "true").returncode == 0
    assert instance.request("DELETE", f"/sandboxes/{box}")[0] == 204


def test_its_policy_starts_it_again(instance):
    box = create(instance, restart="on-failure:1")
    assert instance.viv("exec", box, "--", "sh", "-c", "echo kept > file; sync").returncode == 0
    silence(instance, box)
    vivarium.wait_for(lambda: ("running", "restart") in events(instance, box), timeout=240, what="it is started again")
    assert ("stopped", "hung") in events(instance, box), events(instance, box)
    assert instance.viv("exec", box, "--", "cat", "file").stdout == b"kept\n"
    # Without a try that is left it is not ended: somebody may look at it.
    pid = silence(instance, box)
    vivarium.wait_for(lambda: own(instance, box).get("condition") == "silent", timeout=180, what="it is noticed")
    assert own(instance, box)["vmmPid"] == pid and instance.log_text().count("event=sandbox.silent_ended") == 1
    assert instance.request("DELETE", f"/sandboxes/{box}")[0] == 204


def test_that_it_is_asked_is_no_use_of_it(instance):
    box = create(instance, idle=8)
    vivarium.wait_for(lambda: own(instance, box)["state"] == "paused", timeout=240, what="nobody uses it")
    assert events(instance, box)[-1] == ("paused", "idle")
    assert "event=sandbox.silent " not in "\n".join(l for l in instance.log_text().splitlines() if box in l)
    assert instance.request("DELETE", f"/sandboxes/{box}")[0] == 204


def test_the_clock_is_kept(instance):
    box = create(instance)

    def root(command):
        r = instance.viv("exec", "--user", "root", box, "--", "sh", "-c", command)
        assert r.returncode == 0, r.stderr
        return r.stdout.decode().strip()

    def is_right():
        before, guest = time.time(), float(root("date +%s.%N"))
        return before - 1 < guest < time.time() + 1

    assert is_right()
    # Whoever set it wrong, in either direction: it comes right by itself.
    for wrong in ("2001-09-09 01:46:40", "2040-01-01 00:00:00"):
        before = instance.log_text().count("event=sandbox.clock_set ")
        root(f"date -s '{wrong}'")
        vivarium.wait_for(lambda: instance.log_text().count("event=sandbox.clock_set ") > before, timeout=180, what="it is set")
        vivarium.wait_for(is_right, timeout=180, what="it is right")
    # A little is made up for slowly: what the guest's kernel has still to do of that, us.
    root("date -s \"$(date -d '0.2 seconds ago' '+%F %T.%N')\"")
    left = "perl -e '$t = pack(\"Lx4qx192\", 0xa001, 0); syscall(159, $t) >= 0 or die; print unpack(\"x8q\", $t)'"
    vivarium.wait_for(lambda: int(root(left)) > 0, timeout=180, what="it is slewed")
    root("perl -e '$t = pack(\"Lx4qx192\", 0x8001, 0); syscall(159, $t) >= 0 or die'")
    # It stood still for a while, as with a host that slept.
    pid = silence(instance, box)
    time.sleep(3)
    os.kill(pid, signal.SIGCONT)
    vivarium.wait_for(is_right, timeout=180, what="it is right")
    assert instance.request("DELETE", f"/sandboxes/{box}")[0] == 204
