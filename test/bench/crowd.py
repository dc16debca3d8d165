# SPDX-License-Identifier: Apache-2.0
"""Figures of many sandboxes: what vivd costs while they idle, and how soon the next vivd has them all."""

import os
import pathlib
import shutil
import signal
import sqlite3
import statistics
import time

import vivarium
from checkpoints import SMALL_MIB, own, pause, warm_box
from wire import remove

CROWD, FEW, RESTING = 50, 10, 1000
SETTLE_S, IDLE_S = 10, 30
STARTS = 5


def cpu_s(pid):
    """CPU time of all threads of a process, by the scheduler's own count."""
    tasks = pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(t.read_text().split()[0]) for t in tasks) / 1e9


def idle_cpu(instance):
    """Percent of a CPU that vivd takes while nobody asks for anything."""
    time.sleep(SETTLE_S)
    begin, used = time.monotonic(), cpu_s(instance.process.pid)
    time.sleep(IDLE_S)
    return 100 * (cpu_s(instance.process.pid) - used) / (time.monotonic() - begin)


def start_again(instance, known):
    """Ends vivd with -9 and starts it. Milliseconds until its API answers, and until the sandboxes are as before."""
    instance.stop(signal.SIGKILL)
    begin = time.monotonic()
    if not instance.start(settle=False):
        raise RuntimeError(instance.log_text())
    instance.get("/version")
    answered = time.monotonic()

    for sandbox, state in known.items():
        vivarium.wait_for(lambda: own(instance, {"sandboxID": sandbox})["state"] == state, what=f"{sandbox} is {state}")
    return (answered - begin) * 1e3, (time.monotonic() - begin) * 1e3


def starts(instance, known):
    """p50 of several starts."""
    answered, adopted = zip(*(start_again(instance, known) for _ in range(STARTS)))
    return {"answers_p50": statistics.median(answered), "p50": statistics.median(adopted)}


def multiply(instance, sandbox, n):
    """
    As if a sandbox at rest had been made n times more: what the store and the disk have of it, with other ids. Making
    them one by one would take longer than all else. Returns the last one's id.
    """
    instance.stop()
    db = sqlite3.connect(instance.state / "vivarium.db")
    columns = [c[1] for c in db.execute("PRAGMA table_info(sandbox)")]
    row = dict(zip(columns, db.execute("SELECT * FROM sandbox WHERE id = ?", (sandbox,)).fetchone()))
    top = instance.state / "sandboxes"
    for number in range(n):
        other = f"i{number:019d}"
        shutil.copytree(top / sandbox, top / other, copy_function=os.link)
        copy = {**row, "id": other, "name": f"rests-{number}"}
        db.execute(f"INSERT INTO sandbox ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})",
                   [copy[c] for c in columns])
    db.commit()
    db.close()
    instance.start()
    return other


def states(sandboxes, state):
    return {sandbox["sandboxID"]: state for sandbox in sandboxes}


def measure(instance, rows):
    rows["adopt_0"] = starts(instance, {})
    crowd = [warm_box(instance, SMALL_MIB) for _ in range(FEW)]
    rows["adopt_10"] = starts(instance, states(crowd, "running"))
    crowd += [warm_box(instance, SMALL_MIB) for _ in range(CROWD - FEW)]
    rows["idle_cpu_50"] = {"percent": idle_cpu(instance)}
    rows["adopt_50"] = starts(instance, states(crowd, "running"))
    for sandbox in crowd:
        remove(instance, sandbox)
    resting = warm_box(instance, SMALL_MIB)
    pause(instance, resting)
    last = multiply(instance, resting["sandboxID"], RESTING - 1)
    rows["start_1000_paused"] = starts(instance, {resting["sandboxID"]: "paused", last: "paused"})
    forget(instance)


def forget(instance):
    """A page of them after the other."""
    while boxes := instance.get("/v2/sandboxes?all=true"):
        for box in boxes:
            instance.request("DELETE", f"/sandboxes/{box['sandboxID']}")
