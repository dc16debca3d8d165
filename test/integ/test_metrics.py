# SPDX-License-Identifier: Apache-2.0
"""What sandboxes use: figures that are right, and got without waking the guest."""

import os
import pathlib
import re
import signal
import time

import pytest
import vivarium

TICKS = os.sysconf("SC_CLK_TCK")
MIB = 1 << 20


@pytest.fixture(scope="module")
def box(shared):
    r = shared.viv("create", "--name", "meter")
    assert r.returncode == 0, r.stderr
    return r.stdout.decode().strip()


def latest(instance, box):
    """The newest sample; asks no guest."""
    return instance.get(f"/sandboxes/metrics?sandbox_ids={box}")["sandboxes"].get(box)


def exported(instance, name, box):
    """A sandbox's value in the Prometheus text, which asks no guest either."""
    status, text = instance.request("GET", "/metrics")
    assert status == 200
    return float(re.search(rf'^{name}{{sandbox="{box}",.*}} (.*)$', text, re.M)[1])


def cpu_seconds(instance, box):
    """CPU time of the VMM, as the host counts it."""
    pid = instance.get(f"/sandboxes/{box}")["vivarium"]["vmmPid"]
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def received(instance):
    """Packets that came out of and went into guests, as the links of this instance count them."""
    tag = instance.tag
    return sum(int((link / "statistics" / f"{way}_packets").read_text())
               for link in pathlib.Path("/sys/class/net").glob(f"viv{tag}*") for way in ("rx", "tx"))


def settled(instance, box):
    """Waits until the guest is left alone: its agent was asked for nothing new for longer than the usual pause."""
    state = {"n": None, "since": 0.0}

    def quiet():
        n = exported(instance, "vivarium_sandbox_guest_requests_total", box)
        if n != state["n"]:
            state.update(n=n, since=time.monotonic())
        return time.monotonic() - state["since"] > 8

    vivarium.wait_for(quiet, timeout=180, what="the guest is idle")


def test_the_first_sample_is_there_at_once(shared, box):
    samples = shared.get(f"/sandboxes/{box}/metrics")
    assert samples
    last = samples[-1]
    assert set(last) == {"timestamp", "timestampUnix", "cpuCount", "cpuUsedPct", "memUsed", "memTotal", "memCache",
                         "diskUsed", "diskTotal", "vivarium"}
    assert last["vivarium"]["guest"] == "now"
    assert last["cpuCount"] == 1 and 0 <= last["cpuUsedPct"] <= 100
    assert 0 < last["memUsed"] < last["memTotal"] <= 512 * MIB
    assert 0 < last["memCache"] < last["memTotal"]
    assert 0 < last["diskUsed"] < last["diskTotal"]
    assert abs(last["timestampUnix"] - time.time()) < 60
    assert last["timestamp"].endswith("Z")
    own = last["vivarium"]
    assert 32 * MIB < own["hostMemBytes"] < 600 * MIB and own["hostDiskBytes"] > 0


def test_samples_come_each_second(shared, box):
    vivarium.wait_for(lambda: len(shared.get(f"/sandboxes/{box}/metrics?range=5m")) >= 5, what="five samples")
    times = [s["timestampUnix"] for s in shared.get(f"/sandboxes/{box}/metrics?range=5m")]
    assert times == sorted(set(times))
    seconds = [b - a for a, b in zip(times, times[1:])]
    assert seconds.count(1) >= len(seconds) / 2, seconds  # a busy host may be late once in a while


def test_a_busy_loop_shows(shared, box):
    p = shared.popen("exec", "meter", "--", "sh", "-c", "while :; do :; done")
    try:
        vivarium.wait_for(lambda: latest(shared, box)["cpuUsedPct"] > 20, what="it is busy")
        cpu, began = cpu_seconds(shared, box), time.time()
        time.sleep(6)
        used = cpu_seconds(shared, box) - cpu
        ended = time.time()
        samples = [s for s in shared.get(f"/sandboxes/{box}/metrics?start={int(began) + 1}&end={int(ended)}")]
        mean = sum(s["cpuUsedPct"] for s in samples) / len(samples)
        # What the host gave it in the same seconds is what is said: 100 % when the host has nothing else to do.
        assert abs(mean - 100 * used / (ended - began)) < 20, (mean, used, ended - began)
        assert mean > 20
        assert sum(s["vivarium"]["guest"] == "now" for s in samples) <= 3
    finally:
        p.send_signal(signal.SIGTERM)
        p.wait(timeout=60)


def test_memory_that_a_program_takes_shows(shared, box):
    before = shared.get(f"/sandboxes/{box}/metrics?range=5m")[-1]
    p = shared.popen("exec", "meter", "--", "python3", "-c",
                     "x = bytearray(b'x') * (64 << 20); print(len(x), flush=True); import time; time.sleep(600)",
                     stdout=-1)
    assert p.stdout.readline().strip() == b"67108864"
    try:
        # Nobody asks: the guest did something, so its agent is asked.
        vivarium.wait_for(lambda: latest(shared, box)["memUsed"] > before["memUsed"] + 50 * MIB, what="memory in use")
        after = latest(shared, box)
        assert after["vivarium"]["hostMemBytes"] >= before["vivarium"]["hostMemBytes"]
        assert after["memTotal"] == before["memTotal"]
    finally:
        p.send_signal(signal.SIGTERM)
        p.wait(timeout=60)


def test_files_that_are_written_show(shared, box):
    before = shared.get(f"/sandboxes/{box}/metrics?range=5m")[-1]
    r = shared.viv("exec", "meter", "--", "sh", "-c", "head -c 50000000 /dev/urandom > big && sync")
    assert r.returncode == 0
    vivarium.wait_for(lambda: latest(shared, box)["diskUsed"] > before["diskUsed"] + 45e6, what="disk in use")
    # The host's file system allocates when it writes out, not before.
    vivarium.wait_for(lambda: latest(shared, box)["vivarium"]["hostDiskBytes"]
                      > before["vivarium"]["hostDiskBytes"] + 45e6, timeout=120, what="disk of the host")


def test_an_idle_guest_is_sampled_and_left_alone(shared, box):
    settled(shared, box)
    asked = exported(shared, "vivarium_sandbox_guest_requests_total", box)
    packets = []
    while not packets or packets[-1] != received(shared):  # now and then the host asks whose address that is
        assert len(packets) < 4, f"not a packet reaches the guest: {packets}"
        packets.append(received(shared))
        first = latest(shared, box)
        time.sleep(12)
    last = latest(shared, box)
    assert last["timestampUnix"] >= first["timestampUnix"] + 8, "the host's part goes on"
    assert exported(shared, "vivarium_sandbox_guest_requests_total", box) == asked
    idle = [s["cpuUsedPct"] for s in shared.get(f"/sandboxes/{box}/metrics?end={last['timestampUnix']}&start="
                                                f"{first['timestampUnix']}")]
    assert sorted(idle)[len(idle) // 2] < 10, idle
    assert last["vivarium"]["guest"] == "last"


def test_who_asks_often_wakes_it_every_five_seconds_at_most(shared, box):
    settled(shared, box)
    asked, began = exported(shared, "vivarium_sandbox_guest_requests_total", box), time.monotonic()
    while time.monotonic() < began + 11:
        assert shared.get(f"/sandboxes/{box}/metrics?range=5m")
        time.sleep(0.2)
    more = exported(shared, "vivarium_sandbox_guest_requests_total", box) - asked
    assert 2 <= more <= (time.monotonic() - began) / 5 + 1


@pytest.mark.parametrize("query,word", [
    ("range=3m", "'range' must be one of 5m, 10m, 1h, 2h, 6h, 12h, 24h, all"),
    ("range=", "'range'"), ("start=x", "'start'"), ("start=-1", "'start'"), ("end=1.5", "'end'"),
    ("start=20&end=10", "'end'"), ("range=5m&start=1", "'range'"), ("start=%zz", "'start'"),
])
def test_bad_parameters_are_refused_by_name(shared, box, query, word):
    status, body = shared.request("GET", f"/sandboxes/{box}/metrics?{query}")
    assert status == 400 and word in body["message"] and body["code"] == 400, body


@pytest.mark.parametrize("query,word", [
    ("", "sandbox_ids"), ("sandbox_ids=", "sandbox_ids"), ("sandbox_ids=UPPER", "UPPER"),
    ("sandbox_ids=" + ",".join(["i0123456789abcdefghi"] * 101), "100"),
])
def test_bad_ids_are_refused_by_name(shared, query, word):
    status, body = shared.request("GET", f"/sandboxes/metrics?{query}")
    assert status == 400 and word in body["message"], body


def test_unknown_sandboxes(shared, box):
    assert shared.request("GET", "/sandboxes/i0123456789abcdefghi/metrics")[0] == 404
    assert shared.get(f"/sandboxes/metrics?sandbox_ids=i0123456789abcdefghi%2C{box}")["sandboxes"].keys() == {box}


@pytest.mark.parametrize("words", ["5m", "10m", "1h", "2h", "6h", "12h", "24h", "all"])
def test_ranges(shared, box, words):
    assert shared.get(f"/sandboxes/{box}/metrics?range={words}")


def test_start_and_end(shared, box):
    times = [s["timestampUnix"] for s in shared.get(f"/sandboxes/{box}/metrics")]
    start, end = times[1], times[-2]
    within = [s["timestampUnix"] for s in shared.get(f"/sandboxes/{box}/metrics?start={start}&end={end}")]
    assert within == [t for t in times if start <= t <= end]
    assert shared.get(f"/sandboxes/{box}/metrics?start={int(time.time()) + 3600}") == []
    assert shared.get(f"/sandboxes/{box}/metrics?end=1") == []


def test_prometheus_text(shared, box):
    status, text = shared.request("GET", "/metrics")
    assert status == 200 and text.endswith("\n")
    sample = re.compile(r'^([a-z_]+)(\{([a-z_]+="([^"\\]|\\.)*",?)*\})? -?[0-9.e+]+$|^[a-z_]+\{.*le="\+Inf"\} \d+$')
    named = set(re.findall(r"^# TYPE (\S+) ", text, re.M))
    assert named == set(re.findall(r"^# HELP (\S+) \S", text, re.M))
    for line in text.splitlines():
        assert line.startswith("# ") or sample.match(line), line
        if not line.startswith("#"):
            assert re.sub(r"_(bucket|sum|count)$", "", re.match(r"[a-z_]+", line)[0]) in named, line
    assert re.search(r'^vivarium_sandboxes{state="running"} [1-9]', text, re.M)
    assert f'sandbox="{box}",name="meter",template="base"' in text
    ok = int(re.search(r'^vivarium_creates_total{result="ok"} (\d+)', text, re.M)[1])
    buckets = [int(n) for n in re.findall(r"^vivarium_create_duration_seconds_bucket.* (\d+)$", text, re.M)]
    assert buckets == sorted(buckets) and buckets[-1] == ok >= 1
    # All of the VM's time, its boot as well.
    low = cpu_seconds(shared, box)
    vivarium.wait_for(lambda: exported(shared, "vivarium_sandbox_cpu_seconds_total", box) >= low - 0.1, what="its CPU")
    assert exported(shared, "vivarium_sandbox_cpu_seconds_total", box) <= cpu_seconds(shared, box) + 0.1
    assert int(re.search(r"^process_open_fds (\d+)", text, re.M)[1]) > 5
    assert int(re.search(r"^process_resident_memory_bytes (\d+)", text, re.M)[1]) > MIB


def test_a_failed_create_is_counted(shared):
    def failed():
        return int(re.search(r'^vivarium_creates_total{result="cancelled"} (\d+)',
                             shared.request("GET", "/metrics")[1], re.M)[1])

    before = failed()
    p = shared.popen("run", "--name", "never", "--", "true")
    vivarium.wait_for(lambda: shared.request("GET", "/sandboxes/never")[0] == 200, what="being created")
    p.send_signal(signal.SIGINT)
    p.wait(timeout=60)
    vivarium.wait_for(lambda: failed() == before + 1, what="it is counted")


def test_samples_outlive_the_daemon(make_instance):
    instance = make_instance()
    assert instance.start()
    box = instance.create()[1]["sandboxID"]
    vivarium.wait_for(lambda: len(instance.get(f"/sandboxes/{box}/metrics")) >= 3, what="samples")
    before = instance.get(f"/sandboxes/{box}/metrics")
    assert instance.stop() == 0
    assert instance.start()
    vivarium.wait_for(lambda: latest(instance, box)["timestampUnix"] > before[-1]["timestampUnix"] + 1,
                      what="new samples")
    after = {s["timestampUnix"]: s for s in instance.get(f"/sandboxes/{box}/metrics?range=10m")}
    for sample in before[:-1]:
        assert after[sample["timestampUnix"]] == sample
    assert exported(instance, "vivarium_sandbox_guest_requests_total", box) <= 2
    assert abs(exported(instance, "vivarium_sandbox_cpu_seconds_total", box) - cpu_seconds(instance, box)) < 1.5
    # One that was killed saves nothing; what was saved before is still there, and sampling goes on.
    newest = latest(instance, box)["timestampUnix"]
    instance.stop(signal.SIGKILL)
    assert instance.start()
    vivarium.wait_for(lambda: latest(instance, box)["timestampUnix"] > newest, what="new samples")
    assert before[0]["timestampUnix"] in {s["timestampUnix"] for s in instance.get(f"/sandboxes/{box}/metrics")}
    # A file of other bytes is no past, and no harm.
    instance.stop()
    path = instance.state / "sandboxes" / box / "metrics"
    path.write_bytes(b"\xff" * path.stat().st_size)
    assert instance.start()
    vivarium.wait_for(lambda: latest(instance, box), what="new samples")


def test_a_guest_that_does_not_answer(make_instance):
    """Its agent is stopped: the host's part goes on, and nobody waits for the guest for long."""
    instance = make_instance()
    assert instance.start()
    box = instance.create(name="mute")[1]["sandboxID"]
    pid = instance.get(f"/sandboxes/{box}")["vivarium"]["vmmPid"]
    vivarium.wait_for(lambda: [s for s in [latest(instance, box)] if s and s["vivarium"]["guest"] != "none"],
                      what="the guest told")
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(6)
        first = instance.get(f"/sandboxes/{box}/metrics")[-1]
        second = vivarium.wait_for(
            lambda: [s for s in [latest(instance, box)] if s["timestampUnix"] > first["timestampUnix"]],
            what="samples go on")[0]
        assert second["cpuUsedPct"] == 0 and second["vivarium"]["guest"] == "last"
        assert "sandbox.metrics_missing" in instance.log_text()
    finally:
        os.kill(pid, signal.SIGCONT)
    vivarium.wait_for(lambda: instance.get(f"/sandboxes/{box}/metrics")[-1]["vivarium"]["guest"] == "now",
                      timeout=120, what="the guest tells again")
