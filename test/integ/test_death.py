# SPDX-License-Identifier: Apache-2.0
"""A VM that ends unasked: why is told, its disk stays, and its restart policy starts it again."""

import json
import os
import pathlib
import signal

import pytest
import vivarium

V1_MEMORY = pathlib.Path("/sys/fs/cgroup/memory")


def root(instance, box, command):
    return instance.viv("exec", "--user", "root", box, "--", "sh", "-c", command)


def own(instance, box):
    return instance.get(f"/sandboxes/{box}")["vivarium"]


def create(instance, **vivarium_fields):
    status, box = instance.request("POST", "/v2/sandboxes", {
        "templateID": "base", "timeout": None, "vivarium": vivarium_fields})
    assert status == 201, box
    return box["sandboxID"]


def events(instance, box, after=0):
    return [(e["type"], e.get("cause"), e.get("error", "")) for e in instance.get(f"/events?sandbox={box}&after={after}")]


def last_event(instance):
    return max((e["id"] for e in instance.get("/events?limit=1000")), default=0)


class Death:
    """Ends a VM, and has seen what followed."""

    def __init__(self, instance, box, end, restarts):
        before, pid = last_event(instance), own(instance, box)["vmmPid"]
        end(pid)
        want = 2 if restarts else 1
        self.seen = vivarium.wait_for(lambda: [e for e in [events(instance, box, before)] if len(e) >= want],
                                      what=f"{want} events")[0]
        self.type, self.cause, self.error = self.seen[0]
        assert self.type == "stopped"
        if restarts:
            assert self.seen[1][:2] == ("running", "restart"), self.seen
            assert own(instance, box)["vmmPid"] != pid
        else:
            vivarium.wait_for(lambda: own(instance, box).get("restarting") is not True, what="it is left")


def kill(pid):
    os.kill(pid, signal.SIGKILL)


def test_reasons_and_restarts(make_instance):
    instance = make_instance()
    assert instance.start(), instance.log_text()
    box = create(instance, name="phoenix", restart="on-failure:3")
    assert own(instance, box)["restart"] == "on-failure:3" and own(instance, box)["restartTries"] == 0
    assert instance.viv("exec", box, "--", "sh", "-c", "echo kept > /home/user/file; sync").returncode == 0

    def panic(_):
        root(instance, box, "echo c > /proc/sysrq-trigger")

    # A panic is told apart, by the kernel's own words; what it was is seen after the restart, too.
    death = Death(instance, box, panic, restarts=True)
    assert death.cause == "panic" and "the guest's kernel panicked: Kernel panic - not syncing" in death.error
    assert "console: " in death.error and "panicked" in own(instance, box)["lastError"]
    assert own(instance, box)["restartTries"] == 1 and own(instance, box)["restarting"] is False
    assert instance.viv("exec", box, "--", "cat", "/home/user/file").stdout == b"kept\n"
    # A VMM that is killed, while vivd is away and while it waits to start it again.
    instance.stop(signal.SIGKILL)
    kill(json.loads((instance.run_dir / box / "handles.json").read_text())["pid"])
    assert instance.start(), instance.log_text()
    vivarium.wait_for(lambda: own(instance, box)["state"] == "running", what="it is started again")
    assert [e[:2] for e in events(instance, box)][-2:] == [("stopped", "lost"), ("running", "restart")]
    assert own(instance, box)["restartTries"] == 2
    before, pid = last_event(instance), own(instance, box)["vmmPid"]
    kill(pid)
    vivarium.wait_for(lambda: events(instance, box, before), what="it stopped")
    instance.stop(signal.SIGKILL)
    assert instance.start(), instance.log_text()
    vivarium.wait_for(lambda: own(instance, box)["state"] == "running", what="the next vivd starts it again")
    assert own(instance, box)["restartTries"] == 3
    # An end too many.
    death = Death(instance, box, kill, restarts=False)
    assert death.cause == "vmm"
    vivarium.wait_for(lambda: "event=sandbox.restart_given_up" in instance.log_text(), what="it says so")
    assert own(instance, box)["state"] == "stopped"
    # By hand it is started all the same, and begins anew; the guest's own end is no failure.
    assert instance.viv("start", box).returncode == 0
    assert own(instance, box)["restartTries"] == 0 and "lastError" not in own(instance, box)
    death = Death(instance, box, lambda _: root(instance, box, "echo b > /proc/sysrq-trigger"), restarts=False)
    assert death.cause == "exit" and "the guest ended itself" in death.error
    assert own(instance, box)["state"] == "stopped" and own(instance, box)["restartTries"] == 0
    # Stopped and paused by hand, it is left alone.
    assert instance.viv("start", box).returncode == 0
    assert instance.viv("stop", box).returncode == 0
    assert own(instance, box)["restarting"] is False
    text = instance.viv("events", box).stdout.decode()
    assert "(panic)" in text and "by its restart policy" in text


def test_without_a_policy_it_stays_stopped(shared):
    box = create(shared)
    assert own(shared, box)["restart"] == "no" and "restarting" not in own(shared, box)
    death = Death(shared, box, kill, restarts=False)
    assert death.cause == "vmm" and "signal 9" in death.error and "console: " in death.error
    assert shared.viv("start", box).returncode == 0
    death = Death(shared, box, lambda pid: os.kill(pid, signal.SIGTERM), restarts=False)
    assert death.cause == "vmm" and "asked the VMM to end" in death.error
    assert shared.viv("rm", box).returncode == 0
    for wrong in ("always", "on-failure:0", "on-failure:", "on-failures", 3):
        status, reply = shared.request("POST", "/v2/sandboxes", {"templateID": "base", "vivarium": {"restart": wrong}})
        assert status == 400 and "vivarium.restart" in reply["message"], reply
    r = shared.viv("create", "--restart", "sometimes")
    assert r.returncode == 2 and b"on-failure" in r.stderr


@pytest.fixture
def little_memory():
    """Puts a process where it gets no more memory than it has."""
    if not (V1_MEMORY / "memory.limit_in_bytes").exists():
        pytest.skip("needs a cgroup v1 memory hierarchy: a VMM's own cgroup has no limit")
    group = V1_MEMORY / f"viv-test-oom-{os.getpid()}"
    group.mkdir()
    yield group
    vivarium.wait_for(lambda: not (group / "cgroup.procs").read_text().split(), what="it is empty")
    group.rmdir()


def test_out_of_memory(shared, little_memory):
    box = create(shared)

    def starve(pid):
        (little_memory / "memory.limit_in_bytes").write_text(str(8 << 20))
        (little_memory / "cgroup.procs").write_text(str(pid))
        root(shared, box, "head -c 90M /dev/zero > /dev/shm/much")

    death = Death(shared, box, starve, restarts=False)
    assert death.cause == "oom" and "ran out of memory" in death.error
    assert shared.viv("rm", box).returncode == 0
