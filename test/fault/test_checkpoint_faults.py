# SPDX-License-Identifier: Apache-2.0
"""
Every step of a checkpoint, of a fork's child and of a rollback: it fails, or the daemon is killed there with -9.
Afterwards the source runs as if nothing had been, or, behind the point where a rollback gives it up, is paused
at the checkpoint; and the same once more succeeds.

By default each step of a checkpoint meets one of the four (fails or killed, before or after it), all of them in
turn, and every second step of the others, which creates and resumes have, too; with VIV_FAULT_ALL=1 each meets all.
"""

import contextlib
import os
import random
import signal
import threading

import pytest
import vivarium
from subject import GONE, World, some, steps_of, ways

CHECKPOINT = [name for name, _ in steps_of("steps-save.c", "checkpoint_steps")]
CLONE = [name for name, _ in steps_of("steps-restore.c", "clone_steps")]
RESUME = [name for name, _ in steps_of("steps-restore.c", "resume_steps")]
RELEASES = [name for name, release in steps_of("steps.c", "start_steps") if release != "NULL"]


def test_the_steps_were_found():
    assert CHECKPOINT == ["merge", "chain", "draft", "layer", "arm", "ahead", "freeze", "halt", "devices",
                          "capture", "settle", "run", "write", "share", "commit"]
    assert CLONE == ["image", "statedir", "layer", "rundir", "slot", "cgroup", "vmm", "wake", "durable"]
    assert RESUME == ["image", "layer", "rundir", "slot", "cgroup", "vmm", "wake", "durable"]
    assert RELEASES == ["rundir", "slot", "cgroup", "vmm"]


@pytest.fixture(scope="module")
def world(build, prepared):
    instance = vivarium.Instance(build, prepared)
    yield World(instance)
    instance.close()


def check_source(world, most=0):
    """It never stopped, and what it had on its disk and in its memory is there."""
    world.check_host("running", most)
    world.check_memory()
    world.check_disk()


@pytest.mark.parametrize("step, when, action", ways(CHECKPOINT))
def test_checkpoint(world, step, when, action):
    fault = f"checkpoint.{step}.{when}"
    world.ready("running", f"{fault}={action}")
    pid = world.instance.get(f"/sandboxes/{world.id}")["vivarium"]["vmmPid"]
    world.try_it(world.checkpoint, action, fault)
    # One that was whole when the daemon died is the sandbox's.
    whole = 1 if (step, when, action) == ("commit", "after", "kill") else 0
    check_source(world, whole)
    assert len(world.checkpoints()) == whole
    world.restart()
    status, made = world.checkpoint()
    assert status == 201, made
    check_source(world, whole + 1)
    assert world.instance.get(f"/sandboxes/{world.id}")["vivarium"]["vmmPid"] == pid
    world.forget_checkpoints()
    check_source(world)


def refused(world, fault):
    """A fork all of whose children failed says so, child by child."""
    status, children = world.fork()
    assert status == 201 and len(children) == 1, children
    assert f"fault injected at {fault}" in children[0]["error"]["message"], children


@pytest.mark.parametrize("step, when, action", some(CLONE, 1))
def test_child_of_a_fork(world, step, when, action):
    fault = f"clone.{step}.{when}"
    world.ready("running", f"{fault}={action}")
    if action == "fail":
        refused(world, fault)
    else:
        world.try_it(world.fork, action, fault)
    check_source(world)
    world.restart()
    status, [child] = world.fork()
    assert status == 201 and "sandbox" in child, child
    other = child["sandbox"]["sandboxID"]
    assert world.instance.request("DELETE", f"/sandboxes/{other}")[0] == 204
    check_source(world)


@pytest.mark.parametrize("step, when, action", some(["halt", "settle", "write", "commit"], 2))
def test_fork(world, step, when, action):
    """What a fork's own checkpoint meets; nothing of it stays, even if it was whole."""
    fault = f"checkpoint.{step}.{when}"
    world.ready("running", f"{fault}={action}")
    world.try_it(world.fork, action, fault)
    check_source(world)


def rolled_back(world, fault, action):
    """A rollback meets a fault: it is paused at the checkpoint, and goes on from there as from any pause."""
    world.ready("running")
    world.check_memory()
    count = world.count
    status, made = world.checkpoint()
    assert status == 201, made
    world.sh("echo x > /home/user/behind; sync")
    world.restart(f"{fault}={action}")
    world.try_it(world.rollback, action, fault)
    world.restart()
    world.check_host("paused")
    status, reply = world.connect()
    assert status == 201, reply
    world.check_host("running")
    world.check_memory()
    world.check_disk()
    assert world.sh("ls /home/user/behind 2>/dev/null || true") == ""
    status, reply = world.rollback()
    assert status == 201, reply
    world.count = count
    check_source(world, 1)
    world.forget_checkpoints()
    check_source(world)


@pytest.mark.parametrize("step, when, action", some(RESUME, 3))
def test_rollback(world, step, when, action):
    rolled_back(world, f"resume.{step}.{when}", action)


@pytest.mark.parametrize("step, when, action", some(RELEASES, 1))
def test_release_of_a_rollback(world, step, when, action):
    """What it gives up is released first."""
    fault = f"release.{step}.{when}"
    world.ready("running")
    if action == "fail":
        world.check_memory()
        assert world.checkpoint()[0] == 201
        world.restart(f"{fault}=fail")
        status, reply = world.rollback()
        assert status == 500 and "could not be released" in reply["message"], reply
        world.restart()
        world.check_host("paused")
        assert world.connect()[0] == 201
        world.check_memory()
        world.forget_checkpoints()
        check_source(world)
        return
    rolled_back(world, fault, action)


def test_killed_at_any_moment(world):
    """
    Checkpoint after checkpoint, so that layers are merged, until vivd is killed, which is seldom where a step begins.
    What the guest reads from its disk, not out of its memory, is what it wrote.
    """
    world.ready("running")
    for n in range(40 if os.environ.get("VIV_FAULT_ALL") == "1" else 3):
        late = threading.Timer(random.uniform(0.5, 6), world.instance.process.kill)
        late.start()
        with contextlib.suppress(*GONE):
            while True:
                world.checkpoint()
        late.join()
        assert world.instance.wait_dead() == -signal.SIGKILL
        assert world.instance.start(), world.instance.log_text()
        world.check_host("running", most=100)
        r = world.instance.viv("exec", "--user", "root", world.id, "--", "sh", "-c",
                               f"sync; echo 3 > /proc/sys/vm/drop_caches; echo {n} > /home/user/round")
        assert r.returncode == 0, r.stderr
        check_source(world, 100)
        if n % 10 == 9:
            world.forget_checkpoints()
    world.forget_checkpoints()
    assert world.pause()[0] == 204
    world.check_host("paused")
    assert world.connect()[0] == 201
    check_source(world, 1)
    assert world.sh("cat /home/user/round") == str(n)


def fill(world):
    """Checkpoints whose layers nobody merges meanwhile, until no other layer fits."""
    world.restart("merge.begin.before=fail")
    for _ in range(20):
        if len(list((world.instance.state / "sandboxes" / world.id).glob("layer/*.qcow2"))) == 15:
            return
        assert world.checkpoint()[0] == 201
    raise AssertionError("the disk is not full")


@pytest.mark.parametrize("action", ["kill", "fail"])
def test_between_the_merged_layer_and_its_use(world, action):
    """A checkpoint has to merge first. Its new layer has its name, and the VM has not been told yet."""
    world.ready("running")
    fill(world)
    world.restart(f"merge.place.after={action}")
    if action == "kill":
        world.try_it(world.checkpoint, action, "merge.place.after")
    else:
        assert world.checkpoint()[0] == 201  # there is room by now; the next step tells the VM
        assert "fault injected at merge.place.after" in world.instance.log_text()
    check_source(world, 100)
    world.restart()
    assert world.checkpoint()[0] == 201
    r = world.instance.viv("exec", "--user", "root", world.id, "--", "sh", "-c", "sync; echo 3 > /proc/sys/vm/drop_caches")
    assert r.returncode == 0, r.stderr
    check_source(world, 100)
    assert world.pause()[0] == 204
    assert world.connect()[0] == 201
    check_source(world, 100)
    world.forget_checkpoints()


@pytest.mark.parametrize("what", ["checkpoint", "fork"])
def test_vmm_is_killed_meanwhile(world, what):
    """Whatever it was in the middle of: its last checkpoint can be had again, memory and all."""
    world.ready("running")
    world.check_memory()
    before = world.count  # what it comes back to may be the first checkpoint
    assert world.checkpoint()[0] == 201
    for _ in range(3):
        pid = os.pidfd_open(world.instance.get(f"/sandboxes/{world.id}")["vivarium"]["vmmPid"])
        late = threading.Timer(random.uniform(0.02, 0.6), signal.pidfd_send_signal, (pid, signal.SIGKILL))
        late.start()
        while not late.finished.is_set() or world.state() == "running":
            status, reply = getattr(world, what)()
            if status == 201 and what == "fork":
                for child in [c["sandbox"]["sandboxID"] for c in reply if "sandbox" in c]:
                    assert world.instance.request("DELETE", f"/sandboxes/{child}")[0] == 204
        late.join()
        os.close(pid)
        world.check_host("stopped", most=100)
        status, reply = world.rollback()
        assert status == 201, reply
        world.count = before
        check_source(world, 100)
    world.forget_checkpoints()
    check_source(world)
