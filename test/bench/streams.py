# SPDX-License-Identifier: Apache-2.0
"""
Figures of what goes through vivd into a sandbox, each beside the same past it, in turns: from inside
of the slot's network namespace to the guest, and from the host to a server of the host's own in that
namespace, where no slow guest hides what the proxy costs.
"""

import contextlib
import ctypes
import json
import os
import socket
import statistics
import subprocess
import sys
import threading
import time

from wire import END, GUEST_PORT, TIMEOUT_S, Way, p50_p95, rss_kib, start, through_vivd

TRUE = {"process": {"cmd": "/bin/true", "args": [], "envs": {}}, "stdin": False}
CAT = {"process": {"cmd": "/bin/cat", "args": [], "envs": {}}, "stdin": True}
GUEST_ADDRESS = "169.254.0.21"
NATIVE_PORT = 9000
STREAMS = 200
EXECS = 40
CALLS, CALLS_IN_TURN = 1000, 50
BULK_BYTES, BULK_TURNS = 1 << 30, 5
FILE_BYTES, FILE_TURNS = 32 << 20, 3
MB = 1e6
BUFFER = memoryview(bytearray(1 << 20))
CLONE_NEWNET = 0x40000000


def socket_inside(netns, address):
    """A socket of another namespace, connected. Only a thread of its own goes there."""
    made = []

    def work():
        with open(f"/run/netns/{netns}") as where:
            if ctypes.CDLL(None, use_errno=True).setns(where.fileno(), CLONE_NEWNET) == 0:
                made.append(socket.create_connection(address, timeout=TIMEOUT_S))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if not made:
        raise RuntimeError(f"no connection to {address} inside of {netns}")
    made[0].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made[0]


def socket_to(address):
    sock = socket.create_connection(address, timeout=TIMEOUT_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def nft_inside(netns, *rule):
    subprocess.run(["ip", "netns", "exec", netns, "nft", *rule], check=True, capture_output=True)


def open_namespace(netns):
    """Lets the namespace itself be a peer: its rules are for a guest alone. They go with the slot."""
    rules = subprocess.run(["ip", "netns", "exec", netns, "nft", "-j", "list", "chains"], check=True,
                           capture_output=True).stdout
    for chain in (o["chain"] for o in json.loads(rules)["nftables"] if "chain" in o):
        at = [chain["family"], chain["table"], chain["name"]]
        if chain.get("hook") == "input":
            nft_inside(netns, "insert", "rule", *at, "accept")
        elif chain.get("hook") == "prerouting" and chain["type"] == "nat":
            nft_inside(netns, "insert", "rule", *at, f"tcp dport {NATIVE_PORT} redirect")


@contextlib.contextmanager
def native_server(netns):
    server = subprocess.Popen(
        ["ip", "netns", "exec", netns, sys.executable, os.path.join(os.path.dirname(__file__), "native.py"),
         str(NATIVE_PORT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        if server.stdout.readline() != b"ready\n":
            raise RuntimeError("the server in the namespace did not start")
        yield server.pid
    finally:
        server.stdin.close()
        server.wait()


def exec_once(way):
    begin = time.monotonic()
    connection = start(way, TRUE)
    connection.until(END)
    end = time.monotonic()
    connection.close()
    return (end - begin) * 1e3


def call_once(connection, way):
    begin = time.monotonic()
    status, body = connection.call("GET", "/2", b"", way.fields)
    if (status, len(body)) != (200, 2):
        raise RuntimeError(f"request: {status} {body!r}")
    return (time.monotonic() - begin) * 1e3


def download(way, target, n):
    """MB/s."""
    connection = way.open()
    begin = time.monotonic()
    status, headers = connection.head("GET", target, b"", way.fields)
    if status != 200 or int(headers["content-length"]) != n:
        raise RuntimeError(f"download: {status} {headers}")
    left = n - len(connection.data)
    while left > 0:
        got = connection.sock.recv_into(BUFFER)
        if got == 0:
            raise RuntimeError(f"the download ended {left} bytes early")
        left -= got
    seconds = time.monotonic() - begin
    connection.close()
    return n / seconds / MB


def upload(way, target, n):
    """MB/s."""
    connection = way.open()
    fields = {"Content-Type": "application/octet-stream", **way.fields}
    begin = time.monotonic()
    connection.sock.sendall(connection.send_head("POST", target, n, fields))
    left = n
    while left > 0:
        left -= connection.sock.send(BUFFER[:left])
    status, _ = connection.read_head()
    seconds = time.monotonic() - begin
    connection.close()
    if status not in (200, 204):
        raise RuntimeError(f"upload: {status}")
    return n / seconds / MB


def in_turns(ways, turns, measure):
    """What was measured of each way; who goes first alternates."""
    found = [[] for _ in ways]
    for turn in range(turns):
        order = range(len(ways)) if turn % 2 == 0 else reversed(range(len(ways)))
        for i in order:
            found[i].append(measure(ways[i]))
    return found


def times(ours, direct):
    row = p50_p95(ours)
    row["direct_p50"] = p50_p95(direct)["p50"]
    row["ratio"] = round(row["p50"] / row["direct_p50"], 4)
    return row


def rates(ours, direct):
    row = {"mb_per_s": round(statistics.median(ours), 1),
           "direct_mb_per_s": round(statistics.median(direct), 1)}
    row["ratio"] = round(row["mb_per_s"] / row["direct_mb_per_s"], 4)
    return row


def exec_round_trip(via, inside):
    for way in (via, inside):
        exec_once(way)  # the first reads the program from the disk
    return times(*in_turns((via, inside), EXECS, exec_once))


def proxy_request(via, direct):
    """Small requests on one connection of the client's."""
    connections = {way: way.open() for way in (via, direct)}
    found = in_turns((via, direct), CALLS // CALLS_IN_TURN,
                     lambda way: [call_once(connections[way], way) for _ in range(CALLS_IN_TURN)])
    row = times(*[sum(turns, []) for turns in found])
    row["added"] = round(row["p50"] - row["direct_p50"], 4)
    for connection in connections.values():
        connection.close()
    return row


def cpu_ticks(pid):
    """Time on a CPU so far, its own and the kernel's for it."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def bulk(ways, measure, target, n, turns):
    return rates(*in_turns(ways, turns, lambda way: measure(way, target, n)))


def bulk_and_cpu(ways, measure, target, pids):
    """The same, and what each of the processes has to do for it: where each has a CPU, the busiest is the limit."""
    used = {way: [0] * len(pids) for way in ways}

    def once(way):
        before = [cpu_ticks(pid) for pid in pids]
        rate = measure(way, target, BULK_BYTES)
        used[way] = [sum_ + cpu_ticks(pid) - was for sum_, pid, was in zip(used[way], pids, before)]
        return rate

    row = rates(*in_turns(ways, BULK_TURNS, once))
    via, direct = (used[way] for way in ways)
    row["busiest_ratio"] = round(max(direct) / max(via), 4)
    for name, ticks, ticks_direct in zip(("vivd", "server", "client"), via, direct):
        row[f"{name}_cpu_per_gb_ms"] = round(ticks * per_gb(), 1)
        row[f"{name}_direct_cpu_per_gb_ms"] = round(ticks_direct * per_gb(), 1)
    return row


def per_gb():
    """Milliseconds per GB of one tick of all turns."""
    return 1e3 / os.sysconf("SC_CLK_TCK") / (BULK_TURNS * BULK_BYTES / 1e9)


def open_streams(via, n):
    """Processes started at the same time, each with a stream of its own. Some may fail."""
    found = [None] * n

    def work(i):
        found[i] = start(via, CAT)
        found[i].until(b'"start"')

    threads = [threading.Thread(target=work, args=(i,)) for i in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [c for c in found if c is not None]


def streams(instance, via, rows):
    """Many streams of one sandbox. Memory is what the second half adds: the first takes what lay free."""
    begin = time.monotonic()
    opened = open_streams(via, STREAMS // 2)
    half = rss_kib(instance.process.pid)
    opened += open_streams(via, STREAMS // 2)
    rows["exec_streams"] = {
        "open": len(opened), "failed": STREAMS - len(opened),
        "all_open_ms": round((time.monotonic() - begin) * 1e3, 1),
        "vivd_per_stream_kib": round((rss_kib(instance.process.pid) - half) / (STREAMS // 2), 1)}
    rows["agent"]["per_stream_kib"] = round(
        (agent_rss_kib(instance, via) - rows["agent"]["rss_kib"]) / STREAMS, 1)
    for connection in opened:
        connection.close()


def agent_rss_kib(instance, via):
    """Of process 1 in the guest, as its own /proc tells."""
    r = instance.viv("exec", via.fields["E2b-Sandbox-Id"], "--", "grep", "VmRSS", "/proc/1/status")
    if r.returncode != 0:
        raise RuntimeError(f"read the agent's memory: {r.stderr.decode()}")
    return int(r.stdout.split()[1])


def measure(instance, sandbox, rows):
    """All rows of a running sandbox."""
    vid = sandbox["sandboxID"]
    address = instance.get(f"/sandboxes/{vid}")["vivarium"]["address"]
    netns = json.loads((instance.run_dir / vid / "handles.json").read_text())["netns"]
    token = {"X-Access-Token": sandbox["envdAccessToken"]}
    via = through_vivd(instance, sandbox)
    inside = Way(lambda: socket_inside(netns, (GUEST_ADDRESS, GUEST_PORT)), token)
    open_namespace(netns)
    rows["agent"]["rss_kib"] = agent_rss_kib(instance, via)
    rows["exec_round_trip"] = exec_round_trip(via, inside)
    file = "/files?path=/tmp/bench&username=root"
    rows["file_upload"] = bulk((via, inside), upload, file, FILE_BYTES, FILE_TURNS)
    rows["file_download"] = bulk((via, inside), download, file, FILE_BYTES, FILE_TURNS)
    streams(instance, via, rows)
    with native_server(netns) as server:
        pids = (instance.process.pid, server, os.getpid())
        via = through_vivd(instance, sandbox, NATIVE_PORT)
        direct = Way(lambda: socket_to((address, NATIVE_PORT)), {})
        rows["proxy_request"] = proxy_request(via, direct)
        rows["proxy_throughput"] = bulk_and_cpu((via, direct), download, f"/{BULK_BYTES}", pids)
        rows["proxy_throughput_up"] = bulk_and_cpu((via, direct), upload, "/", pids)
