# SPDX-License-Identifier: Apache-2.0
"""Snapshots: of a running and a paused sandbox, made, listed, made from and deleted, with real VMs."""

import json
import urllib.parse

import pytest
import vivarium
from test_fork import count, counter, counts_on, create, post, rm, sh


def snapshot(instance, sandbox, name=None):
    return post(instance, sandbox, "snapshots", **({"name": name} if name else {}))


def listed(instance, **query):
    return [s["snapshotID"] for s in instance.get("/snapshots?" + urllib.parse.urlencode(query))]


def page_of(instance, query):
    """Ids of a page, and the token of the next one."""
    c = vivarium.UnixConnection(instance.run_dir / "vivd.sock")
    c.request("GET", f"/snapshots?{query}")
    reply = c.getresponse()
    page = json.loads(reply.read())
    c.close()
    return [s["snapshotID"] for s in page], reply.getheader("X-Next-Token")


def delete(instance, name, status=204):
    got, reply = instance.request("DELETE", "/templates/" + urllib.parse.quote(name, safe=""))
    assert got == status, reply
    return reply


def make(instance, template, status=201, **fields):
    """A sandbox from a snapshot; nothing else is said of its size."""
    got, reply = instance.request("POST", "/v2/sandboxes", {"templateID": template, "timeout": 600, **fields})
    assert got == status, reply
    return reply["sandboxID"] if status == 201 else reply


def directories(instance):
    return sorted(p.name for p in (instance.state / "snapshots").iterdir())


@pytest.fixture(autouse=True)
def none_left(shared):
    yield
    for s in shared.get("/snapshots"):
        delete(shared, s["snapshotID"])


def identity(instance, sandbox):
    return sh(instance, sandbox, "cat /proc/sys/kernel/random/boot_id; hostname; cat /etc/machine-id").splitlines()


def test_snapshot_of_a_running_one(shared):
    box = counter(shared, envVars={"WHO": "me", "COLOUR": "red"}, metadata={"a": "b"})
    sh(shared, box, "echo common > /home/user/file; sync")
    before = count(shared, box)
    made = snapshot(shared, box, "Counter")
    assert made["snapshotID"] == "counter:default" and made["names"] == ["counter:default"]
    own = made["vivarium"]
    assert own["sandboxID"] == box and own["template"] == "base" and own["memoryMB"] == 256
    assert own["allocatedBytes"] > 0 and own["stallMs"] > 0
    counts_on(shared, box)
    assert not (shared.state / "sandboxes" / box / "passing").exists()
    # What is made of it goes on from there, as somebody else.
    one = make(shared, "counter", envVars={"WHO": "you"})
    two = make(shared, "counter:default", metadata={"c": "d"}, vivarium={"name": "two", "memoryMB": 256})
    for other in (one, two):
        assert count(shared, other) >= before
        counts_on(shared, other)
        detail = shared.get(f"/sandboxes/{other}")
        assert detail["templateID"] == "counter:default" and detail["memoryMB"] == 256
    assert sh(shared, one, "echo $WHO $COLOUR; cat /home/user/file") == "you red\ncommon"
    assert sh(shared, two, "echo $WHO $COLOUR") == "me red"
    assert shared.get(f"/sandboxes/{one}").get("metadata", {}) == {}
    assert shared.get(f"/sandboxes/{two}")["metadata"] == {"c": "d"}
    everybody = [identity(shared, b) for b in (box, one, two)]
    assert all(len({lines[i] for lines in everybody}) == 3 for i in (0, 1)), everybody
    assert everybody[1][2] != everybody[2][2]
    for who in (one, two):
        sh(shared, who, f"echo {who} > /home/user/file; sync")
    assert sh(shared, box, "cat /home/user/file") == "common"
    # Its source goes, and then it, while they run; then it cannot be used any more.
    rm(shared, box)
    three = make(shared, "counter")
    counts_on(shared, three)
    delete(shared, "counter:default")
    assert directories(shared) == []
    for who in (one, two):
        counts_on(shared, who)
        assert sh(shared, who, "cat /home/user/file") == who
    post(shared, three, "pause", status=204)
    status, _ = shared.request("POST", f"/v2/sandboxes/{three}/connect", {"timeout": 600})
    assert status == 201
    counts_on(shared, three)
    make(shared, "counter", status=404)
    delete(shared, "counter:default", status=404)
    rm(shared, one, two, three)


def test_snapshot_of_a_paused_one(shared):
    box = counter(shared)
    post(shared, box, "pause", status=204)
    made = snapshot(shared, box)
    name, tag = made["snapshotID"].split(":")
    assert made["names"] == [] and tag == "default" and len(name) == 20
    assert shared.get(f"/sandboxes/{box}")["state"] == "paused"
    one = make(shared, made["snapshotID"])
    counts_on(shared, one)
    rm(shared, box)
    two = make(shared, name)
    counts_on(shared, two)
    # A snapshot of what was made of one; that goes, and it stays.
    again = snapshot(shared, two, "second:v1")
    assert again["vivarium"]["template"] == made["snapshotID"]
    delete(shared, name)
    rm(shared, one, two)
    three = make(shared, "second:v1")
    counts_on(shared, three)
    make(shared, "second", status=404)
    rm(shared, three)
    delete(shared, "second")
    assert directories(shared) == []


def test_a_name_given_twice_is_replaced(shared):
    box = create(shared)
    for text in ("first", "second"):
        sh(shared, box, f"echo {text} > /home/user/file; sync")
        snapshot(shared, box, "state")
        snapshot(shared, box, f"state:{text}")
        vivarium.wait_for(lambda: not [d for d in directories(shared) if d.startswith(".")], what="the old one goes")
    assert directories(shared) == ["state:default", "state:first", "state:second"]
    for name, text in (("state", "second"), ("state:first", "first"), ("state:second", "second")):
        made = make(shared, name)
        assert sh(shared, made, "cat /home/user/file") == text
        rm(shared, made)
    delete(shared, "state:first")
    assert directories(shared) == ["state:default", "state:second"]
    delete(shared, "state")
    assert directories(shared) == []
    rm(shared, box)


def test_list_of_snapshots(shared):
    box, other = create(shared), create(shared)
    for who, name in ((box, "one"), (box, "one:v1"), (other, "two"), (box, "three")):
        snapshot(shared, who, name)
    newest = ["three:default", "two:default", "one:v1", "one:default"]
    assert listed(shared) == newest
    assert listed(shared, sandboxID=box) == ["three:default", "one:v1", "one:default"]
    assert listed(shared, name="one") == ["one:v1", "one:default"]
    assert listed(shared, name="one:v1") == ["one:v1"]
    assert listed(shared, name="nobody/x") == [] and listed(shared, sandboxID="nosuch") == []
    seen, token = [], ""
    while token is not None:
        page, token = page_of(shared, f"limit=3&nextToken={token}")
        seen += page
        assert len(page) == 3 or token is None
        if len(seen) == 3:
            delete(shared, "two:default")  # pages stay whole when one of them goes
    assert seen == newest
    for bad in ("limit=0", "limit=101", "nextToken=x", "nextToken=1"):
        assert shared.request("GET", f"/snapshots?{bad}")[0] == 400
    templates = [t["templateID"] for t in shared.get("/templates")]
    assert "three:default" in templates and "base" in templates
    assert shared.get("/templates/three")["builds"][0]["memoryMB"] == 256
    df = {s["snapshotID"]: s["bytes"] for s in shared.get("/df")["snapshots"]}
    assert set(df) == {"three:default", "one:v1", "one:default"} and all(df.values())
    for name in ("one", "three"):
        delete(shared, name)
    rm(shared, box, other)


def test_errors(shared):
    box = create(shared)
    for bad in (":x", "x:", "a b", "x:y:z", "team/x", "x" * 64, "x:12345678-1234-1234-1234-123456789abc", "-x"):
        reply = post(shared, box, "snapshots", status=400, name=bad)
        assert "name" in reply["message"]
    assert post(shared, box, "snapshots", status=400, name=7)["message"] == "field 'name' must be a string"
    assert "template" in post(shared, box, "snapshots", status=409, name="base")["message"]
    post(shared, "nosuch", "snapshots", status=404)
    delete(shared, "nosuch:default", status=404)
    snapshot(shared, box, "small")
    for key, value in (("cpus", 2), ("memoryMB", 512), ("diskSizeMB", 9000)):
        reply = make(shared, "small", status=400, vivarium={key: value})
        assert "small:default" in reply["message"], reply
    post(shared, box, "pause", status=204, memory=False)
    assert "stopped" in post(shared, box, "snapshots", status=404)["message"]
    delete(shared, "small:default")
    rm(shared, box)


def test_base_with_a_tag(shared):
    made = make(shared, "base:default", vivarium={"memoryMB": 256})
    assert shared.get(f"/sandboxes/{made}")["templateID"] == "base"
    make(shared, "base:other", status=404)
    rm(shared, made)


def test_a_new_vivd_finds_them(build, prepared):
    instance = vivarium.Instance(build, prepared)
    try:
        assert instance.start(), instance.log_text()
        box = counter(instance, envVars={"WHO": "me"})
        snapshot(instance, box, "kept")
        rm(instance, box)
        before = instance.get("/snapshots")
        for left in (".new-0123456789abcdef", ".gone-0123456789abcdef"):
            (instance.state / "snapshots" / left / "checkpoints").mkdir(parents=True)
        broken = instance.state / "snapshots" / "broken:default"
        broken.mkdir()
        (broken / "snapshot.json").write_text("{")
        assert instance.stop() == 0
        assert instance.start(), instance.log_text()
        assert directories(instance) == ["broken:default", "kept:default"]
        now = {s["snapshotID"]: s for s in instance.get("/snapshots")}
        for s in before:
            s["vivarium"].pop("stallMs", None)
            assert now[s["snapshotID"]] == s
        assert "snapshot.json" in now["broken:default"]["vivarium"]["error"]
        assert "broken:default cannot be used" in make(instance, "broken", status=500)["message"]
        delete(instance, "broken:default")
        one = make(instance, "kept")
        counts_on(instance, one)
        assert sh(instance, one, "echo $WHO") == "me"
        # Damage is found before a VM runs, and named.
        devices = next((instance.state / "snapshots").glob("kept:default/checkpoints/*/devices"))
        devices.write_bytes(devices.read_bytes()[:-1] + b"x")
        assert "devices" in make(instance, "kept", status=500)["message"]
        counts_on(instance, one)
    finally:
        instance.close()


def test_verbs(shared):
    box = counter(shared)
    said = shared.viv("snapshot", box, "mine")
    assert said.returncode == 0, said.stderr
    name, size = said.stdout.decode().split()
    assert name == "mine:default" and float(size.rstrip("M")) > 0
    assert shared.viv("snapshot", box, "mine:v2").returncode == 0
    lines = shared.viv("snapshot", "ls").stdout.decode().splitlines()
    assert [line.split()[0] for line in lines] == ["NAME", "mine:v2", "mine:default"]
    assert lines[1].split()[2] == box
    assert [s["snapshotID"] for s in json.loads(shared.viv("snapshot", "ls", "--json").stdout)] == \
        ["mine:v2", "mine:default"]
    assert b"mine:v2" in shared.viv("template", "ls").stdout and b"mine:v2" in shared.viv("df").stdout
    r = shared.viv("run", "--template", "mine", "--", "sh", "-c", "cat /dev/shm/count")
    assert r.returncode == 0 and int(r.stdout) > 0, r.stderr
    r = shared.viv("snapshot", "rm", "mine", "nosuch")
    assert r.returncode == 1 and r.stdout == b"mine:default\n" and b"nosuch" in r.stderr
    assert shared.viv("snapshot", "rm", "mine:v2").returncode == 0
    assert listed(shared) == []
    for bad in ([], ["--json", box], ["ls", "x"], ["rm"], [box, "x", "y"]):
        assert shared.viv("snapshot", *bad).returncode == 2
    rm(shared, box)


@pytest.mark.parametrize("state", ["running", "paused"])
def test_destroy_meanwhile(shared, state):
    """The source may go while a snapshot of it is made: it is whole, or it is not."""
    box = counter(shared)
    if state == "paused":
        post(shared, box, "pause", status=204)
    c = vivarium.UnixConnection(shared.run_dir / "vivd.sock")
    c.request("POST", f"/sandboxes/{box}/snapshots", json.dumps({"name": "late"}))
    rm(shared, box)
    reply = c.getresponse()
    assert reply.status in (201, 404, 409), reply.read()
    status = reply.status
    c.close()
    assert directories(shared) == (["late:default"] if status == 201 else [])
    if status == 201:
        made = make(shared, "late")
        counts_on(shared, made)
        rm(shared, made)
        delete(shared, "late:default")
