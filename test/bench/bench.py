#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Figures of a build: a table on stdout and bench.json in the build directory.

With rows as arguments only these are measured: bench.py warm_exec resume.

Each boot through vivd has one of the floor (viv-floor) beside it, in the same run, in turn. Nothing
passes or fails by the clock; a row that could not be measured is absent, and the table says why.
What the rows mean: doc/theory/bench.md.

VIV_BUILD       the build directory (build)
VIV_TEST_STATE  a state directory with kernel and template (made below the build directory)
BENCH_N         boots of each side (20)
BENCH_ACCEL     tcg or kvm, for both sides (tcg)
"""

import contextlib
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
import checkpoints  # noqa: E402
import crowd  # noqa: E402
import streams  # noqa: E402
import vivarium  # noqa: E402
from wire import CPUS, DISK_MIB, OUTPUT, TIMEOUT_S, create, p50_p95, remove, rss_kib, start, through_vivd  # noqa: E402

MEMORY_MIB = 512
SMALL_MIB, SMALL_N = 128, 10
COMMAND = {"process": {"cmd": "/bin/sh", "args": ["-c", "true; echo"], "envs": {}}, "stdin": True}
# What the name of a figure ends with, and its unit; all others are milliseconds.
UNITS = {"_kib": "KiB", "mb_per_s": "MB/s", "_ms": "ms", "percent": "%"}
COUNTS = {"busiest_ratio", "ratio", "open", "failed"}
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


def boot_floor(instance, agent, *options, memory=MEMORY_MIB):
    """One boot without a daemon, or what else the options ask for."""
    work = instance.dir / "floor"
    work.mkdir(exist_ok=True)
    floor = subprocess.Popen(
        [instance.build / "test" / "bench" / "viv-floor", f"--state-dir={instance.state}",
         f"--work-dir={work}", f"--agent={agent}", f"--accel={ACCEL}", f"--cpus={CPUS}",
         f"--memory={memory}", f"--disk={DISK_MIB}", *options],
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


def settled_kib(pid):
    """Of a vivd that does nothing: at first it makes its slots, and what that took is given back."""
    seen = None
    while seen != (seen := rss_kib(pid)):
        time.sleep(1)
    return seen


def memory(instance, rows):
    """What sandboxes add to a vivd: the second half of them, since the first takes what lay free."""
    pid = instance.process.pid
    rows["vivd_rss"]["after_boots_kib"] = settled_kib(pid)
    sandboxes = [create(instance, memoryMB=SMALL_MIB) for _ in range(SMALL_N)]
    half = settled_kib(pid)
    sandboxes += [create(instance, memoryMB=SMALL_MIB) for _ in range(SMALL_N)]
    rows["vivd_rss"]["per_sandbox_kib"] = round((settled_kib(pid) - half) / SMALL_N, 1)
    for sandbox in sandboxes:
        remove(instance, sandbox)


def warm(instance, agent, n, image, rows):
    """Creates that restore an image of the template, beside bare QEMU that restores the same files."""
    ours, floor = boots(instance, agent, n, *image)
    rows["warm_exec"] = p50_p95([b["first_byte"] for b in ours])
    rows["warm_exec"]["floor_p50"] = round(statistics.median(b["first_byte_ms"] for b in floor), 3)
    rows["warm_exec"]["ratio"] = round(rows["warm_exec"]["p50"] / rows["warm_exec"]["floor_p50"], 4)
    rows["manager_share_warm"] = p50_p95([b["manager"] for b in ours])
    return ours, floor


def pool(instance, agent, n, image, rows):
    """Creates that are given a sandbox which waits, beside bare QEMU that restores the image it was made of."""
    sizes = {"cpus": CPUS, "memoryMB": MEMORY_MIB, "diskSizeMB": DISK_MIB}
    checkpoints.call(instance, "PUT", "/templates/base/pool", {"size": 1, **sizes})

    def ready():
        return instance.get("/templates/base")["vivarium"]["pool"]["ready"] == 1

    ours, floor = [], []
    boot_floor(instance, agent, *image)
    for _ in range(n):
        vivarium.wait_for(ready, timeout=TIMEOUT_S, what="one waits")
        ours.append(boot_vivd(instance))
        floor.append(boot_floor(instance, agent, *image))
    checkpoints.call(instance, "PUT", "/templates/base/pool", {"size": 0})
    assert all("rules" in b["steps"] for b in ours), "each was one of the pool"
    rows["pool_exec"] = p50_p95([b["first_byte"] for b in ours])
    rows["pool_exec"]["floor_p50"] = round(statistics.median(b["first_byte_ms"] for b in floor), 3)
    rows["pool_exec"]["ratio"] = round(rows["pool_exec"]["p50"] / rows["pool_exec"]["floor_p50"], 4)
    return ours, floor


def slot_claim(instance, ours):
    """The time of the step, when slots are made ahead; else (None, why not)."""
    config = vivarium.run(instance.build / "src" / "vivd", "config", env=instance.env()).stdout
    pool = [line.split("=")[1].split("#")[0].strip() for line in config.splitlines()
            if line.startswith("slot_pool ")]
    if pool in ([], ["0"]):
        return None, "absent, since slots are made when they are needed (no pool)"
    return p50_p95([b["steps"]["slot"]["ms"] for b in ours]), None


def cold(instance, agent, n, rows, absent):
    """What is measured of boots."""
    idle = settled_kib(instance.process.pid)
    ours, floor = boots(instance, agent, n)
    floor_p50 = statistics.median(b["first_byte_ms"] for b in floor)
    rows["boot_exec"] = p50_p95([b["first_byte"] for b in ours])
    rows["boot_exec"]["floor_p50"] = round(floor_p50, 3)
    rows["boot_exec"]["ratio"] = round(rows["boot_exec"]["p50"] / floor_p50, 4)
    rows["manager_share_create"] = p50_p95([b["manager"] for b in ours])
    rows["vivd_rss"] = {"idle_kib": idle}
    memory(instance, rows)
    rows["slot_make"] = p50_p95([b["slot_make_ms"] for b in floor])
    claim, why = slot_claim(instance, ours)
    if claim is not None:
        rows["slot_claim"] = claim
    else:
        absent["slot_claim"] = why
    rows["layer_create"] = p50_p95([b["steps"]["layer"]["ms"] for b in ours])
    return ours, floor


def within(instance, agent, rows):
    """What is measured of one sandbox, and through vivd into it."""
    rows["agent"] = {"size_kib": round(os.path.getsize(agent) / 1024, 1)}
    sandbox = create(instance, cpus=CPUS, memoryMB=MEMORY_MIB, diskSizeMB=DISK_MIB)
    streams.measure(instance, sandbox, rows)
    remove(instance, sandbox)


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


class Run:
    """What is measured in one run: the parts in which the wanted rows are, one after the other."""

    OF_BOOTS = {
        "cold": {"boot_exec", "manager_share_create", "vivd_rss", "slot_make", "slot_claim", "layer_create"},
        "within": {"agent", "exec_round_trip", "file_upload", "file_download", "exec_streams", "proxy_request",
                   "proxy_throughput", "proxy_throughput_up"},
    }
    OF_SMALL_IMAGES = {
        "pauses": {"pause_stall_10mb", "pause_durable_10mb", "resume"},
        "pause_cost": {"pause_cost"},
        "generations": {"resume_generation_100"},
        "children": {"fork_20_all_answer"},
        "idle_memory": {"warm_memory"},
        "deaths": {"vmm_death_to_event"},
        "crowd": {"adopt_0", "adopt_10", "adopt_50", "idle_cpu_50", "start_1000_paused"},
    }
    OF_IMAGES = {
        "warm": {"warm_exec", "manager_share_warm"},
        **OF_SMALL_IMAGES,
        "pool": {"pool_exec"},
        "fork_stall": {"fork_stall"},
    }
    PARTS = {**OF_BOOTS, **OF_IMAGES}

    def __init__(self, wanted):
        known = set().union(*self.PARTS.values())
        if unknown := sorted(set(wanted) - known):
            sys.exit(f"no row {', '.join(unknown)}; there are: {', '.join(sorted(known))}")
        self.wanted = set(wanted) or known
        self.build = pathlib.Path(os.environ.get("VIV_BUILD", ROOT / "build")).resolve()
        self.prepared = pathlib.Path(os.environ.get("VIV_TEST_STATE", self.build / "test-state")).resolve()
        self.n = int(os.environ.get("BENCH_N", 20))
        self.agent = self.build / "src" / "viv-agent"
        self.rows, self.absent, self.parts, self.where = {}, {}, {}, None

    def has(self, *parts):
        return any(self.wanted & self.PARTS[part] for part in parts)

    @contextlib.contextmanager
    def daemon(self, **settings):
        instance = vivarium.Instance(self.build, self.prepared, agent=self.agent, acceleration=ACCEL, slot_pool=4,
                                     **settings)
        if settings["warm_images"] > 0:
            instance.own_templates()
        if not instance.start():
            raise RuntimeError(instance.log_text())
        try:
            yield instance
            self.where = conditions(instance, self.n)
        finally:
            instance.close()

    def of_boots(self):
        with self.daemon(warm_images=0) as instance:
            if self.has("cold"):
                self.parts["from a kernel"] = cold(instance, self.agent, self.n, self.rows, self.absent)
            if self.has("within"):
                within(instance, self.agent, self.rows)

    def image(self, instance, memory):
        """Options of viv-floor for the image that creates of this size use from now on."""
        return self.restoring(checkpoints.make_image(instance, memory))

    def restoring(self, directory):
        return f"--image={directory}", f"--shim={self.build / 'src' / 'viv-vmm-shim.so'}"

    def of_images(self):
        with self.daemon(warm_images=4) as instance:
            if self.has("warm", "pool"):
                image = self.image(instance, MEMORY_MIB)
            if self.has("warm"):
                self.parts["from an image"] = warm(instance, self.agent, self.n, image, self.rows)
            if self.has("pool"):
                self.parts["from the pool"] = pool(instance, self.agent, self.n, image, self.rows)
            if self.has(*self.OF_SMALL_IMAGES):
                self.of_small_ones(instance, checkpoints.make_image(instance, checkpoints.SMALL_MIB))
            if self.has("fork_stall"):
                checkpoints.make_image(instance, checkpoints.LARGE_MIB)
                checkpoints.fork_stall(instance, self.rows)

    def of_small_ones(self, instance, image):
        def floor(directory, memory, *options):
            return boot_floor(instance, self.agent, *self.restoring(directory), *options, memory=memory)

        if self.has("pauses"):
            checkpoints.pauses(instance, floor, image, self.n, self.rows)
        if self.has("pause_cost"):
            checkpoints.pause_cost(instance, self.n, self.rows)
        if self.has("generations"):
            checkpoints.generations(instance, self.rows)
        if self.has("children"):
            checkpoints.children(instance, floor, self.n, self.rows)
        if self.has("idle_memory"):
            checkpoints.idle_memory(instance, self.rows)
        if self.has("deaths"):
            checkpoints.deaths(instance, self.n, self.rows)
        if self.has("crowd"):
            crowd.measure(instance, self.rows)

    def measure(self):
        subprocess.run([self.build / "src" / "vivd", "prepare", f"--state-dir={self.prepared}"], check=True)
        if self.has(*self.OF_BOOTS):
            self.of_boots()
        if self.has(*self.OF_IMAGES):
            self.of_images()

    def tell(self):
        rows = {name: row for name, row in self.rows.items() if name in self.wanted}
        (self.build / "bench.json").write_text(json.dumps(rows, indent=2) + "\n")
        print(self.where, end="\n\n")
        print_rows(rows, {name: why for name, why in self.absent.items() if name in self.wanted})
        for what, (ours, floor) in self.parts.items():
            print(f"\n{what}:")
            print_parts(ours, floor)


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was made is removed on the way out
    run = Run(sys.argv[1:])
    try:
        run.measure()
    finally:  # what was measured before something failed is no less true
        run.tell()


if __name__ == "__main__":
    main()
