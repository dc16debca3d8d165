#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Figures of a build: a table on stdout and bench.json in the build directory.

Each boot through vivd has one of the floor (viv-floor) beside it, in the same run, in turn. Nothing
passes or fails by the clock; a row that could not be measured is absent, and the table says why.
What the rows mean: doc/theory/bench.md.

VIV_BUILD       the build directory (build)
VIV_TEST_STATE  a state directory with kernel and template (made below the build directory)
BENCH_N         boots of each side (20)
BENCH_ACCEL     tcg or kvm, for both sides (tcg)
"""

import json
import os
import pathlib
import platform
import signal
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "test"))
import streams  # noqa: E402
import vivarium  # noqa: E402
from wire import OUTPUT, TIMEOUT_S, create, p50_p95, remove, rss_kib, start, through_vivd  # noqa: E402

CPUS, MEMORY_MIB, DISK_MIB = 1, 512, 5120
SMALL_MIB, SMALL_N = 128, 10
COMMAND = {"process": {"cmd": "/bin/sh", "args": ["-c", "true; echo"], "envs": {}}, "stdin": True}
# What the name of a figure ends with, and its unit; all others are milliseconds.
UNITS = {"_kib": "KiB", "mb_per_s": "MB/s", "_ms": "ms"}
COUNTS = {"ratio", "open", "failed"}
ACCEL = os.environ.get("BENCH_ACCEL", "tcg")


def boot_vivd(instance):
    """One create and exec as `viv run` does them. Returns times in ms, and the daemon's own."""
    begin = time.monotonic()
    sandbox = create(instance, cpus=CPUS, memoryMB=MEMORY_MIB, diskSizeMB=DISK_MIB)
    created = time.monotonic()
    connection = start(through_vivd(instance, sandbox), COMMAND)
    connection.until(OUTPUT)
    end = time.monotonic()
    connection.close()
    own = instance.get(f"/sandboxes/{sandbox['sandboxID']}")["vivarium"]
    remove(instance, sandbox)
    steps = {s["step"]: s for s in own["createSteps"]}
    return {"create": (created - begin) * 1e3, "first_byte": (end - begin) * 1e3,
            "manager": own["managerMs"], "steps": steps,
            "outside": (created - begin) * 1e3 - sum(s["ms"] for s in steps.values())}


def boot_floor(instance, agent, *options):
    """One boot without a daemon."""
    work = instance.dir / "floor"
    work.mkdir(exist_ok=True)
    floor = subprocess.Popen(
        [instance.build / "test" / "bench" / "viv-floor", f"--state-dir={instance.state}",
         f"--work-dir={work}", f"--agent={agent}", f"--accel={ACCEL}", f"--cpus={CPUS}",
         f"--memory={MEMORY_MIB}", f"--disk={DISK_MIB}", *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        out, errors = floor.communicate(timeout=TIMEOUT_S)
    except BaseException:
        floor.terminate()  # it removes what it made
        floor.wait()
        raise
    if floor.returncode != 0:
        raise RuntimeError(f"viv-floor: {errors}")
    return json.loads(out)


def boots(instance, agent, n, *options):
    """n boots of each side. Who goes first changes, so that neither always follows the other."""
    ours, floor = [], []
    boot_vivd(instance)  # the first reads its files from the disk
    boot_floor(instance, agent, *options)
    for i in range(n):
        for side in ("ours", "floor") if i % 2 == 0 else ("floor", "ours"):
            if side == "ours":
                ours.append(boot_vivd(instance))
            else:
                floor.append(boot_floor(instance, agent, *options))
        print(f"\rboot {i + 1} of {n}", end="", file=sys.stderr, flush=True)
    print("\r" + " " * 20, end="\r", file=sys.stderr)
    return ours, floor


def memory(instance, rows):
    """What sandboxes add to a vivd whose workers have all worked."""
    pid = instance.process.pid
    before = rss_kib(pid)
    sandboxes = [create(instance, memoryMB=SMALL_MIB) for _ in range(SMALL_N)]
    rows["vivd_rss"]["after_boots_kib"] = before
    rows["vivd_rss"]["per_sandbox_kib"] = round((rss_kib(pid) - before) / SMALL_N, 1)
    for sandbox in sandboxes:
        remove(instance, sandbox)


def warm(build, prepared, agent, n, rows):
    """Creates that restore an image of the template, beside bare QEMU that restores the same files."""
    instance = vivarium.Instance(build, prepared, agent=agent, acceleration=ACCEL, slot_pool=4, warm_images=1)
    instance.own_templates()
    if not instance.start():
        raise RuntimeError(instance.log_text())
    try:
        status, reply = instance.request("POST", "/templates/base/warm",
                                         {"cpus": CPUS, "memoryMB": MEMORY_MIB, "diskSizeMB": DISK_MIB})
        if status != 204:
            raise RuntimeError(f"no image: {reply}")
        image = instance.state / "templates" / "base" / "checkpoints" / "1"
        ours, floor = boots(instance, agent, n, f"--image={image}", f"--shim={build / 'src' / 'viv-vmm-shim.so'}")
    finally:
        instance.close()
    rows["warm_exec"] = p50_p95([b["first_byte"] for b in ours])
    rows["warm_exec"]["floor_p50"] = round(statistics.median(b["first_byte_ms"] for b in floor), 3)
    rows["warm_exec"]["ratio"] = round(rows["warm_exec"]["p50"] / rows["warm_exec"]["floor_p50"], 4)
    rows["manager_share_warm"] = p50_p95([b["manager"] for b in ours])
    return ours, floor


def slot_claim(instance, ours):
    """The time of the step, when slots are made ahead; else (None, why not)."""
    config = vivarium.run(instance.build / "src" / "vivd", "config", env=instance.env()).stdout
    pool = [line.split("=")[1].split("#")[0].strip() for line in config.splitlines()
            if line.startswith("slot_pool ")]
    if pool in ([], ["0"]):
        return None, "absent, since slots are made when they are needed (no pool)"
    return p50_p95([b["steps"]["slot"]["ms"] for b in ours]), None


def measure(instance, agent, n):
    """All rows, why rows are absent, and the boots of both sides."""
    rows, absent = {}, {}
    idle = rss_kib(instance.process.pid)
    ours, floor = boots(instance, agent, n)
    floor_p50 = statistics.median(b["first_byte_ms"] for b in floor)
    rows["boot_exec"] = p50_p95([b["first_byte"] for b in ours])
    rows["boot_exec"]["floor_p50"] = round(floor_p50, 3)
    rows["boot_exec"]["ratio"] = round(rows["boot_exec"]["p50"] / floor_p50, 4)
    rows["manager_share_create"] = p50_p95([b["manager"] for b in ours])
    rows["vivd_rss"] = {"idle_kib": idle}
    rows["agent"] = {"size_kib": round(os.path.getsize(agent) / 1024, 1)}
    memory(instance, rows)
    sandbox = create(instance, cpus=CPUS, memoryMB=MEMORY_MIB, diskSizeMB=DISK_MIB)
    streams.measure(instance, sandbox, rows)
    remove(instance, sandbox)
    rows["slot_make"] = p50_p95([b["slot_make_ms"] for b in floor])
    claim, why = slot_claim(instance, ours)
    if claim is not None:
        rows["slot_claim"] = claim
    else:
        absent["slot_claim"] = why
    rows["layer_create"] = p50_p95([b["steps"]["layer"]["ms"] for b in ours])
    return rows, absent, ours, floor


def cell(key, value):
    if key in COUNTS:
        return f"{key} {value:g}"
    for unit, text in UNITS.items():
        if key.endswith(unit):
            return f"{key[:-len(unit)].rstrip('_')} {value:g} {text}".strip()
    return f"{key} {value:g} ms"


def print_rows(rows, absent):
    for name, row in rows.items():
        print(f"{name:22}{'   '.join(cell(key, value) for key, value in row.items())}")
    for name, why in absent.items():
        print(f"{name:22}{why}")


def print_parts(ours, floor):
    """Where the time goes, for people: medians in ms."""
    def median(values):
        return f"{statistics.median(values):.1f}"

    ends = ["spawn_ms", "ready_ms", "init_ms", "first_byte_ms"]
    parts = [f"{end[:-3]} {median([b[end] - b.get(before, 0) for b in floor])}"
             for before, end in zip([None] + ends, ends)]
    print("floor, by part:        " + ", ".join(parts))
    parts = [f"{step} {median([b['steps'][step]['ms'] for b in ours])} "
             f"({median([b['steps'][step]['ms'] - b['steps'][step]['waitMs'] for b in ours])})"
             for step in ours[0]["steps"]]
    print("vivd, step (own work): " + ", ".join(parts))
    print("vivd, around the steps: create " + median([b["outside"] for b in ours]) +
          ", exec " + median([b["first_byte"] - b["create"] for b in ours]))
    print(f"fastest boot:          vivd {min(b['first_byte'] for b in ours):.1f}, "
          f"floor {min(b['first_byte_ms'] for b in floor):.1f}")


def conditions(instance, n):
    file_system = vivarium.run("stat", "-f", "-c", "%T", instance.state).stdout.strip()
    model = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo")
                  if line.startswith("model name")), platform.machine())
    options = json.loads(subprocess.run(["meson", "introspect", "--buildoptions", instance.build],
                                        capture_output=True, text=True, check=True).stdout)
    buildtype = next(o["value"] for o in options if o["name"] == "buildtype")
    version = vivarium.lines("qemu-system-x86_64", "--version")[0]
    return (f"{os.cpu_count()} CPUs ({model}), Linux {platform.release()}, {file_system}, "
            f"{version}, {ACCEL}\nsandbox: {CPUS} CPU, {MEMORY_MIB} MiB, disk {DISK_MIB} MiB; "
            f"build: {buildtype}; {n} boots of each side; load {os.getloadavg()[1]:.1f}")


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was made is removed on the way out
    build = pathlib.Path(os.environ.get("VIV_BUILD", ROOT / "build")).resolve()
    prepared = pathlib.Path(os.environ.get("VIV_TEST_STATE", build / "test-state")).resolve()
    n = int(os.environ.get("BENCH_N", 20))
    agent = build / "src" / "viv-agent"
    subprocess.run([build / "src" / "vivd", "prepare", f"--state-dir={prepared}"], check=True)
    instance = vivarium.Instance(build, prepared, agent=agent, acceleration=ACCEL, slot_pool=4)
    if not instance.start():
        raise RuntimeError(instance.log_text())
    try:
        rows, absent, ours, floor = measure(instance, agent, n)
        where = conditions(instance, n)
    finally:
        instance.close()
    warm_ours, warm_floor = warm(build, prepared, agent, n, rows)
    print(where, end="\n\n")
    print_rows(rows, absent)
    print()
    print_parts(ours, floor)
    print("\nfrom an image:")
    print_parts(warm_ours, warm_floor)
    (build / "bench.json").write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
