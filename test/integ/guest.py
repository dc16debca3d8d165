# SPDX-License-Identifier: Apache-2.0
"""The agent of a real sandbox, reached through vivd's proxy."""

import re

import native
import vivarium


class GuestAgent(native.Agent):
    """Its requests go to vivd's unix socket and name the sandbox."""

    def __init__(self, instance, **fields):  # pylint: disable=super-init-not-called
        status, box = instance.create(**fields)
        assert status == 201, box
        self.instance, self.vid = instance, box["sandboxID"]
        self.headers = {"E2b-Sandbox-Id": self.vid, "E2b-Sandbox-Port": "49983",
                        "X-Access-Token": box["envdAccessToken"]}

    def connect(self, timeout=180):
        connection = vivarium.UnixConnection(self.instance.run_dir / "vivd.sock", timeout)
        plain = connection.request

        def request(method, path, body=None, headers=None, **more):
            return plain(method, path, body, {**self.headers, **(headers or {})}, **more)

        connection.request = request
        return connection

    def status(self, key):
        """A number of the agent's status, in the guest."""
        text = self.run("cat /proc/1/status")[0].decode()
        return int(re.search(rf"^{key}:\s*(\d+)", text, re.M)[1])

    def daemon_kib(self, key="VmRSS"):
        with open(f"/proc/{self.instance.process.pid}/status") as f:
            return int(re.search(rf"^{key}:\s*(\d+)", f.read(), re.M)[1])

    def stop(self):
        assert self.instance.viv("rm", self.vid).returncode == 0
