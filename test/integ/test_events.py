# SPDX-License-Identifier: Apache-2.0
"""Events: recorded with what they tell of, listed, followed, and gone on with after a break."""

import json
import os
import signal
import subprocess

import pytest
import vivarium


def create(instance, **fields):
    status, box = instance.create(**fields)
    assert status == 201, box
    return box["sandboxID"]


def types(events):
    return [e["type"] for e in events]


class Stream:
    """GET /events as a client of server-sent events reads it."""

    def __init__(self, instance, query="", last=None):
        self.connection = vivarium.UnixConnection(instance.run_dir / "vivd.sock")
        headers = {"Accept": "text/event-stream"}
        if last is not None:
            headers["Last-Event-ID"] = str(last)
        self.connection.request("GET", "/events" + query, headers=headers)
        self.response = self.connection.getresponse()
        assert self.response.status == 200, self.response.read()
        assert self.response.getheader("Content-Type") == "text/event-stream"

    def next(self):
        """The next event; what is only said to be heard is passed over."""
        fields = {}
        for line in iter(self.response.readline, b""):
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name in ("id", "event", "data"):
                fields[name] = value
            if not name and fields:  # an empty line ends one
                event = json.loads(fields["data"])
                assert (event["id"], event["type"]) == (int(fields["id"]), fields["event"])
                return event
        return None

    def close(self):
        self.connection.close()


def test_a_life(make_instance):
    instance = make_instance()
    assert instance.start(), instance.log_text()
    assert instance.get("/events") == []
    stream = Stream(instance)
    box = create(instance, name="dev", timeout=3600)
    for verb in ("pause", "resume", "checkpoint", "stop", "start"):
        assert instance.viv(verb, "dev", timeout=120).returncode == 0
    pid = instance.get(f"/sandboxes/{box}")["vivarium"]["vmmPid"]
    os.kill(pid, signal.SIGKILL)
    vivarium.wait_for(lambda: instance.get(f"/sandboxes/{box}")["vivarium"]["state"] == "stopped", what="it stopped")
    assert instance.viv("rm", "dev", timeout=120).returncode == 0
    want = ["created", "running", "paused", "resumed", "checkpointed", "stopped", "running", "stopped", "killed"]
    events = instance.get("/events")
    assert types(events) == want
    assert [e["id"] for e in events] == list(range(1, len(want) + 1))
    assert all((e["sandboxID"], e["name"], e["templateID"]) == (box, "dev", "base") for e in events)
    assert events[2]["generation"] == 1 and events[4]["generation"] == 2
    assert "error" not in events[5] and events[7]["error"]
    assert [stream.next() for _ in want] == events
    stream.close()
    assert instance.get("/events?after=7") == events[7:]
    assert instance.get("/events?limit=2") == events[:2]
    assert instance.get(f"/events?sandbox={box}&after=8") == events[8:]
    lines = instance.viv("events", "--json", box).stdout.decode().splitlines()
    assert [json.loads(line) for line in lines] == events
    r = instance.viv("events", "--after", "6")
    table = r.stdout.decode().splitlines()
    assert r.returncode == 0, r.stderr
    assert [line.split()[2] for line in table] == want[6:] and "dev" in table[0]


def test_of_its_deadline(shared):
    """What nobody asked for says why, what is asked for does not."""
    paused, killed = create(shared, timeout=3600, autoPause=True), create(shared, timeout=3600)
    for box in (paused, killed):
        assert shared.request("POST", f"/sandboxes/{box}/timeout", {"timeout": 0})[0] == 204

    def last(box):
        return shared.get(f"/events?sandbox={box}")[-1]

    vivarium.wait_for(lambda: last(paused)["type"] == "paused" and last(killed)["type"] == "killed", timeout=120,
                      what="their deadlines came")
    assert last(paused)["cause"] == last(killed)["cause"] == "timeout"
    assert shared.request("DELETE", f"/sandboxes/{paused}")[0] == 204
    assert last(paused)["type"] == "killed" and "cause" not in last(paused)


def test_a_stream_goes_on_where_it_was(make_instance):
    """Whatever happened while nobody listened, or to vivd, comes once and in order."""
    instance = make_instance()
    assert instance.start(), instance.log_text()
    stream = Stream(instance)
    box = create(instance, name="a")
    seen = [stream.next(), stream.next()]
    instance.stop(signal.SIGKILL)
    assert stream.next() is None
    assert instance.start(), instance.log_text()
    assert instance.viv("pause", "a", timeout=120).returncode == 0
    stream = Stream(instance, last=seen[-1]["id"])
    seen.append(stream.next())
    both = [Stream(instance, f"?after={seen[0]['id']}&sandbox={box}"), stream]
    assert instance.viv("rm", "a", timeout=120).returncode == 0
    seen.append(stream.next())
    assert [both[0].next() for _ in seen[1:]] == seen[1:]
    assert types(seen) == ["created", "running", "paused", "killed"] and seen == instance.get("/events")
    for s in both:
        s.close()


def test_viv_follows(shared):
    after = shared.get("/events?limit=1000")[-1:]
    last = str(after[0]["id"]) if after else "0"
    viv = shared.popen("events", "-f", "--json", "--after", last, stdout=subprocess.PIPE)
    box = create(shared)
    assert [json.loads(viv.stdout.readline())["type"] for _ in range(2)] == ["created", "running"]
    viv.send_signal(signal.SIGINT)
    assert viv.wait(timeout=20) == 128 + signal.SIGINT
    assert shared.request("DELETE", f"/sandboxes/{box}")[0] == 204


def test_bad_input(shared):
    for query, word in (("?after=x", "after"), ("?limit=0", "limit"), ("?limit=1001", "limit")):
        status, reply = shared.request("GET", "/events" + query)
        assert status == 400 and word in reply["message"], reply
    assert shared.request("GET", "/events?sandbox=nosuch")[0] == 404
    r = shared.viv("events", "nosuch")
    assert r.returncode == 1 and b"nosuch" in r.stderr
    assert shared.viv("events", "-f", "nosuch").returncode == 1
    for argv in (["--after", "x"], ["a", "b"], ["--nonsense"]):
        assert shared.viv("events", *argv).returncode == 2
    with pytest.raises(AssertionError, match="Last-Event-ID"):
        Stream(shared, last="x")


def test_followers_are_bounded(shared):
    streams = [Stream(shared) for _ in range(128)]
    with pytest.raises(AssertionError, match="128 clients"):
        Stream(shared)
    for s in streams:
        s.close()
    vivarium.wait_for(lambda: not Stream(shared).close(), what="there is room again")


def test_what_becomes_of_checkpoints(make_instance):
    """A snapshot is none of its source's events; of a fork its children are; a rollback is a resume at that generation."""
    instance = make_instance()
    assert instance.start(), instance.log_text()
    box = create(instance, name="dev", timeout=3600)
    assert instance.viv("snapshot", "dev", "kept", timeout=120).returncode == 0
    for _ in range(2):
        assert instance.viv("checkpoint", "dev", timeout=120).returncode == 0
    status, reply = instance.request("POST", f"/sandboxes/{box}/fork", {"timeout": 600})
    assert status == 201, reply
    child = reply[0]["sandbox"]["sandboxID"]
    assert instance.viv("rollback", "dev", "1", timeout=120).returncode == 0
    status, made = instance.request("POST", "/v2/sandboxes", {"templateID": "kept", "timeout": 600})
    assert status == 201, made
    mine = [e for e in instance.get("/events") if e["sandboxID"] == box]
    assert types(mine) == ["created", "running", "checkpointed", "checkpointed", "resumed"]
    assert [e["generation"] for e in mine[2:]] == [1, 2, 1]
    for other, template in ((child, "base"), (made["sandboxID"], "kept:default")):
        events = instance.get(f"/events?sandbox={other}")
        assert types(events) == ["created", "running"] and events[0]["templateID"] == template
    lines = instance.viv("events", "--json", "dev").stdout.decode().splitlines()
    assert [json.loads(line) for line in lines] == mine
