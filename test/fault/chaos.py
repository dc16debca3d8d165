#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
Operations on many sandboxes at once, and what may go wrong meanwhile, at random. What each sandbox may have on its disk
is known at every moment: what was written and answered is there, what was not answered may be.

usage: chaos.py [--seed N] [--rounds N] [--sandboxes N]

The same seed makes the same choices in the same order, as long as sandboxes come to the same states; what meets what
is the machine's matter.
"""

import argparse
import concurrent.futures
import contextlib
import os
import pathlib
import random
import secrets
import signal
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
import vivarium  # noqa: E402
from place import Place  # noqa: E402
from subject import GONE  # noqa: E402

DISK_MB, MEMORY_MB = 6000, 128
AT_ONCE = 4
WEIGHTS = {"write": 6, "pause": 3, "stop": 1, "resume": 5, "checkpoint": 3, "rollback": 2, "fork": 2, "snapshot": 1,
           "destroy": 1}
HARM = {None: 5, "kill vivd": 4, "kill a VMM": 3, "fill the disk": 1, "restart vivd": 1}
WRITE = "echo {0} > /home/user/kept.new && mv /home/user/kept.new /home/user/kept && sync"


class Box:
    """A sandbox: what its disk may have, now and at each of its checkpoints."""

    def __init__(self, id, may):
        self.id, self.may, self.checkpoints, self.doomed = id, set(may), {}, False


class Chaos(Place):
    def __init__(self, instance, seed, most):
        self.instance, self.most = instance, most
        self.random = random.Random(seed)
        self.boxes, self.written = [], 0
        instance.on_small_disk(DISK_MB)
        instance.own_templates()
        assert instance.start(), instance.log_text()
        r = instance.viv("template", "warm", "--memory", f"{MEMORY_MB}M", "base")
        assert r.returncode == 0, r.stderr
        for _ in range(min(4, most)):
            self.create()

    def ask(self, method, path, body=None):
        """Status and reply; (None, None) if there was none."""
        try:
            return self.instance.request(method, path, body)
        except GONE:
            return None, None

    def sh(self, box, command):
        return self.ask("POST", f"/sandboxes/{box.id}/exec", {"cmd": command})

    # Operations: each takes a sandbox, and learns what became of it from the answer.

    def create(self, _=None):
        status, box = self.ask("POST", "/v2/sandboxes", {"templateID": "base", "timeout": None,
                                                        "vivarium": {"memoryMB": MEMORY_MB}})
        if status == 201:
            self.boxes.append(Box(box["sandboxID"], {""}))
        return status

    def write(self, box):
        self.written += 1
        value = f"{self.written:06d}"
        box.may |= {value}
        status, said = self.sh(box, WRITE.format(value))
        if status == 200 and said["exitCode"] == 0:
            box.may = {value}
        return status

    def pause(self, box):
        return self.ask("POST", f"/sandboxes/{box.id}/pause", {})[0]

    def stop(self, box):
        return self.ask("POST", f"/sandboxes/{box.id}/pause", {"memory": False})[0]

    def resume(self, box):
        return self.ask("POST", f"/v2/sandboxes/{box.id}/connect", {"timeout": None})[0]

    def checkpoint(self, box):
        status, made = self.ask("POST", f"/sandboxes/{box.id}/checkpoints", {})
        if status == 201:
            box.checkpoints[made["generation"]] = set(box.may)
        return status

    def rollback(self, box):
        """To the newest that we were told of; it may have gone since."""
        if not box.checkpoints:
            return None
        generation = max(box.checkpoints)
        status, _ = self.ask("POST", f"/sandboxes/{box.id}/rollback", {"generation": generation})
        if status in (200, 201):
            box.may = set(box.checkpoints[generation])
        elif status not in (400, 404, 409):
            box.may |= box.checkpoints[generation]
        return status

    def fork(self, box):
        status, children = self.ask("POST", f"/sandboxes/{box.id}/fork", {"count": 1, "timeout": 3600})
        if status == 201:
            self.boxes += [Box(c["sandbox"]["sandboxID"], box.may) for c in children if "sandbox" in c]
        return status

    def snapshot(self, box):
        name = f"of-{box.id}"
        status, _ = self.ask("POST", f"/sandboxes/{box.id}/snapshots", {"name": name})
        if status == 201:
            status, made = self.ask("POST", "/v2/sandboxes", {"templateID": name, "timeout": None})
            if status == 201:
                self.boxes.append(Box(made["sandboxID"], box.may))
        return status

    def destroy(self, box):
        box.doomed = True
        status, _ = self.ask("DELETE", f"/sandboxes/{box.id}")
        if status in (204, 404):
            self.boxes.remove(box)
        return status

    # What goes wrong.

    def harm(self, what, late_s):
        time.sleep(late_s)
        if what == "kill vivd":
            self.instance.process.kill()
        elif what == "restart vivd":
            self.instance.process.terminate()
        elif what == "kill a VMM":
            with contextlib.suppress(ProcessLookupError, IndexError):
                os.kill(self.random_vmm(), signal.SIGKILL)
        elif what == "fill the disk":
            with self.full_disk():
                time.sleep(1)

    def random_vmm(self):
        return vivarium.inventory(self.instance, self.instance.tag)["processes"][self.chosen % self.most]

    def round(self):
        """Some operations at once, each on a sandbox of its own, and some harm."""
        picked = self.random.sample(self.boxes, min(AT_ONCE, len(self.boxes)))
        todo = [(self.fitting(name, box), box) for name, box in zip(self.choose(WEIGHTS, len(picked)), picked)]
        if len(self.boxes) < self.most:
            todo[-1:] = [("create", None)]
        [what] = self.choose(HARM, 1)
        self.chosen, late_s = self.random.randrange(1000), self.random.uniform(0, 0.8)
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE + 1) as workers:
            answers = [workers.submit(getattr(self, name), box) for name, box in todo]
            harm = workers.submit(self.harm, what, late_s)
            said = [f"{name}:{answer.result()}" for (name, _), answer in zip(todo, answers)]
            harm.result()
        print(f"{len(self.boxes):3} sandboxes  {', '.join(said)}" + (f"; {what} after {late_s:.2f} s" if what else ""),
              flush=True)
        if self.instance.process.poll() is not None or what in ("kill vivd", "restart vivd"):
            self.instance.process.wait()
            assert self.instance.start(), self.instance.log_text()[-3000:]

    def fitting(self, name, box):
        """Most operations are of one that runs; there are not to be more and more."""
        if name in ("fork", "snapshot") and len(self.boxes) >= self.most:
            return "destroy"
        state, _ = self.rows().get(box.id, (None, None))
        return name if state == "running" or name in ("destroy", "rollback") else "resume"

    def choose(self, weights, n):
        return self.random.choices(list(weights), list(weights.values()), k=n)

    # What must be true.

    def check(self):
        """The host holds what the rows say; nothing is there that nobody was given, and nothing that was is lost."""
        self.check_host()
        there = set(self.rows())
        self.boxes = [b for b in self.boxes if b.id in there or not b.doomed]
        known = {b.id for b in self.boxes}
        assert known <= there, f"lost: {known - there}"
        for unknown in there - known:  # of an operation whose answer never came
            assert self.instance.request("DELETE", f"/sandboxes/{unknown}")[0] == 204

    def check_disks(self):
        """Each goes on or boots, and has what it may have."""
        for box in self.boxes:
            status = self.resume(box)
            assert status in (200, 201), (box.id, status, self.get(f"/sandboxes/{box.id}"))
            status, said = self.sh(box, "cat /home/user/kept 2>/dev/null || true")
            assert status == 200 and said["exitCode"] == 0, said
            assert said["stdout"].strip() in box.may, (box.id, said, box.may)


def run(instance, seed, rounds, most):
    chaos = Chaos(instance, seed, most)
    for number in range(1, rounds + 1):
        chaos.round()
        if number % 5 == 0 or number == rounds:
            chaos.check()
    chaos.check_disks()
    chaos.check()
    return chaos


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1000000))
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--sandboxes", type=int, default=20)
    options = parser.parse_args()
    build = pathlib.Path(os.environ.get("VIV_BUILD", HERE.parents[1] / "build")).resolve()
    prepared = pathlib.Path(os.environ.get("VIV_TEST_STATE", build / "test-state"))
    assert vivarium.run(build / "src" / "vivd", "prepare", f"--state-dir={prepared}").returncode == 0
    instance = vivarium.Instance(build, prepared)
    print(f"seed {options.seed}")
    try:
        run(instance, options.seed, options.rounds, options.sandboxes)
    finally:
        instance.close()
    print(f"seed {options.seed}: {options.rounds} rounds, nothing lost, nothing left")


if __name__ == "__main__":
    main()
