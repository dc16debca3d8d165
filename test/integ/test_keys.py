# SPDX-License-Identifier: Apache-2.0
"""API keys, and the TCP listener that asks for them."""

import hashlib
import json
import re
import socket

import pytest
import tcp
import vivarium

KEY = re.compile(r"e2b_[0-9a-f]{40}")


@pytest.fixture(scope="module")
def served(build, prepared):
    """A daemon with TCP, and a key for it."""
    instance = vivarium.Instance(build, prepared)
    instance.key = tcp.start(instance)
    yield instance
    instance.close()


def test_a_key_is_shown_once_and_kept_as_a_hash(shared):
    r = shared.viv("key", "create", "laptop")
    assert r.returncode == 0 and b"laptop" in r.stderr, r.stderr
    key = r.stdout.decode().strip()
    assert KEY.fullmatch(key)
    [(name, digest)] = shared.query("SELECT name, hash FROM api_key")
    assert (name, digest) == ("laptop", hashlib.sha256(key.encode()).digest())
    [listed] = json.loads(shared.viv("key", "ls", "--json").stdout)
    assert listed["name"] == "laptop" and listed["prefix"] == key[:8] and listed["lastUsedAt"] is None
    assert key not in shared.viv("key", "ls").stdout.decode() + json.dumps(listed) + shared.log_text()
    assert b"laptop" in shared.viv("key", "ls").stdout
    again = shared.viv("key", "create", "laptop")
    assert again.returncode == 1 and b"'laptop' already" in again.stderr
    assert shared.viv("key", "rm", "laptop").returncode == 0
    gone = shared.viv("key", "rm", "laptop")
    assert gone.returncode == 1 and b"no key 'laptop'" in gone.stderr


def test_a_key_without_a_name(shared):
    status, key = shared.request("POST", "/keys")
    assert status == 201 and key["name"] == key["id"] and KEY.fullmatch(key["key"])
    assert shared.request("DELETE", f"/keys/{key['id']}")[0] == 204
    assert shared.get("/keys") == []


@pytest.mark.parametrize("body", ['{"name": ""}', '{"name": 1}', '{"name": "A b"}', '{"name": "%s"}' % ("x" * 64),
                                  '[]', '{"name": "a'])
def test_bad_keys(shared, body):
    status, reply = shared.request("POST", "/keys", body)
    assert status == 400 and reply["code"] == 400 and reply["message"]
    assert shared.get("/keys") == []


@pytest.mark.parametrize("argv", [[], ["nothing"], ["rm"], ["create", "a", "b"], ["ls", "x"], ["create", "--json"]])
def test_wrong_usage(shared, argv):
    r = shared.viv("key", *argv)
    assert r.returncode == 2 and b"usage: viv key" in r.stderr


def test_no_tcp_without_a_key(make_instance):
    instance = make_instance(listen="127.0.0.1:0")
    assert not instance.start()
    assert "viv key create" in instance.log_text()
    assert not (instance.run_dir / "vivd.sock").exists()
    instance.settings.pop("listen")


def test_tcp_needs_a_key(served):
    for headers in ({}, {"X-API-KEY": "e2b_" + "0" * 40}, {"X-API-KEY": ""}, {"Authorization": "Bearer x"},
                    {"Authorization": f"Basic {served.key}"}, {"X-API-KEY": served.key[:-1]},
                    {"X-API-KEY": served.key + "0"}):
        for method, target in (("GET", "/v2/sandboxes"), ("POST", "/v2/sandboxes"), ("GET", "/health"),
                               ("GET", "/nope"), ("GET", "/keys")):
            status, _, reply = tcp.request(served, method, target, headers=headers)
            assert (status, reply["code"]) == (401, 401) and "key" in reply["message"], (headers, target)
    for headers in ({"X-API-KEY": served.key}, {"x-api-key": served.key}, {"Authorization": f"Bearer {served.key}"}):
        assert tcp.request(served, "GET", "/v2/sandboxes", headers=headers)[::2] == (200, [])
    assert served.get("/keys")[0]["lastUsedAt"]


def test_no_key_by_a_key(served):
    headers = {"X-API-KEY": served.key}
    for method, target in (("GET", "/keys"), ("POST", "/keys"), ("DELETE", "/keys/x")):
        status, _, reply = tcp.request(served, method, target, headers=headers)
        assert (status, reply["code"]) == (403, 403)
    assert len(served.get("/keys")) == 1


def test_a_removed_key_is_refused_at_once(served):
    key = served.request("POST", "/keys", {"name": "short"})[1]["key"]
    c = tcp.connection(served)
    for status in (200, 401):
        c.request("GET", "/version", headers={"X-API-KEY": key})
        r = c.getresponse()
        r.read()
        assert r.status == status
        served.request("DELETE", "/keys/short")
    c.close()


def test_pages_of_any_origin(served):
    ask = {"Origin": "https://app.example.org", "Access-Control-Request-Method": "POST",
           "Access-Control-Request-Headers": "x-api-key,content-type"}
    for target in ("/v2/sandboxes", "/files?signature=v1_x"):
        status, headers, body = tcp.request(served, "OPTIONS", target, headers=ask)
        assert (status, body, headers["Access-Control-Allow-Origin"]) == (204, "", "*")
        assert headers["Access-Control-Allow-Methods"] == "*"
        assert headers["Access-Control-Allow-Headers"] == "*, Authorization"
    for key, want in ((served.key, 200), ("", 401)):
        status, headers, _ = tcp.request(served, "GET", "/v2/sandboxes", headers={"X-API-KEY": key})
        assert (status, headers["Access-Control-Allow-Origin"]) == (want, "*")
        assert headers["Access-Control-Expose-Headers"] == "*"
    assert tcp.request(served, "OPTIONS", "/v2/sandboxes")[0] == 401  # no preflight


def test_a_port_in_use(served, make_instance):
    instance = make_instance()
    host, port = tcp.address(served)
    assert instance.start(), instance.log_text()
    assert instance.viv("key", "create").returncode == 0
    instance.stop()
    assert not instance.start(listen=f"{host}:{port}")
    assert f"{host}:{port}: Address already in use" in instance.log_text()


def test_all_addresses_only_when_asked_for(make_instance):
    instance = make_instance()
    key = tcp.start(instance, "0.0.0.0:0", listen_public="on")
    assert "vivd.listens_in_public" in instance.log_text()
    assert tcp.request(instance, "GET", "/version", headers={"X-API-KEY": key})[0] == 200
    instance.stop()
    instance.settings.pop("listen_public")
    assert not instance.start()
    assert "listen_public" in instance.log_text()
    instance.settings.pop("listen")


def test_ipv6(make_instance):
    if not socket.has_ipv6 or "::1" not in vivarium.run("ip", "-6", "address", "show", "dev", "lo").stdout:
        pytest.skip("this host has no IPv6 loopback")
    instance = make_instance()
    key = tcp.start(instance, "[::1]:0")
    assert tcp.address(instance)[0] == "::1"
    assert tcp.request(instance, "GET", "/version", headers={"X-API-KEY": key})[0] == 200
    assert tcp.request(instance, "GET", "/version")[0] == 401
