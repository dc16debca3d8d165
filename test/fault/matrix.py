# SPDX-License-Identifier: Apache-2.0
"""
The fault matrix: operations, the steps that each of them takes, and what can go wrong at a step. Whatever does, the
host then holds what the rows say, nothing is lost, and the operation succeeds when it is asked for again.

A cell is one operation, one step of it and one way. All of them are run with VIV_MATRIX_ALL=1 (`make fault`), else a
part: steps that fail, and a daemon killed before or behind them, are met in the tests of each operation beside this.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import threading
import time
from typing import Callable

import subject
import vivarium
from place import Place
from subject import GONE, steps_of

FAILS = ("fails before", "fails after")
KILLS = ("killed before", "killed within", "killed after")
OTHERS = ("VMM killed", "disk full", "client gone")
WAYS = FAILS + KILLS + OTHERS
DISK_MB = 1400
VICTIM = "victim"


def names(file, table):
    return [name for name, _ in steps_of(file, table)]


def releases(file, table):
    """In the order in which they are released."""
    return [name for name, release in steps_of(file, table) if release != "NULL"][::-1]


@dataclasses.dataclass(frozen=True)
class Operation:
    """One operation: how it begins, what is asked for, and what may have become of the subject after a fault."""

    name: str
    points: tuple                 # (plan, step), in the order in which they are met
    begins: str                   # state of the subject: running, paused, stopped
    ask: Callable                 # of a world: method, target, body of the request
    ends: str                     # state of the subject when it succeeded
    answers: tuple                # status when it succeeded
    between: tuple = ()           # states beside these that a fault may leave
    remembers: bool = True        # what ran in the subject goes on, if it is not stopped
    has_vmm: bool = True          # a VMM takes part
    before: Callable = lambda world: None  # makes what the operation needs beside the subject


def plan(name, steps):
    return tuple((name, step) for step in steps)


def victims(body):
    return lambda world: ("POST", "/v2/sandboxes", {"timeout": None, "templateID": "base",
                                                    "vivarium": {"name": VICTIM, **body}})


def of_subject(method, path, body=None):
    return lambda world: (method, f"/{path.format(world.id)}", body)


CREATE, START = names("steps.c", "create_steps"), names("steps.c", "start_steps")
CLONE, RESUME = names("steps-restore.c", "clone_steps"), names("steps-restore.c", "resume_steps")
CHECKPOINT, PAUSE = names("steps-save.c", "checkpoint_steps"), names("steps-save.c", "pause_steps")
# The first step at which there is a VMM, of plans that make one.
VMM_FROM = {"create": "agent", "clone": "wake", "resume": "wake", "start": "agent", "warm": "agent"}
# Plans in which the VMM of a sandbox beside the subject is made.
OF_OTHERS = ("create", "clone", "warm")
OF_A_REST = plan("release", releases("steps.c", "start_steps"))

OPERATIONS = [
    Operation("create", plan("create", CREATE), "running", victims(vivarium.BOOTED), "running", (201,)),
    Operation("create warm", plan("clone", CLONE), "running", victims({}), "running", (201,),
              before=lambda world: world.see_to_image()),
    Operation("destroy", plan("release", releases("steps.c", "create_steps")), "running",
              lambda world: ("DELETE", f"/sandboxes/{world.victim}", None), "running", (204,),
              before=lambda world: world.make_victim()),
    Operation("pause", plan("pause", PAUSE) + OF_A_REST, "running",
              of_subject("POST", "sandboxes/{}/pause", {}), "paused", (204,)),
    Operation("stop", plan("stop", names("steps-save.c", "stop_steps")) + OF_A_REST, "running",
              of_subject("POST", "sandboxes/{}/pause", {"memory": False}), "stopped", (204,)),
    Operation("resume", plan("resume", RESUME), "paused",
              of_subject("POST", "v2/sandboxes/{}/connect", {"timeout": None}), "running", (200, 201)),
    Operation("start", plan("start", START), "stopped",
              of_subject("POST", "v2/sandboxes/{}/connect", {"timeout": None}), "running", (200, 201),
              remembers=False),
    Operation("checkpoint", plan("checkpoint", CHECKPOINT), "running",
              of_subject("POST", "sandboxes/{}/checkpoints", {}), "running", (201,)),
    Operation("fork", plan("checkpoint", CHECKPOINT) + plan("clone", CLONE), "running",
              of_subject("POST", "sandboxes/{}/fork", {"count": 1, "timeout": 600}), "running", (201,)),
    Operation("rollback", OF_A_REST + plan("resume", RESUME), "running",
              of_subject("POST", "sandboxes/{}/rollback", {}), "running", (200, 201), between=("paused",),
              before=lambda world: world.make_checkpoint()),
    Operation("snapshot", plan("snapshot", names("steps-snapshot.c", "snapshot_steps")) +
              plan("checkpoint", CHECKPOINT), "running",
              of_subject("POST", "sandboxes/{}/snapshots", {"name": "mine"}), "running", (201,)),
    Operation("flatten", plan("flatten", names("steps-flatten.c", "flatten_steps")), "stopped",
              of_subject("POST", "sandboxes/{}/flatten", {"name": "flat"}), "stopped", (201,),
              remembers=False, has_vmm=False),
    Operation("template warm", plan("warm", names("steps-warm.c", "warm_steps")), "running",
              lambda world: ("POST", "/templates/base/warm", {"memoryMB": 192}), "running", (204,)),
]


def applies(operation, index, way):
    """Whether there is such a cell: a VMM can be killed while there is one."""
    if way != "VMM killed":
        return True
    name, _ = operation.points[index]
    steps = [step for of, step in operation.points if of == name]
    at = index - operation.points.index((name, steps[0]))
    if name == "release":
        return at <= steps.index("vmm")
    return operation.has_vmm and (name not in VMM_FROM or at >= steps.index(VMM_FROM[name]))


# Cells that found a fault are always run.
FOUND = {("pause", "release", "rundir", "disk full"), ("create warm", "clone", "wake", "disk full"),
         ("start", "start", "agent", "disk full")}


def turns(operation, number):
    """
    The cells that are run by default: of the ways that no other test meets at the steps one by one, two for each
    operation in turn (by its @number), at one step each; and those that found a fault (FOUND).
    """
    found = {(i, w) for i, point in enumerate(operation.points) for w in WAYS if (operation.name, *point, w) in FOUND}
    for turn, way in enumerate((KILLS[1], "disk full") if number % 2 == 0 else ("VMM killed", "client gone")):
        possible = [i for i in range(len(operation.points)) if applies(operation, i, way)]
        if way == "disk full":  # early: later on it is a guest that cannot write, as in FOUND
            possible = possible[:2]
        if possible:
            found.add((possible[(turn * len(possible) // 2 + number) % len(possible)], way))
    return found


def cells():
    """(operation, plan, step, way) of all cells, or of those that are run by default."""
    found = []
    for number, operation in enumerate(OPERATIONS):
        some = turns(operation, number)
        found += [(operation, *point, way) for i, point in enumerate(operation.points) for way in WAYS
                  if applies(operation, i, way) and (os.environ.get("VIV_MATRIX_ALL") == "1" or (i, way) in some)]
    return found


def is_stopped(process):
    """By a signal; one that is traced, as by its own leak sanitizer at its end, is not to be disturbed."""
    return pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T"


def keep_going(process):
    """Until it has ended."""
    pidfd = os.pidfd_open(process.pid)
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        while True:
            if is_stopped(process):
                signal.pidfd_send_signal(pidfd, signal.SIGCONT)
            time.sleep(0.1)
    os.close(pidfd)


class World(Place, subject.World):
    """
    A daemon whose state is on a small disk, with a bystander that nothing may touch and a subject: it has a file on
    its disk, and a process that counts in its memory.
    """

    def __init__(self, instance):
        self.instance = instance
        instance.on_small_disk(DISK_MB)
        instance.own_templates()
        self.id = self.victim = self.mark = self.count = self.sum = None
        self.lasted, self.going = {}, None
        assert instance.start(**self.usual()), instance.log_text()
        r = instance.viv("template", "warm", "base")
        assert r.returncode == 0, r.stderr
        [image] = instance.state.glob("templates/base@*/checkpoints/*")
        self.image = image
        shutil.copytree(image, instance.state / "image", copy_function=os.link)
        self.bystander = self.made({"name": "bystander"})
        self.pid = self.vmm(self.bystander)

    @staticmethod
    def usual():
        return {"log_level": "debug"}

    # What there is.

    def detail(self):
        return self.get(f"/sandboxes/{self.id}")["vivarium"]

    def others(self):
        return set(self.rows()) - {self.id, self.bystander}

    # How it comes to be.

    def made(self, own):
        status, box = self.instance.request("POST", "/v2/sandboxes",
                                            {"templateID": "base", "timeout": None, "vivarium": own})
        assert status == 201, box
        return box["sandboxID"]

    def see_to_image(self):
        """A restore that failed, when the boot in its stead did not, has cost the template its image."""
        if not self.image.exists():
            shutil.copytree(self.instance.state / "image", self.image, copy_function=os.link)

    def make_victim(self):
        self.victim = self.made({"name": VICTIM})

    def make_checkpoint(self):
        status, reply = self.instance.request("POST", f"/sandboxes/{self.id}/checkpoints", {})
        assert status == 201, reply

    def make_subject(self):
        self.id = self.made({"name": "subject"})
        self.sum = self.sh("head -c 1000000 /dev/urandom > /home/user/file; sync; sha256sum < /home/user/file")
        self.count_anew()

    def restart(self, fault=""):
        self.instance.stop()
        self.instance.log.write_text("")
        assert self.instance.start(fault=fault, **self.usual()), self.instance.log_text()

    def begin(self, operation):
        """The subject as the operation wants it."""
        if self.id is None:
            self.make_subject()
        if self.state() != operation.begins:
            self.bring_to(operation.begins)
        operation.before(self)

    def bring_to(self, state):
        if self.state() != "running":
            started = self.state() == "stopped"
            status, reply = self.instance.request("POST", f"/v2/sandboxes/{self.id}/connect", {"timeout": None})
            assert status in (200, 201), reply
            if started:
                self.count_anew()
        if state != "running":
            body = {} if state == "paused" else {"memory": False}
            status, reply = self.instance.request("POST", f"/sandboxes/{self.id}/pause", body)
            assert status == 204, reply

    def forget(self):
        """What the operation made beside the subject, and the subject's checkpoints."""
        for image in self.image.parent.iterdir():
            if image != self.image and image.name.isdigit():
                shutil.rmtree(image)
        for other in self.others():
            assert self.instance.request("DELETE", f"/sandboxes/{other}")[0] == 204
        for snapshot in self.get("/snapshots"):
            assert self.instance.request("DELETE", f"/templates/{snapshot['snapshotID']}")[0] == 204
        for template in self.get("/templates"):
            if template["templateID"] != "base":
                assert self.instance.request("DELETE", f"/templates/{template['templateID']}")[0] == 204
        for checkpoint in self.get(f"/sandboxes/{self.id}/checkpoints") if self.state() == "running" else []:
            path = f"/sandboxes/{self.id}/checkpoints/{checkpoint['generation']}"
            assert self.instance.request("DELETE", path)[0] == 204

    # What goes wrong.

    def request(self, operation):
        connection = vivarium.UnixConnection(self.instance.run_dir / "vivd.sock")
        method, target, body = operation.ask(self)
        connection.request(method, target, body=None if body is None else json.dumps(body))
        return connection

    def try_it(self, operation):
        """Status and text of the answer; None if there was none."""
        return self.answer(self.request(operation))

    def duration(self, operation, plan_name, step):
        """Seconds that a step takes, by the log of a run without a fault."""
        if (plan_name, step) not in self.lasted:
            self.restart()
            assert self.try_it(operation)[0] in operation.answers
            log = self.instance.log_text()
            for name, us in re.findall(r"event=step\.(?:acquired|released) .*step=(\w+) .*?us=(\d+)", log):
                self.lasted[plan_name, name] = int(us) / 1e6
            self.lasted.setdefault((plan_name, step), 0)
            self.settle()
            self.forget()
            self.begin(operation)
        return self.lasted[plan_name, step]

    def stopped_at(self, operation, point):
        """The operation's request, when the daemon has stopped at a point of it."""
        self.restart(f"{point}=stop")
        connection = self.request(operation)
        vivarium.wait_for(lambda: is_stopped(self.instance.process), what=f"it met {point}")
        return connection

    def go_on(self):
        """The daemon does, each time that it meets the point: the way back may be there again."""
        if self.going is not self.instance.process:
            self.going = self.instance.process
            threading.Thread(target=keep_going, args=(self.going,), daemon=True).start()

    def answer(self, connection):
        try:
            reply = connection.getresponse()
            return reply.status, reply.read().decode()
        except GONE:
            return None
        finally:
            connection.close()

    def meet(self, operation, plan_name, step, way):
        """Runs the operation into the fault; returns its answer, None if there was none."""
        point = f"{plan_name}.{step}"
        when = way.rsplit(" ", 1)[1]
        if way in FAILS:
            self.restart(f"{point}.{when}=fail")
            return self.try_it(operation)
        if way in ("killed before", "killed after"):
            self.restart(f"{point}.{when}=kill")
            answer = self.try_it(operation)
            return self.revived(answer)
        beside = plan_name in OF_OTHERS or operation.name == "destroy"
        spared = {self.pid, self.detail()["vmmPid"] if beside else None}
        half = self.duration(operation, plan_name, step) / 2 if way == "killed within" else 0
        connection = self.stopped_at(operation, f"{point}.before")
        try:
            return self.meanwhile(way, connection, half, spared)
        finally:
            self.go_on()

    def meanwhile(self, way, connection, half, spared):
        """What is done to the world while the daemon stands still."""
        if way == "killed within":
            self.go_on()
            time.sleep(half)
            self.instance.process.kill()
            return self.revived(self.answer(connection))
        if way == "client gone":
            connection.close()
            return None
        if way == "VMM killed":
            self.end_vmm(spared)
            self.go_on()
            return self.answer(connection)
        with self.full_disk():
            self.go_on()
            return self.answer(connection)

    def revived(self, answer):
        assert self.instance.wait_dead(timeout=20) == -signal.SIGKILL, answer
        assert self.instance.start(**self.usual()), self.instance.log_text()
        return None

    def end_vmm(self, spared):
        ended = set(vivarium.inventory(self.instance, self.instance.tag)["processes"]) - spared
        assert ended
        for pid in ended:
            os.kill(pid, signal.SIGKILL)

    # What must be true then.

    def compare_host(self):
        super().compare_host()
        assert self.vmm(self.bystander) == self.pid

    def checkpoint_sums(self):
        """Digests of all files of the subject's checkpoints and of the template's images."""
        state = self.instance.state
        tops = [state / "sandboxes" / self.id, *(state / "templates").glob("*@*")]
        return {str(p): hashlib.file_digest(open(p, "rb"), "sha256").hexdigest()
                for top in tops for p in top.glob("checkpoints/*/*") if p.is_file()}

    def check_subject(self, remembers):
        """It has what it had on its disk; in its memory, too, if it @remembers."""
        state = self.state()
        if state == "running":  # also one that stood still
            vivarium.wait_for(lambda: "condition" not in self.detail(), what="it can be used")
        if state != "running":
            self.bring_to("running")
        elif not remembers:
            self.count_anew()
        self.check_memory()
        self.check_disk()
