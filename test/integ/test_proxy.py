# SPDX-License-Identifier: Apache-2.0
"""The ways into a sandbox: by headers, by host, by signature; over TCP and the unix socket."""

import json
import re
import socket
import time
import urllib.parse

import pytest
import tcp
import vivarium

SERVER = """
import base64, hashlib, http.server, os, socket, threading
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *args): pass
    def do_GET(self):
        if self.path == "/wait":
            threading.Event().wait()
        if self.path == "/hang-up":
            self.close_connection = True
            return
        if self.headers.get("Upgrade") == "websocket":
            key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
            self.send_response(101)
            self.send_header("Connection", "Upgrade")
            self.send_header("Upgrade", "websocket")
            self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
            self.end_headers()
            while data := self.rfile.read1(65536):
                self.wfile.write(data.upper())
            self.close_connection = True
            return
        body = f"{self.path} {self.headers['X-API-KEY']} {self.headers['Host']}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for i in range(0, len(body), 100000):
            piece = body[i:i + 100000]
            self.wfile.write(b"%x\\r\\n%s\\r\\n" % (len(piece), piece))
        self.wfile.write(b"0\\r\\n\\r\\n")
    do_OPTIONS = do_GET
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 64
    def __init__(self, address, port):
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        super().__init__((address, port), Handler)
servers = [Server("0.0.0.0", 8000), Server("127.0.0.1", 8004), Server("::1", 8006), Server("127.0.0.1", 84)]
if os.fork() == 0:
    os.setsid()
    for fd in range(3):
        os.dup2(os.open("/dev/null", os.O_RDWR), fd)
    for server in servers:
        threading.Thread(target=server.serve_forever).start()
"""
PORTS = [8000, 8004, 8006]


def create(instance):
    status, sandbox = instance.create()
    assert status == 201, sandbox
    vid = sandbox["sandboxID"]
    r = instance.viv("exec", "-u", "root", vid, "--", "python3", "-c", SERVER)
    assert r.returncode == 0, r.stderr
    return vid, sandbox["envdAccessToken"]


@pytest.fixture(scope="module")
def served(build, prepared):
    """A daemon with TCP and a sandbox with servers: on all addresses, and on the loopback only."""
    instance = vivarium.Instance(build, prepared)
    instance.key = tcp.start(instance, domain="box.example.org:8443", proxy_listen="127.0.0.1:0")
    instance.vid, instance.token = create(instance)
    yield instance
    instance.close()


both = pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
each_route = pytest.mark.parametrize("route", tcp.ROUTES)
each_port = pytest.mark.parametrize("port", PORTS, ids=["all", "ipv4-loopback", "ipv6-loopback"])


@both
@each_port
@each_route
def test_a_server_of_the_guest(served, route, port, unix):
    headers = route(served.vid, port)
    status, reply_headers, body = tcp.request(served, "GET", "/a?b=%20c", headers={**headers, "X-API-KEY": "mine"},
                                              unix=unix)
    path, key, host = body.split()
    assert (status, path, key) == (200, "/a?b=%20c", "mine")  # a key for that server is passed on
    assert "Host" not in headers or host == headers["Host"]
    assert reply_headers["Access-Control-Allow-Origin"] is None  # its own business
    status, _, body = tcp.request(served, "POST", "/", "x" * 3_000_000, headers, unix)
    assert (status, len(body)) == (200, 3_000_000)


@both
@each_route
def test_the_agent(served, route, unix):
    headers = route(served.vid, 49983)
    status, reply, _ = tcp.request(served, "GET", "/health", headers=headers, unix=unix)
    assert (status, reply["Access-Control-Allow-Origin"]) == (204, "*")
    assert tcp.request(served, "GET", "/envs", headers=headers, unix=unix)[0] == 401
    headers["X-Access-Token"] = served.token
    assert tcp.request(served, "GET", "/envs", headers=headers, unix=unix)[0] == 200


@each_route
@pytest.mark.parametrize("path", ["/init", "//init", "/%69nit", "/init/", "/INIT", "/init?x=1", "/%2finit", "/init%2f",
                                  "/freeze", "/upgrade", "/loopback/84", "//loopback/84", "/%6coopback/84",
                                  "/loopback%2f84"])
def test_host_only_paths(served, route, path):
    headers = {**route(served.vid, 49983), "X-Access-Token": served.token}
    for unix in (False, True):
        status, _, reply = tcp.request(served, "POST", path, "{}", headers, unix)
        assert (status, reply["message"], reply["code"]) == (404, "not found", 404)
        assert reply["path"] == path.split("?")[0]
    assert tcp.request(served, "GET", "/init", headers=route(served.vid, 8000))[0] == 200  # of the guest's own server


@each_route
def test_preflight(served, route):
    ask = {"Origin": "https://app.example.org", "Access-Control-Request-Method": "POST"}
    status, headers, _ = tcp.request(served, "OPTIONS", "/process.Process/Start",
                                     headers={**ask, **route(served.vid, 49983)})
    assert (status, headers["Access-Control-Allow-Origin"]) == (204, "*")
    assert tcp.request(served, "OPTIONS", "/x", headers={**ask, **route(served.vid, 8000)})[2].startswith("/x ")


@each_port
@each_route
def test_upgrade(served, route, port):
    for unix in (False, True):
        s, head = tcp.upgrade(served, route(served.vid, port), unix)
        with s:
            assert head.startswith("HTTP/1.1 101 ") and "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
            for text in (b"hello", b"x" * 200_000):
                s.sendall(text)
                got = b""
                while len(got) < len(text):
                    got += s.recv(65536)
                assert got == text.upper()
            s.shutdown(socket.SHUT_WR)
            assert s.recv(1) == b""


@each_route
def test_a_port_that_nobody_has(served, route):
    status, _, reply = tcp.request(served, "GET", "/", headers=route(served.vid, 8001))
    assert (status, reply) == (502, {"sandboxId": served.vid, "port": 8001, "code": 502,
                                     "message": "The sandbox is running but port is not open"})
    status, headers, page = tcp.request(served, "GET", "/", headers={**route(served.vid, 8001),
                                                                     "Accept": "text/html,*/*;q=0.8"})
    assert status == 502 and headers["Content-Type"].startswith("text/html")
    assert served.vid in page and "port 8001" in page and "://" not in page


@each_port
def test_a_server_that_hangs_up(served, port):
    status, _, reply = tcp.request(served, "GET", "/hang-up", headers=tcp.by_headers(served.vid, port))
    assert status == 502 and "gave no answer" in reply["message"] and reply["port"] == port


@each_port
def test_keep_alive(served, port):
    """The client's connection stays, whatever serves each of its requests."""
    c = tcp.connection(served)
    c.connect()
    ours = c.sock
    for i in range(5):
        for target in (port, 8000):
            c.request("GET", f"/{i}", headers=tcp.by_headers(served.vid, target))
            assert c.getresponse().read().startswith(b"/%d " % i)
        c.request("POST", "/", b"x" * 10_000, tcp.by_headers(served.vid, port))
        assert len(c.getresponse().read()) == 10_000
    assert c.sock is ours
    c.close()


def test_a_low_port_of_the_loopback(served):
    """Ports below 1024 take rights to listen on, none to reach."""
    assert tcp.request(served, "GET", "/", headers=tcp.by_headers(served.vid, 84))[0] == 200


def rss_kib(text):
    return int(re.search(r"^VmRSS:\s*(\d+)", text, re.M)[1])


def rss_of_both(instance, vid):
    """Resident KiB of the daemon, and of the agent in a guest."""
    agent = instance.viv("exec", vid, "--", "cat", "/proc/1/status").stdout.decode()
    return [rss_kib(open(f"/proc/{instance.process.pid}/status").read()), rss_kib(agent)]


def test_200_connections_to_the_loopback(served):
    vid, _ = create(served)
    before = rss_of_both(served, vid)
    streams = [tcp.upgrade(served, tcp.by_headers(vid, 8004))[0] for _ in range(200)]
    for i, s in enumerate(streams):
        s.sendall(b"from %d" % i)
    for i, s in enumerate(streams):
        assert s.recv(64) == b"FROM %d" % i
    grown = [now - then for now, then in zip(rss_of_both(served, vid), before)]
    assert max(grown) < 8192, f"KiB: {grown}"
    for s in streams[::2]:
        s.close()
    assert tcp.request(served, "GET", "/", headers=tcp.by_headers(vid, 8004))[0] == 200
    assert served.viv("rm", vid).returncode == 0
    for s in streams[1::2]:
        with s, pytest.raises(ConnectionResetError):
            s.recv(1)


def test_the_agent_is_out_of_reach_of_the_guest(served):
    """The agent does not listen where a process of the guest could ask it for anything."""
    for address in ("127.0.0.1", "169.254.0.21", "169.254.0.22", "[::1]"):
        for more in (["/loopback/84", "-H", "Connection: Upgrade", "-H", "Upgrade: tcp"], ["/init", "-d", "{}"],
                     ["/health", "--interface", "lo"]):
            r = served.viv("exec", "-u", "root", served.vid, "--", "curl", "-sS", "-m", "5",
                           f"http://{address}:49983{more[0]}", *more[1:])
            assert r.returncode in (7, 28) and not r.stdout, (address, more, r)
    headers = {**tcp.by_headers(served.vid, 49983), "X-Access-Token": served.token}
    assert tcp.request(served, "GET", "/envs", headers=headers)[0] == 200


@each_route
def test_a_sandbox_that_is_not(served, route):
    for vid in ("iaaaaaaaaaaaaaaaaaaa", "i1"):
        for method, path in (("GET", "/health"), ("POST", "/process.Process/Start")):
            status, _, reply = tcp.request(served, method, path, headers=route(vid, 49983))
            assert (status, reply) == (502, {"sandboxId": vid, "message": "The sandbox was not found", "code": 502})
    assert "<h1>" in tcp.request(served, "GET", "/", headers={**route("i1", 80), "Accept": "text/html"})[2]


@pytest.mark.parametrize("headers", [
    {"Host": "0-i1.localhost"}, {"Host": "65536-i1.box.example.org"}, {"Host": "80-.localhost"},
    {"Host": "80-<i>.localhost"}, {"E2b-Sandbox-Id": "i1", "E2b-Sandbox-Port": "0"},
    {"E2b-Sandbox-Id": "<script>", "E2b-Sandbox-Port": "80"}, {"E2b-Sandbox-Id": "i1"},
])
def test_wrong_names(served, headers):
    status, _, reply = tcp.request(served, "GET", "/", headers=headers)
    assert (status, reply["code"]) == (400, 400) and reply["message"]
    status, _, page = tcp.request(served, "GET", "/", headers={**headers, "Accept": "text/html"})
    assert status == 400 and "<script>" not in page and "<i>" not in page and "<h1>" in page


def test_names_that_are_not_ours(served):
    """They are the API's, which needs a key."""
    for host in ("api.box.example.org", f"8000-{served.vid}.example.org", f"8000-{served.vid}.localhost.example.org"):
        assert tcp.request(served, "GET", "/", headers={"Host": host})[0] == 401


def signed(served, path, operation, **more):
    token = more.pop("token", served.token)
    query = {"path": path, **more}
    signature = tcp.sign(token, path, operation, more.get("username", ""), more.get("signature_expiration"))
    return "/files?" + urllib.parse.urlencode({**query, "signature": signature})


@both
def test_signed_files_find_their_sandbox(served, unix):
    later = int(time.time()) + 600
    for more in ({}, {"username": "user"}, {"signature_expiration": later},
                 {"username": "root", "signature_expiration": later}):
        text = f"{more} {unix}"
        name = f"/tmp/ä {len(text)}.txt"
        status, headers, reply = tcp.request(served, "POST", signed(served, name, "write", **more), text,
                                             {"Content-Type": "application/octet-stream"}, unix)
        assert status == 200, reply
        assert headers["Access-Control-Allow-Origin"] == "*"
        status, headers, reply = tcp.request(served, "GET", signed(served, name, "read", **more), unix=unix)
        assert (status, reply) == (200, text)
        assert headers["Access-Control-Allow-Origin"] == "*"


def test_a_signature_that_has_expired(served):
    """It names its sandbox, whose agent refuses it."""
    target = signed(served, "/tmp/x", "read", signature_expiration=int(time.time()) - 10)
    status, _, reply = tcp.request(served, "GET", target)
    assert (status, reply["message"]) == (401, "signature is already expired")


@both
def test_signatures_of_no_sandbox(served, unix):
    good = signed(served, "/tmp/x", "read")
    wrong = [("GET", signed(served, "/tmp/x", "read", token="0" * 64)), ("GET", signed(served, "/tmp/x", "write")),
             ("POST", good), ("GET", good + "&username=root"), ("GET", good + "A"), ("GET", good[:-1]),
             ("GET", good + "&username=%zz"), ("GET", "/files?path=/tmp/x&signature="),
             ("GET", "/files?path=/tmp/x&signature=v1_"), ("GET", good + "&signature_expiration=9999999999")]
    for method, target in wrong:
        status, _, reply = tcp.request(served, method, target, unix=unix)
        assert (status, reply) == (401, {"code": 401, "message": "invalid signature"}), target


def test_the_end_of_one_is_not_that_of_another(served):
    vid, token = create(served)
    streams = {(v, port): tcp.upgrade(served, tcp.by_headers(v, port))[0] for v in (vid, served.vid) for port in PORTS}
    waiting = {port: tcp.connection(served) for port in PORTS}
    for port, c in waiting.items():
        c.request("GET", "/wait", headers=tcp.by_headers(vid, port))
    target = signed(served, "/etc/passwd", "read", token=token)
    assert tcp.request(served, "GET", target)[0] == 200
    assert served.viv("rm", vid).returncode == 0
    for c in waiting.values():  # a request that has no answer yet gets one
        response = c.getresponse()
        assert (response.status, json.loads(response.read())) == (502, {
            "sandboxId": vid, "message": "The sandbox was not found", "code": 502})
    for port in PORTS:
        with streams[vid, port] as s, pytest.raises(ConnectionResetError):
            s.recv(1)
        with streams[served.vid, port] as s:
            s.sendall(b"still")
            assert s.recv(16) == b"STILL"
    for route in tcp.ROUTES:
        assert tcp.request(served, "GET", "/health", headers=route(vid, 49983))[0] == 502
    assert tcp.request(served, "GET", target)[0] == 401


@each_route
def test_the_way_to_sandboxes_only(served, route):
    headers = {"X-API-KEY": served.key}
    for target in ("/v2/sandboxes", "/health", "/keys", "/files"):
        status, _, reply = tcp.request(served, "GET", target, headers=headers, setting="proxy_listen")
        assert (status, reply["code"]) == (404, 404) and "sandboxes only" in reply["message"], target
    status, _, body = tcp.request(served, "GET", "/x", headers=route(served.vid, 8000), setting="proxy_listen")
    assert status == 200 and body.startswith("/x ")
    signature = urllib.parse.quote(tcp.sign(served.token, "/etc/passwd", "read"))
    assert tcp.request(served, "GET", f"/files?path=/etc/passwd&signature={signature}",
                       setting="proxy_listen")[0] == 200


def test_clients_are_told_the_domain(served):
    status, sandbox = served.create()
    vid = sandbox["sandboxID"]
    connected = served.request("POST", f"/v2/sandboxes/{vid}/connect", {"timeout": 60})[1]
    for told in (sandbox, connected, served.get(f"/sandboxes/{vid}")):
        assert told["domain"] == "box.example.org:8443"
    assert served.request("DELETE", f"/sandboxes/{vid}")[0] == 204


def test_tcp_clients_do_not_lock_out_the_unix_socket(make_instance):
    instance = make_instance()
    instance.launcher = ["sh", "-c", 'ulimit -n 256; exec "$@"', "sh"]
    key = tcp.start(instance)
    crowd = [socket.create_connection(tcp.address(instance)) for _ in range(100)]
    try:
        # Some of them were sent away.
        vivarium.wait_for(lambda: any(is_closed(s) for s in crowd), what="a connection too many is closed")
        assert instance.viv("ls").returncode == 0
        status, sandbox = instance.create()
        assert status == 201, sandbox
        kept = [s for s in crowd if not is_closed(s)]
        assert kept
        kept[0].sendall(f"GET /version HTTP/1.1\r\nHost: x\r\nX-API-KEY: {key}\r\n\r\n".encode())
        kept[0].settimeout(60)
        assert kept[0].recv(100).startswith(b"HTTP/1.1 200")
    finally:
        for s in crowd:
            s.close()


def is_closed(s):
    s.settimeout(0)
    try:
        return s.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
