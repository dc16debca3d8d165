# SPDX-License-Identifier: Apache-2.0
"""A network behind the host for a test: a namespace of its own with servers, of the range 203.0.113.0/24."""

import itertools
import os
import pathlib
import subprocess
import sys

import vivarium

PORT = 7777
# Answers each line with itself, on TCP; each datagram with itself, on UDP.
ECHO = """
import socketserver, sys, threading
class Line(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line)
class Datagram(socketserver.BaseRequestHandler):
    def handle(self):
        self.request[1].sendto(self.request[0], self.client_address)
class Tcp(socketserver.ThreadingTCPServer):
    daemon_threads = allow_reuse_address = True
port = int(sys.argv[1])
udp = socketserver.UDPServer(("", port), Datagram)
tcp = Tcp(("", port), Line)
threading.Thread(target=udp.serve_forever, daemon=True).start()
print("ready", flush=True)
tcp.serve_forever()
"""
numbers = itertools.count()


def sh(*argv):
    subprocess.run(argv, check=True, capture_output=True)


class World:
    """Two addresses, `near` and `far`, that differ in nothing, behind a link of the host's."""

    def __init__(self):
        number = next(numbers)
        self.netns, self.link = f"world-{os.getpid()}-{number}", f"wo{os.getpid()}-{number}"
        base = self.free_network()
        self.host, self.near, self.far = (f"{base[0]}{base[1] + n}" for n in (1, 2, 3))
        self.server = None
        sh("ip", "netns", "add", self.netns)
        try:
            self.connect()
            self.serve()
        except BaseException:
            self.close()
            raise

    @staticmethod
    def free_network():
        """Eight addresses that nobody on this host has."""
        taken = {r["dst"] for r in vivarium.ip_json("route")}
        start = os.getpid() % 31
        for n in range(31):
            first = 8 * ((start + n) % 31)
            if f"203.0.113.{first}/29" not in taken:
                return "203.0.113.", first
        raise AssertionError("all of 203.0.113.0/24 is in use")

    def connect(self):
        inside = ["ip", "-n", self.netns]
        sh("ip", "link", "add", self.link, "type", "veth", "peer", "name", "w0", "netns", self.netns)
        sh("ip", "addr", "add", f"{self.host}/29", "dev", self.link)
        sh("ip", "link", "set", self.link, "up")
        # What comes back from the world is forwarded, whatever the host does with its own networks.
        pathlib.Path(f"/proc/sys/net/ipv4/conf/{self.link}/forwarding").write_text("1")
        sh(*inside, "addr", "add", f"{self.near}/29", "dev", "w0")
        sh(*inside, "addr", "add", f"{self.far}/29", "dev", "w0")
        sh(*inside, "link", "set", "w0", "up")
        sh(*inside, "link", "set", "lo", "up")

    def serve(self):
        self.server = subprocess.Popen(["ip", "netns", "exec", self.netns, sys.executable, "-c", ECHO, str(PORT)],
                                       stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        assert self.server.stdout.readline() == b"ready\n"

    def close(self):
        if self.server is not None:
            self.server.kill()
            self.server.wait()
            self.server.stdout.close()
        vivarium.run("ip", "link", "delete", self.link)
        vivarium.run("ip", "netns", "delete", self.netns)


# Run in a guest: says for each address whether it was reached, refused, or silent.
REACH = """
import socket, sys
for addr in sys.argv[1:]:
    try:
        with socket.create_connection((addr, %d), 20) as s:
            s.sendall(b"x\\n")
            print("reached" if s.recv(2) == b"x\\n" else "odd")
    except ConnectionRefusedError:
        print("refused")
    except OSError as e:
        print("silent", e)
""" % PORT


def reach(instance, sandbox, *addrs):
    """What a guest meets at each address."""
    r = instance.viv("exec", sandbox, "--", "python3", "-c", REACH, *addrs)
    assert r.returncode == 0, r.stderr
    return r.stdout.decode().splitlines()


def rules(instance, sandbox):
    """The rules of a sandbox's slot."""
    for link in vivarium.ip_json("link"):
        if link.get("ifalias") == sandbox:
            netns = f"viv-{instance.tag}-{link['ifname'].rsplit('-', 1)[1]}"
            return vivarium.run("ip", "netns", "exec", netns, "nft", "list", "ruleset").stdout
    raise AssertionError(f"no slot of {sandbox}")
