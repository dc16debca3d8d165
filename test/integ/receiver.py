# SPDX-License-Identifier: Apache-2.0
"""Where webhooks of tests lead to."""

import http.server
import json
import ssl
import threading
import time


class Receiver:
    """A server on loopback that keeps what it is posted, and answers as it is told."""

    def __init__(self, tls=None):
        self.posts, self.lock = [], threading.Lock()
        self.answer = lambda post: 200
        self.body = lambda handler: None
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                raw = self.rfile.read(int(self.headers["Content-Length"]))
                post = {"path": self.path, "headers": self.headers, "raw": raw, "at": time.time(), **json.loads(raw)}
                status = outer.answer(post)
                with outer.lock:
                    outer.posts.append({**post, "status": status})
                if status is None:  # no answer at all
                    self.close_connection = True
                    return
                self.send_response(status)
                if status // 100 == 3:
                    self.send_header("Location", "/elsewhere")
                if status != 299:
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.close_connection = True  # a body without an end
                self.end_headers()
                try:
                    while True:
                        self.wfile.write(b"x" * 65536)
                except OSError:
                    pass

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls / "cert.pem", tls / "key.pem")
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}/hook?a=b"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def of(self, sandbox=None, accepted=True):
        """Types of what was taken, or asked for, in order."""
        with self.lock:
            return [p["event_data"]["vivarium"]["event"] for p in self.posts
                    if sandbox in (None, p["sandbox_id"]) and (not accepted or p["status"] in (200, 299))]

    def close(self):
        self.server.shutdown()
        self.server.server_close()
