# SPDX-License-Identifier: Apache-2.0
"""
Every step of a create, and every release of a destroy: it fails, or the daemon is killed there with -9. Then
the host is as it was before, seen from outside, and a sandbox that stood beside it has noticed nothing.
"""

import http.client
import os
import pathlib
import re
import signal

import pytest
import vivarium

STEPS_C = pathlib.Path(__file__).parents[2] / "src" / "sandbox" / "steps.c"
TABLE = re.search(r"\bcreate_steps\[\] = \{\n(.*?)^\};", STEPS_C.read_text(), re.M | re.S)[1]
STEPS = re.findall(r'\{ "(\w+)", STEP_\w+, \w+, (\w+),', TABLE)
FORWARD = [name for name, _ in STEPS]
BACKWARD = [name for name, release in STEPS if release != "NULL"]
GONE = (ConnectionError, http.client.HTTPException, OSError)


def test_the_steps_were_found():
    assert FORWARD == ["statedir", "layer", "rundir", "slot", "cgroup", "vmm", "agent", "start", "durable"]
    assert BACKWARD == FORWARD[:FORWARD.index("agent")]


class World:
    """A daemon with one sandbox that must not notice what happens beside it."""

    def __init__(self, instance):
        self.instance = instance
        assert instance.start(), instance.log_text()
        status, self.bystander = instance.create(name="bystander")
        assert status == 201, self.bystander
        self.id = self.bystander["sandboxID"]
        r = instance.viv("exec", self.id, "--", "sh", "-c", "echo kept >/home/user/file; sync")
        assert r.returncode == 0, r.stderr
        self.pid = instance.get(f"/sandboxes/{self.id}")["vivarium"]["vmmPid"]
        self.tag = instance.tag
        self.before = vivarium.inventory(instance, self.tag)
        assert self.before["processes"] == [self.pid]

    def restart(self, fault=""):
        self.instance.stop()
        assert self.instance.start(fault=fault), self.instance.log_text()

    def check(self):
        instance = self.instance
        assert vivarium.inventory(instance, self.tag) == self.before
        assert instance.rows() == {self.id: instance.rows()[self.id]}
        detail = instance.get(f"/sandboxes/{self.id}")
        assert (detail["state"], detail["vivarium"]["vmmPid"]) == ("running", self.pid)
        r = instance.viv("exec", self.id, "--", "cat", "/home/user/file")
        assert (r.returncode, r.stdout) == (0, b"kept\n"), r.stderr


@pytest.fixture(scope="module")
def world(build, prepared):
    instance = vivarium.Instance(build, prepared)
    yield World(instance)
    instance.close()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", FORWARD)
def test_step_fails(world, step, when):
    world.restart(f"create.{step}.{when}=fail")
    status, body = world.instance.create(name="victim", **vivarium.BOOTED)
    assert status == 500
    assert f"fault injected at create.{step}.{when}" in body["message"]
    world.check()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", FORWARD)
def test_daemon_killed_in_create(world, step, when):
    world.restart(f"create.{step}.{when}=kill")
    with pytest.raises(GONE):
        world.instance.create(name="victim", **vivarium.BOOTED)
    assert world.instance.wait_dead() == -signal.SIGKILL
    assert world.instance.start(), world.instance.log_text()
    world.check()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", BACKWARD)
def test_daemon_killed_in_destroy(world, step, when):
    world.restart(f"release.{step}.{when}=kill")
    status, victim = world.instance.create(name="victim")
    assert status == 201, victim
    with pytest.raises(GONE):
        world.instance.request("DELETE", f"/sandboxes/{victim['sandboxID']}")
    assert world.instance.wait_dead() == -signal.SIGKILL
    assert world.instance.start(), world.instance.log_text()
    world.check()


@pytest.mark.parametrize("step", BACKWARD)
def test_release_fails(world, step):
    """It is told, the data stays while anything volatile does, and the next attempt finishes it."""
    world.restart(f"release.{step}.before=fail")
    status, victim = world.instance.create(name="victim")
    assert status == 201, victim
    vid = victim["sandboxID"]
    status, body = world.instance.request("DELETE", f"/sandboxes/{vid}")
    assert status == 500 and "could not be released" in body["message"]
    assert set(world.instance.rows()) == {world.id, vid}
    if step not in ("statedir", "layer"):
        assert f"state/sandboxes/{vid}/layer/0.qcow2" in vivarium.files(world.instance)
    world.restart()
    world.check()


def test_failure_on_the_way_back_keeps_the_first_error(world):
    """The client sees why the create failed, not what went wrong while it was undone."""
    world.restart("create.agent.before=fail")
    status, body = world.instance.create(name="victim", **vivarium.BOOTED)
    assert status == 500 and "create.agent.before" in body["message"]
    world.check()


def test_vmm_killed_keeps_the_disk(world):
    world.restart()
    status, victim = world.instance.create(name="victim", **vivarium.BOOTED)
    assert status == 201, victim
    vid = victim["sandboxID"]
    pid = world.instance.get(f"/sandboxes/{vid}")["vivarium"]["vmmPid"]
    signal.pidfd_send_signal(os.pidfd_open(pid), signal.SIGKILL)
    vivarium.wait_for(lambda: world.instance.get(f"/sandboxes/{vid}")["vivarium"]["state"] == "stopped",
                      what="the sandbox is stopped")
    vivarium.wait_for(lambda: not [f for f in vivarium.files(world.instance) if f.startswith(f"run/{vid}")],
                      what="what is volatile was released")
    detail = world.instance.get(f"/sandboxes/{vid}")
    assert detail["state"] == "paused" and "the VMM was ended by signal 9" in detail["vivarium"]["lastError"]
    assert f"state/sandboxes/{vid}/layer/0.qcow2" in vivarium.files(world.instance)
    assert world.instance.request("DELETE", f"/sandboxes/{vid}")[0] == 204
    world.check()


def test_vmm_killed_while_no_daemon_runs(world):
    world.restart()
    status, victim = world.instance.create(name="victim")
    assert status == 201, victim
    vid = victim["sandboxID"]
    pid = world.instance.get(f"/sandboxes/{vid}")["vivarium"]["vmmPid"]
    world.instance.stop(signal.SIGKILL)
    signal.pidfd_send_signal(os.pidfd_open(pid), signal.SIGKILL)
    assert world.instance.start(), world.instance.log_text()
    detail = world.instance.get(f"/sandboxes/{vid}")
    assert detail["vivarium"]["state"] == "stopped"
    assert world.instance.request("DELETE", f"/sandboxes/{vid}")[0] == 204
    world.check()


@pytest.mark.parametrize("content", [None, b"", b"{", b'{"pid": 1, "start_time": 1}', b"\xff" * 100000],
                         ids=["missing", "empty", "cut", "stale", "garbage"])
def test_handles_are_only_a_hint(world, content):
    """Missing, stale or corrupt: the same outcome."""
    path = world.instance.run_dir / world.id / "handles.json"
    old = path.read_bytes()
    world.instance.stop(signal.SIGKILL)
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    assert world.instance.start(), world.instance.log_text()
    path.write_bytes(old)
    world.check()
