# SPDX-License-Identifier: Apache-2.0
"""An agent that runs on the host, without a VM, and its clients over loopback."""

import base64
import http.client
import json
import os
import re
import signal
import struct
import subprocess
import time
import urllib.parse

import vivarium

MIB = 1 << 20
OCTETS = "application/octet-stream"


def program(build):
    """The agent to run on the host: with sanitizers, where the build has any."""
    sanitized = build / "src" / "viv-agent-sanitized"
    return sanitized if sanitized.exists() else build / "src" / "viv-agent"


def b64(data):
    return base64.b64encode(data).decode()


def basic(user):
    return {"Authorization": "Basic " + b64(f"{user}:".encode())}


class RpcError(Exception):
    def __init__(self, http_status, body):
        self.http, self.code, self.message = http_status, body.get("code"), body.get("message")
        super().__init__(f"{http_status} {self.code}: {self.message}")


class Stream:
    """The events of one server stream."""

    def __init__(self, agent, method, request, headers=None, raw=None):
        body = raw if raw is not None else json.dumps(request).encode()
        if raw is None:
            body = b"\0" + struct.pack(">I", len(body)) + body
        self.conn = agent.connect()
        self.conn.request("POST", f"/process.Process/{method}", body,
                          {"Content-Type": "application/connect+json",
                           "Connect-Protocol-Version": "1", **(headers or {})})
        self.response = self.conn.getresponse()
        if self.response.status != 200:
            raise RpcError(self.response.status, json.loads(self.response.read() or b"{}"))
        assert self.response.headers["Content-Type"] == "application/connect+json"
        self.end = None

    def next(self):
        """The next message; None at the end of the stream, which raises if it is an error."""
        head = self.response.read(5)
        assert len(head) == 5, "the stream was cut"
        flags, size = struct.unpack(">BI", head)
        message = json.loads(self.response.read(size))
        if flags == 0:
            return message["event"]
        assert flags == 2
        assert self.response.read() == b""
        self.conn.close()
        self.end = message
        if "error" in message:
            raise RpcError(200, message["error"])
        return None

    def start(self):
        event = self.next()
        assert list(event) == ["start"]
        self.pid = event["start"]["pid"]
        self.dropped = event["start"].get("droppedBytes", 0)
        return self

    def rest(self):
        """Stdout, stderr and the end event of what is left."""
        out, end = {"stdout": bytearray(), "stderr": bytearray()}, None
        while (event := self.next()) is not None:
            assert end is None, "an event came behind the end"
            for name, text in event.get("data", {}).items():
                if name != "offset":
                    out[name] += base64.b64decode(text)
            end = event.get("end")
        return bytes(out["stdout"]), bytes(out["stderr"]), end

    def data(self, name="stdout"):
        """The bytes of the next event, which must be data of that stream."""
        event = self.next()
        return base64.b64decode(event["data"][name])

    def close(self):
        self.response.close()
        self.conn.close()


def form(*parts, boundary="xxBxx"):
    """A body of (name, filename or None, bytes)."""
    out = b""
    for name, filename, data in parts:
        filename = f'; filename="{filename}"' if filename is not None else ""
        out += (f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{filename}\r\n'
                f"Content-Type: {OCTETS}\r\n\r\n").encode() + data + b"\r\n"
    return out + f"--{boundary}--\r\n".encode()


class Agent:
    def __init__(self, binary, *options):
        self.process = subprocess.Popen([binary, "--listen", "127.0.0.1:0", *options],
                                        stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        self.port = int(re.fullmatch(r"listening on 127\.0\.0\.1:(\d+)\n", line).group(1))

    def connect(self, timeout=60):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout * vivarium.PATIENCE)

    def request(self, method, path, body=None, headers=None):
        conn = self.connect()
        conn.request(method, path, body, headers or {})
        response = conn.getresponse()
        data = response.read()
        conn.close()
        return response, data

    def call(self, method, request, headers=None):
        response, data = self.request("POST", f"/process.Process/{method}", json.dumps(request),
                                      {"Content-Type": "application/json", **(headers or {})})
        assert response.headers["Content-Type"] == "application/json"
        if response.status != 200:
            raise RpcError(response.status, json.loads(data))
        return json.loads(data)

    def start(self, *argv, stdin=None, envs=None, cwd=None, tag=None, headers=None):
        process = {"cmd": argv[0], "args": list(argv[1:]), "envs": envs or {}}
        request = {"process": process}
        if cwd is not None:
            process["cwd"] = cwd
        if stdin is not None:
            request["stdin"] = stdin
        if tag is not None:
            request["tag"] = tag
        return Stream(self, "Start", request, headers).start()

    def sh(self, script, **options):
        return self.start("/bin/bash", "-c", script, stdin=options.pop("stdin", False), **options)

    def run(self, script, **options):
        return self.sh(script, **options).rest()

    def listen(self, pid):
        return Stream(self, "Connect", {"process": {"pid": pid}}).start()

    def send(self, pid, data):
        return self.call("SendInput", {"process": {"pid": pid}, "input": {"stdin": b64(data)}})

    def signal(self, pid, name, **extra):
        return self.call("SendSignal", {"process": {"pid": pid}, "signal": name, **extra})

    def fs(self, method, request, headers=None):
        response, data = self.request("POST", f"/filesystem.Filesystem/{method}",
                                      json.dumps(request),
                                      {"Content-Type": "application/json", **(headers or {})})
        if response.status != 200:
            raise RpcError(response.status, json.loads(data))
        return json.loads(data)

    def get(self, path, headers=None, **query):
        query = urllib.parse.urlencode({"path": path, **query})
        return self.request("GET", f"/files?{query}", headers=headers)

    def read(self, path, **query):
        response, data = self.get(path, **query)
        assert response.status == 200, data
        return data

    def put(self, path, body, headers=None, **query):
        query = urllib.parse.urlencode({"path": path, **query})
        return self.request("POST", f"/files?{query}", body,
                            {"Content-Type": OCTETS, **(headers or {})})

    def write(self, path, body, headers=None, **query):
        response, data = self.put(path, body, headers, **query)
        assert response.status == 200, data
        return json.loads(data)

    def post_parts(self, *parts, query="", boundary="xxBxx", headers=None):
        return self.request("POST", f"/files?{query}", form(*parts, boundary=boundary),
                            {"Content-Type": f"multipart/form-data; boundary={boundary}",
                             **(headers or {})})

    def pids(self):
        return [p["pid"] for p in self.call("List", {})["processes"]]

    def status(self, key):
        with open(f"/proc/{self.process.pid}/status") as f:
            return int(re.search(rf"^{key}:\s*(\d+)", f.read(), re.M).group(1))

    def open_fds(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=10 * vivarium.PATIENCE)
        self.process.stdout.close()
        return code


def wait_until(condition, what, timeout=20):
    deadline = time.monotonic() + timeout * vivarium.PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"not reached: {what}"
        time.sleep(0.01)


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
