# SPDX-License-Identifier: Apache-2.0
"""Logs of sandboxes by the API: the guest's console and what befell the sandbox."""

import datetime
import os
import re
import signal

import pytest
import vivarium


@pytest.fixture(scope="module")
def box(shared):
    status, box = shared.create(name="scribe", **vivarium.BOOTED)  # it boots, and its console says so
    assert status == 201, box
    return box["sandboxID"]


def say(instance, box, text):
    """Has the guest write to its console, and waits until it is in the log."""
    r = instance.viv("exec", "--user", "root", box, "--", "sh", "-c", f"printf '{text}\\n' > /dev/console")
    assert r.returncode == 0, r.stderr
    word = text.split("\\")[0]
    vivarium.wait_for(lambda: [e for e in logs(instance, box) if word in e["message"]], what=f"'{word}' in the log")


def logs(instance, box, query=""):
    return instance.get(f"/v2/sandboxes/{box}/logs{query}")["logs"]


def ms(entry):
    time = datetime.datetime.fromisoformat(entry["timestamp"].replace("Z", "+00:00"))
    return round(time.timestamp() * 1000)


def test_what_befell_it_and_its_console(shared, box):
    entries = logs(shared, box)
    for e in entries:
        assert set(e) == {"timestamp", "level", "message", "fields"}
        assert e["level"] in ("debug", "info", "warn", "error") and e["message"]
    own = [e["message"] for e in entries if e["fields"] == {"source": "vivd"}]
    assert re.match(r"created from template base: 1 CPUs, \d+ MiB of memory$", own[0])
    assert own[1] == "running, was creating"
    console = [e["message"] for e in entries if e["fields"] == {"source": "console"}]
    assert "viv-agent: ready" in console
    times = [ms(e) for e in entries]
    assert times == sorted(times)
    began = datetime.datetime.fromisoformat(shared.get(f"/sandboxes/{box}")["startedAt"].replace("Z", "+00:00"))
    assert abs(times[-1] / 1000 - began.timestamp()) < 60


def test_v1_has_both_forms(shared, box):
    reply = shared.get(f"/sandboxes/{box}/logs")
    assert set(reply) == {"logs", "logEntries"}
    assert [e["line"] for e in reply["logs"]] == [e["message"] for e in reply["logEntries"]]
    assert [e["timestamp"] for e in reply["logs"]] == [e["timestamp"] for e in reply["logEntries"]]
    assert len(shared.get(f"/sandboxes/{box}/logs?limit=1")["logs"]) == 1
    last = ms(reply["logEntries"][-1])
    assert shared.get(f"/sandboxes/{box}/logs?start={last + 1}") == {"logs": [], "logEntries": []}
    assert shared.get(f"/sandboxes/{box}/logs?start={last}")["logs"]


def test_level_search_and_clean_text(shared, box):
    say(shared, box, "WARNING: needle \\033[31mred\\033[0m \\007bell \\377\\303\\274")
    found = logs(shared, box, "?search=needle")
    assert len(found) == 1 and found[0]["level"] == "warn"
    assert found[0]["message"].startswith("WARNING: needle red bell ")
    assert logs(shared, box, "?search=Needle") == []
    assert logs(shared, box, "?search=%20red%20")[0] == found[0]
    assert found[0] in logs(shared, box, "?level=warn")
    assert all(e["level"] in ("warn", "error") for e in logs(shared, box, "?level=warn"))
    assert found[0] not in logs(shared, box, "?level=error")
    assert logs(shared, box, "?level=debug") == logs(shared, box)


def test_cursor_direction_and_limit(shared, box):
    say(shared, box, "first word")
    say(shared, box, "second word")
    forward = logs(shared, box)
    assert logs(shared, box, "?direction=backward") == forward[::-1]
    assert logs(shared, box, "?limit=2") == forward[:2]
    assert logs(shared, box, "?direction=backward&limit=2") == forward[::-1][:2]
    assert logs(shared, box, "?limit=0") == []
    second = next(e for e in forward if e["message"] == "second word")
    assert logs(shared, box, f"?cursor={ms(second)}") == [e for e in forward if ms(e) >= ms(second)]
    before = logs(shared, box, f"?cursor={ms(second) - 1}&direction=backward")
    assert before == [e for e in forward if ms(e) < ms(second)][::-1]


@pytest.mark.parametrize("path,query,word", [
    ("/sandboxes", "start=x", "'start'"), ("/sandboxes", "limit=-1", "'limit'"), ("/sandboxes", "limit=10001", "10000"),
    ("/v2/sandboxes", "cursor=1.5", "'cursor'"), ("/v2/sandboxes", "limit=1001", "1000"),
    ("/v2/sandboxes", "direction=up", "'direction' must be one of forward, backward"),
    ("/v2/sandboxes", "level=fatal", "'level' must be one of error, warn, info, debug"),
    ("/v2/sandboxes", "search=%zz", "'search'"),
])
def test_bad_parameters_are_refused_by_name(shared, box, path, query, word):
    status, body = shared.request("GET", f"{path}/{box}/logs?{query}")
    assert status == 400 and body["code"] == 400 and word in body["message"], body


def test_unknown_sandboxes(shared):
    for path in ("/sandboxes", "/v2/sandboxes"):
        status, body = shared.request("GET", f"{path}/i0123456789abcdefghi/logs")
        assert status == 404 and body["code"] == 404


def test_a_flood_is_bounded(shared, box):
    r = shared.viv("exec", "--user", "root", box, "--", "sh", "-c",
                   "i=0; while [ $i -lt 20 ]; do head -c 10000 /dev/urandom > /dev/console; i=$((i+1)); done;"
                   "yes x | head -c 30000 > /dev/console; echo; echo the end > /dev/console")
    assert r.returncode == 0, r.stderr
    vivarium.wait_for(lambda: logs(shared, box, "?search=the%20end"), what="all of it came")
    assert len(logs(shared, box)) == 1000
    assert len(shared.get(f"/sandboxes/{box}/logs?limit=10000")["logs"]) <= 10000
    assert logs(shared, box, "?direction=backward&limit=1")[0]["message"].endswith("the end")
    assert logs(shared, box)[0]["message"].startswith("created from")


def test_logs_of_one_that_stopped_and_after_a_restart(make_instance):
    instance = make_instance()
    assert instance.start()
    box = instance.create()[1]["sandboxID"]
    instance.viv("exec", "--user", "root", box, "--", "sh", "-c", "echo kept > /dev/console")
    vivarium.wait_for(lambda: logs(instance, box, "?search=kept"), what="it came")
    instance.stop(signal.SIGKILL)
    assert instance.start()
    assert [e for e in logs(instance, box) if e["message"] == "kept"], "it is read back"
    assert logs(instance, box, "?search=vivd%20started")[0]["message"] == "vivd started and found it running"
    os.kill(instance.get(f"/sandboxes/{box}")["vivarium"]["vmmPid"], signal.SIGKILL)
    vivarium.wait_for(lambda: instance.get(f"/sandboxes/{box}")["vivarium"]["state"] == "stopped", what="it stopped")
    last = logs(instance, box, "?level=error")[-1]
    assert last["message"].startswith("stopped, was running: ") and last["fields"] == {"source": "vivd"}
    vivarium.wait_for(lambda: [e for e in logs(instance, box) if e["message"] == "kept"], what="the console is kept")
