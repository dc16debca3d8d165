# SPDX-License-Identifier: Apache-2.0
"""The idle timeout: what is not used is paused or removed; what is open into it, or works in it, is use."""

import signal

import vivarium

IDLE_S = 2
JOB = """
i=0
while [ $i -lt 60000 ]; do i=$((i + 1)); done
echo done > /dev/shm/job
"""


def create(instance, **own):
    status, box = instance.request("POST", "/v2/sandboxes", {"templateID": "base", "timeout": None,
                                                             "vivarium": own})
    assert status == 201, box
    return box["sandboxID"]


def sh(instance, box, command):
    """On a busy machine a command may come so late that the sandbox is paused again."""
    r = instance.viv("exec", box, "--", "sh", "-c", command)
    while b"is paused" in r.stderr:
        assert instance.viv("resume", box).returncode == 0
        r = instance.viv("exec", box, "--", "sh", "-c", command)
    assert r.returncode == 0, r.stderr
    return r.stdout.decode().strip()


def own(instance, box):
    return instance.get(f"/sandboxes/{box}")["vivarium"]


def last_event(instance, box):
    return instance.get(f"/events?sandbox={box}&limit=1000")[-1]


def wait_paused(instance, box):
    vivarium.wait_for(lambda: own(instance, box)["state"] == "paused", timeout=180, what="it is paused")


def test_what_is_used_goes_on(shared):
    box = create(shared, idle=IDLE_S)
    assert (own(shared, box)["idle"], own(shared, box)["onIdle"]) == (IDLE_S, "pause")
    # A quiet stream is use; its end is not the end of it.
    assert sh(shared, box, f"sleep {3 * IDLE_S}; echo on") == "on"
    assert not [e for e in shared.get(f"/events?sandbox={box}") if e["type"] == "paused"]
    # So is a job that nobody waits for: the pause comes when it is done.
    sh(shared, box, f"nohup sh -c '{JOB}' >/dev/null 2>&1 &")
    wait_paused(shared, box)
    assert last_event(shared, box)["cause"] == "idle"
    # Whoever resumes it has its whole time anew.
    assert shared.viv("resume", box).returncode == 0
    assert sh(shared, box, "cat /dev/shm/job") == "done"
    assert shared.request("POST", f"/sandboxes/{box}/ping")[0] == 204
    assert b"by its idle timeout" in shared.viv("events", box).stdout
    wait_paused(shared, box)
    assert shared.viv("rm", box).returncode == 0


def test_removed_when_idle(shared):
    r = shared.viv("create", "--name", "brief", "--idle", "1s", "--on-idle", "kill")
    assert r.returncode == 0, r.stderr
    box = r.stdout.decode().strip()
    vivarium.wait_for(lambda: last_event(shared, box)["type"] == "killed", timeout=180, what="it is removed")
    assert last_event(shared, box)["cause"] == "idle"
    assert shared.request("GET", f"/sandboxes/{box}")[0] == 404
    for wrong in ({"idle": 0}, {"idle": "1m"}, {"onIdle": "kill"}, {"idle": 60, "onIdle": "stop"}):
        status, reply = shared.request("POST", "/v2/sandboxes", {"templateID": "base", "vivarium": wrong})
        assert status == 400 and "vivarium." in reply["message"], reply
    r = shared.viv("create", "--idle", "soon")
    assert r.returncode == 2 and b"90s, 15m or 2h" in r.stderr


def test_a_pause_that_fails_removes_nothing(make_instance):
    instance = make_instance(fault="pause.memory.before=fail")
    assert instance.start(), instance.log_text()
    box = create(instance, idle=IDLE_S)
    sh(instance, box, "echo kept > /dev/shm/memory")
    vivarium.wait_for(lambda: instance.log_text().count("event=sandbox.idle_failed") > 1, timeout=180,
                      what="it fails, and is tried again")
    assert sh(instance, box, "cat /dev/shm/memory") == "kept"
    instance.stop()
    del instance.settings["fault"]
    assert instance.start(), instance.log_text()
    wait_paused(instance, box)
    assert instance.viv("resume", box).returncode == 0
    assert sh(instance, box, "cat /dev/shm/memory") == "kept"


def test_a_policy_is_changed(shared):
    box = create(shared, idle=3600, onIdle="kill")
    policy = ("restart", "idle", "onIdle")
    assert shared.viv("set", "--restart", "on-failure:3", box).returncode == 0
    detail = own(shared, box)
    assert [detail.get(k) for k in policy] == ["on-failure:3", 3600, "kill"]  # the rest stays
    r = shared.viv("set", "--idle", "no", "--restart", "no", box)
    assert r.returncode == 0, r.stderr
    detail = own(shared, box)
    assert [detail.get(k) for k in policy] == ["no", None, None]
    # With what the guest is told, and at once.
    status, detail = shared.request("PATCH", f"/sandboxes/{box}", {
        "envs": {"NEW": "1"}, "vivarium": {"idle": IDLE_S, "restart": "on-failure"}})
    assert (status, [detail["vivarium"].get(k) for k in policy]) == (200, ["on-failure:10", IDLE_S, "pause"])
    wait_paused(shared, box)
    for wrong in ({"idle": 0}, {"idle": "1m"}, {"onIdle": "stop"}, {"restart": "always"}, {"cpus": 2},
                  {"idle": None, "onIdle": "kill"}):
        status, reply = shared.request("PATCH", f"/sandboxes/{box}", {"vivarium": wrong})
        assert status == 400 and "vivarium." in reply["message"], reply
    assert shared.request("PATCH", f"/sandboxes/{box}", {"vivarium": None})[0] == 400
    # At rest, and it outlives vivd.
    assert shared.viv("set", "--idle", "2h", "--on-idle", "kill", box).returncode == 0
    shared.stop(signal.SIGKILL)
    assert shared.start()
    detail = own(shared, box)
    assert [detail.get(k) for k in policy] == ["on-failure:10", 7200, "kill"]
    assert shared.viv("set", box).returncode == 2
    assert shared.viv("set", "--idle", "1h", "nosuch").returncode == 1
    assert shared.viv("rm", box).returncode == 0
