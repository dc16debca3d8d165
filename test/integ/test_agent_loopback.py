# SPDX-License-Identifier: Apache-2.0
"""The agent's way to ports of the loopback, on the host, without a VM."""

import contextlib
import json
import random
import socket
import struct
import threading

import pytest
from native import MIB, Agent, program, wait_until

CONNECTIONS_MAX = 512
HEAD = "GET /loopback/{} HTTP/1.1\r\nHost: agent\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n{}\r\n"


def listen(address="127.0.0.1", backlog=1024):
    s = socket.create_server((address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                             backlog=backlog)
    s.settimeout(30)
    return s, s.getsockname()[1]


def ask(agent, port, more=""):
    """A connection whose upgrade was asked for, and the head of the answer."""
    s = socket.create_connection(("127.0.0.1", agent.port), timeout=30)
    s.sendall(HEAD.format(port, more).encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        piece = s.recv(1)
        assert piece, head
        head += piece
    return s, head.decode()


def through(agent, port, more=""):
    s, head = ask(agent, port, more)
    assert head == "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
    return s


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "0.0.0.0"])
def test_bytes_and_ends_go_both_ways(agent, address):
    listening, port = listen(address)
    with listening, through(agent, port) as s, listening.accept()[0] as server:
        s.sendall(bytes(range(256)))
        assert server.recv(256, socket.MSG_WAITALL) == bytes(range(256))
        server.sendall(b"spoken first")
        assert s.recv(64) == b"spoken first"
        s.shutdown(socket.SHUT_WR)
        assert server.recv(1) == b""
        server.sendall(b"still")
        assert s.recv(64) == b"still"
        server.close()
        assert s.recv(1) == b""
    wait_until(lambda: agent.open_fds() < 20, "the connection is gone")


def test_ipv4_is_tried_first(agent):
    v6, port = listen("::1")
    with v6, socket.create_server(("127.0.0.1", port)) as v4:
        v4.settimeout(30)
        with through(agent, port), v4.accept()[0]:
            pass


def unused_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def answer(agent, path, headers=None, body=None, method="GET"):
    response, data = agent.request(method, path, body, {"Connection": "Upgrade", "Upgrade": "tcp", **(headers or {})})
    return response.status, json.loads(data)


def test_nobody_listens(agent):
    status, reply = answer(agent, f"/loopback/{unused_port()}")
    assert (status, reply["code"]) == (502, 502) and "Connection refused" in reply["message"]


@pytest.mark.parametrize("port", ["0", "65536", "-1", "x", "80x", "1" * 200])
def test_what_is_no_port(agent, port):
    status, reply = answer(agent, f"/loopback/{port}")
    assert (status, reply["code"]) == (400, 400) and "is no port" in reply["message"]


def test_what_is_no_upgrade(agent):
    listening, port = listen()
    with listening:
        for headers in ({"Connection": "close"}, {"Upgrade": "websocket"}):
            status, reply = answer(agent, f"/loopback/{port}", headers)
            assert (status, reply["code"]) == (426, 426)
        assert answer(agent, f"/loopback/{port}", body=b"x")[0] == 400
        assert answer(agent, f"/loopback/{port}", method="POST")[0] == 405
        assert answer(agent, "/loopback")[0] == answer(agent, f"/loopback/{port}/x")[0] == 404
        listening.settimeout(0)
        with pytest.raises(BlockingIOError):
            listening.accept()  # none of them reached it


def test_the_token_is_asked_for(own_agent):
    listening, port = listen()
    own_agent.request("POST", "/init", json.dumps({"accessToken": "secret"}))
    with listening:
        for more in ("", "X-Access-Token: wrong\r\n"):
            s, head = ask(own_agent, port, more)
            s.close()
            assert head.startswith("HTTP/1.1 401 ")
        with through(own_agent, port, "X-Access-Token: secret\r\n"), listening.accept()[0]:
            pass


def test_resets_go_through(agent):
    listening, port = listen()
    linger = struct.pack("ii", 1, 0)
    with listening, through(agent, port) as s:
        server = listening.accept()[0]
        server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        server.close()
        with pytest.raises(ConnectionResetError):
            s.recv(1)
        s = through(agent, port)
        server = listening.accept()[0]
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        s.close()
        server.settimeout(30)
        with server, pytest.raises(ConnectionResetError):
            server.recv(1)


def stall(s, data):
    """Sends until nothing is taken for a while; how much was."""
    s.settimeout(0.5)
    sent = 0
    with contextlib.suppress(TimeoutError):
        while sent < 256 * MIB:
            sent += s.send(data)
    return sent


@pytest.mark.usefixtures("no_sanitizers")
def test_a_side_that_does_not_read_holds_the_other_back(own_agent):
    listening, port = listen()
    before = own_agent.status("VmRSS")
    with listening, through(own_agent, port) as s, listening.accept()[0] as server:
        for sender, reader in ((s, server), (server, s)):
            sent = stall(sender, b"x" * MIB)
            assert sent < 64 * MIB
            reader.settimeout(30)
            while sent > 0:
                sent -= len(reader.recv(MIB))
        assert own_agent.status("VmHWM") - before < 1024


def test_much_at_once_arrives_whole(agent):
    data = random.Random(1).randbytes(32 * MIB)
    listening, port = listen()
    with listening, through(agent, port) as s, listening.accept()[0] as server:
        got = {}

        def receive(sock):
            parts = []
            while piece := sock.recv(MIB):
                parts.append(piece)
            got[sock] = b"".join(parts)

        def send(sock):
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)

        threads = [threading.Thread(target=f, args=(sock,)) for f in (send, receive) for sock in (s, server)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(60)
        assert got[s] == data and got[server] == data


@pytest.mark.usefixtures("no_sanitizers")
def test_they_are_limited_and_small(own_agent):
    listening, port = listen()
    with listening, contextlib.ExitStack() as stack:
        before = own_agent.status("VmRSS")
        for _ in range(CONNECTIONS_MAX):
            stack.enter_context(through(own_agent, port))
            stack.enter_context(listening.accept()[0])
        assert own_agent.status("VmRSS") - before < 4096
        s, head = ask(own_agent, port)
        s.close()
        assert head.startswith("HTTP/1.1 503 ")
    wait_until(lambda: own_agent.open_fds() < 20, "all are gone")
    listening, port = listen()
    with listening, through(own_agent, port), listening.accept()[0]:
        pass


def test_a_client_that_leaves_while_it_connects(own_agent):
    listening, port = listen(backlog=0)
    with listening, socket.create_connection(("127.0.0.1", port)):
        fds = own_agent.open_fds()
        clients = []
        for _ in range(20):
            clients.append(socket.create_connection(("127.0.0.1", own_agent.port)))
            clients[-1].sendall(HEAD.format(port, "").encode())
        wait_until(lambda: own_agent.open_fds() >= fds + 40, "they are being connected")
        for c in clients:
            c.close()
        wait_until(lambda: own_agent.open_fds() <= fds, "given up")


def test_the_end_of_the_agent_resets(build):
    a = Agent(program(build))
    listening, port = listen()
    with listening, through(a, port) as s, listening.accept()[0] as server:
        assert a.stop() == 0
        for sock in (s, server):
            sock.settimeout(30)
            with pytest.raises(ConnectionResetError):
                sock.recv(1)
