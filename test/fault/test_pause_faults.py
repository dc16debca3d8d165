# SPDX-License-Identifier: Apache-2.0
"""
Every step of pause, stop, resume and start, and every release in between: it fails, or the daemon is killed
there with -9; the VMM is killed at any moment; the client goes away. Afterwards the host holds what the rows
say, what was on the disk is there, and what was in memory goes on: either it never stopped, or it is resumed.

By default each step meets one of the four (fails or killed, before or after it), all of them in turn; with
VIV_FAULT_ALL=1 each meets all four.
"""

import os
import signal
import time

import pytest
import vivarium
from subject import World, steps_of, ways

PLANS = {
    "pause": [name for name, _ in steps_of("steps-save.c", "pause_steps")],
    "stop": [name for name, _ in steps_of("steps-save.c", "stop_steps")],
    "resume": [name for name, _ in steps_of("steps-restore.c", "resume_steps")],
    "start": [name for name, _ in steps_of("steps.c", "start_steps")],
}
RELEASES = [name for name, release in steps_of("steps.c", "start_steps") if release != "NULL"]


def test_the_steps_were_found():
    assert PLANS == {
        "pause": ["draft", "arm", "ahead", "quiesce", "halt", "devices", "memory", "settle", "share", "commit"],
        "stop": ["quiesce", "halt"],
        "resume": ["image", "layer", "rundir", "slot", "cgroup", "vmm", "wake", "durable"],
        "start": ["rundir", "slot", "cgroup", "vmm", "agent", "start"],
    }
    assert RELEASES == ["rundir", "slot", "cgroup", "vmm"]


@pytest.fixture(scope="module")
def world(build, prepared):
    instance = vivarium.Instance(build, prepared)
    yield World(instance, **vivarium.BOOTED)
    instance.close()


@pytest.mark.parametrize("step, when, action", ways(PLANS["pause"]))
def test_pause(world, step, when, action):
    """Up to the end of its plan a pause leads back: the sandbox runs on."""
    fault = f"pause.{step}.{when}"
    world.ready("running", f"{fault}={action}")
    world.try_it(world.pause, action, fault)
    world.check_host("running")
    world.check_memory()
    world.check_disk()
    world.check_again()
    world.check_memory()


@pytest.mark.parametrize("step, when, action", ways(RELEASES))
def test_release_of_a_pause(world, step, when, action):
    """From there on it is paused, whatever fails; a daemon that dies before the VM is gone lets it run on."""
    fault = f"release.{step}.{when}"
    world.ready("running", f"{fault}={action}")
    if action == "fail":
        status, reply = world.pause()
        assert status == 204, reply
        assert world.state() == "paused"
        world.restart()
    else:
        world.try_it(world.pause, action, fault)
    world.check_host("running" if (step, when, action) == ("vmm", "before", "kill") else "paused")
    world.check_again()
    world.check_memory()


@pytest.mark.parametrize("step, when, action", ways(PLANS["stop"], 1))
def test_stop(world, step, when, action):
    fault = f"stop.{step}.{when}"
    world.ready("running", f"{fault}={action}")
    world.try_it(lambda: world.pause(memory=False), action, fault)
    world.check_host("running")
    world.check_memory()
    world.check_again()


@pytest.mark.parametrize("step, when, action", ways(PLANS["resume"], 2))
def test_resume(world, step, when, action):
    """Until it is handed out it stays paused."""
    fault = f"resume.{step}.{when}"
    world.ready("paused", f"{fault}={action}")
    world.try_it(world.connect, action, fault)
    world.check_host("paused")
    world.check_again()
    world.check_memory()


@pytest.mark.parametrize("step, when, action", ways(PLANS["start"], 3))
def test_start(world, step, when, action):
    fault = f"start.{step}.{when}"
    world.ready("stopped", f"{fault}={action}")
    world.try_it(world.connect, action, fault)
    world.check_host("stopped")
    world.check_again()
    world.count_anew()


@pytest.mark.parametrize("step, when, action", ways(PLANS["start"], 3)[1::2])
def test_start_from_a_checkpoint(world, step, when, action):
    """Its disk is taken over first: from there on it is stopped, and nobody writes to the checkpoint."""
    fault = f"start.{step}.{when}"
    world.ready("paused", f"{fault}={action}")
    world.try_it(lambda: world.connect(memory=False), action, fault)
    world.check_host("stopped")
    world.check_again()
    world.count_anew()


@pytest.mark.parametrize("late_ms", [0, 100, 400, 1500])
def test_vmm_killed_meanwhile(world, late_ms):
    """A pause whose VMM dies under it ends as paused, if it was saved before, or as stopped with its disk."""
    world.ready("running")
    pid = world.instance.get(f"/sandboxes/{world.id}")["vivarium"]["vmmPid"]
    fd = os.pidfd_open(pid)
    c = vivarium.UnixConnection(world.instance.run_dir / "vivd.sock")
    c.request("POST", f"/sandboxes/{world.id}/pause", "{}")
    time.sleep(late_ms / 1000)  # any moment is right
    try:
        signal.pidfd_send_signal(fd, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it was paused before
    status = c.getresponse().status
    c.close()
    os.close(fd)
    vivarium.wait_for(lambda: world.state() in ("paused", "stopped"), what="it came to rest")
    state = world.state()
    assert state == ("paused" if status == 204 else "stopped")
    world.check_host(state)
    world.check_again()
    if state == "paused":
        world.check_memory()
    else:
        world.count_anew()


def test_client_goes_away(world):
    """An operation is the daemon's: whoever asked may leave."""
    world.ready("running")
    for path, state in ((f"/sandboxes/{world.id}/pause", "paused"), (f"/v2/sandboxes/{world.id}/connect", "running")):
        c = vivarium.UnixConnection(world.instance.run_dir / "vivd.sock")
        c.request("POST", path, "{}")
        c.close()
        vivarium.wait_for(lambda state=state: world.state() == state, what=f"it is {state}")
        world.check_host(state)
    world.check_memory()


@pytest.mark.parametrize("state", ["running", "paused"])
def test_shutdown_meanwhile(world, state):
    """The daemon ends when what it does has ended; the next one goes on from there."""
    world.ready(state)
    c = vivarium.UnixConnection(world.instance.run_dir / "vivd.sock")
    path = f"/sandboxes/{world.id}/pause" if state == "running" else f"/v2/sandboxes/{world.id}/connect"
    c.request("POST", path, "{}")
    vivarium.wait_for(lambda: world.state() not in ("running", "paused"), what="it has begun")
    assert world.instance.stop() == 0, world.instance.log_text()[-3000:]
    c.close()
    assert world.instance.start(), world.instance.log_text()
    world.check_host("paused" if state == "running" else "running")
    world.check_again()
    world.check_memory()


@pytest.mark.parametrize("state", ["running", "paused"])
@pytest.mark.parametrize("fault", ["", "fail"])
def test_destroy_meanwhile(world, state, fault):
    """It ends a pause early, or waits for the end of the other operation, however that ends; then nothing is left."""
    instance = world.instance
    world.restart()
    status, victim = instance.create(name="victim")
    assert status == 201, victim
    vid = victim["sandboxID"]
    if state == "paused":
        assert instance.request("POST", f"/sandboxes/{vid}/pause", {})[0] == 204
    point = "pause.commit.after" if state == "running" else "resume.wake.after"
    world.restart(f"{point}=fail" if fault else "")
    c = vivarium.UnixConnection(instance.run_dir / "vivd.sock")
    path = f"/sandboxes/{vid}/pause" if state == "running" else f"/v2/sandboxes/{vid}/connect"
    c.request("POST", path, "{}")
    vivarium.wait_for(lambda: instance.get(f"/sandboxes/{vid}")["vivarium"]["state"] in ("pausing", "resuming"),
                      what="it has begun")
    assert instance.request("DELETE", f"/sandboxes/{vid}")[0] == 204
    ends = {500} if fault else {204} if state == "running" else {201}
    assert c.getresponse().status in ends | ({404} if state == "running" else set())
    c.close()
    assert list(instance.rows()) == [world.id]
    assert vid not in str(vivarium.inventory(instance, instance.tag))
