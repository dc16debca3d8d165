#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
A server that is as fast as a simple one can be: what a proxy is measured against. Takes the port as
its argument, says "ready", and ends with its stdin.

GET /N replies with N bytes, everything else is read and answered with 204.
"""

import re
import socket
import sys
import threading

PIECE = memoryview(bytes(1 << 20))


def serve(sock):
    room = memoryview(bytearray(1 << 20))
    data = b""
    with sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            while b"\r\n\r\n" not in data:
                piece = sock.recv(65536)
                if not piece:
                    return
                data += piece
            head, data = data.split(b"\r\n\r\n", 1)
            length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
            left = (int(length[1]) if length else 0) - len(data)
            while left > 0:
                n = sock.recv_into(room, min(left, len(room)))
                if n == 0:
                    return
                left -= n
            data = b""
            if head.startswith(b"GET "):
                reply(sock, int(head.split(b" ", 2)[1][1:]))
            else:
                sock.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")


def reply(sock, n):
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % n
    if n <= 4096:
        sock.sendall(head + bytes(n))
        return
    sock.sendall(head)
    while n > 0:
        sock.sendall(PIECE[:min(n, len(PIECE))])
        n -= min(n, len(PIECE))


def accept(listening):
    while True:
        sock, _ = listening.accept()
        threading.Thread(target=serve, args=(sock,), daemon=True).start()


def main():
    listening = socket.create_server(("0.0.0.0", int(sys.argv[1])), backlog=512)
    threading.Thread(target=accept, args=(listening,), daemon=True).start()
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
