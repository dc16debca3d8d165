# SPDX-License-Identifier: Apache-2.0
"""A daemon that serves TCP, and clients that name a sandbox in each way there is."""

import base64
import hashlib
import http.client
import json
import re
import socket

import vivarium


def start(instance, listen="127.0.0.1:0", **settings):
    """Starts a vivd that listens on TCP; returns a key for it. The first one makes the key."""
    assert instance.start(), instance.log_text()
    r = instance.viv("key", "create")
    assert r.returncode == 0, r.stderr
    instance.stop()
    instance.settings.update(settings, listen=listen)
    assert instance.start(), instance.log_text()
    return r.stdout.decode().strip()


def address(instance, setting="listen"):
    """Host and port at which the last vivd that was started listens by a setting."""
    host, port = re.findall(rf'vivd\.listens {setting}="?\[?([0-9a-f.:]+?)\]?:(\d+)"?$', instance.log_text(),
                            re.M)[-1]
    return host, int(port)


def connection(instance, unix=False, timeout=60, setting="listen"):
    if unix:
        return vivarium.UnixConnection(instance.run_dir / "vivd.sock", timeout)
    return http.client.HTTPConnection(*address(instance, setting), timeout=timeout * vivarium.PATIENCE)


def request(instance, method, target, body=None, headers=None, unix=False, setting="listen"):
    """Status, headers, and the JSON or text of the reply."""
    c = connection(instance, unix, setting=setting)
    if isinstance(body, (dict, list)):
        body = json.dumps(body)
    c.request(method, target, body=body, headers=headers or {})
    r = c.getresponse()
    data = r.read().decode(errors="replace")
    c.close()
    is_json = (r.getheader("Content-Type") or "").startswith("application/json")
    return r.status, r.headers, json.loads(data) if is_json and data else data


def by_headers(vid, port):
    return {"E2b-Sandbox-Id": vid, "E2b-Sandbox-Port": str(port)}


def by_localhost(vid, port):
    return {"Host": f"{port}-{vid}.localhost:3999"}


def by_domain(vid, port):
    return {"Host": f"{port}-{vid}-x.Box.Example.org"}


ROUTES = [by_headers, by_localhost, by_domain]


def sign(token, path, operation, username="", expiration=None):
    text = f"{path}:{operation}:{username}:{token}" + (f":{expiration}" if expiration is not None else "")
    return "v1_" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")


def upgrade(instance, headers, unix=False):
    """A socket whose peer has switched protocols, and the head of its answer."""
    if unix:
        s = socket.socket(socket.AF_UNIX)
        s.connect(str(instance.run_dir / "vivd.sock"))
    else:
        s = socket.create_connection(address(instance))
    s.settimeout(60)
    fields = {"Host": "x", "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
              "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", **headers}
    s.sendall(b"GET /chat HTTP/1.1\r\n" + b"".join(f"{k}: {v}\r\n".encode() for k, v in fields.items()) + b"\r\n")
    head = b""
    while b"\r\n\r\n" not in head:
        piece = s.recv(4096)
        assert piece, head
        head += piece
    return s, head.decode()
