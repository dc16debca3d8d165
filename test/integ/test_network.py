# SPDX-License-Identifier: Apache-2.0
"""Where a sandbox may go, with a real guest and servers in a namespace behind the host."""

import contextlib
import json
import os
import signal
import subprocess

import pytest
import vivarium
from world import PORT, World, reach, rules

ALL = "0.0.0.0/0"


@pytest.fixture(scope="module")
def world():
    world = World()
    yield world
    world.close()


@pytest.fixture(scope="module")
def box(shared):
    """A sandbox whose network the tests change as they like."""
    status, box = shared.create(name="box")
    assert status == 201, box
    return box["sandboxID"]


def change(instance, box, **fields):
    status, answer = instance.request("PUT", f"/sandboxes/{box}/network", fields)
    assert status == 204, answer


class Talk:
    """A guest's connections that stay open: ask() says a line to one and returns what comes back."""

    PROGRAM = """
import socket, sys
open_ = {}
for line in sys.stdin:
    addr = line.strip()
    try:
        if addr not in open_:
            open_[addr] = socket.create_connection((addr, %d), 20)
        open_[addr].sendall(b"hello\\n")
        print(open_[addr].recv(100).decode().strip() or "end", flush=True)
    except OSError as e:
        print(type(e).__name__, flush=True)
""" % PORT

    def __init__(self, instance, box):
        self.p = instance.popen("exec", box, "--", "python3", "-c", self.PROGRAM,
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, addr):
        self.p.stdin.write(f"{addr}\n".encode())
        self.p.stdin.flush()
        return self.p.stdout.readline().decode().strip()

    def close(self):
        self.p.stdin.close()
        assert self.p.wait(timeout=60) == 0
        self.p.stdout.close()


def test_lists(shared, world, box):
    change(shared, box)
    assert reach(shared, box, world.near, world.far) == ["reached", "reached"]
    change(shared, box, denyOut=[world.far])
    assert reach(shared, box, world.near, world.far) == ["reached", "refused"]
    change(shared, box, denyOut=[ALL], allowOut=[f"{world.far}/32"])
    assert reach(shared, box, world.near, world.far) == ["refused", "reached"]
    detail = shared.get(f"/sandboxes/{box}")
    assert detail["network"] == {"allowOut": [f"{world.far}/32"], "denyOut": [ALL], "allowPublicTraffic": True}
    assert "allowInternetAccess" not in detail
    change(shared, box)  # what is left out is cleared
    assert reach(shared, box, world.near, world.far) == ["reached", "reached"]
    assert "network" not in shared.get(f"/sandboxes/{box}")


def test_internet_access(shared, world, box):
    change(shared, box, allow_internet_access=False)
    assert reach(shared, box, world.near, world.far) == ["refused", "refused"]
    assert shared.get(f"/sandboxes/{box}")["allowInternetAccess"] is False
    change(shared, box, allow_internet_access=False, allowOut=[world.near])
    assert reach(shared, box, world.near, world.far) == ["reached", "refused"]
    change(shared, box, allow_internet_access=True)
    assert reach(shared, box, world.near, world.far) == ["reached", "reached"]
    assert shared.get(f"/sandboxes/{box}")["allowInternetAccess"] is True


def test_open_connections_follow(shared, world, box):
    """What is denied is cut and the guest is told; what is allowed goes on, and so does what is said from outside."""
    change(shared, box)
    talk = Talk(shared, box)
    assert [talk.ask(world.near), talk.ask(world.far)] == ["hello", "hello"]
    change(shared, box, denyOut=[ALL], allowOut=[world.near])
    assert talk.ask(world.near) == "hello"
    assert talk.ask(world.far) in ("ConnectionResetError", "BrokenPipeError")
    assert talk.ask(world.near) == "hello"
    talk.close()
    change(shared, box)


def test_while_it_changes_requests_pass(shared, box):
    """A sandbox whose network changes is not busy."""
    for n in range(10):
        p = shared.popen("exec", box, "--", "true", stdout=subprocess.DEVNULL)
        change(shared, box, denyOut=[f"192.0.2.{n}"])
        assert p.wait(timeout=60) == 0
    change(shared, box)


def test_changes_at_once(shared, box):
    """One after the other, or a conflict; the row and the rules are of one of them."""
    connections = [vivarium.UnixConnection(shared.run_dir / "vivd.sock") for _ in range(8)]
    for n, c in enumerate(connections):
        c.request("PUT", f"/sandboxes/{box}/network", json.dumps({"denyOut": [f"198.51.100.{n}"]}))
    codes = []
    for c in connections:
        codes.append(c.getresponse().status)
        c.close()
    assert set(codes) <= {204, 409} and 204 in codes
    denied = shared.get(f"/sandboxes/{box}")["network"]["denyOut"]
    assert f"ip daddr {{ {denied[0]} }}" in rules(shared, box) or f"ip daddr {denied[0]} " in rules(shared, box)
    assert codes[int(denied[0].rsplit(".", 1)[1])] == 204
    change(shared, box)


@pytest.mark.parametrize("body, word", [
    ("", "JSON"), ("[]", "object"), ({"denyOut": ["300.1.2.3"]}, "300.1.2.3"), ({"denyOut": ["a.example"]}, "domain"),
    ({"allowOut": ["10.0.0.1"]}, "no sandbox may reach"), ({"rules": {"a.example": [{}]}}, "'rules'"),
    ({"egressProxy": {"address": "a:1"}}, "'egressProxy'"), ({"denyOut": ["1.2.3.4"] * 1001}, "1000"),
    ({"httpsPorts": [8443]}, "'httpsPorts'")])
def test_bad_changes(shared, box, body, word):
    before = rules(shared, box)
    status, answer = shared.request("PUT", f"/sandboxes/{box}/network", body)
    assert (status, answer["code"]) == (400, 400) and word in answer["message"]
    assert rules(shared, box) == before


def test_viv_network(shared, world):
    r = shared.viv("create", "--name", "narrow", "--no-internet", "--allow-out", world.near, "--deny-out", "192.0.2.0/24")
    assert r.returncode == 0, r.stderr
    assert reach(shared, "narrow", world.near, world.far) == ["reached", "refused"]
    r = shared.viv("network", "narrow")
    assert r.stdout.decode().splitlines() == [f"allow-out    {world.near}", "deny-out     192.0.2.0/24",
                                              "internet     no"]
    assert shared.viv("network", "--deny-out", world.near, "narrow").returncode == 0
    assert json.loads(shared.viv("network", "--json", "narrow").stdout) == {
        "network": {"allowOut": [], "denyOut": [world.near], "allowPublicTraffic": True}}
    assert reach(shared, "narrow", world.near, world.far) == ["refused", "reached"]
    assert shared.viv("network", "--clear", "narrow").returncode == 0
    assert json.loads(shared.viv("network", "--json", "narrow").stdout) == {}
    r = shared.viv("network", "--allow-out", "10.0.0.1", "narrow")
    assert r.returncode == 1 and b"no sandbox may reach" in r.stderr
    for wrong in ([], ["--clear", "--no-internet", "narrow"], ["--json", "--clear", "narrow"], ["--nothing", "narrow"]):
        assert shared.viv("network", *wrong).returncode == 2
    assert shared.viv("network", "nobody").returncode == 1
    assert shared.viv("rm", "narrow").returncode == 0


SERVER = """
import http.server
class Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(str(self.headers).encode())
http.server.HTTPServer(("", 3000), Server).serve_forever()
"""


def test_ports_that_are_not_public(shared):
    status, made = shared.create(network={"allowPublicTraffic": False, "maskRequestHost": "in.example:${PORT}"})
    assert status == 201, made
    box, token = made["sandboxID"], made["trafficAccessToken"]
    server = shared.popen("exec", box, "--", "python3", "-c", SERVER, stdin=subprocess.DEVNULL)
    route = {"E2b-Sandbox-Id": box, "E2b-Sandbox-Port": "3000"}

    def get(**more):
        return shared.request("GET", "/", headers={**route, **more})

    vivarium.wait_for(lambda: get(**{"e2b-traffic-access-token": token})[0] == 200, what="the server answers")
    page = get(**{"E2B-Traffic-Access-Token": token})[1]
    assert "Host: in.example:3000\n" in page.replace("\r", "") and token not in page
    for wrong in ({}, {"e2b-traffic-access-token": ""}, {"e2b-traffic-access-token": "x" * 64}):
        status, answer = get(**wrong)
        assert (status, answer["code"], answer["sandboxId"]) == (403, 403, box)
    status, page = get(Accept="text/html")
    assert status == 403 and page.startswith("<!doctype html>")
    assert shared.request("GET", "/health", headers={**route, "E2b-Sandbox-Port": "49983"})[0] == 204
    change(shared, box, denyOut=[ALL])  # is of the ways out, and leaves this as it is
    assert shared.get(f"/sandboxes/{box}")["network"]["allowPublicTraffic"] is False
    assert get()[0] == 403
    assert shared.request("DELETE", f"/sandboxes/{box}")[0] == 204
    server.wait(timeout=60)


def test_no_such_sandbox(shared):
    assert shared.request("PUT", "/sandboxes/i0123456789abcdefghi/network", {})[0] == 404


def test_create_and_crash(make_instance, world):
    """From its creation on, with a daemon or without, and for a later one; the next sandbox has nothing of it."""
    instance = make_instance(slot_pool=1)
    assert instance.start(), instance.log_text()
    status, made = instance.create(network={"allowOut": [world.near], "denyOut": ["203.0.113.0/24"]},
                                   allow_internet_access=True)
    assert status == 201, made
    box = made["sandboxID"]
    assert reach(instance, box, world.near, world.far) == ["reached", "refused"]
    before = rules(instance, box)
    instance.stop(signal.SIGKILL)
    assert rules(instance, box) == before
    assert instance.start(), instance.log_text()
    assert rules(instance, box) == before
    assert reach(instance, box, world.near, world.far) == ["reached", "refused"]
    detail = instance.get(f"/sandboxes/{box}")
    assert detail["network"]["allowOut"] == [world.near] and detail["allowInternetAccess"] is True
    assert instance.request("DELETE", f"/sandboxes/{box}")[0] == 204
    status, made = instance.create()
    assert status == 201, made
    assert reach(instance, made["sandboxID"], world.near, world.far) == ["reached", "reached"]


def test_rules_that_somebody_changed(make_instance, world):
    """A daemon that starts sets what the store says."""
    instance = make_instance()
    assert instance.start(), instance.log_text()
    status, made = instance.create(allow_internet_access=False)
    assert status == 201, made
    box = made["sandboxID"]
    before = rules(instance, box)
    instance.stop()
    links = vivarium.ip_json("link")
    link = next(l["ifname"] for l in links if l.get("ifalias") == box)
    netns = f"viv-{instance.tag}-{link.rsplit('-', 1)[1]}"
    for damage in (["flush", "chain", "inet", "vivarium", "to_world"], ["delete", "table", "inet", "vivarium"]):
        assert vivarium.run("ip", "netns", "exec", netns, "nft", *damage).returncode == 0
        assert instance.start(), instance.log_text()
        assert rules(instance, box) == before
        instance.stop()
    assert instance.start(), instance.log_text()
    assert reach(instance, box, world.near) == ["refused"]


def test_stopped_sandbox(make_instance):
    """It has no network to change."""
    instance = make_instance()
    assert instance.start(), instance.log_text()
    status, made = instance.create()
    assert status == 201, made
    box = made["sandboxID"]
    with contextlib.suppress(ProcessLookupError):
        os.kill(instance.get(f"/sandboxes/{box}")["vivarium"]["vmmPid"], signal.SIGKILL)
    vivarium.wait_for(lambda: instance.get(f"/sandboxes/{box}")["vivarium"]["state"] == "stopped", what="it stopped")
    status, answer = instance.request("PUT", f"/sandboxes/{box}/network", {"denyOut": [ALL]})
    assert status == 404 and "not running" in answer["message"]
    assert "network" not in instance.get(f"/sandboxes/{box}")
