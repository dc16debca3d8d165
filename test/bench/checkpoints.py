# SPDX-License-Identifier: Apache-2.0
"""
Figures of what makes and uses checkpoints: pause, resume, fork. Beside them, in turns, stands bare QEMU
that saves the same or restores the same files (viv-floor); how long a guest stands still is seen from
outside of it, by what a program in it sends.
"""

import contextlib
import ctypes
import json
import os
import pathlib
import re
import signal
import socket
import statistics
import struct
import threading
import time

from streams import CLONE_NEWNET, in_turns, open_namespace
from wire import (CPUS, DISK_MIB, OUTPUT, TIMEOUT_S, Connection, create, p50_p95, remove, start,
                  through_vivd, unix_socket)

ECHO = {"process": {"cmd": "/bin/sh", "args": ["-c", "true; echo"], "envs": {}}, "stdin": True}
SMALL_MIB, LARGE_MIB = 256, 1024
DIRTY_MIB, CURVE_MIB, FORK_MIB = 10, (0, 50, 100), (10, 100, 400)
FORKS, CHILDREN, IDLE, GENERATIONS, GENERATION_TURNS = 10, 20, 8, 100, 8
# What vivd does while the vCPUs stand still, until all of the state is written (sandbox/steps-save.c).
STALL = {"halt", "devices", "memory", "settle"}
TICK_PORT = 9001
TICKER = """
import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
print("ticking", flush=True)
while True:
    s.sendto(b"tick", ("169.254.0.22", %d))
    time.sleep(0.001)
""" % TICK_PORT
SO_TIMESTAMPNS = 35


def call(instance, method, target, body=None):
    """One request without more than is needed around it: ms until the reply, and the reply."""
    begin = time.monotonic()
    connection = Connection(unix_socket(instance.run_dir / "vivd.sock"))
    status, reply = connection.call(method, target, json.dumps(body or {}).encode(),
                                    {"Content-Type": "application/json"})
    connection.close()
    if status >= 300:
        raise RuntimeError(f"{method} {target}: {status} {reply.decode()}")
    return (time.monotonic() - begin) * 1e3, json.loads(reply) if reply else None


def own(instance, sandbox):
    return instance.get(f"/sandboxes/{sandbox['sandboxID']}")["vivarium"]


def first_output(instance, sandbox, request):
    connection = start(through_vivd(instance, sandbox), request)
    connection.until(OUTPUT)
    return connection


def shell(command):
    return {"process": {"cmd": "/bin/sh", "args": ["-c", command], "envs": {}}, "stdin": True}


def stir(instance, sandbox, mib):
    """So much of the guest's memory becomes another than the image's. As viv-floor --save does it."""
    first_output(instance, sandbox,
                 shell(f"head -c {mib}M /dev/zero | tr '\\0' Z >/dev/shm/stirred; echo")).close()


def warm_box(instance, memory):
    sandbox = create(instance, cpus=CPUS, memoryMB=memory, diskSizeMB=DISK_MIB)
    if own(instance, sandbox)["origin"] != "warm":
        raise RuntimeError("a sandbox was booted, though there is an image")
    return sandbox


def checkpoint_dir(instance, sandbox, generation):
    return instance.state / "sandboxes" / sandbox["sandboxID"] / "checkpoints" / str(generation)


def pause(instance, sandbox):
    """Milliseconds that the guest stood still, until all is durable, and until the reply."""
    replied, _ = call(instance, "POST", f"/sandboxes/{sandbox['sandboxID']}/pause")
    steps = {s["step"]: s["ms"] for s in own(instance, sandbox)["pauseSteps"]}
    return {"stall": sum(ms for step, ms in steps.items() if step in STALL),
            "durable": sum(steps.values()), "reply": replied}


def resume(instance, sandbox):
    return call(instance, "POST", f"/sandboxes/{sandbox['sandboxID']}/resume", {"timeout": None})[0]


def with_floor(values, floor):
    row = p50_p95(values)
    row["floor_p50"] = p50_p95(floor)["p50"]
    row["ratio"] = round(row["p50"] / row["floor_p50"], 4)
    return row


class Pauses:
    """Rounds of pause and resume, each beside bare QEMU that does it with the same files."""

    def __init__(self, instance, floor, image):
        self.instance, self.floor, self.image = instance, floor, image
        self.ours, self.saved, self.resumed, self.restored = [], [], [], []

    def save_ours(self):
        self.sandbox = warm_box(self.instance, SMALL_MIB)
        stir(self.instance, self.sandbox, DIRTY_MIB)
        self.ours.append(pause(self.instance, self.sandbox))

    def save_floor(self):
        self.saved.append(self.floor(self.image, SMALL_MIB, f"--save={DIRTY_MIB}"))

    def restore_floor(self):
        generation = own(self.instance, self.sandbox)["generation"]
        where = checkpoint_dir(self.instance, self.sandbox, generation)
        self.restored.append(self.floor(where, SMALL_MIB, "--resume")["init_ms"])

    def resume_ours(self):
        self.resumed.append(resume(self.instance, self.sandbox))

    def round(self, turn):
        """Who goes first alternates; what is restored has to stay until both have."""
        save = [self.save_ours, self.save_floor]
        for step in save if turn % 2 == 0 else reversed(save):
            step()
        self.restore_floor()
        self.resume_ours()
        remove(self.instance, self.sandbox)

    def rows(self, rows):
        rows["pause_stall_10mb"] = with_floor([p["stall"] for p in self.ours], [s["stall_ms"] for s in self.saved])
        rows["pause_durable_10mb"] = with_floor([p["durable"] for p in self.ours],
                                                [s["durable_ms"] for s in self.saved])
        rows["pause_durable_10mb"]["reply_p50"] = p50_p95([p["reply"] for p in self.ours])["p50"]
        rows["resume"] = with_floor(self.resumed, self.restored)


def pauses(instance, floor, image, n, rows):
    rounds = Pauses(instance, floor, image)
    rounds.round(0)
    for found in (rounds.ours, rounds.saved, rounds.resumed, rounds.restored):
        found.clear()  # the first reads its files from the disk
    for turn in range(n):
        rounds.round(turn)
    rounds.rows(rows)


def pause_cost(instance, n, rows):
    """The same against the amount of memory that differs."""
    rows["pause_cost"] = {}
    for mib in CURVE_MIB:
        found = []
        for _ in range(max(3, n // 5)):
            sandbox = warm_box(instance, SMALL_MIB)
            stir(instance, sandbox, mib)
            found.append(pause(instance, sandbox))
            remove(instance, sandbox)
        for what in ("stall", "durable"):
            rows["pause_cost"][f"{what}_{mib}mb"] = p50_p95([p[what] for p in found])["p50"]


def stirred(instance):
    sandbox = warm_box(instance, SMALL_MIB)
    stir(instance, sandbox, DIRTY_MIB)
    return sandbox


def next_resume(instance, sandbox):
    pause(instance, sandbox)
    return resume(instance, sandbox)


def turn_of_generations(instance, sandbox, turn):
    """The first resume of another sandbox, and the next one of this; who goes first alternates, and nothing is removed
    before both have."""
    other = stirred(instance)
    took = {s["sandboxID"]: next_resume(instance, s) for s in ((other, sandbox) if turn % 2 else (sandbox, other))}
    remove(instance, other)
    return took[other["sandboxID"]], took[sandbox["sandboxID"]]


def generations(instance, rows):
    """One sandbox, paused and resumed again and again; its last resumes in turn with the first ones of others."""
    sandbox = stirred(instance)
    took = [next_resume(instance, sandbox) for _ in range(GENERATIONS - GENERATION_TURNS)]
    turns = [turn_of_generations(instance, sandbox, turn) for turn in range(GENERATION_TURNS)]
    remove(instance, sandbox)
    early, late = (statistics.median(side) for side in zip(*turns))
    rows["resume_generation_100"] = {"p50": round(late, 3), "generation_1_p50": round(early, 3),
                                     "generation_10_p50": round(statistics.median(took[7:12]), 3),
                                     "ratio": round(late / early, 4)}


class Ticks:
    """When datagrams of a guest's program arrived in its namespace, as the host's kernel noted it, in seconds."""

    def __init__(self, netns):
        self.at, self.ends = [], threading.Event()
        self.lock, self.bound = threading.Lock(), threading.Event()
        self.thread = threading.Thread(target=self.listen, args=(netns,))
        self.thread.start()
        self.bound.wait()

    def listen(self, netns):
        with open(f"/run/netns/{netns}") as where:
            ctypes.CDLL(None, use_errno=True).setns(where.fileno(), CLONE_NEWNET)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            sock.bind(("0.0.0.0", TICK_PORT))
            sock.settimeout(0.1)
            self.bound.set()
            while not self.ends.is_set():
                with contextlib.suppress(TimeoutError):
                    self.note(sock.recvmsg(64, 64)[1])

    def note(self, ancillary):
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):
                s, ns = struct.unpack("qq", data[:16])
                with self.lock:
                    self.at.append(s + ns / 1e9)

    def clear(self):
        with self.lock:
            self.at.clear()

    def wait(self, n):
        """Until n more have come."""
        end = time.monotonic() + TIMEOUT_S
        with self.lock:
            wanted = len(self.at) + n
        while time.monotonic() < end:
            with self.lock:
                if len(self.at) >= wanted:
                    return
            time.sleep(0.01)
        raise RuntimeError("the guest's program sends nothing")

    def longest_ms(self):
        """The longest gap, less what lies between two of them otherwise."""
        with self.lock:
            gaps = [b - a for a, b in zip(self.at, self.at[1:])]
        return (max(gaps) - statistics.median(gaps)) * 1e3

    def close(self):
        self.ends.set()
        self.thread.join()


def fork(instance, sandbox, count):
    _, children = call(instance, "POST", f"/sandboxes/{sandbox['sandboxID']}/fork",
                       {"count": count, "timeout": None})
    failed = [c["error"] for c in children if "error" in c]
    if failed:
        raise RuntimeError(f"{len(failed)} of {count} children failed: {failed[0]}")
    return [c["sandbox"] for c in children]


def stalls(instance, mib):
    """How long the source of a fork stood still, of forks one after the other."""
    sandbox = warm_box(instance, LARGE_MIB)
    netns = json.loads((instance.run_dir / sandbox["sandboxID"] / "handles.json").read_text())["netns"]
    open_namespace(netns)
    stir(instance, sandbox, mib)
    ticks = Ticks(netns)
    ticking = first_output(instance, sandbox, {"process": {"cmd": "/usr/bin/python3", "args": ["-c", TICKER],
                                                           "envs": {}}, "stdin": True})
    found = []
    try:
        for _ in range(FORKS):
            ticks.wait(100)
            ticks.clear()
            (child,) = fork(instance, sandbox, 1)
            ticks.wait(10)
            found.append(ticks.longest_ms())
            remove(instance, child)
    finally:
        ticks.close()
        ticking.close()
    remove(instance, sandbox)
    return found


def fork_stall(instance, rows):
    rows["fork_stall"] = {}
    for mib in FORK_MIB:
        found = stalls(instance, mib)
        rows["fork_stall"].update({f"p50_{mib}mb": round(statistics.median(found), 3),
                                   f"first_{mib}mb": round(found[0], 3), f"tenth_{mib}mb": round(found[-1], 3)})


def answers(instance, sandboxes):
    """Has all of them run a command at the same time; returns when the last has output."""
    failed = []

    def work(sandbox):
        try:
            first_output(instance, sandbox, ECHO).close()
        except (OSError, RuntimeError) as e:
            failed.append(e)

    threads = [threading.Thread(target=work, args=(s,)) for s in sandboxes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def children(instance, floor, n, rows):
    """All children of one fork, until the last one has output, beside as many bare restores of the same."""
    source = warm_box(instance, SMALL_MIB)
    stir(instance, source, DIRTY_MIB)
    _, made = call(instance, "POST", f"/sandboxes/{source['sandboxID']}/checkpoints")
    where = checkpoint_dir(instance, source, made["generation"])

    def ours(_):
        begin = time.monotonic()
        made = fork(instance, source, CHILDREN)
        answers(instance, made)
        took = (time.monotonic() - begin) * 1e3
        for child in made:
            remove(instance, child)
        return took

    ways = (ours, lambda _: floor(where, SMALL_MIB, f"--parallel={CHILDREN}")["all_ms"])
    rows["fork_20_all_answer"] = with_floor(*in_turns(ways, max(3, n // 4), lambda way: way(None)))
    remove(instance, source)


def private_kib(pid):
    """What one VMM has for itself: of the guest's memory, and beside it."""
    guest = rest = 0
    in_guest = False
    for line in pathlib.Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            in_guest = "/image-" in line
        elif line.startswith(("Private_Clean:", "Private_Dirty:")):
            kib = int(line.split()[1])
            guest, rest = (guest + kib, rest) if in_guest else (guest, rest + kib)
    return guest, rest


def idle_memory(instance, rows):
    """Of several, since what is shared counts for nobody's."""
    sandboxes = [warm_box(instance, SMALL_MIB) for _ in range(IDLE)]
    found = [private_kib(own(instance, s)["vmmPid"]) for s in sandboxes]
    rows["warm_memory"] = {"guest_private_kib": round(statistics.median(g for g, _ in found)),
                           "vmm_private_kib": round(statistics.median(r for _, r in found))}
    for sandbox in sandboxes:
        remove(instance, sandbox)


def deaths(instance, n, rows):
    """From the end of a VMM's process to its event at a client that follows them."""
    took = []
    for _ in range(n):
        sandbox = warm_box(instance, SMALL_MIB)
        pid = own(instance, sandbox)["vmmPid"]
        events = Connection(unix_socket(instance.run_dir / "vivd.sock"))
        events.head("GET", f"/events?sandbox={sandbox['sandboxID']}", fields={"Accept": "text/event-stream"})
        begin = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        events.until(b"event: stopped\n")
        took.append((time.monotonic() - begin) * 1e3)
        events.close()
        remove(instance, sandbox)
    rows["vmm_death_to_event"] = p50_p95(took)


def make_image(instance, memory):
    """Has the base template's image of that size made. Returns its directory."""
    before = images(instance)
    call(instance, "POST", "/templates/base/warm", {"cpus": CPUS, "memoryMB": memory, "diskSizeMB": DISK_MIB})
    (new,) = images(instance) - before
    return new


def images(instance):
    return {p for p in (instance.state / "templates" / "base").resolve().glob("checkpoints/*") if p.name.isdigit()}
