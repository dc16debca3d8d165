# SPDX-License-Identifier: Apache-2.0
"""All sandboxes come to rest at once: by a request, a signal, a verb, and by vivd --stop-all."""

import re
import signal
import subprocess

import pytest
import vivarium

PARALLEL = 2


def sh(instance, box, command):
    r = instance.viv("exec", box, "--", "sh", "-c", command)
    assert r.returncode == 0, r.stderr
    return r.stdout.decode().strip()


def states(instance):
    return {s["sandboxID"]: s["vivarium"]["state"] for s in instance.get("/v2/sandboxes?all=true")}


def pause_all(instance, **body):
    status, results = instance.request("POST", "/sandboxes/pause", body)
    assert status == 200, results
    return {r["sandboxID"]: r for r in results}


def resume(instance, *boxes):
    for box in boxes:
        assert instance.request("POST", f"/v2/sandboxes/{box}/connect", {"timeout": None})[0] == 201


def most_at_once(log):
    """How many pauses were under way at the same time, as the log has them."""
    now = most = 0
    for old, new in re.findall(r"event=sandbox.state id=\S+ from=(\w+) to=(\w+)", log):
        now += (new == "pausing") - (old == "pausing")
        most = max(most, now)
    return most


def stop_all(instance, *argv):
    return subprocess.run([instance.build / "src" / "vivd", "--stop-all", *argv], env=instance.env(),
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120 * vivarium.PATIENCE)


@pytest.fixture
def four(make_instance):
    instance = make_instance(pause_parallel=PARALLEL)
    assert instance.start(), instance.log_text()
    assert pause_all(instance) == {}
    status, box = instance.create(name="first")
    assert status == 201, box
    first = box["sandboxID"]
    sh(instance, first, "echo kept > /dev/shm/memory; echo kept > /home/user/file; sync")
    status, made = instance.request("POST", f"/sandboxes/{first}/fork", {"timeout": 3600, "count": 3})
    assert status == 201, made
    return instance, first, [m["sandbox"]["sandboxID"] for m in made]


def test_pause_of_all(four):
    instance, first, others = four
    # One cannot be: it is named, and runs on.
    hurdle = instance.state / "sandboxes" / others[0] / "checkpoints"
    if hurdle.exists():
        hurdle.rename(hurdle.with_name("aside"))
    hurdle.symlink_to("nowhere")
    results = pause_all(instance)
    assert set(results) == {first, *others}
    failed = results.pop(others[0])
    assert failed["error"]["code"] == 500 and "pause sandbox" in failed["error"]["message"]
    assert all("error" not in r for r in results.values()) and results[first]["name"] == "first"
    assert states(instance) == {first: "paused", others[0]: "running", others[1]: "paused", others[2]: "paused"}
    assert 1 <= most_at_once(instance.log_text()) <= PARALLEL
    assert sh(instance, others[0], "cat /dev/shm/memory") == "kept"
    hurdle.unlink()
    aside = hurdle.with_name("aside")
    if aside.exists():
        aside.rename(hurdle)
    # A signal, after which vivd serves on.
    resume(instance, first, others[1])
    instance.process.send_signal(signal.SIGUSR1)
    vivarium.wait_for(lambda: "event=vivd.paused_all paused=3 failed=0" in instance.log_text(), what="it says so")
    assert set(states(instance).values()) == {"paused"}
    # The verbs.
    resume(instance, first, others[0])
    r = instance.viv("pause", "--all")
    assert (r.returncode, sorted(r.stdout.decode().split())) == (0, sorted(["first", others[0]])), r.stderr
    resume(instance, first)
    assert sh(instance, first, "cat /dev/shm/memory") == "kept"
    assert instance.viv("stop", "--all").stdout == b"first\n"
    assert states(instance)[first] == "stopped"
    assert instance.request("POST", "/sandboxes/pause", {"memory": 1})[0] == 400


def test_vivd_stop_all(four):
    instance, first, others = four
    assert instance.request("DELETE", f"/sandboxes/{others.pop()}")[0] == 204
    # The vivd that runs does it, and serves on.
    r = stop_all(instance)
    assert (r.returncode, sorted(r.stdout.split())) == (0, sorted(["first", *others])), r.stderr
    assert set(states(instance).values()) == {"stopped"}
    # Without one it is done all the same, and nobody serves.
    assert instance.viv("start", "first").returncode == 0
    instance.stop()
    r = stop_all(instance)
    assert (r.returncode, r.stdout) == (0, "first\n"), r.stderr
    assert vivarium.inventory(instance, instance.tag)["processes"] == []
    assert set(instance.rows().values()) == {"stopped"}
    r = stop_all(instance)
    assert (r.returncode, r.stdout) == (0, ""), r.stderr
    r = stop_all(instance, "doctor")
    assert r.returncode == 1 and "--stop-all goes with no command" in r.stderr
    # What cannot be stopped is named, and runs on.
    assert instance.start(fault="stop.quiesce.before=fail"), instance.log_text()
    assert instance.viv("start", "first").returncode == 0
    r = stop_all(instance)
    assert r.returncode == 1 and r.stdout == "", r.stdout
    assert "vivd: first: " in r.stderr and "1 of 1 sandboxes could not be stopped" in r.stderr
    assert sh(instance, first, "cat /home/user/file") == "kept"
