# SPDX-License-Identifier: Apache-2.0
"""
A change of where a sandbox may go is cut short between the row and the rules: by a failure, by kill -9. Then both
are of before, or both of after, and the guest's connections are as these say.
"""

import contextlib
import http.client
import signal

import pytest
import vivarium
from world import World, reach, rules

GONE = (ConnectionError, http.client.HTTPException, OSError)


@pytest.fixture(scope="module")
def world():
    world = World()
    yield world
    world.close()


class Box:
    """A daemon with a sandbox that may not go far."""

    def __init__(self, instance, world):
        self.instance, self.world = instance, world
        assert instance.start(), instance.log_text()
        status, made = instance.create(network={"denyOut": [world.far]})
        assert status == 201, made
        self.id = made["sandboxID"]
        self.before = rules(instance, self.id)

    def restart(self, fault=""):
        self.instance.stop()
        assert self.instance.start(fault=fault), self.instance.log_text()

    def change(self, **fields):
        return self.instance.request("PUT", f"/sandboxes/{self.id}/network", fields)

    def denied(self):
        return self.instance.get(f"/sandboxes/{self.id}")["network"]["denyOut"]

    def reach(self):
        return reach(self.instance, self.id, self.world.near, self.world.far)


@pytest.fixture(scope="module")
def box(build, prepared, world):
    instance = vivarium.Instance(build, prepared)
    yield Box(instance, world)
    instance.close()


@pytest.fixture(autouse=True)
def as_before(box):
    box.restart()
    assert box.change(denyOut=[box.world.far])[0] == 204
    assert rules(box.instance, box.id) == box.before


def test_rules_cannot_be_set(box):
    """The row is what it was, also for a later daemon."""
    box.restart("network.rules.before=fail")
    status, answer = box.change(denyOut=[box.world.near])
    assert status == 500 and "network.rules.before" in answer["message"]
    for _ in range(2):
        assert box.denied() == [box.world.far]
        assert rules(box.instance, box.id) == box.before
        assert box.reach() == ["reached", "refused"]
        box.restart()


def kill_in_change(box, when):
    box.restart(f"network.rules.{when}=kill")
    with contextlib.suppress(*GONE):
        box.change(denyOut=[box.world.near])
        raise AssertionError("it was answered")
    assert box.instance.wait_dead() == -signal.SIGKILL


def test_killed_before_the_rules(box):
    """The row has it: the next daemon sets the rules."""
    kill_in_change(box, "before")
    assert rules(box.instance, box.id) == box.before
    assert box.instance.start(), box.instance.log_text()
    assert box.denied() == [box.world.near]
    assert box.reach() == ["refused", "reached"]


def test_killed_behind_the_rules(box):
    kill_in_change(box, "after")
    after = rules(box.instance, box.id)
    assert after != box.before
    assert box.instance.start(), box.instance.log_text()
    assert box.denied() == [box.world.near]
    assert rules(box.instance, box.id) == after
    assert box.reach() == ["refused", "reached"]


def test_killed_again_while_it_is_mended(box):
    kill_in_change(box, "before")
    assert box.instance.start(wait=False)
    box.instance.stop(signal.SIGKILL)
    assert box.instance.start(), box.instance.log_text()
    assert box.denied() == [box.world.near]
    assert box.reach() == ["refused", "reached"]


def test_rules_are_there_before_the_guest(box):
    """A create that ends between the slot and the VM has left the slot with its rules already."""
    box.restart("create.slot.after=kill")
    with contextlib.suppress(*GONE):
        box.instance.create(network={"denyOut": ["0.0.0.0/0"]}, **vivarium.BOOTED)
        raise AssertionError("it was answered")
    assert box.instance.wait_dead() == -signal.SIGKILL
    victim, = set(box.instance.rows()) - {box.id}
    assert "ip daddr 0.0.0.0/0 goto refuse" in rules(box.instance, victim)
    assert box.instance.start(), box.instance.log_text()
    assert set(box.instance.rows()) == {box.id}


def test_destroyed_while_it_changes(box):
    """Whatever comes first, nothing is left (the fixture's close looks for it)."""
    status, made = box.instance.create()
    assert status == 201, made
    target = f"/sandboxes/{made['sandboxID']}"
    changing = vivarium.UnixConnection(box.instance.run_dir / "vivd.sock")
    changing.request("PUT", f"{target}/network", '{"denyOut": ["0.0.0.0/0"]}')
    assert box.instance.request("DELETE", target)[0] == 204
    assert changing.getresponse().status in (204, 404, 409)
    changing.close()
    assert set(box.instance.rows()) == {box.id}
