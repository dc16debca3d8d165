# SPDX-License-Identifier: Apache-2.0
"""Pause and resume, as a client sees them, and what is on the host meanwhile."""

import json
import os
import signal
import threading
import time

import pytest
import vivarium

COUNTER = """
import os, time
n = 0
while True:
    n += 1
    with open('/home/user/count.tmp', 'w') as f:
        f.write(str(n))
    os.rename('/home/user/count.tmp', '/home/user/count')
    time.sleep(0.02)
"""


def create(instance, *args):
    r = instance.viv("create", *args)
    assert r.returncode == 0, r.stderr
    return r.stdout.decode().split()[0]


def sh(instance, sandbox, command, **kw):
    r = instance.viv("exec", sandbox, "--", "sh", "-c", command, **kw)
    assert r.returncode == 0, r.stderr
    return r.stdout.decode().strip()


def pause(instance, sandbox, **body):
    status, reply = instance.request("POST", f"/sandboxes/{sandbox}/pause", body)
    assert status == 204, reply


def connect(instance, sandbox, **body):
    status, reply = instance.request("POST", f"/v2/sandboxes/{sandbox}/connect", body)
    assert status in (200, 201), reply
    return status


def state(instance, sandbox):
    return instance.get(f"/sandboxes/{sandbox}")["vivarium"]["state"]


def test_goes_on_where_it_was(shared):
    box = create(shared, "--name", "goes-on", "--env", "WHO=me")
    sh(shared, box, "cat > /tmp/counter.py", stdin=COUNTER.encode())
    sh(shared, box, "echo 'kept on disk' > /home/user/file; nohup python3 /tmp/counter.py >/dev/null 2>&1 &")
    vivarium.wait_for(lambda: sh(shared, box, "cat /home/user/count 2>/dev/null; true"), what="it counts")
    pid = sh(shared, box, "pgrep -f [c]ounter.py")
    boot = sh(shared, box, "cat /proc/sys/kernel/random/boot_id")
    for round_ in range(3):
        before = int(sh(shared, box, "cat /home/user/count"))
        pause(shared, box)
        assert state(shared, box) == "paused"
        left = vivarium.inventory(shared, shared.tag)
        assert not left["netns"] and not left["links"] and box not in str(left["cgroups"])
        assert connect(shared, box) == 201
        assert state(shared, box) == "running"
        assert sh(shared, box, "pgrep -f [c]ounter.py") == pid
        assert sh(shared, box, "cat /home/user/file; echo $WHO; cat /proc/sys/kernel/random/boot_id") == \
            f"kept on disk\nme\n{boot}"
        after = int(sh(shared, box, "cat /home/user/count"))
        assert before <= after < before + 2000
        vivarium.wait_for(lambda: int(sh(shared, box, "cat /home/user/count")) > after, what="it counts on")
    assert connect(shared, box) == 200
    drift = abs(float(sh(shared, box, "date +%s.%N")) - time.time())
    assert drift < 5
    shared.request("DELETE", f"/sandboxes/{box}")


def test_resume_says_what_becomes_of_it(shared):
    """autoPause of /resume, deprecated, but not ignored: it changes what create said, and not saying it does not."""
    box = create(shared, "--name", "says-what")

    def resumed(**body):
        pause(shared, box)
        return shared.request("POST", f"/sandboxes/{box}/resume", {"timeout": 600, **body})

    def at_its_end():
        return shared.get(f"/sandboxes/{box}")["lifecycle"]["onTimeout"]

    assert at_its_end() == "kill"
    for wish, end in (({"autoPause": True}, "pause"), ({}, "pause"), ({"autoPause": None}, "pause"),
                      ({"autoPause": False}, "kill")):
        status, reply = resumed(**wish)
        assert status == 201, reply
        assert at_its_end() == end, wish
    status, reply = resumed(autoPause="yes")
    assert status == 400 and "autoPause" in reply["message"]
    assert state(shared, box) == "paused"
    shared.request("DELETE", f"/sandboxes/{box}")


def test_errors(shared):
    box = create(shared, "--name", "errors")
    pause(shared, box)
    status, reply = shared.request("POST", f"/sandboxes/{box}/pause", {})
    assert status == 409 and "paused already" in str(reply)
    status, reply = shared.request("POST", "/sandboxes/nosuch/pause", {})
    assert status == 404
    status, reply = shared.request("POST", f"/sandboxes/{box}/resume", {"timeout": 60})
    assert status == 201, reply
    status, reply = shared.request("POST", f"/sandboxes/{box}/resume", {"timeout": 60})
    assert status == 409
    shared.request("DELETE", f"/sandboxes/{box}")
