# SPDX-License-Identifier: Apache-2.0
"""
Every step of making a snapshot, of a running and of a paused sandbox: it fails, or the daemon is killed there with
-9. Afterwards the snapshot is whole or not there, the one that had the name before is there as it was, the source
goes on, and nothing is left over. VIV_FAULT_ALL=1 as in test_pause_faults.py.
"""

import json

import pytest
import vivarium
from subject import World, some, steps_of, ways

STEPS = [name for name, _ in steps_of("steps-snapshot.c", "snapshot_steps")]
TAKING = [name for name, _ in steps_of("steps-save.c", "checkpoint_steps")]


def test_the_steps_were_found():
    assert STEPS == ["stage", "checkpoint", "describe", "publish"]
    assert TAKING[0] == "merge" and TAKING[-1] == "commit"


@pytest.fixture(scope="module")
def world(build, prepared):
    instance = vivarium.Instance(build, prepared)
    yield World(instance, **vivarium.BOOTED)
    instance.close()


@pytest.fixture(scope="module")
def warm(build, prepared):
    """Of an image, beside the other, which was booted. Each snapshot is a layer more of its disk: they are merged."""
    instance = vivarium.Instance(build, prepared)
    yield World(instance)
    instance.close()


def take(world):
    return world.instance.request("POST", f"/sandboxes/{world.id}/snapshots", {"name": "mine"})


def delete(world):
    status, reply = world.instance.request("DELETE", "/templates/mine:default")
    assert status == 204, reply


def listed(world):
    return {s["snapshotID"]: s["vivarium"] for s in world.instance.get("/snapshots")}


def directories(world):
    return sorted(p.name for p in (world.instance.state / "snapshots").iterdir())


def check_source(world, state):
    passing = world.instance.state / "sandboxes" / world.id / "passing" / "checkpoints"
    assert not passing.exists() or list(passing.iterdir()) == []
    world.check_host(state)
    if state == "paused":
        status, reply = world.connect()
        assert status == 201, reply
    world.check_memory()
    world.check_disk()


def check_snapshot(world):
    """What is made of it goes on, and knows what the source knew."""
    status, box = world.instance.request("POST", "/v2/sandboxes", {"templateID": "mine", "timeout": 600})
    assert status == 201, box
    r = world.instance.viv("exec", box["sandboxID"], "--", "sh", "-c",
                           "cat /dev/shm/count; echo; sha256sum < /home/user/file")
    assert r.returncode == 0, r.stderr
    mark, count, digest = r.stdout.decode().split(maxsplit=2)
    assert mark == world.mark and int(count) > 0 and digest.strip() == world.sum
    assert world.instance.request("DELETE", f"/sandboxes/{box['sandboxID']}")[0] == 204


def settle(world):
    vivarium.wait_for(lambda: not [d for d in directories(world) if d.startswith(".")], what="what is gone goes")


@pytest.mark.parametrize("replaces", [False, True], ids=["new", "replaces"])
@pytest.mark.parametrize("state, step, when, action",
                         [("running", *way) for way in ways(STEPS, 0)] + [("paused", *way) for way in ways(STEPS, 1)])
def test_snapshot(world, state, step, when, action, replaces):
    fault = f"snapshot.{step}.{when}"
    world.ready("running")
    if replaces:
        assert take(world)[0] == 201
    before = listed(world)
    world.ready(state, f"{fault}={action}")
    world.try_it(lambda: take(world), action, fault)
    settle(world)
    whole = (step, when, action) == ("publish", "after", "kill")
    now = listed(world)
    if whole:
        assert list(now) == ["mine:default"] and now != before
    else:
        assert json.dumps(now) == json.dumps(before)
    assert directories(world) == list(now)
    world.restart()
    check_source(world, state)
    assert listed(world) == now
    if now:
        check_snapshot(world)
        delete(world)
    assert directories(world) == []


@pytest.mark.parametrize("step, when, action", some(TAKING, 2))
def test_taking(warm, step, when, action):
    """Its checkpoint is not made: there is no snapshot, and the sandbox goes on."""
    fault = f"checkpoint.{step}.{when}"
    warm.ready("running", f"{fault}={action}")
    warm.try_it(lambda: take(warm), action, fault)
    assert directories(warm) == [] and listed(warm) == {}
    check_source(warm, "running")
    warm.restart()
    assert take(warm)[0] == 201
    check_snapshot(warm)
    delete(warm)
