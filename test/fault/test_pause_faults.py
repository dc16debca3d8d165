# SPDX-License-Identifier: Apache-2.0
"""
Every step of pause, stop, resume and start, and every release in between: it fails, or the daemon is killed
there with -9; the VMM is killed at any moment; the client goes away. Afterwards the host holds what the rows
say, what was on the disk is there, and what was in memory goes on: either it never stopped, or it is resumed.

By default each step meets one of the four (fails or killed, before or after it), all of them in turn; with
VIV_FAULT_ALL=1 each meets all four.
"""

import http.client
import os
import pathlib
import re
import signal
import sqlite3
import time

import pytest
import vivarium

SOURCES = pathlib.Path(__file__).parents[2] / "src" / "sandbox"
STEP = re.compile(r'\{ "(\w+)", STEP_\w+, \w+, (\w+),')
GONE = (ConnectionError, http.client.HTTPException, OSError)
WAYS = [("before", "fail"), ("after", "kill"), ("after", "fail"), ("before", "kill")]
COUNTER = """
import os, time
mark, n = os.urandom(8).hex(), 0
while True:
    n += 1
    with open('/dev/shm/count.tmp', 'w') as f:
        f.write(f'{mark} {n}')
    os.rename('/dev/shm/count.tmp', '/dev/shm/count')
    time.sleep(0.05)
"""


def steps_of(file, table):
    text = (SOURCES / file).read_text()
    return STEP.findall(text.split(f"struct step {table}[] = {{", 1)[1].split("};", 1)[0])


PLANS = {
    "pause": [name for name, _ in steps_of("steps-save.c", "pause_steps")],
    "stop": [name for name, _ in steps_of("steps-save.c", "stop_steps")],
    "resume": [name for name, _ in steps_of("steps-restore.c", "resume_steps")],
    "start": [name for name, _ in steps_of("steps.c", "start_steps")],
}
RELEASES = [name for name, release in steps_of("steps.c", "start_steps") if release != "NULL"]


def ways(plan, steps):
    """(step, when, action): all, or one for each step, in turn."""
    if os.environ.get("VIV_FAULT_ALL") == "1":
        return [(step, *way) for step in steps for way in WAYS]
    offset = list(PLANS).index(plan) if plan in PLANS else 0
    return [(step, *WAYS[(i + offset) % 4]) for i, step in enumerate(steps)]


def test_the_steps_were_found():
    assert PLANS == {
        "pause": ["quiesce", "halt", "draft", "devices", "memory", "share", "commit"],
        "stop": ["quiesce", "halt"],
        "resume": ["layer", "rundir", "slot", "cgroup", "vmm", "wake", "durable"],
        "start": ["rundir", "slot", "cgroup", "vmm", "agent"],
    }
    assert RELEASES == ["rundir", "slot", "cgroup", "vmm"]


class World:
    """A daemon with one sandbox, on whose disk is a file, and in whose memory a process counts."""

    def __init__(self, instance):
        self.instance = instance
        assert instance.start(), instance.log_text()
        status, box = instance.create(name="subject", memoryMB=256)
        assert status == 201, box
        self.id = box["sandboxID"]
        self.mark, self.count = None, 0
        self.sum = self.sh("head -c 3000000 /dev/urandom > /home/user/file; sync;"
                           " sha256sum < /home/user/file")
        self.count_anew()

    def sh(self, command, **kw):
        r = self.instance.viv("exec", self.id, "--", "sh", "-c", command, **kw)
        assert r.returncode == 0, (r.stderr, self.instance.log_text()[-3000:])
        return r.stdout.decode().strip()

    def count_anew(self):
        self.sh("cat > /tmp/counter.py; nohup python3 /tmp/counter.py >/dev/null 2>&1 &", stdin=COUNTER.encode())
        said = vivarium.wait_for(lambda: self.sh("cat /dev/shm/count || true"), what="it counts")
        self.mark, self.count = said.split()

    def restart(self, fault=""):
        self.instance.stop()
        assert self.instance.start(fault=fault), self.instance.log_text()

    def state(self):
        return self.instance.get(f"/sandboxes/{self.id}")["vivarium"]["state"]

    def leaked(self):
        db = sqlite3.connect(f"file:{self.instance.state}/vivarium.db?mode=ro", uri=True)
        try:
            return db.execute("SELECT leaked FROM sandbox WHERE id = ?", (self.id,)).fetchone()[0]
        finally:
            db.close()

    def checkpoints(self):
        return [p.name for p in (self.instance.state / "sandboxes" / self.id).glob("checkpoints/*")]

    def pause(self, **body):
        return self.instance.request("POST", f"/sandboxes/{self.id}/pause", body)

    def connect(self, **body):
        return self.instance.request("POST", f"/v2/sandboxes/{self.id}/connect", {"timeout": None, **body})

    def ready(self, state, fault=""):
        """The sandbox runs, is paused, or is stopped, under a daemon with this fault."""
        if self.state() != "running":
            status, reply = self.connect()
            assert status == 201, reply
        if state == "stopped":
            assert self.pause(memory=False)[0] == 204
        elif state == "paused":
            assert self.pause()[0] == 204
        self.restart(fault)
        assert self.state() == state

    def try_it(self, call, action, fault):
        """Makes a call that meets the fault."""
        if action == "fail":
            status, body = call()
            assert status == 500 and f"fault injected at {fault}" in body["message"]
            return
        try:
            call()
        except GONE:
            pass  # it died before its answer
        assert self.instance.wait_dead() == -signal.SIGKILL
        assert self.instance.start(), self.instance.log_text()

    def check_host(self, state):
        """What is on the host is what the row says."""
        def settled():  # also what is done behind an operation: old checkpoints go, layers are merged
            half = [f for f in vivarium.files(self.instance) if f.endswith((".tmp", "layer.new"))]
            return self.state() == state and not self.leaked() and len(self.checkpoints()) <= 1 and not half

        vivarium.wait_for(settled, what=f"it is {state}: {self.state()}, {self.checkpoints()}")
        left = vivarium.inventory(self.instance, self.instance.tag)
        ours = f"state/sandboxes/{self.id}"
        alive = 1 if state == "running" else 0
        for kind in ("netns", "links", "processes"):
            assert (len(left[kind]) > 0) == (alive == 1), left
        assert len(left["processes"]) == alive and len(left["netns"]) == alive
        assert (self.id in left["cgroups"]) == (alive == 1)
        assert (f"run/{self.id}" in left["files"]) == (alive == 1)
        checkpoints = self.checkpoints()
        assert not [c for c in checkpoints if not c.isdigit()]
        assert len(checkpoints) == 1 or state != "paused"
        assert (f"{ours}/layer" in left["files"]) == (state != "paused")
        assert list(self.instance.rows()) == [self.id]

    def check_memory(self):
        """What ran goes on, and knows what it knew."""
        mark, count = self.sh("cat /dev/shm/count").split()
        assert mark == self.mark and int(count) >= int(self.count)
        vivarium.wait_for(lambda: int(self.sh("cat /dev/shm/count").split()[1]) > int(count), what="it counts on")
        self.count = count

    def check_disk(self):
        assert self.sh("sha256sum < /home/user/file") == self.sum

    def check_again(self):
        """The same once more, without a fault; nothing was lost."""
        self.restart()
        if self.state() == "running":
            status, reply = self.pause()
            assert status == 204, reply
            self.check_host("paused")
        status, reply = self.connect()
        assert status == 201, reply
        self.check_host("running")
        self.check_disk()


@pytest.fixture(scope="module")
def world(build, prepared):
    instance = vivarium.Instance(build, prepared)
    yield World(instance)
    instance.close()


@pytest.mark.parametrize("step, when, action", ways("pause", PLANS["pause"]))
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


@pytest.mark.parametrize("step, when, action", ways("release", RELEASES))
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


@pytest.mark.parametrize("step, when, action", ways("stop", PLANS["stop"]))
def test_stop(world, step, when, action):
    fault = f"stop.{step}.{when}"
    world.ready("running", f"{fault}={action}")
    world.try_it(lambda: world.pause(memory=False), action, fault)
    world.check_host("running")
    world.check_memory()
    world.check_again()


@pytest.mark.parametrize("step, when, action", ways("resume", PLANS["resume"]))
def test_resume(world, step, when, action):
    """Until it is handed out it stays paused."""
    fault = f"resume.{step}.{when}"
    world.ready("paused", f"{fault}={action}")
    world.try_it(world.connect, action, fault)
    world.check_host("paused")
    world.check_again()
    world.check_memory()


@pytest.mark.parametrize("step, when, action", ways("start", PLANS["start"]))
def test_start(world, step, when, action):
    fault = f"start.{step}.{when}"
    world.ready("stopped", f"{fault}={action}")
    world.try_it(world.connect, action, fault)
    world.check_host("stopped")
    world.check_again()
    world.count_anew()


@pytest.mark.parametrize("step, when, action", ways("start", PLANS["start"])[1::2])
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
    """It waits for the end of the other operation, however that ends, and then nothing is left."""
    instance = world.instance
    world.restart()
    status, victim = instance.create(name="victim", memoryMB=256)
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
    assert c.getresponse().status == (500 if fault else 204 if state == "running" else 201)
    c.close()
    assert list(instance.rows()) == [world.id]
    assert vid not in str(vivarium.inventory(instance, instance.tag))
