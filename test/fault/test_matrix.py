# SPDX-License-Identifier: Apache-2.0
"""The cells of the fault matrix (matrix.py), one test each."""

import os
import pathlib
import signal
import subprocess
import time

import pytest
import vivarium
from matrix import FAILS, OPERATIONS, OTHERS, World, cells


class Worlds:
    """The world that all cells share, until one fails: then it is another, for what is left of a fault is not known."""

    def __init__(self, build, prepared):
        self.build, self.prepared = build, prepared
        self.instance = self.world = None

    def get(self):
        if self.world is None:
            self.instance = vivarium.Instance(self.build, self.prepared)
            self.world = World(self.instance)
        return self.world

    def end(self):
        instance, self.instance, self.world = self.instance, None, None
        if instance is not None:
            instance.close()


@pytest.fixture(scope="module")
def worlds(build, prepared):
    worlds = Worlds(build, prepared)
    yield worlds
    worlds.end()


@pytest.fixture
def world(request, worlds):
    try:
        yield worlds.get()
    finally:
        if worlds.world is None or getattr(request.node, "failed", False):
            if worlds.instance is not None:
                print(worlds.instance.log_text()[-20000:])
            worlds.end()


def operation_of(name):
    return next(o for o in OPERATIONS if o.name == name)


def allowed(operation, way, answer):
    """The states in which the subject may be."""
    states = {operation.begins, operation.ends, *operation.between}
    if way == "VMM killed":
        return states | {"stopped"}
    if answer is None:
        return states
    return {operation.ends} if answer[0] in operation.answers else states


@pytest.mark.parametrize("operation, plan, step, way",
                         [pytest.param(*cell, id=f"{cell[0].name}-{cell[1]}.{cell[2]}-{cell[3]}".replace(" ", "_"),
                                       marks=pytest.mark.cell(cell[0].name, f"{cell[1]}.{cell[2]}", cell[3]))
                          for cell in cells()])
def test_cell(world, operation, plan, step, way):
    world.begin(operation)
    sums = world.checkpoint_sums()
    answer = world.meet(operation, plan, step, way)
    if way in FAILS:
        assert f"fault injected at {plan}.{step}" in answer[1] + world.instance.log_text(), answer
        world.restart()
    if way == "disk full":  # whatever failed of that, nobody waited for the agent of a guest that cannot write
        assert "agent_failed" not in answer[1] and answer[0] != 504, answer
    world.check_host()
    assert world.state() in allowed(operation, way, answer), answer
    kept = {path: digest for path, digest in world.checkpoint_sums().items() if path in sums}
    assert kept == {path: sums[path] for path in kept}
    if way in OTHERS:
        world.restart()  # the fault would be met again
    world.check_subject(operation.remembers)
    world.forget()
    again(world, operation)


def again(world, operation):
    """Without a fault it succeeds."""
    world.begin(operation)
    answer = world.try_it(operation)
    assert answer is not None and answer[0] in operation.answers, answer
    world.check_host()
    assert world.state() == operation.ends
    if not operation.remembers and operation.ends == "running":
        world.count_anew()
    world.forget()


WORK = """
echo begun
for n in $(seq 40); do echo $n > /home/user/work; sync; sleep 0.1; done
echo done
"""


@pytest.mark.parametrize("way", [pytest.param(way, marks=pytest.mark.cell("exec", "a stream", way))
                                 for way in ("killed within", *OTHERS)])
def test_exec(world, way):
    """An exec has no steps; its command goes on whoever listens, and its client is told if it cannot."""
    if world.id is None:
        world.make_subject()
    world.bring_to("running")
    client = world.instance.popen("exec", world.id, "--", "sh", "-c", WORK,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert client.stdout.readline() == b"begun\n"
    if way == "killed within":
        world.instance.stop(signal.SIGKILL)
        assert client.wait(60) == 125, client.stderr.read()
        assert world.instance.start(**world.usual()), world.instance.log_text()
    elif way == "VMM killed":
        os.kill(world.detail()["vmmPid"], signal.SIGKILL)
        assert client.wait(60) == 125, client.stderr.read()
        vivarium.wait_for(lambda: world.state() == "stopped", what="it is stopped")
    elif way == "disk full":
        with world.full_disk():
            time.sleep(1)
        assert (client.wait(120), client.stdout.read()) == (0, b"done\n"), client.stderr.read()
    else:
        client.kill()
        client.wait()
    client.stdout.close()
    client.stderr.close()
    world.check_host()
    if way != "VMM killed":
        vivarium.wait_for(lambda: world.sh("cat /home/user/work") == "40", what="the command went on")
    world.check_subject(True)


WRITER = "while :; do date > /home/user/often; sync; sleep 0.1; done"


def stands_still(pid):
    """Whether a VM does nothing for a while; what counts in ours always does."""
    def used():
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]

    before = used()
    time.sleep(1)
    return used() == before


@pytest.mark.parametrize("name, point", [("checkpoint", "checkpoint.freeze"), ("stop", "stop.quiesce")])
def test_a_guest_that_cannot_write_meanwhile(world, name, point):
    """The operation ends, since it is listened for; the guest's processes go on when it does."""
    operation = operation_of(name)
    world.begin(operation)
    world.sh(f"nohup sh -c '{WRITER}' >/dev/null 2>&1 & echo $! > /dev/shm/writer")
    pid = world.detail()["vmmPid"]
    connection = world.stopped_at(operation, f"{point}.before")
    try:
        with world.full_disk():
            vivarium.wait_for(lambda: stands_still(pid), what="it stands still")
            world.go_on()
            status, reply = world.answer(connection)
            assert status == 503 and "the host's disk is full" in reply
            assert (world.state(), world.detail()["condition"]) == ("running", "disk-full")
    finally:
        world.go_on()
    vivarium.wait_for(lambda: "condition" not in world.detail(), what="it goes on")
    world.check_memory()
    world.sh("kill $(cat /dev/shm/writer)")
    world.restart()
    world.check_host()
    world.check_disk()
    again(world, operation)


def test_a_disk_that_fills_while_it_stands_still(world):
    """The VMM, which cannot write its devices' state, does not say why; the answer does, and the guest goes on."""
    operation = operation_of("pause")
    world.begin(operation)
    connection = world.stopped_at(operation, "pause.devices.before")
    try:
        with world.full_disk():
            world.go_on()
            status, reply = world.answer(connection)
    finally:
        world.go_on()
    assert status == 503 and "No space left" in reply, (status, reply)
    vivarium.wait_for(lambda: world.state() == "running" and "condition" not in world.detail(), what="it goes on")
    world.restart()
    world.check_host()
    world.check_subject(True)
    again(world, operation)


def test_each_operation_and_each_way_is_there():
    met = cells()
    assert {operation.name for operation, _, _, _ in met} == {o.name for o in OPERATIONS}
    assert {way for _, _, _, way in met} >= {"killed within", *OTHERS}
    for operation in OPERATIONS:
        assert len(set(operation.points)) == len(operation.points)
