# SPDX-License-Identifier: Apache-2.0
"""The `e2b` packages as E2B_DOMAIN alone leads them: https, and a name for each port of each sandbox."""

import re
import subprocess

import pytest

import sdk
import vivarium

DOMAIN = "box.localhost"
PARTS = {"2.51": ("commands", "files", "pty", "sandbox"), "2.45": ("commands",)}


class DomainServer(sdk.Server):
    def env(self, home, package, sandbox):
        env = super().env(home, package, sandbox)
        for name in ("E2B_API_URL", "E2B_SANDBOX_URL"):
            del env[name]
        return {**env, "E2B_DOMAIN": f"{DOMAIN}:{self.port}",
                "NODE_EXTRA_CA_CERTS": str(self.instance.state / "tls" / "ca.pem"),
                "NODE_OPTIONS": f"--require={sdk.HERE / 'resolve.cjs'}"}


@pytest.fixture(scope="module")
def server(build, prepared):
    instance = vivarium.Instance(build, prepared)
    try:
        assert instance.start(), instance.log_text()
        key = instance.viv("key", "create", "sdk").stdout.decode().strip()
        instance.stop()
        subprocess.run([build / "src" / "vivd", "cert", f"--domain={DOMAIN}"], env=instance.env(), check=True,
                       stdout=subprocess.DEVNULL)
        instance.settings.update(domain=DOMAIN, tls_listen="127.0.0.1:0")
        assert instance.start(), instance.log_text()
        port = re.search(r"vivd\.listens tls_listen=127\.0\.0\.1:(\d+)", instance.log_text())[1]
        yield DomainServer(instance, int(port), key)
    finally:
        instance.close()


@pytest.mark.parametrize("version, part", [(v, p) for v, parts in PARTS.items() for p in parts])
def test_sdk_by_its_domain(server, packages, version, part):
    status, box = server.instance.create()
    assert status == 201, box
    try:
        results = sdk.run_file(packages, part, server.env(packages, sdk.VERSIONS[version], box["sandboxID"]))
    finally:
        server.instance.request("DELETE", f"/sandboxes/{box['sandboxID']}")
    pending = sdk.pending()
    failed = {name: why for name, why in results.items() if why and f"{part}/{name}" not in pending}
    assert failed == {}
    assert len(results) > 5
