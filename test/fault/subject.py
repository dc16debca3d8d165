# SPDX-License-Identifier: Apache-2.0
"""What the tests of faults share: the plans' steps as the sources have them, and a sandbox that must survive."""

import contextlib
import http.client
import os
import pathlib
import re
import signal

import vivarium

SOURCES = pathlib.Path(__file__).parents[2] / "src" / "sandbox"
STEP = re.compile(r'\{ "(\w+)", STEP_\w+, \w+, (\w+),')
GONE = (ConnectionError, http.client.HTTPException, OSError)
WAYS = [("before", "fail"), ("after", "kill"), ("after", "fail"), ("before", "kill")]
# Counts in /dev/shm/count, and runs no other program for it: each costs an emulated guest much.
COUNTER = """
mkfifo /dev/shm/tick
exec 3<>/dev/shm/tick
mark=$SRANDOM$SRANDOM n=0
while :; do
    n=$((n + 1))
    printf '%s %09d\\n' $mark $n 1<>/dev/shm/count
    read -t 0.1 -u 3
done
"""
# What it says; a shell reads it by itself.
COUNT = "read -r line </dev/shm/count; echo $line"
# The same, and once more as soon as it is another.
COUNTS_ON = f"""
{COUNT}
while read -r next </dev/shm/count; [ "$next" = "$line" ]; do sleep 0.02; done
echo $next
"""


def steps_of(file, table):
    text = (SOURCES / file).read_text()
    return STEP.findall(text.split(f"struct step {table}[] = {{", 1)[1].split("};", 1)[0])


def ways(steps, first=0):
    """(step, when, action): all, or one for each step, in turn from the @first on."""
    if os.environ.get("VIV_FAULT_ALL") == "1":
        return [(step, *way) for step in steps for way in WAYS]
    return [(step, *WAYS[(i + first) % 4]) for i, step in enumerate(steps)]


def some(steps, first):
    """As ways(), but only every second one by default."""
    return ways(steps, first)[::1 if os.environ.get("VIV_FAULT_ALL") == "1" else 2]


class World:
    """A daemon with one sandbox, on whose disk is a file, and in whose memory a process counts. It was made of an
    image, or, with vivarium.BOOTED, booted."""

    def __init__(self, instance, **size):
        self.instance = instance
        assert instance.start(), instance.log_text()
        status, box = instance.create(name="subject", **size)
        assert status == 201, box
        self.id = box["sandboxID"]
        self.mark, self.count = None, 0
        self.sum = self.sh("head -c 1000000 /dev/urandom > /home/user/file; sync;"
                           " sha256sum < /home/user/file")
        self.count_anew()

    def sh(self, command, **kw):
        r = self.instance.viv("exec", self.id, "--", "sh", "-c", command, **kw)
        assert r.returncode == 0, (r.stderr, self.instance.log_text()[-3000:])
        return r.stdout.decode().strip()

    def count_anew(self):
        self.sh("cat > /tmp/counter; nohup bash /tmp/counter >/dev/null 2>&1 &", stdin=COUNTER.encode())
        said = vivarium.wait_for(lambda: self.sh(f"test -e /dev/shm/count && {COUNT} || true"), what="it counts")
        self.mark, self.count = said.split()

    def restart(self, fault=""):
        self.instance.stop()
        assert self.instance.start(fault=fault), self.instance.log_text()

    def state(self):
        return self.instance.get(f"/sandboxes/{self.id}")["vivarium"]["state"]

    def leaked(self):
        return self.instance.query("SELECT leaked FROM sandbox WHERE id = ?", self.id)[0][0]

    def checkpoints(self):
        return [p.name for p in (self.instance.state / "sandboxes" / self.id).glob("checkpoints/*")]

    def checkpoint(self):
        return self.instance.request("POST", f"/sandboxes/{self.id}/checkpoints", {})

    def forget_checkpoints(self):
        for checkpoint in self.instance.get(f"/sandboxes/{self.id}/checkpoints"):
            path = f"/sandboxes/{self.id}/checkpoints/{checkpoint['generation']}"
            assert self.instance.request("DELETE", path)[0] == 204

    def fork(self, count=1):
        return self.instance.request("POST", f"/sandboxes/{self.id}/fork", {"timeout": 600, "count": count})

    def rollback(self, **body):
        return self.instance.request("POST", f"/sandboxes/{self.id}/rollback", body)

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
        with contextlib.suppress(*GONE):  # it died before its answer
            answer = call()
            assert self.instance.process.wait(10) == -signal.SIGKILL, answer
        assert self.instance.wait_dead() == -signal.SIGKILL
        assert self.instance.start(), self.instance.log_text()

    def check_host(self, state, most=1):
        """What is on the host is what the row says; it has @most checkpoints."""
        def settled():  # also what is done behind an operation: old checkpoints go, layers are merged
            half = [f for f in vivarium.files(self.instance) if f.endswith((".tmp", "layer.new", "/passing"))]
            return self.state() == state and not self.leaked() and len(self.checkpoints()) <= most and not half

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
        assert len(checkpoints) >= 1 or state != "paused"
        assert (f"{ours}/layer" in left["files"]) == (state != "paused")
        assert list(self.instance.rows()) == [self.id]

    def check_memory(self):
        """What ran goes on, and knows what it knew."""
        mark, count, *then = self.sh(COUNTS_ON).split()
        assert mark == self.mark == then[0] and int(self.count) <= int(count) < int(then[1])
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
