# SPDX-License-Identifier: Apache-2.0
"""What all figures are taken with: requests with as little between them and the clock as can be."""

import json
import math
import socket
import statistics

TIMEOUT_S = 120
CPUS, DISK_MIB = 1, 5120  # of all sandboxes that have a floor
GUEST_PORT = 49983
# How an event of output begins. The event of the start has the word stdout in it, too.
OUTPUT = b'{"event":{"data":{"stdout":'
END = b'{"event":{"end":'


def percentile(values, p):
    """The smallest value that at least p percent of all are not above."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * p / 100) - 1)]


def p50_p95(values):
    return {"p50": round(statistics.median(values), 3), "p95": round(percentile(values, 95), 3)}


class Connection:
    """One connection, with as little between it and the clock as can be."""

    def __init__(self, sock):
        self.sock = sock
        self.sock.settimeout(TIMEOUT_S)
        self.data = b""

    def close(self):
        self.sock.close()

    def more(self):
        piece = self.sock.recv(65536)
        if not piece:
            raise RuntimeError(f"the peer hung up after {self.data!r}")
        self.data += piece

    def until(self, mark):
        """Receives until `mark` has come."""
        while mark not in self.data:
            self.more()

    def send_head(self, method, target, length, fields):
        lines = [f"{method} {target} HTTP/1.1", "Host: localhost", f"Content-Length: {length}"]
        lines += [f"{k}: {v}" for k, v in fields.items()]
        return "\r\n".join(lines).encode() + b"\r\n\r\n"

    def read_head(self):
        self.until(b"\r\n\r\n")
        head, self.data = self.data.split(b"\r\n\r\n", 1)
        status, *rest = head.decode().split("\r\n")
        return int(status.split()[1]), {k.lower(): v.strip()
                                        for k, v in (line.split(":", 1) for line in rest)}

    def head(self, method, target, body=b"", fields={}):
        """Sends a request and waits for the head of the reply."""
        self.sock.sendall(self.send_head(method, target, len(body), fields) + body)
        return self.read_head()

    def call(self, method, target, body=b"", fields={}):
        status, headers = self.head(method, target, body, fields)
        length = int(headers.get("content-length", 0))
        while len(self.data) < length:
            self.more()
        reply, self.data = self.data[:length], self.data[length:]
        return status, reply


def unix_socket(path):
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(path))
    return sock


class Way:
    """How requests reach a port of a sandbox: what connects, and the headers that all of them have."""

    def __init__(self, connect, fields):
        self.connect, self.fields = connect, fields

    def open(self):
        return Connection(self.connect())


def through_vivd(instance, sandbox, port=GUEST_PORT):
    return Way(lambda: unix_socket(instance.run_dir / "vivd.sock"),
               {"E2b-Sandbox-Id": sandbox["sandboxID"], "E2b-Sandbox-Port": str(port),
                "X-Access-Token": sandbox["envdAccessToken"]})


def create(instance, **fields):
    body = {"templateID": "base", "timeout": None, "envVars": {}, "vivarium": fields}
    connection = Connection(unix_socket(instance.run_dir / "vivd.sock"))
    status, reply = connection.call("POST", "/v2/sandboxes", json.dumps(body).encode(),
                                    {"Content-Type": "application/json"})
    connection.close()
    if status != 201:
        raise RuntimeError(f"create: {status} {reply.decode()}")
    return json.loads(reply)


def start(way, request):
    """Starts a process and returns its connection; the stream of its events follows."""
    body = json.dumps(request, separators=(",", ":")).encode()
    connection = way.open()
    status, _ = connection.head(
        "POST", "/process.Process/Start", b"\0" + len(body).to_bytes(4, "big") + body,
        {"Content-Type": "application/connect+json", "Connect-Protocol-Version": "1", **way.fields})
    if status != 200:
        raise RuntimeError(f"exec: {status} {connection.data!r}")
    return connection


def remove(instance, sandbox):
    status, reply = instance.request("DELETE", f"/sandboxes/{sandbox['sandboxID']}")
    if status != 204:
        raise RuntimeError(f"delete: {status} {reply}")


def rss_kib(pid):
    for line in open(f"/proc/{pid}/smaps_rollup"):
        if line.startswith("Rss:"):
            return int(line.split()[1])
    raise RuntimeError(f"process {pid} has no Rss")
