# SPDX-License-Identifier: Apache-2.0
"""Pools: sandboxes that are kept ready, claimed by creates of their sizes, and nobody's until then."""

import os
import signal
import threading
import time

import pytest
import vivarium

MEMORY = vivarium.IMAGED["memoryMB"]
CLAIMED = ["rules", "wake"]
IDENTITY = ("hostname; echo $WHO; cat /etc/machine-id /proc/sys/kernel/random/boot_id;"
            "python3 -c 'import os; [print(os.getrandom(16).hex()) for _ in range(20)]'")


@pytest.fixture
def make_pool(make_instance):
    """Makes running instances whose base template has an image, and a pool."""
    def make(size, **settings):
        instance = make_instance(**{"warm_behind": "on", **settings})
        instance.own_templates(imaged=True)
        assert instance.start(), instance.log_text()
        r = instance.viv("template", "warm", "--memory", f"{MEMORY}M", "--pool", size, "base", timeout=300)
        assert (r.returncode, r.stdout) == (0, b"base\n"), (r.stderr, instance.log_text())
        wait_ready(instance, size)
        return instance

    return make


def pool(instance):
    return instance.get("/templates/base")["vivarium"].get("pool")


def wait_ready(instance, n):
    """Until n wait, and no operation is under way on one of them any more."""
    vivarium.wait_for(lambda: pool(instance)["ready"] == n and len(members(instance)) == n, timeout=300,
                      what=f"{n} are ready: {pool(instance)}")


def members(instance):
    return {box for box, state in instance.rows().items() if state == "ready"}


def create(instance, **fields):
    status, reply = instance.create(**{"memoryMB": MEMORY, **fields})
    assert status == 201, (reply, instance.log_text())
    return reply["sandboxID"]


def remove(instance, *boxes):
    for box in boxes:
        assert instance.request("DELETE", f"/sandboxes/{box}")[0] == 204


def detail(instance, box):
    return instance.get(f"/sandboxes/{box}")


def is_claimed(instance, box):
    return [s["step"] for s in detail(instance, box)["vivarium"]["createSteps"]] == CLAIMED


def sh(instance, box, command, **kw):
    r = instance.viv("exec", box, "--", "sh", "-c", command, **kw)
    assert r.returncode == 0, (r.stderr, instance.log_text())
    return r.stdout.decode().strip()


def vmms(instance):
    """Process of each VMM by the id of its sandbox."""
    root = (vivarium.cgroup2_mount() or instance.run_dir / "cgroup") / f"vivarium-{instance.tag}"
    found = {p.parent.name: p.read_text().split() for p in root.glob("i*/cgroup.procs")}
    return {box: int(pids[0]) for box, pids in found.items() if pids}


def kill(pid):
    signal.pidfd_send_signal(os.pidfd_open(pid), signal.SIGKILL)


def cpu_ticks(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def leaks(instance):
    return [i for i in instance.get("/doctor")["items"] if i["verdict"] == "leak"]


def check_nobody_sees(instance, waiting):
    """Those that wait are in no list, have no names, and cannot be asked for; what they take is told."""
    assert instance.get("/v2/sandboxes?all=true") == [] and instance.get("/sandboxes") == []
    assert instance.get("/events") == []
    for box in waiting:
        assert instance.request("GET", f"/sandboxes/{box}")[0] == 404
        assert instance.request("DELETE", f"/sandboxes/{box}")[0] == 404
        assert instance.request("GET", f"/sandboxes/{box[:8]}")[0] == 404
    shown = {s["sandboxID"]: s for s in instance.get("/df")["sandboxes"]}
    assert set(shown) == waiting and {s["pool"] for s in shown.values()} == {"base"}
    assert instance.viv("df").stdout.count(b"ready, of the pool of base") == len(waiting)
    assert leaks(instance) == []
    told = pool(instance)
    assert told["memoryBytes"] > len(waiting) << 20 and told["diskBytes"] > 0, told
    assert f" {len(waiting)}/2" in instance.viv("template", "ls").stdout.decode()
    assert f"pool: {len(waiting)} of 2 ready" in instance.viv("template", "status").stdout.decode()


def test_claims(make_pool):
    instance = make_pool(2)
    waiting = members(instance)
    check_nobody_sees(instance, waiting)
    # They stand still: the guests' clocks, too.
    since, ticks = time.time(), {pid: cpu_ticks(pid) for pid in vmms(instance).values()}
    vivarium.wait_for(lambda: time.time() > since + 4, what="time passes")
    assert len(ticks) == 2 and all(cpu_ticks(pid) - t < 20 for pid, t in ticks.items())
    begin = time.time()
    box = create(instance, name="first", metadata={"k": "v"}, envVars={"WHO": "me-0"}, secure=True,
                 network={"denyOut": ["203.0.113.0/24"]}, timeout=3600, restart="on-failure:3", idle=3600,
                 onIdle="kill")
    assert box in waiting and is_claimed(instance, box), instance.log_text()
    assert begin - 1 < float(sh(instance, box, "date +%s.%N")) < time.time() + 1
    # Who looks all the time keeps nobody from filling the pool.
    vivarium.wait_for(lambda: instance.get("/df") and pool(instance)["ready"] == 2, timeout=300,
                      what="the pool is full again")
    told = detail(instance, box)
    own = told["vivarium"]
    assert (own["restart"], own["idle"], own["onIdle"]) == ("on-failure:3", 3600, "kill"), own
    assert told["metadata"] == {"k": "v"} and told["network"]["denyOut"] == ["203.0.113.0/24"]
    assert begin - 1 < vivarium_time(told["startedAt"]) < time.time() + 1
    assert told["vivarium"]["origin"] == "warm" and told["vivarium"]["state"] == "running"
    netns = next(n for n in vivarium.inventory(instance, instance.tag)["netns"]
                 if "203.0.113.0/24" in vivarium.run("ip", "netns", "exec", n, "nft", "list", "ruleset").stdout)
    assert netns
    # Nothing of one is of another: of the pool, of the ordinary path, of what was rehearsed.
    boxes = [box]
    for n in range(1, 5):
        if n != 3:  # that one does not wait for the pool
            wait_ready(instance, 2)
        boxes.append(create(instance, name=f"box-{n}", envVars={"WHO": f"me-{n}"}, secure=n == 1))
    seen = [sh(instance, box, IDENTITY).splitlines() for box in boxes]
    assert [s[:2] for s in seen] == [["first", "me-0"]] + [[f"box-{n}", f"me-{n}"] for n in range(1, 5)]
    for column in zip(*[s[:4] for s in seen]):
        assert len(set(column)) == 5, seen
    values = [value for s in seen for value in s[4:]]
    assert len(values) == 100 and len(set(values)) == 100
    events = [(e["type"], e["sandboxID"]) for e in instance.get("/events")]
    assert events == [(kind, box) for box in boxes for kind in ("created", "running")]
    assert [s["sandboxID"] for s in instance.get("/v2/sandboxes")] == boxes[::-1]
    remove(instance, *boxes)


def vivarium_time(text):
    return time.mktime(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone


def test_what_others_want(make_pool):
    """Creates at the same time, and those that ask for something else; what waits goes on to be a whole sandbox."""
    instance = make_pool(2)
    waiting, made = members(instance), []
    threads = [threading.Thread(target=lambda: made.append(create(instance))) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(set(made)) == 4 and waiting <= set(made)
    assert {b for b in made if is_claimed(instance, b)} == waiting
    hosts = [sh(instance, b, "hostname; cat /proc/sys/kernel/random/boot_id") for b in made]
    assert len(set(hosts)) == 4
    # Paused, resumed and forked as any other.
    box = waiting.pop()
    sh(instance, box, "echo mine >/dev/shm/x; echo disk >/home/user/x")
    assert instance.request("POST", f"/sandboxes/{box}/pause", {})[0] == 204, instance.log_text()
    assert instance.request("POST", f"/v2/sandboxes/{box}/connect", {})[0] == 201
    assert sh(instance, box, "cat /dev/shm/x /home/user/x") == "mine\ndisk"
    status, children = instance.request("POST", f"/sandboxes/{box}/fork", {"timeout": 600, "count": 1})
    assert status == 201, children
    child = children[0]["sandbox"]["sandboxID"]
    assert sh(instance, child, "cat /dev/shm/x /home/user/x") == "mine\ndisk"
    remove(instance, child, *made)
    # Another disk is another size; the pool stays as it is.
    wait_ready(instance, 2)
    waiting = members(instance)
    other = create(instance, diskSizeMB=6000)
    assert not is_claimed(instance, other) and detail(instance, other)["vivarium"]["origin"] == "warm"
    remove(instance, other)
    wait_ready(instance, 2)
    assert members(instance) == waiting
    # Whose name is taken gets none, and the one that waited waits on.
    taken = create(instance, name="taken")
    wait_ready(instance, 2)
    waiting = members(instance)
    status, reply = instance.create(memoryMB=MEMORY, name="taken")
    assert status == 409 and "taken" in reply["message"]
    assert members(instance) == waiting
    remove(instance, taken)


def test_one_that_dies(make_pool):
    instance = make_pool(2)
    waiting, pids = members(instance), vmms(instance)
    assert set(pids) == waiting
    dead = sorted(waiting)[0]
    kill(pids[dead])
    vivarium.wait_for(lambda: dead not in instance.rows(), what="what is left of it goes")
    wait_ready(instance, 2)
    assert dead not in members(instance) and len(vmms(instance)) == 2
    assert instance.log_text().count("event=ready.died") == 1
    # Both at once, and a create that may be faster than the news.
    for pid in vmms(instance).values():
        kill(pid)
    box = create(instance)
    assert sh(instance, box, "echo alive") == "alive"
    wait_ready(instance, 2)
    left = vivarium.inventory(instance, instance.tag)
    assert len(left["processes"]) == len(left["netns"]) == 3 and set(left["cgroups"]) == {".", box, *members(instance)}
    assert [e["type"] for e in instance.get("/events") if e["sandboxID"] != box] == []


def nothing_waits(instance):
    left = {k: v for k, v in vivarium.inventory(instance, instance.tag).items() if v}
    return left == {} and instance.rows() == {}


def test_over_restarts(make_pool):
    """The size of a pool stays; what waits goes with its daemon, however that ends."""
    instance = make_pool(1)
    assert instance.stop() == 0
    assert nothing_waits(instance), vivarium.inventory(instance, instance.tag)
    assert instance.start(), instance.log_text()
    wait_ready(instance, 1)
    before, pids = members(instance), vmms(instance)
    instance.stop(signal.SIGKILL)
    assert instance.rows() == {box: "ready" for box in before}
    r = vivarium.run(instance.build / "src" / "vivd", "doctor", env=instance.env())
    assert f"{next(iter(before))} is ready" in r.stdout and "vivd removes it when it starts" in r.stdout, r.stdout
    assert instance.start(), instance.log_text()
    wait_ready(instance, 1)
    assert not before & set(instance.rows()) and not set(pids.values()) & set(vmms(instance).values())
    assert len(vmms(instance)) == 1
    # Without images there is no pool, and creates go on; with them it is there again.
    assert instance.stop() == 0
    assert instance.start(warm_images=0), instance.log_text()
    box = create(instance)
    assert members(instance) == set() and pool(instance)["ready"] == 0
    status, reply = instance.request("PUT", "/templates/base/pool", {"size": 1})
    assert status == 409 and "warm_images" in reply["message"]
    remove(instance, box)
    assert instance.stop() == 0 and instance.start()
    wait_ready(instance, 1)
    # A bound that has become too small: told once, and shown.
    assert instance.stop() == 0 and instance.start(pool_memory="511M")
    vivarium.wait_for(lambda: "pool_memory" in pool(instance).get("lastError", ""), what="why it is not full is told")
    assert members(instance) == set() and instance.log_text().count("event=ready.unfilled") == 1
    box = create(instance)
    assert "pool_memory" in instance.viv("template", "status", "base").stdout.decode()
    assert instance.log_text().count("event=ready.unfilled") == 1
    remove(instance, box)


def version_of(instance):
    return os.readlink(instance.state / "templates" / "base")


def test_templates_that_change(make_pool):
    """What waits is of the image that a create would use now, or goes."""
    instance = make_pool(2)
    old = members(instance)
    # Warmed anew, with something else in it: an image is made, and then the pool.
    r = instance.viv("template", "warm", "--memory", f"{MEMORY}M", "--start", "sleep 1000", "base", timeout=300)
    assert r.returncode == 0, r.stderr
    vivarium.wait_for(lambda: not old & set(instance.rows()), what="the old ones go")
    wait_ready(instance, 2)
    box = create(instance)
    assert is_claimed(instance, box) and "sleep 1000" in sh(instance, box, "ps ax")
    remove(instance, box)
    wait_ready(instance, 2)
    # Built anew, by somebody else: the next create does not get what is there, and what is there goes.
    old = members(instance)
    templates = instance.state / "templates"
    version = version_of(instance)
    (templates / "base@0123456789abcdef").mkdir()
    for file in ("manifest.json", "root.img"):
        os.link(templates / version / file, templates / "base@0123456789abcdef" / file)
    os.symlink("base@0123456789abcdef", templates / "new")
    os.rename(templates / "new", templates / "base")
    vivarium.wait_for(lambda: not old & set(instance.rows()), what="the old ones go")
    vivarium.wait_for(lambda: instance.get("/templates/base")["vivarium"]["images"], timeout=300,
                      what="an image is made")
    wait_ready(instance, 2)
    # Fewer; others; none.
    assert instance.viv("template", "pool", "base", 1, "--memory", f"{MEMORY}M").returncode == 0
    wait_ready(instance, 1)
    box = create(instance, memoryMB=MEMORY)
    assert is_claimed(instance, box)
    wait_ready(instance, 1)
    r = instance.viv("template", "pool", "base", 0)
    assert (r.returncode, r.stdout) == (0, b"base\n")
    assert pool(instance) is None
    vivarium.wait_for(lambda: set(instance.rows()) == {box}, what="they go")
    remove(instance, box)
    # With the template its pool goes, and those that wait are no sandboxes that it is kept for.
    assert instance.request("PUT", "/templates/base/pool", {"size": 1, "memoryMB": MEMORY})[0] == 204
    wait_ready(instance, 1)
    r = instance.viv("template", "rm", "base")
    assert (r.returncode, r.stdout) == (0, b"base\n"), r.stderr
    vivarium.wait_for(lambda: instance.rows() == {}, what="they go")
    assert instance.query("SELECT * FROM pool") == []


def test_bad_wishes(make_instance):
    instance = make_instance(warm_behind="on", pool_memory="1G")
    instance.own_templates()
    assert instance.start(), instance.log_text()
    for target, body, status, why in (
            ("base", {}, 400, "'size'"), ("base", {"size": -1}, 400, "'size'"), ("base", {"size": "1"}, 400, "'size'"),
            ("base", {"size": 65}, 400, "at most 64"), ("base", {"size": 1, "memoryMB": 0}, 400, "memoryMB"),
            ("base", {"size": 1, "memoryMB": 2}, 400, "memory 2 MiB"), ("base", {"size": 3}, 400, "pool_memory"),
            ("base", {"size": 1, "cpus": 70000}, 400, "cpus"),
            ("base", {"size": 1, "diskSizeMB": 1}, 400, "disk 1 MiB"),
            ("other", {"size": 1}, 404, "other"), ("no%2Fsuch", {"size": 1}, 404, "no")):
        code, reply = instance.request("PUT", f"/templates/{target}/pool", body)
        assert (code, why in reply["message"]) == (status, True), (target, body, reply)
    assert instance.request("POST", "/templates/base/warm", {"pool": 65})[0] == 400
    assert instance.request("PUT", "/templates/base/pool", "{")[0] == 400
    assert instance.request("PUT", "/templates/other/pool", {"size": 0})[0] == 204
    assert pool(instance) is None
    for argv in (("pool",), ("pool", "base"), ("pool", "base", "x"), ("pool", "base", "1", "2"),
                 ("pool", "base", "1", "--start", "x"), ("rm", "--pool", "1", "base"), ("warm", "--pool", "x", "base")):
        assert instance.viv("template", *argv).returncode == 2, argv
    # One of a template without an image: that is made first, behind all else.
    assert instance.viv("template", "pool", "--memory", "256M", "base", 1).returncode == 0
    wait_ready(instance, 1)
