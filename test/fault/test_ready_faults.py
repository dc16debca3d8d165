# SPDX-License-Identifier: Apache-2.0
"""
Every step of making a sandbox for a pool, and of giving it to a create: it fails, or the daemon is killed there with
-9. A pool that cannot be filled is told once, and creates go on without it; a claim that fails is a restore; and
nothing of what was nobody's is ever left. VIV_FAULT_ALL=1 as in test_pause_faults.py.
"""

import contextlib
import signal

import pytest
import vivarium
from subject import GONE, steps_of, ways

READY = [name for name, _ in steps_of("steps-ready.c", "ready_steps")]
CLAIM = [name for name, _ in steps_of("steps-ready.c", "claim_steps")]
RELEASES = [name for name, release in steps_of("steps-ready.c", "ready_steps") if release != "NULL"]
MEMORY = vivarium.IMAGED["memoryMB"]


def test_the_steps_were_found():
    assert READY == ["image", "statedir", "layer", "rundir", "slot", "cgroup", "vmm", "rehearse", "durable"]
    assert CLAIM == ["rules", "wake"]


class World:
    """An instance whose template has an image, and a pool of one."""

    def __init__(self, instance):
        self.instance = instance
        instance.own_templates(imaged=True)
        assert instance.start(), instance.log_text()
        r = instance.viv("template", "warm", "--memory", f"{MEMORY}M", "--pool", 1, "base", timeout=300)
        assert r.returncode == 0, (r.stderr, instance.log_text())
        self.wait_ready()

    def wait_ready(self):
        def full():
            pool = self.instance.get("/templates/base")["vivarium"]["pool"]
            return pool["ready"] == 1 and list(self.instance.rows().values()) == ["ready"]

        vivarium.wait_for(full, timeout=120, what=f"the pool is full: {self.instance.rows()}")

    def restart(self, fault=""):
        self.instance.stop()
        self.instance.log.write_text("")
        return self.instance.start(fault=fault)

    def unfilled(self):
        return self.instance.log_text().count("event=ready.unfilled")

    def create(self):
        return self.instance.create(memoryMB=MEMORY, name="victim")

    def check(self):
        """One waits, whole, and there is nothing besides."""
        self.restart()
        self.wait_ready()
        (box,) = self.instance.rows()
        left = vivarium.inventory(self.instance, self.instance.tag)
        assert len(left["processes"]) == len(left["netns"]) == len(left["links"]) == 1, left
        assert left["cgroups"] == [".", box] and len(left["mounts"]) == 1, left  # that of the namespace
        assert {f.split("/")[2 if f.startswith("state") else 1] for f in left["files"]} == {box}, left


@pytest.fixture(scope="module")
def world(build, prepared):
    instance = vivarium.Instance(build, prepared)
    yield World(instance)
    instance.close()


@pytest.mark.parametrize("step, when, action", ways(READY))
def test_making(world, step, when, action):
    fault = f"ready.{step}.{when}"
    if action == "kill":
        world.restart(f"{fault}=kill")
        assert world.instance.wait_dead() == -signal.SIGKILL
        world.check()
        return
    assert world.restart(f"{fault}=fail")
    vivarium.wait_for(world.unfilled, what="it is told")
    told = world.instance.get("/templates/base")["vivarium"]["pool"]
    assert told["ready"] == 0 and fault in told["lastError"] and told["retryAt"]
    status, box = world.create()
    assert status == 201, box
    assert world.instance.request("DELETE", f"/sandboxes/{box['sandboxID']}")[0] == 204
    vivarium.wait_for(lambda: vivarium.files(world.instance) == [] or world.instance.rows(), what="it was unwound")
    assert world.unfilled() == 1
    world.check()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", CLAIM)
def test_claiming_fails(world, step, when):
    """The create is one from the image then, of which the client notices nothing."""
    assert world.restart(f"claim.{step}.{when}=fail")
    world.wait_ready()
    (waiting,) = world.instance.rows()
    status, box = world.create()
    assert (status, box["sandboxID"]) == (201, waiting), box
    own = world.instance.get(f"/sandboxes/{waiting}")["vivarium"]
    assert own["origin"] == "warm" and "vmm" in [s["step"] for s in own["createSteps"]]
    assert world.instance.log_text().count("event=ready.unusable") == 1
    r = world.instance.viv("exec", "victim", "--", "hostname")
    assert r.stdout == b"victim\n", r.stderr
    assert world.instance.request("DELETE", f"/sandboxes/{waiting}")[0] == 204
    world.check()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", CLAIM)
def test_killed_in_a_claim(world, step, when):
    """Nobody was given it: nothing of it is left."""
    assert world.restart(f"claim.{step}.{when}=kill")
    world.wait_ready()
    (waiting,) = world.instance.rows()
    with contextlib.suppress(*GONE):
        answer = world.create()
        assert world.instance.process.wait(10) == -signal.SIGKILL, answer
    assert world.instance.wait_dead() == -signal.SIGKILL
    assert world.instance.rows() == {waiting: "creating"}
    world.check()
    assert waiting not in world.instance.rows()


@pytest.mark.parametrize("step", RELEASES)
def test_its_end_fails(world, step):
    """It is tried again; meanwhile the row says that something is left, and nobody gets it."""
    assert world.restart(f"release.{step}.before=fail")
    world.wait_ready()
    (waiting,) = world.instance.rows()
    assert world.instance.viv("template", "pool", "base", 0).returncode == 0
    vivarium.wait_for(lambda: "event=step.release_failed" in world.instance.log_text(), what="its end failed")
    assert world.instance.rows() == {waiting: "ready"}
    assert [e for e in world.instance.get("/events") if e["sandboxID"] == waiting] == []
    world.restart()
    vivarium.wait_for(lambda: world.instance.rows() == {}, what="it was unwound")
    assert world.instance.viv("template", "pool", "--memory", f"{MEMORY}M", "base", 1).returncode == 0
    world.wait_ready()
    world.check()
