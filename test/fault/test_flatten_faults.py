# SPDX-License-Identifier: Apache-2.0
"""
Every step of making a template of a sandbox's disk: it fails, or the daemon is killed there with -9. Afterwards the
template is whole or not there, and the sandbox, which is stopped, has its disk. VIV_FAULT_ALL=1 as in subject.py.
"""

import pytest
import vivarium
from subject import World, steps_of, ways

STEPS = [name for name, _ in steps_of("steps-flatten.c", "flatten_steps")]


def test_the_steps_were_found():
    assert STEPS == ["stage", "export", "repair", "anonymize", "check", "shrink", "seal", "publish"]


@pytest.fixture(scope="module")
def world(build, prepared):
    instance = vivarium.Instance(build, prepared)
    instance.own_templates()
    yield World(instance, **vivarium.BOOTED)
    instance.close()


def flatten(world):
    return world.instance.request("POST", f"/sandboxes/{world.id}/flatten", {"name": "flat"})


def templates(world):
    """What is there but the base, its versions and locks."""
    return sorted(p.name for p in (world.instance.state / "templates").iterdir()
                  if not p.name.startswith("base") and not p.name.endswith(".lock") and not p.name.startswith(".base"))


@pytest.mark.parametrize("step, when, action", ways(STEPS, 1))
def test_flatten(world, step, when, action):
    fault = f"flatten.{step}.{when}"
    world.ready("stopped", f"{fault}={action}")
    world.try_it(lambda: flatten(world), action, fault)
    whole = step == "publish" and when == "after"
    assert [t["templateID"] for t in world.instance.get("/templates")] == (["base", "flat"] if whole else ["base"])
    if action == "fail" and not whole:
        assert templates(world) == []
    world.restart()
    assert world.state() == "stopped"
    # The next one makes it, and nothing is left of the one before but, if it was whole, a version for prune.
    status, reply = flatten(world)
    assert status == 201, reply
    assert world.instance.request("POST", "/prune", {})[0] == 200
    left = templates(world)
    assert len(left) == 2 and left[0] == "flat" and left[1].startswith("flat@"), left
    assert world.instance.request("DELETE", "/templates/flat")[0] == 204
    assert templates(world) == []
    status, reply = world.connect()
    assert status == 201, reply
    world.check_disk()
