# SPDX-License-Identifier: Apache-2.0
"""Ports of a guest as raw TCP: by the API's upgrade, and by viv."""

import contextlib
import hashlib
import os
import re
import signal
import socket
import subprocess
import threading

import pytest
import vivarium

# Sends back what it gets, when all of it is there (half-close), and its hash ahead of that.
ECHO = """
import hashlib, os, socket, sys, threading
def serve(c):
    data = b""
    while piece := c.recv(65536):
        data += piece
    c.sendall(hashlib.sha256(data).hexdigest().encode() + data)
    c.close()
def listen(family, host, port):
    s = socket.socket(family)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((host, port))
    s.listen(64)
    while True:
        threading.Thread(target=serve, args=(s.accept()[0],)).start()
for where in ((socket.AF_INET, "0.0.0.0", 7000), (socket.AF_INET, "127.0.0.1", 7001), (socket.AF_INET6, "::1", 7002)):
    threading.Thread(target=listen, args=where).start()
"""


@pytest.fixture(scope="module")
def box(shared):
    status, sandbox = shared.create(name="portbox")
    assert status == 201, sandbox
    shared.popen("exec", "portbox", "--", "python3", "-c", ECHO, stdin=subprocess.DEVNULL)
    vivarium.wait_for(lambda: reply_of(lambda: upgrade(shared, 7002), b"x"), what="the server listens")
    return sandbox["sandboxID"]


def upgrade(instance, port, box="portbox", protocol="tcp"):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(120)
    s.connect(str(instance.run_dir / "vivd.sock"))
    s.sendall(f"GET /sandboxes/{box}/ports/{port} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
              f"Upgrade: {protocol}\r\n\r\n".encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = s.recv(1)
        assert byte, head
        head += byte
    if not head.startswith(b"HTTP/1.1 101"):
        raise ConnectionError(head, s.recv(65536))
    return s


def send_all(s, data):
    with contextlib.suppress(OSError):  # what comes back tells
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)


def reply_of(connect, data):
    """Whether what comes back is what went there, and only after the end."""
    try:
        s = connect()
    except ConnectionError:
        return False
    with s:
        sender = threading.Thread(target=send_all, args=(s, data))
        sender.start()
        got = b""
        try:
            while piece := s.recv(65536):
                got += piece
        except ConnectionResetError:
            pass
        sender.join()
    return got == hashlib.sha256(data).hexdigest().encode() + data


@pytest.mark.parametrize("port", [7000, 7001, 7002])
def test_bytes_and_ends_go_both_ways(shared, box, port):
    assert reply_of(lambda: upgrade(shared, port), os.urandom(3_000_000))


def test_many_at_once(shared, box):
    results = []
    threads = [threading.Thread(target=lambda: results.append(reply_of(lambda: upgrade(shared, 7000), b"x" * 100_000)))
               for _ in range(20)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert results == [True] * 20


@pytest.mark.parametrize("target, status, word", [
    ("/sandboxes/portbox/ports/7009", 502, "not open"), ("/sandboxes/portbox/ports/49983", 400, "agent"),
    ("/sandboxes/portbox/ports/0", 400, "port"), ("/sandboxes/portbox/ports/x", 400, "port"),
    ("/sandboxes/nobox/ports/7000", 404, "nobox")])
def test_what_is_refused(shared, box, target, status, word):
    code, reply = shared.request("GET", target, headers={"Connection": "Upgrade", "Upgrade": "tcp"})
    assert (code, reply["code"]) == (status, status) and word in reply["message"], reply


def test_it_must_be_an_upgrade(shared, box):
    for headers in ({}, {"Connection": "Upgrade", "Upgrade": "websocket"}):
        code, reply = shared.request("GET", "/sandboxes/portbox/ports/7000", headers=headers)
        assert code == 400 and "Upgrade: tcp" in reply["message"]


def test_the_end_of_the_sandbox_ends_a_connection(shared):
    box = shared.create()[1]["sandboxID"]
    shared.popen("exec", box, "--", "python3", "-c", ECHO, stdin=subprocess.DEVNULL)
    vivarium.wait_for(lambda: reply_of(lambda: upgrade(shared, 7002, box), b"x"), what="the server listens")
    for port in (7000, 7001):
        s = upgrade(shared, port, box)
        s.sendall(b"x")
        if port == 7001:
            assert shared.request("DELETE", f"/sandboxes/{box}")[0] == 204
            assert s.recv(1) == b""
        s.close()


def start_port(instance, *args):
    p = instance.popen("port", *args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return p


def end_port(p):
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=60)
    assert p.returncode == 128 + signal.SIGINT
    return err


def test_viv_port(shared, box):
    p = start_port(shared, "portbox", "0:7000", "0:7001", "127.0.0.2:0:7009")
    ports = [re.fullmatch(r"(\S+):(\d+) -> (\d+)\n", p.stdout.readline()).groups() for _ in range(3)]
    assert [(host, there) for host, _, there in ports] == [
        ("127.0.0.1", "7000"), ("127.0.0.1", "7001"), ("127.0.0.2", "7009")]
    for host, here, _ in ports[:2]:
        assert reply_of(lambda: socket.create_connection((host, int(here))), os.urandom(2_000_000))
    with socket.create_connection((ports[2][0], int(ports[2][1]))) as s:
        with pytest.raises(ConnectionResetError):
            s.recv(1)
    taken = shared.viv("port", "portbox", f"{ports[0][1]}:7000")
    assert taken.returncode == 1 and b"in use" in taken.stderr
    held = socket.create_connection((ports[0][0], int(ports[0][1])))
    held.sendall(b"x")
    assert "7009" in end_port(p)
    with pytest.raises(ConnectionResetError):
        held.recv(1)
    held.close()


def test_viv_port_lists_what_listens(shared, box):
    r = shared.viv("port", "portbox")
    assert r.returncode == 0, r.stderr
    assert {"7000   0.0.0.0", "7001   127.0.0.1", "7002   ::1"} <= set(r.stdout.decode().splitlines())


def test_viv_port_says_what_is_wrong(shared, box):
    for args, code in ((["portbox", "x"], 2), (["portbox", "0"], 2), (["portbox", "1:70000"], 2), ([], 2),
                       (["nobox", "1"], 1), (["--bind", "nowhere", "portbox", "7000"], 1)):
        assert shared.viv("port", *args).returncode == code, args


def test_viv_run_publishes_ports(shared):
    with socket.socket() as s:  # one that is free
        s.bind(("127.0.0.1", 0))
        here = s.getsockname()[1]
    p = shared.popen("run", "-p", f"{here}:7001", "--", "python3", "-c", ECHO, stdin=subprocess.DEVNULL)
    vivarium.wait_for(lambda: reply_of(lambda: socket.create_connection(("127.0.0.1", here)), b"x" * 100_000),
                      timeout=180, what="the port is reached")
    p.send_signal(signal.SIGTERM)
    assert p.wait(120) == 128 + signal.SIGTERM
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", here))
    busy = socket.create_server(("127.0.0.1", 0))
    r = shared.viv("run", "-p", f"{busy.getsockname()[1]}:7001", "--", "true")
    busy.close()
    assert r.returncode == 125 and b"in use" in r.stderr
    assert shared.viv("run", "-p", "x", "--", "true").returncode == 2
    assert shared.viv("create", "-p", "80").returncode == 2
