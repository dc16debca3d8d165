# SPDX-License-Identifier: Apache-2.0
"""Events are posted to webhooks: signed, in order, at least once, and never to addresses that are none of the internet's."""

import base64
import collections
import hashlib
import hmac
import json
import os
import pathlib
import re
import signal
import sqlite3
import subprocess
import threading
import time
import uuid

import pytest
import vivarium
from receiver import Receiver

SECRET = "a secret, with ümlauts"
ALL = ["created", "running", "paused", "resumed", "checkpointed", "stopped", "killed", "error"]
GONE_AFTER_MS = 7 * 24 * 3600 * 1000


@pytest.fixture
def receiver():
    r = Receiver()
    yield r
    r.close()


@pytest.fixture(scope="module")
def hooked(build, prepared):
    if not (build / "src" / "viv-hook").exists():
        pytest.skip("viv-hook was not built: libcurl is missing")
    instance = vivarium.Instance(build, prepared, webhook_private="on")
    assert instance.start(), instance.log_text()
    yield instance
    instance.close()


@pytest.fixture
def make_hooked(hooked, make_instance):
    return lambda **settings: make_instance(**{"webhook_private": "on", **settings})


def add(instance, url, **fields):
    status, hook = instance.request("POST", "/events/webhooks", {"url": url, "signatureSecret": SECRET, **fields})
    assert status == 201, hook
    return hook["id"]


def get(instance, hook):
    return instance.get(f"/events/webhooks/{hook}")


def own(instance, hook):
    return get(instance, hook)["vivarium"]


def remove(instance, hook):
    status, reply = instance.request("DELETE", f"/events/webhooks/{hook}")
    assert status == 200, reply


def store(instance):
    return sqlite3.connect(f"file:{instance.state}/vivarium.db", uri=True, timeout=30)


def emit(instance, *events):
    """Writes events, (sandbox, type), as a change of a sandbox would, and has vivd look. Their ids."""
    db = store(instance)
    with db:
        ids = [db.execute("INSERT INTO event (at_ms, type, sandbox, name, template_name, cause, error, generation)"
                          " VALUES (?, ?, ?, '', 'base', '', '', 0)", (int(time.time() * 1000), kind, sandbox)).lastrowid
               for sandbox, kind in events]
    db.close()
    poke(instance)
    return ids


def poke(instance):
    for hook in instance.get("/events/webhooks")[:1]:
        assert instance.request("PATCH", f"/events/webhooks/{hook['id']}", {"name": hook["name"]})[0] == 200


def signed(post, secret=SECRET):
    """Whether both signatures are right, made as E2B's documentation and ours say."""
    want = base64.b64encode(hashlib.sha256(secret.encode() + post["raw"]).digest()).decode().rstrip("=")
    t, v1 = re.fullmatch(r"t=(\d+),v1=([0-9a-f]{64})", post["headers"]["Vivarium-Signature"]).groups()
    mac = hmac.new(secret.encode(), f"{t}.".encode() + post["raw"], hashlib.sha256).hexdigest()
    return post["headers"]["e2b-signature"] == want and v1 == mac and abs(int(t) - post["at"]) < 60


def helpers(instance):
    """Pids of viv-hook that are children of an instance's vivd."""
    out = vivarium.lines("ps", "--ppid", str(instance.process.pid), "-o", "pid=,comm=")
    return [int(line.split()[0]) for line in out if line.split()[1] == "viv-hook"]


def drained(instance, hook):
    return vivarium.wait_for(lambda: own(instance, hook)["waiting"] == 0, timeout=120, what="all was delivered")


def test_a_life_is_posted(hooked, receiver):
    hook = add(hooked, receiver.url, name="My Sandbox Webhook")
    status, made = hooked.create(name="dev", metadata={"user": "ü\"1"}, timeout=3600)
    assert status == 201, made
    box = made["sandboxID"]
    assert hooked.viv("pause", "dev", timeout=120).returncode == 0
    assert hooked.request("DELETE", f"/sandboxes/{box}")[0] == 204
    vivarium.wait_for(lambda: len(receiver.of(box)) == 4, timeout=120, what="four events")
    posts, events = receiver.posts, hooked.get(f"/events?sandbox={box}")
    assert receiver.of(box) == [e["id"] for e in events]
    assert [p["type"] for p in posts] == [f"sandbox.lifecycle.{e['type']}" for e in events]
    assert [p["event_label"] for p in posts] == ["create", "run", "pause", "kill"]
    assert [p["timestamp"] for p in posts] == [e["timestamp"] for e in events]
    for post in posts:
        assert signed(post) and not signed(post, "other")
        assert post["path"] == "/hook?a=b" and post["headers"]["Content-Type"] == "application/json"
        assert post["headers"]["e2b-webhook-id"] == hook and post["headers"]["e2b-signature-version"] == "v1"
        assert (post["version"], post["event_category"]) == ("v2", "lifecycle")
        assert (post["sandbox_id"], post["sandbox_template_id"]) == (box, "base")
        assert post["event_data"]["sandbox_metadata"] == {"user": "ü\"1"}  # also when it is gone
        assert post["event_data"]["vivarium"]["name"] == "dev"
        for key in ("id", "sandbox_execution_id", "sandbox_build_id", "sandbox_team_id"):
            assert str(uuid.UUID(post[key])) == post[key]
    assert len({p["id"] for p in posts}) == len({p["headers"]["e2b-delivery-id"] for p in posts}) == 4
    runs = [p["sandbox_execution_id"] for p in posts]
    assert runs[0] == runs[1] == runs[2] != runs[3]
    execution = posts[2]["event_data"]["execution"]
    assert (execution["vcpu_count"], execution["memory_mb"]) == (1, 512)
    assert execution["execution_time"] > 0 and execution["started_at"] == posts[1]["timestamp"]
    assert "execution" not in posts[3]["event_data"]  # it was paused
    told = get(hooked, hook)
    assert told["vivarium"]["delivered"] == 4 and told["vivarium"]["deliveredAt"] and "signatureSecret" not in told
    assert SECRET not in json.dumps(hooked.get("/events/webhooks"))
    pid = helpers(hooked)[0]
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    assert re.search(r"^CapEff:\s+0+$", status, re.M) and re.search(r"^NoNewPrivs:\s+1$", status, re.M)
    assert int(re.search(r"^Uid:\s+(\d+)", status, re.M)[1]) >= 65536
    remove(hooked, hook)
    assert hooked.get("/events/webhooks") == []


def test_in_order_per_sandbox_whatever_fails(hooked, receiver):
    """Every third try fails: a later event of the sandbox never comes first, and others do not wait for it."""
    tries, sandboxes = collections.Counter(), [f"order{n}" for n in range(8)]
    busy, most = collections.Counter(), collections.Counter()

    def answer(post):
        box = post["sandbox_id"]
        busy[box] += 1
        most[box] = max(most[box], busy[box])
        tries[post["id"]] += 1
        fails = (int(box[-1]) + post["event_data"]["vivarium"]["event"]) % 3 == 0 and tries[post["id"]] == 1
        busy[box] -= 1
        return (500, 302, None)[int(box[-1]) % 3] if fails else 200

    receiver.answer = answer
    hook = add(hooked, receiver.url, events=[f"sandbox.lifecycle.{k}" for k in ALL if k != "running"])
    kinds = ["created", "running", "paused", "resumed", "killed"]
    ids = emit(hooked, *[(box, kind) for kind in kinds for box in sandboxes])
    drained(hooked, hook)
    for i, box in enumerate(sandboxes):
        mine = ids[i::len(sandboxes)]
        assert receiver.of(box) == [mine[0], *mine[2:]]
        asked = receiver.of(box, accepted=False)
        assert asked == sorted(asked) and most[box] == 1
    told = own(hooked, hook)
    # A connection that was kept and breaks is tried anew by viv-hook, which counts as one try.
    assert told["delivered"] == 4 * len(sandboxes) and 0 < told["failed"] <= sum(n > 1 for n in tries.values())
    assert set(tries.values()) == {1, 2} and not any(p["path"] == "/elsewhere" for p in receiver.posts)
    remove(hooked, hook)


def test_one_that_fails_for_ever_is_alone(hooked, receiver):
    """Back-off grows, the reason is told, its neighbours and other webhooks go on."""
    receiver.answer = lambda post: 500 if post["sandbox_id"] == "poison" else 200
    hook, other = add(hooked, receiver.url), add(hooked, receiver.url.replace("/hook", "/other"))
    emit(hooked, ("poison", "created"), ("poison", "killed"), *[(f"fine{n}", "created") for n in range(20)])
    vivarium.wait_for(lambda: len(receiver.of()) == 40, what="the others were delivered")
    vivarium.wait_for(lambda: own(hooked, hook)["failed"] >= 3, what="three tries")
    told = own(hooked, hook)
    assert told["waiting"] == 1 and told["lastError"] == "it answered with status 500" and told["delivered"] == 20
    at = [p["at"] for p in receiver.posts if p["sandbox_id"] == "poison" and p["path"].startswith("/hook")]
    assert at[1] - at[0] >= 0.5 and at[2] - at[1] >= 1.0  # half of 1 s, and of 2 s
    assert "poison" not in {p["sandbox_id"] for p in receiver.posts if p["status"] == 200}
    receiver.answer = lambda post: 299  # with a body that has no end
    for each in (hook, other):
        assert hooked.request("PATCH", f"/events/webhooks/{each}", {"url": receiver.url + "&c"})[0] == 200
        drained(hooked, each)
        remove(hooked, each)
    mine = [p["type"].split(".")[-1] for p in receiver.posts if p["sandbox_id"] == "poison" and p["status"] == 299]
    assert sorted(mine) == ["created", "created", "killed", "killed"]


def test_slow_ones_leave_room(hooked, receiver):
    """However many webhooks take their time: another gets its events meanwhile."""
    gate = threading.Event()
    receiver.answer = lambda post: 200 if post["path"] == "/fast" or gate.wait(120) else 500
    slow = [add(hooked, receiver.url) for _ in range(20)]
    fast = add(hooked, receiver.url.replace("/hook?a=b", "/fast"))
    ids = emit(hooked, *[(f"room{n}", "created") for n in range(20)])
    drained(hooked, fast)
    with receiver.lock:
        assert sorted(p["event_data"]["vivarium"]["event"] for p in receiver.posts) == ids
    for hook in (*slow, fast):
        remove(hooked, hook)
    gate.set()


def test_nothing_is_lost_when_vivd_is_killed(make_hooked, receiver):
    """What was not written as delivered comes again, in order; viv-hook ends with vivd."""
    instance, gate = make_hooked(), threading.Event()
    receiver.answer = lambda post: 200 if gate.wait(120) else 500
    assert instance.start(), instance.log_text()
    hook = add(instance, receiver.url)
    ids = emit(instance, *[(box, kind) for kind in ("created", "running", "killed") for box in ("a1", "a2")])
    pid = vivarium.wait_for(lambda: helpers(instance), what="viv-hook runs")[0]
    instance.stop(signal.SIGKILL)
    vivarium.wait_for(lambda: not pathlib.Path(f"/proc/{pid}").exists(), what="viv-hook is gone")
    gate.set()
    assert instance.start(), instance.log_text()
    drained(instance, hook)
    for i, box in enumerate(("a1", "a2")):
        assert list(dict.fromkeys(receiver.of(box))) == ids[i::2]  # at least once
        assert receiver.of(box) == sorted(receiver.of(box))
    # And so it is when viv-hook is killed.
    gate.clear()
    ids = emit(instance, ("a3", "created"), ("a3", "killed"))
    pid = vivarium.wait_for(lambda: helpers(instance), what="viv-hook runs")[0]
    os.kill(pid, signal.SIGKILL)
    gate.set()
    drained(instance, hook)
    assert list(dict.fromkeys(receiver.of("a3"))) == ids
    assert own(instance, hook)["delivered"] == 8
    assert instance.stop() == 0
    assert "handles_left" not in instance.log_text()


def test_what_expires_is_counted(make_hooked, receiver):
    instance = make_hooked()
    receiver.answer = lambda post: 500
    assert instance.start(), instance.log_text()
    hook = add(instance, receiver.url)
    emit(instance, ("old", "created"), ("old", "running"))
    vivarium.wait_for(lambda: own(instance, hook)["failed"] > 0, what="it was tried")
    db = store(instance)
    with db:
        db.execute("UPDATE event SET at_ms = at_ms - ?", (GONE_AFTER_MS,))
        db.execute("INSERT INTO event_new (type, sandbox, name, template_name, cause, error, generation)"
                   " VALUES ('created', 'new', '', 'base', '', '', 0)")
    db.close()
    told = own(instance, hook)
    assert (told["dropped"], told["waiting"]) == (2, 1)


def test_only_the_internet_by_default(build, hooked, make_instance, receiver):
    """Refused when it is registered, and when it is connected to, whatever name leads there."""
    instance = make_instance()
    assert instance.start(), instance.log_text()
    for host in ("127.0.0.1", "localhost", "10.1.2.3", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254", "0x7f000001"):
        status, reply = instance.request("POST", "/events/webhooks", {"url": f"http://{host}:{receiver.port}/"})
        assert status == 400 and "webhook_private" in reply["message"], reply
    hook = add(instance, "https://example.org/")
    for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433"):
        db = store(instance)
        with db:
            db.execute("UPDATE webhook SET url = ?, last_error = ''", (f"http://{host}:{receiver.port}/",))
        db.close()
        emit(instance, (f"to-{host}", "created"))
        why = vivarium.wait_for(lambda: own(instance, hook)["lastError"], what="it failed")
        assert "not one of the internet" in why and re.search(r"127\.0\.0\.1|::1", why), why
    assert receiver.posts == []
    assert instance.request("PATCH", f"/events/webhooks/{hook}", {"url": receiver.url})[0] == 400


def test_tls_is_checked(build, hooked, tmp_path, receiver):
    subprocess.run([build / "src" / "viv-tls", "make", tmp_path / "tls", "box.example.org"], check=True)
    secure = Receiver(tls=tmp_path / "tls")
    hook = add(hooked, secure.url)
    emit(hooked, ("tls", "created"))
    why = vivarium.wait_for(lambda: own(hooked, hook)["lastError"], what="it failed")
    assert "certificate" in why.lower(), why
    assert secure.posts == []
    remove(hooked, hook)
    secure.close()


def test_switched_off(hooked, receiver):
    """Disabled ones get nothing of what happens meanwhile; 410 disables; removal ends what waits."""
    hook = add(hooked, receiver.url, enabled=False)
    emit(hooked, ("off", "created"))
    assert get(hooked, hook)["enabled"] is False and own(hooked, hook)["waiting"] == 0
    status, reply = hooked.request("PATCH", f"/events/webhooks/{hook}",
                                   {"enabled": True, "events": ["sandbox.lifecycle.killed", "sandbox.lifecycle.updated"]})
    assert status == 200 and reply["enabled"] and reply["url"] == receiver.url
    assert reply["events"] == ["sandbox.lifecycle.killed", "sandbox.lifecycle.updated"]
    ids = emit(hooked, ("off", "running"), ("off", "killed"))
    vivarium.wait_for(lambda: receiver.of() == ids[1:], what="what came behind it")
    receiver.answer = lambda post: 410
    emit(hooked, ("gone1", "killed"))
    vivarium.wait_for(lambda: not get(hooked, hook)["enabled"], what="410 disabled it")
    told = own(hooked, hook)
    assert told["waiting"] == 0 and told["lastError"] == "it answered with status 410"
    remove(hooked, hook)
    receiver.answer = lambda post: 500
    hook = add(hooked, receiver.url)
    emit(hooked, ("rm", "created"))
    vivarium.wait_for(lambda: own(hooked, hook)["failed"] > 0, what="it was tried")
    remove(hooked, hook)
    receiver.answer = lambda post: 200
    other = add(hooked, receiver.url)
    ids = emit(hooked, ("next", "created"))
    vivarium.wait_for(lambda: ids[0] in receiver.of(), what="the next one came")
    assert receiver.of("rm") == []
    remove(hooked, other)


def test_bad_input_of_webhooks(hooked):
    good = "https://example.org/x"
    for body, word in (
            ({}, "url"), ({"url": 1}, "url"), ({"url": "ftp://example.org/"}, "https://"), ({"url": "https://"}, "host"),
            ({"url": "https://user:pass@example.org/"}, "user"), ({"url": "https://exa mple.org/"}, "character"),
            ({"url": "https://example.org/\r\nX: y"}, "character"), ({"url": "https://example.org/#a"}, "fragment"),
            ({"url": "https://example.org:0/"}, "port"), ({"url": "https://example.org:65536/"}, "port"),
            ({"url": "https://example.org\\@evil.example/"}, "character"), ({"url": "https://ex%61mple.org/"}, "host"),
            ({"url": "https://[::1%25lo]/"}, "host"), ({"url": "https://example.org/" + "x" * 2048}, "2048"),
            ({"url": good, "name": "x" * 101}, "name"), ({"url": good, "name": "a\nb"}, "name"),
            ({"url": good, "enabled": "yes"}, "enabled"), ({"url": good, "events": []}, "events"),
            ({"url": good, "events": ["created"]}, "events"), ({"url": good, "events": ["sandbox.lifecycle.no"]}, "events"),
            ({"url": good, "events": ["sandbox.lifecycle.created killed"]}, "events"),
            ({"url": good, "signatureSecret": ""}, "signatureSecret"),
            ({"url": good, "signatureSecret": "x" * 257}, "signatureSecret")):
        status, reply = hooked.request("POST", "/events/webhooks", body)
        assert status == 400 and word in reply["message"], (body, reply)
    for method in ("GET", "PATCH", "DELETE"):
        assert hooked.request(method, "/events/webhooks/w000000000000", {})[0] == 404
    hooks = [add(hooked, good, events=["sandbox.lifecycle.error"]) for _ in range(50)]
    status, reply = hooked.request("POST", "/events/webhooks", {"url": good})
    assert status == 429 and "50" in reply["message"]
    for hook in hooks:
        remove(hooked, hook)


def test_viv_webhook(hooked, receiver):
    r = hooked.viv("webhook", "add", "--name", "ci", "--event", "killed", "--event", "sandbox.lifecycle.created",
                   receiver.url)
    assert r.returncode == 0, r.stderr
    hook = r.stdout.decode().strip()
    secret = re.search(r"secret is ([0-9a-f]{64});", r.stderr.decode())[1]
    assert get(hooked, hook)["events"] == ["sandbox.lifecycle.killed", "sandbox.lifecycle.created"]
    emit(hooked, ("cli", "created"), ("cli", "running"), ("cli", "killed"))
    vivarium.wait_for(lambda: len(receiver.of("cli")) == 2, what="two events")
    assert all(signed(p, secret) for p in receiver.posts)
    table = hooked.viv("webhook", "ls").stdout.decode().splitlines()
    assert table[1].split() == [hook, "ci", "active", "2", "0", receiver.url]
    assert hooked.viv("webhook", "disable", "ci", hook).stdout.decode().split() == ["ci", hook]
    assert json.loads(hooked.viv("webhook", "inspect", "ci").stdout)["enabled"] is False
    assert "disabled" in hooked.viv("webhook", "ls").stdout.decode()
    assert hooked.viv("webhook", "enable", "ci").returncode == 0
    r = hooked.viv("webhook", "add", "--secret-file", "-", "--disabled", "--name", "ci", "--json", receiver.url,
                   stdin=b"given\n")
    assert r.returncode == 0 and r.stderr == b"", r.stderr
    second = json.loads(r.stdout)
    assert second["enabled"] is False and "signatureSecret" not in second
    assert [h["id"] for h in json.loads(hooked.viv("webhook", "ls", "--json").stdout)] == [hook, second["id"]]
    r = hooked.viv("webhook", "rm", "ci")
    assert r.returncode == 1 and b"several webhooks" in r.stderr
    assert hooked.viv("webhook", "rm", hook, second["id"]).returncode == 0
    r = hooked.viv("webhook", "rm", hook)
    assert r.returncode == 1 and b"no webhook" in r.stderr
    for argv in ([], ["nonsense"], ["add"], ["add", "a", "b"], ["ls", "x"], ["rm"], ["inspect"], ["--json", "rm", "x"],
                 ["--name", "x", "ls"], ["add", "--nonsense", "x"]):
        assert hooked.viv("webhook", *argv).returncode == 2, argv
    assert hooked.viv("webhook", "add", "--secret-file", "/no/such", receiver.url).returncode == 1
    assert hooked.viv("webhook", "add", "gopher://x").returncode == 1


def test_keys_reach_them(hooked):
    """The endpoints are the API's: a request by TCP would need a key, and others' methods are refused."""
    status, reply = hooked.request("PUT", "/events/webhooks", {})
    assert status == 405, reply
