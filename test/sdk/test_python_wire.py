# SPDX-License-Identifier: Apache-2.0
"""What the Python package (2.45) sends, as it was recorded, and the answers that it needs."""

import base64
import gzip
import hashlib
import http.client
import json
import struct
import urllib.parse

import pytest

AGENT = "e2b-python-sdk/2.45.1"
PORT = 49983


class Client:
    """One of the package's two connections: to the API, or to the agent of a sandbox."""

    def __init__(self, server, sandbox=None):
        self.server, self.sandbox = server, sandbox

    def headers(self):
        if self.sandbox is None:
            return {"X-API-KEY": self.server.key, "User-Agent": AGENT, "lang": "python",
                    "lang_version": "3.11.2", "package_version": "2.45.1", "publisher": "e2b"}
        return {"X-Access-Token": self.sandbox["envdAccessToken"], "User-Agent": AGENT,
                "E2b-Sandbox-Id": self.sandbox["sandboxID"], "E2b-Sandbox-Port": str(PORT)}

    def send(self, method, target, body=None, **headers):
        """Status, headers and bytes of the answer; a header of None is left out."""
        named = {k.replace("_", "-"): v for k, v in headers.items()}
        c = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        try:
            c.request(method, target, body=body,
                      headers={k: v for k, v in {**self.headers(), **named}.items() if v is not None})
            r = c.getresponse()
            return r.status, r.headers, r.read()
        finally:
            c.close()

    def json(self, method, target, value=None):
        """Status and JSON of the answer."""
        body = None if value is None else json.dumps(value)
        content = {} if body is None else {"Content_Type": "application/json"}
        status, _, data = self.send(method, target, body, **content)
        return status, json.loads(data) if data else None

    def rpc(self, method, value, **headers):
        """A unary call, as the package's own Connect client sends it."""
        status, _, data = self.send("POST", f"/{method}", json.dumps(value),
                                    Content_Type="application/json", Connect_Protocol_Version="1",
                                    Connect_Timeout_Ms="30000", Content_Encoding="identity",
                                    **headers)
        return status, json.loads(data)

    def stream(self, method, value, **headers):
        """The messages of a server stream; the last is the end, as the flag in front of it says."""
        data = json.dumps(value).encode()
        status, head, data = self.send("POST", f"/{method}", b"\0" + struct.pack(">I", len(data)) + data,
                                       Content_Type="application/connect+json",
                                       Connect_Protocol_Version="1", Connect_Timeout_Ms="30000",
                                       Connect_Content_Encoding="identity", **headers)
        assert status == 200 and head["Content-Type"] == "application/connect+json", (status, data)
        messages = []
        while data:
            flags, size = struct.unpack(">BI", data[:5])
            messages.append((flags, json.loads(data[5:5 + size])))
            data = data[5 + size:]
        assert [flags for flags, _ in messages] == [0] * (len(messages) - 1) + [2]
        return [m for _, m in messages]

    def run(self, command, user=None, **more):
        """Output, error output, and the end of a command."""
        basic = {} if user is None else {"Authorization": basic_of(user)}
        *events, end = self.stream("process.Process/Start", {
            "process": {"cmd": "/bin/bash", "args": ["-l", "-c", command], "envs": {}, **more},
            "stdin": False}, **basic)
        if "error" in end:
            return end["error"]
        assert "start" in events[0]["event"] and end == {}
        out = {"stdout": b"", "stderr": b""}
        for event in events[1:-1]:
            for name, text in event["event"].get("data", {}).items():
                if name in out:  # the package ignores fields that it does not know
                    out[name] += base64.b64decode(text)
        return out["stdout"].decode(), out["stderr"].decode(), events[-1]["event"]["end"]


def basic_of(user):
    return "Basic " + base64.b64encode(f"{user}:".encode()).decode()


def create(server, **fields):
    """As Sandbox.create() of the package: every default is sent."""
    return Client(server).json("POST", "/sandboxes", {
        "templateID": "base", "timeout": 300, "autoPause": False, "metadata": {}, "envVars": {},
        "secure": True, "allow_internet_access": True, **fields})


@pytest.fixture(scope="module")
def box(server):
    status, box = create(server, metadata={"by": "python & co"}, envVars={"WORD": "said"})
    assert status == 201, box
    return box


@pytest.fixture
def api(server):
    return Client(server)


@pytest.fixture
def agent(server, box):
    return Client(server, box)


def test_create_answers_what_the_package_reads(box):
    assert box["templateID"] and box["clientID"] is not None
    assert box["envdVersion"].split(".") >= ["0", "6"]
    assert len(box["envdAccessToken"]) >= 32


def test_insecure_create_has_no_token(server, api):
    status, box = create(server, secure=False)
    assert status == 201 and box.get("envdAccessToken") is None
    open_agent = Client(server, {**box, "envdAccessToken": ""})
    status, answer = open_agent.rpc("process.Process/List", {}, X_Access_Token=None)
    assert (status, answer.get("processes", [])) == (200, [])
    assert api.send("DELETE", f"/sandboxes/{box['sandboxID']}")[0] == 204


def test_connect_answers_a_sandbox(api, box):
    status, same = api.json("POST", f"/sandboxes/{box['sandboxID']}/connect", {"timeout": 300})
    assert status == 200
    assert same["envdAccessToken"] == box["envdAccessToken"]


def test_connect_needs_a_timeout(api, box):
    assert api.json("POST", f"/sandboxes/{box['sandboxID']}/connect", {})[0] == 400


def test_info_and_list(api, box):
    status, info = api.json("GET", f"/sandboxes/{box['sandboxID']}")
    assert status == 200 and info["state"] == "running" and info["metadata"] == {"by": "python & co"}
    quoted = {"by": urllib.parse.quote("python & co")}
    query = urllib.parse.urlencode({"metadata": urllib.parse.urlencode(quoted),
                                    "state": "running,paused", "limit": 100})
    status, found = api.json("GET", f"/v2/sandboxes?{query}")
    assert status == 200 and [s["sandboxID"] for s in found] == [box["sandboxID"]]
    status, found = api.json("GET", f"/sandboxes?{query}")
    assert status == 200 and [s["sandboxID"] for s in found] == [box["sandboxID"]]


def test_list_from_a_start_as_python_writes_it(api, box):
    _, info = api.json("GET", f"/sandboxes/{box['sandboxID']}")
    start = info["startedAt"].replace("Z", "000+00:00")
    query = urllib.parse.urlencode({"startedAfter": start})
    status, found = api.json("GET", f"/v2/sandboxes?{query}")
    assert status == 200 and box["sandboxID"] in [s["sandboxID"] for s in found]
    assert api.json("GET", "/v2/sandboxes?startedAfter=yesterday")[0] == 400


def test_timeout_and_refreshes(api, box):
    where = f"/sandboxes/{box['sandboxID']}"
    assert api.json("POST", f"{where}/timeout", {"timeout": 900}) == (204, None)
    assert api.json("POST", f"{where}/timeout", {})[0] == 400
    assert api.json("POST", f"{where}/refreshes", {"duration": 60}) == (204, None)


def test_errors_carry_their_code(api):
    for method, target, body in (("GET", "/sandboxes/i0123456789abcdefghij", None),
                                 ("DELETE", "/sandboxes/i0123456789abcdefghij", None),
                                 ("POST", "/sandboxes/i0123456789abcdefghij/timeout", {"timeout": 1})):
        status, error = api.json(method, target, body)
        assert (status, error["code"]) == (404, 404)
        assert "i0123456789abcdefghij" in error["message"]


def test_a_wrong_token_is_plain_401(agent):
    for target in ("process.Process/List", "filesystem.Filesystem/Stat"):
        status, error = agent.rpc(target, {}, X_Access_Token="0" * 64)
        assert (status, error["code"]) == (401, 401)


def test_health_needs_no_token(agent):
    assert agent.send("GET", "/health", X_Access_Token=None)[0] == 204


def test_run_with_basic_user(agent):
    out, err, end = agent.run("echo $WORD; id -un; pwd; echo oops >&2; exit 3", user="root")
    assert (out, err) == ("said\nroot\n/root\n", "oops\n")
    assert end["exitCode"] == 3 and end["exited"] is True and end["status"] == "exit status 3"


def test_run_without_a_user_is_the_default(agent):
    out, _, end = agent.run("id -un", cwd="/tmp")
    assert out == "user\n" and end.get("exitCode", 0) == 0


def test_an_unknown_user_is_unauthenticated(agent):
    error = agent.run("true", user="nobody-here")
    assert error["code"] == "unauthenticated" and "invalid username: 'nobody-here'" in error["message"]


def test_unary_codes(agent):
    pid = {"process": {"pid": 4000000}}
    status, error = agent.rpc("process.Process/SendSignal", {**pid, "signal": "SIGNAL_SIGKILL"})
    assert (status, error["code"]) == (404, "not_found")
    status, error = agent.rpc("process.Process/SendInput", {**pid, "input": {"stdin": "eA=="}})
    assert (status, error["code"]) == (404, "not_found")
    status, error = agent.rpc("process.Process/NoSuch", {})
    assert status in (404, 501)


def test_multipart_upload_and_download(agent):
    data = bytes(range(256)) * 64
    kind, body = form([("file", "wire.bin", data)])
    status, _, answer = agent.send("POST", "/files?path=%2Ftmp%2Fwire.bin&username=user", body,
                                   Content_Type=kind)
    assert status == 200
    assert json.loads(answer) == [{"path": "/tmp/wire.bin", "name": "wire.bin", "type": "file"}]
    status, head, read = agent.send("GET", "/files?path=%2Ftmp%2Fwire.bin&username=user")
    assert (status, read) == (200, data)
    assert head["Content-Length"] == str(len(data))


def test_multipart_upload_of_many(agent):
    kind, body = form([("file", "/tmp/wire/one", b"1"), ("file", "/tmp/wire/two/three", b"3")])
    status, _, answer = agent.send("POST", "/files", body, Content_Type=kind)
    assert status == 200
    assert [e["path"] for e in json.loads(answer)] == ["/tmp/wire/one", "/tmp/wire/two/three"]
    assert agent.send("GET", "/files?path=/tmp/wire/two/three")[2] == b"3"


def test_octet_stream_upload_in_chunks_and_packed(agent):
    status, _, _ = agent.send("POST", "/files?path=/tmp/wire.raw", iter([b"first ", b"second"]),
                              Content_Type="application/octet-stream")
    assert status == 200
    assert agent.send("GET", "/files?path=/tmp/wire.raw")[2] == b"first second"
    status, _, _ = agent.send("POST", "/files?path=/tmp/wire.gz", gzip.compress(b"packed"),
                              Content_Type="application/octet-stream", Content_Encoding="gzip")
    assert status == 200
    status, head, data = agent.send("GET", "/files?path=/tmp/wire.gz", Accept_Encoding="gzip")
    assert (gzip.decompress(data) if head["Content-Encoding"] == "gzip" else data) == b"packed"


def test_an_empty_file_says_its_length(agent):
    agent.send("POST", "/files?path=/tmp/wire.empty", b"", Content_Type="application/octet-stream")
    status, head, data = agent.send("GET", "/files?path=/tmp/wire.empty")
    assert (status, head["Content-Length"], data) == (200, "0", b"")


def test_file_errors_carry_their_code(agent):
    for target, code in (("/files?path=/no/such", 404), ("/files?path=/etc", 400),
                         ("/files?path=/etc/passwd&username=nobody-here", 401)):
        status, _, data = agent.send("GET", target)
        assert (status, json.loads(data)["code"]) == (code, code), target


def test_a_signature_stands_for_id_and_token(server, box, agent):
    agent.send("POST", "/files?path=/tmp/signed", b"signed", Content_Type="application/octet-stream")
    text = f"/tmp/signed:read:user:{box['envdAccessToken']}"
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
    query = urllib.parse.urlencode({"path": "/tmp/signed", "username": "user", "signature": f"v1_{digest}"})
    plain = Client(server)
    status, _, data = plain.send("GET", f"/files?{query}", X_API_KEY=None)
    assert (status, data) == (200, b"signed")
    assert plain.send("GET", f"/files?{query}x", X_API_KEY=None)[0] in (401, 502)


def test_files_are_composed(agent):
    for name, data in (("a", b"first "), ("b", b"second")):
        agent.send("POST", f"/files?path=/tmp/part.{name}", data, Content_Type="application/octet-stream")
    status, entry = agent.json("POST", "/files/compose", {
        "source_paths": ["/tmp/part.a", "/tmp/part.b"], "destination": "/tmp/whole"})
    assert status == 200 and entry["path"] == "/tmp/whole"
    assert agent.send("GET", "/files?path=/tmp/whole")[2] == b"first second"
    assert agent.send("GET", "/files?path=/tmp/part.a")[0] == 404


def test_envs(agent):
    status, envs = agent.json("GET", "/envs")
    assert status == 200 and envs["WORD"] == "said"


def test_metrics_of_the_agent(agent):
    status, metrics = agent.json("GET", "/metrics")
    assert status == 200 and metrics["cpu_count"] >= 1
    assert metrics["mem_total"] > metrics["mem_used"] > 0
    assert metrics["disk_total"] > metrics["disk_used"] > 0


def test_metrics_of_a_sandbox(api, box):
    """The package sends Unix seconds, and reads each field of each sample."""
    status, samples = api.json("GET", f"/sandboxes/{box['sandboxID']}/metrics?start=1&end=99999999999")
    assert status == 200 and samples
    for name in ("cpuCount", "cpuUsedPct", "memUsed", "memTotal", "memCache", "diskUsed", "diskTotal", "timestampUnix"):
        assert isinstance(samples[-1][name], (int, float)), name
    assert api.json("GET", "/sandboxes/i0123456789abcdefghi/metrics")[0] == 404


def test_metrics_of_many(api, box):
    status, many = api.json("GET", f"/sandboxes/metrics?sandbox_ids={box['sandboxID']},i0123456789abcdefghi")
    assert status == 200 and list(many["sandboxes"]) == [box["sandboxID"]]


def test_logs_of_a_sandbox(api, box):
    """What E2B's command line asks for."""
    status, reply = api.json("GET", f"/sandboxes/{box['sandboxID']}/logs?start=0&limit=1000")
    assert status == 200 and [e["line"] for e in reply["logs"]]
    assert {"timestamp", "level", "message", "fields"} == set(reply["logEntries"][0])
    assert api.json("GET", "/sandboxes/i0123456789abcdefghij/logs")[0] == 404


def test_logs_in_their_second_form(api, box):
    target = f"/v2/sandboxes/{box['sandboxID']}/logs?cursor=0&limit=10&direction=forward&level=info&search=created"
    status, reply = api.json("GET", target)
    assert status == 200 and reply["logs"][0]["message"].startswith("created")
    assert api.json("GET", "/v2/sandboxes/i0123456789abcdefghij/logs")[0] == 404


def test_filesystem_calls(agent):
    name = "filesystem.Filesystem"
    status, made = agent.rpc(f"{name}/MakeDir", {"path": "/tmp/wire-dir/sub"})
    assert status == 200 and made["entry"]["type"] == "FILE_TYPE_DIRECTORY"
    status, error = agent.rpc(f"{name}/MakeDir", {"path": "/tmp/wire-dir/sub"})
    assert (status, error["code"]) == (409, "already_exists")
    status, found = agent.rpc(f"{name}/ListDir", {"path": "/tmp/wire-dir", "depth": 1})
    assert [e["name"] for e in found["entries"]] == ["sub"]
    status, found = agent.rpc(f"{name}/Stat", {"path": "/tmp/wire-dir/none"})
    assert (status, found["code"]) == (404, "not_found")
    status, _ = agent.rpc(f"{name}/Remove", {"path": "/tmp/wire-dir"})
    assert status == 200


def test_a_watcher_is_asked_for_its_events(agent):
    name = "filesystem.Filesystem"
    agent.rpc(f"{name}/MakeDir", {"path": "/tmp/wire-watch"})
    status, made = agent.rpc(f"{name}/CreateWatcher", {"path": "/tmp/wire-watch", "recursive": False})
    assert status == 200, made
    agent.send("POST", "/files?path=/tmp/wire-watch/new", b"x", Content_Type="application/octet-stream")
    watcher = {"watcherId": made["watcherId"]}
    status, got = agent.rpc(f"{name}/GetWatcherEvents", watcher)
    assert status == 200
    kinds = [(e["type"], e["name"]) for e in got["events"]]
    assert ("EVENT_TYPE_CREATE", "new") in kinds and ("EVENT_TYPE_WRITE", "new") in kinds
    assert agent.rpc(f"{name}/GetWatcherEvents", watcher)[1].get("events", []) == []
    assert agent.rpc(f"{name}/RemoveWatcher", watcher)[0] == 200
    assert agent.rpc(f"{name}/GetWatcherEvents", watcher)[0] == 404


def test_host_only_paths_are_not_reachable(agent):
    for path in ("/init", "/freeze", "/upgrade", "//init", "/%69nit"):
        assert agent.send("POST", path, b"{}")[0] == 404


def test_kill_is_204_then_404(server, api):
    _, box = create(server)
    assert api.send("DELETE", f"/sandboxes/{box['sandboxID']}")[0] == 204
    assert api.send("DELETE", f"/sandboxes/{box['sandboxID']}")[0] == 404
    status, _, data = Client(server, box).send("GET", "/health")
    assert (status, json.loads(data)["code"]) == (502, 502)


def form(parts):
    """Content type and body of a multipart form, as httpx makes it."""
    edge = "0123456789abcdef"
    body = b""
    for name, filename, data in parts:
        body += (f'--{edge}\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"\r\n'
                 "Content-Type: application/octet-stream\r\n\r\n").encode() + data + b"\r\n"
    return f"multipart/form-data; boundary={edge}", body + f"--{edge}--\r\n".encode()
