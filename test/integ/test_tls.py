# SPDX-License-Identifier: Apache-2.0
"""TLS: the API and the sandboxes by https, and the process that speaks it."""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading

import pytest
import tcp
import test_proxy
import vivarium
from world import sh

DOMAIN = "box.localhost"


def make_cert(instance, *flags):
    r = subprocess.run([instance.build / "src" / "vivd", "cert", f"--domain={DOMAIN}", *flags], env=instance.env(),
                       capture_output=True, text=True, timeout=60)
    assert r.returncode == 0, r.stderr
    return r.stdout


def start(instance, **settings):
    """A vivd that serves TLS; returns a key for it."""
    make_cert(instance)
    return tcp.start(instance, listen="", domain=DOMAIN, tls_listen="127.0.0.1:0", **settings)


def trust(instance, **kw):
    return ssl.create_default_context(cafile=instance.state / "tls" / "ca.pem", **kw)


def dial(instance, name=f"api.{DOMAIN}", context=None, timeout=60, **kw):
    raw = socket.create_connection(tcp.address(instance, "tls_listen"), timeout=timeout)
    try:
        return (context or trust(instance)).wrap_socket(raw, server_hostname=name, **kw)
    except BaseException:
        raw.close()
        raise


class Connection(http.client.HTTPSConnection):
    """Names are not looked up: all of them lead to the daemon."""

    def __init__(self, instance, name):
        super().__init__(name, tcp.address(instance, "tls_listen")[1], timeout=120, context=trust(instance))
        self.instance = instance

    def connect(self):
        self.sock = dial(self.instance, self.host, self._context, self.timeout)


def request(instance, method, target, body=None, headers=None, name=f"api.{DOMAIN}"):
    c = Connection(instance, name)
    c.request(method, target, body=body, headers=headers or {})
    r = c.getresponse()
    data = r.read()
    c.close()
    return r.status, data


def worker_pid(instance):
    return int(re.findall(r"tls\.worker_started pid=(\d+)", instance.log_text())[-1])


def alive(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture(scope="module")
def served(build, prepared):
    """A daemon with TLS and a sandbox with a server on port 8000."""
    instance = vivarium.Instance(build, prepared)
    instance.key = start(instance)
    instance.vid, instance.token = test_proxy.create(instance)
    instance.name = f"8000-{instance.vid}.{DOMAIN}"
    yield instance
    instance.close()


def test_the_api(served):
    assert request(served, "GET", "/v2/sandboxes")[0] == 401
    status, body = request(served, "GET", "/v2/sandboxes", headers={"X-API-KEY": served.key})
    assert status == 200 and [s["sandboxID"] for s in json.loads(body)] == [served.vid]
    # It is nobody on this host, though it comes by a unix socket in the end.
    for method, target in (("GET", "/keys"), ("POST", "/keys"), ("POST", "/prune")):
        assert request(served, method, target, headers={"X-API-KEY": served.key})[0] == 403, target


def test_a_sandbox_is_told_where_it_is(served):
    port = tcp.address(served, "tls_listen")[1]
    status, body = request(served, "GET", f"/sandboxes/{served.vid}", headers={"X-API-KEY": served.key})
    assert (status, json.loads(body)["domain"]) == (200, f"{DOMAIN}:{port}")


def test_the_ports_of_a_sandbox(served):
    status, body = request(served, "GET", "/a", name=served.name)
    assert status == 200 and body.startswith(b"/a ") and served.name.encode() in body
    agent = f"49983-{served.vid}.{DOMAIN}"
    assert request(served, "GET", "/health", name=agent)[0] == 204
    assert request(served, "POST", "/init", "{}", name=agent)[0] == 404
    assert request(served, "GET", "/envs", headers={"X-Access-Token": served.token}, name=agent)[0] == 200
    # Names below localhost stay without configuration, over whatever way in.
    c = Connection(served, f"api.{DOMAIN}")
    c.request("GET", "/b", headers={"Host": f"8000-{served.vid}.localhost"})
    assert c.getresponse().read().startswith(b"/b ")
    c.close()


def test_large_bodies_both_ways(served):
    sent = os.urandom(6_000_000)
    status, got = request(served, "POST", "/", sent, name=served.name)
    assert status == 200 and got == sent


def test_many_requests_on_one_connection(served):
    c = Connection(served, served.name)
    for i in range(200):
        c.request("GET", f"/{i}")
        assert c.getresponse().read().startswith(f"/{i} ".encode())
    c.close()


def test_many_connections_at_once(served):
    results = []

    def one(i):
        body = os.urandom(200_000)
        results.append(request(served, "POST", f"/{i}", body, name=served.name)[1] == body)

    threads = [threading.Thread(target=one, args=(i,)) for i in range(20)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert results == [True] * 20


def upgraded(instance):
    s = dial(instance, instance.name, suppress_ragged_eofs=False)
    s.sendall(b"GET /chat HTTP/1.1\r\nHost: " + instance.name.encode() + b"\r\nConnection: Upgrade\r\n"
              b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
              b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
    head = b""
    while b"\r\n\r\n" not in head:
        piece = s.recv(4096)
        assert piece, head
        head += piece
    assert head.startswith(b"HTTP/1.1 101 ")
    return s


def test_upgrades_and_their_end(served):
    """The client's close_notify goes through to the guest, and the guest's answer to it comes back."""
    with upgraded(served) as s:
        for _ in range(3):
            s.sendall(b"hello")
            assert s.recv(5) == b"HELLO"
        assert s.unwrap() is not None  # sends close_notify, and waits for theirs


def test_protocols(served):
    only = ssl.create_default_context(cafile=served.state / "tls" / "ca.pem")
    only.set_alpn_protocols(["h2", "http/1.1"])
    with dial(served, context=only) as s:
        assert s.selected_alpn_protocol() == "http/1.1" and s.version() == "TLSv1.3"
    only.maximum_version = ssl.TLSVersion.TLSv1_2
    with dial(served, context=only) as s:
        assert s.version() == "TLSv1.2" and re.match(r"ECDHE-.*(GCM|CHACHA20)", s.cipher()[0])
    only.set_alpn_protocols(["h2"])
    with pytest.raises(ssl.SSLError):
        dial(served, context=only)


def test_old_protocols_are_refused(served):
    old = trust(served)
    old.set_ciphers("DEFAULT:@SECLEVEL=0")
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        dial(served, context=old)
    static = trust(served)
    static.maximum_version = ssl.TLSVersion.TLSv1_2
    static.set_ciphers("AES128-SHA")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        dial(served, context=static)


def test_the_certificate_is_for_the_domain_alone(served):
    for name in ("api.example.org", "localhost", f"a.b.{DOMAIN}"):
        with pytest.raises(ssl.SSLCertVerificationError):
            dial(served, name)
    with dial(served, DOMAIN):
        pass


def read_all(s):
    data = b""
    while piece := s.recv(65536):
        data += piece
    return data


@pytest.mark.parametrize("method", ["GET", "DELETE", "PATCH"])
def test_plain_http(served, method):
    with socket.create_connection(tcp.address(served, "tls_listen"), timeout=60) as s:
        s.sendall(f"{method} / HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        reply = read_all(s)
    assert reply.startswith(b"HTTP/1.1 400 ") and b"https://" in reply
    assert json.loads(reply.split(b"\r\n\r\n", 1)[1])["code"] == 400


@pytest.mark.parametrize("data", [b"\0" * 100, b"\x16\x03\x01\x00\x05hello", b"\x16\x03\x01\xff\xff" + b"x" * 70000,
                                  b"\x80\x2e\x01\x00\x02", b"\xff"], ids=range(5))
def test_no_tls(served, data):
    with socket.create_connection(tcp.address(served, "tls_listen"), timeout=60) as s:
        try:
            s.sendall(data)
            reply = read_all(s)  # an alert, or nothing
        except ConnectionError:
            reply = b""
    assert len(reply) < 20
    assert request(served, "GET", "/x", name=served.name)[0] == 200


@pytest.mark.parametrize("data", [b"", b"\x16\x03\x01\x01\x00\x01"])
def test_a_slow_handshake_ends(served, data):
    with socket.create_connection(tcp.address(served, "tls_listen"), timeout=60) as s:
        s.sendall(data)
        assert read_all(s) == b""


def test_a_client_that_goes_away(served):
    for i in range(10):
        s = dial(served, served.name)
        s.sendall(b"POST / HTTP/1.1\r\nHost: " + served.name.encode() + b"\r\nContent-Length: 1000000\r\n\r\nabc")
        if i % 2:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        s.close()
    pid = worker_pid(served)
    vivarium.wait_for(lambda: len(os.listdir(f"/proc/{pid}/fd")) < 12, what="viv-tls lets their sockets go")


def test_the_process(served):
    """It has the key and libssl, and nothing else; vivd has neither."""
    pid = worker_pid(served)
    status = open(f"/proc/{pid}/status").read()
    uids = re.search(r"^Uid:\s+(.*)$", status, re.M)[1].split()
    assert len(set(uids)) == 1 and int(uids[0]) > 65536
    assert re.search(r"^Groups:\s*$", status, re.M) and re.search(r"^NoNewPrivs:\s+1$", status, re.M)
    for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb"):
        assert int(re.search(rf"^Cap{kind}:\s+(\w+)$", status, re.M)[1], 16) == 0, kind
    open_files = {os.readlink(f"/proc/{pid}/fd/{fd}").split(":")[0] for fd in os.listdir(f"/proc/{pid}/fd")}
    assert not any(f.endswith(".pem") for f in open_files), open_files
    assert "libssl" in open(f"/proc/{pid}/maps").read()
    assert "libssl" not in open(f"/proc/{served.process.pid}/maps").read()
    mode = os.stat(served.state / "tls" / "key.pem").st_mode & 0o777
    assert mode == 0o600


def test_a_stream_that_is_broken_off(served):
    """What ends before its time is no clean end, and the others go on."""
    vid, _ = test_proxy.create(served)
    name = f"8000-{vid}.{DOMAIN}"
    other = upgraded(served)
    served.name, keep = name, served.name
    try:
        s = upgraded(served)
    finally:
        served.name = keep
    assert served.request("DELETE", f"/sandboxes/{vid}")[0] == 204
    with s, pytest.raises((ssl.SSLEOFError, ConnectionError)):
        s.recv(1)
    with other:
        other.sendall(b"on")
        assert other.recv(2) == b"ON"


def test_a_new_certificate(served):
    """SIGHUP: who is connected stays so, who comes gets the new one; a bad one changes nothing."""
    old = upgraded(served)
    before = old.getpeercert(True)
    make_cert(served, "--force")
    served.process.send_signal(signal.SIGHUP)

    def now():
        try:
            with dial(served, served.name) as s:
                return s.getpeercert(True)
        except ssl.SSLCertVerificationError:
            return None  # the old one is not trusted any more

    vivarium.wait_for(lambda: now() not in (None, before), what="the new certificate is served")
    loaded = now()
    key = served.state / "tls" / "key.pem"
    good = key.read_bytes()
    key.write_bytes(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    served.process.send_signal(signal.SIGHUP)
    vivarium.wait_for(lambda: "tls.reload_failed" in served.log_text(), what="the bad key is refused")
    assert now() == loaded
    key.write_bytes(good)
    with old:
        old.sendall(b"still")
        assert old.recv(5) == b"STILL"


def test_viv_tls_is_killed(served):
    old = upgraded(served)
    pid = worker_pid(served)
    os.kill(pid, signal.SIGKILL)
    with old, pytest.raises((ssl.SSLEOFError, ConnectionError)):
        assert old.recv(1) == b""
        raise ConnectionError
    vivarium.wait_for(lambda: "tls.worker_ended" in served.log_text(), what="vivd knows it")
    assert request(served, "GET", "/x", name=served.name)[0] == 200  # it waited for the next one
    assert worker_pid(served) != pid and not alive(pid)


def test_vivd_is_killed(served):
    pid = worker_pid(served)
    port = tcp.address(served, "tls_listen")[1]
    os.kill(pid, signal.SIGSTOP)  # even one that cannot notice is in nobody's way
    served.stop(signal.SIGKILL)
    try:
        assert served.start(tls_listen=f"127.0.0.1:{port}"), served.log_text()
    finally:
        os.kill(pid, signal.SIGCONT)
    vivarium.wait_for(lambda: not alive(pid), what="the viv-tls of the vivd that was killed ends")
    assert request(served, "GET", "/x", name=served.name)[0] == 200
    pid = worker_pid(served)
    assert served.stop() == 0 and not alive(pid)
    assert served.start(), served.log_text()


def test_no_start_without_a_good_certificate(make_instance):
    instance = make_instance()
    start(instance)
    instance.stop()
    tls = instance.state / "tls"
    good = tls / "good.pem"
    (tls / "cert.pem").rename(good)
    assert not instance.start()
    assert "vivd cert" in instance.log_text() and str(tls / "cert.pem") in instance.log_text()
    (tls / "cert.pem").write_text("nothing")
    assert not instance.start()
    assert "read the certificate" in instance.log_text()
    shutil.copy(good, tls / "cert.pem")
    other = instance.dir / "other.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", other],
                   check=True, capture_output=True)
    assert not instance.start(tls_key=other)
    assert "key values mismatch" in instance.log_text()
    assert not (instance.run_dir / "vivd.sock").exists()
    assert instance.start(domain="elsewhere.example.org"), instance.log_text()
    assert "tls.certificate_of_others" in instance.log_text()


def test_no_tls_without_a_key(make_instance):
    instance = make_instance(domain=DOMAIN, tls_listen="127.0.0.1:0")
    make_cert(instance)
    assert not instance.start()
    assert "viv key create" in instance.log_text()
    instance.settings.pop("tls_listen")


def test_what_vivd_cert_says(make_instance):
    instance = make_instance()
    out = make_cert(instance, "--tls-listen=127.0.0.1:9443")
    assert f"export E2B_DOMAIN={DOMAIN}:9443\n" in out and str(instance.state / "tls" / "ca.pem") in out
    vivd = instance.build / "src" / "vivd"
    for flags, word in (([f"--domain={DOMAIN}"], "--force"), ([], "--domain="), (["--domain=localhost"], "a dot")):
        r = vivarium.run(str(vivd), "cert", *flags, env=instance.env())
        assert r.returncode == 1 and word in r.stderr, r.stderr


def signed(path, days, domain=DOMAIN):
    """A certificate that ends in so many days, which may be in the past."""
    with tempfile.TemporaryDirectory() as where:
        key, csr = f"{where}/key.pem", f"{where}/csr.pem"
        sh("openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
           "-out", csr, "-subj", f"/CN={domain}", "-addext", f"subjectAltName=DNS:{domain},DNS:*.{domain}")
        sh("openssl", "x509", "-req", "-in", csr, "-signkey", key, "-copy_extensions", "copy", "-days", str(days),
           "-out", path)


def doctor(instance):
    """The exit code, and what is said of the certificate."""
    r = instance.viv("doctor", "--json")
    items = [i for i in json.loads(r.stdout)["items"] if i["area"] == "tls"]
    assert len(items) == 1, r.stdout
    return r.returncode, items[0]


def test_the_doctor_looks_at_the_certificate(make_instance):
    instance = make_instance()
    start(instance)
    cert = instance.state / "tls" / "cert.pem"
    code, good = doctor(instance)
    assert (code, good["verdict"], good["why"], good["advice"]) == (0, "ok", None, None)
    assert str(cert) in good["what"] and "expires at 2" in good["what"]
    signed(cert, 15)
    assert doctor(instance)[1]["verdict"] == "ok"
    signed(cert, 13)
    code, soon = doctor(instance)
    assert (code, soon["verdict"]) == (0, "degraded") and re.search("in 1[23] days", soon["why"])
    assert "vivd cert" in soon["advice"]
    signed(cert, 100, "elsewhere.example.org")
    code, other = doctor(instance)
    assert (code, other["verdict"]) == (0, "degraded") and DOMAIN in other["why"]
    signed(cert, -1)
    code, late = doctor(instance)
    assert (code, late["verdict"]) == (1, "missing") and "expired at" in late["what"]
    assert "vivd cert" in late["advice"]
    cert.write_text("nothing")
    code, bad = doctor(instance)
    assert (code, bad["verdict"]) == (1, "missing") and "read the certificate" in bad["what"]
    assert instance.stop() == 0  # and with nobody to ask
    assert doctor(instance) == (code, bad)
    cert.unlink()
    os.mkfifo(cert)  # a file that nobody writes holds nobody up
    assert doctor(instance)[1]["verdict"] == "missing"
    cert.unlink()
    code, none = doctor(instance)
    assert (code, none["verdict"]) == (1, "missing") and "No such file" in none["what"]
    assert "vivd cert" in none["advice"]
    instance.settings.pop("tls_listen")
    assert not [i for i in json.loads(instance.viv("doctor", "--json").stdout)["items"] if i["area"] == "tls"]
