# SPDX-License-Identifier: Apache-2.0
"""One daemon for the whole suite, as its clients reach it."""

import pathlib
import re
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import sdk  # noqa: E402
import vivarium  # noqa: E402


@pytest.fixture(scope="session")
def server(build, prepared):
    instance = vivarium.Instance(build, prepared)
    try:
        assert instance.start(), instance.log_text()
        key = instance.viv("key", "create", "sdk").stdout.decode().strip()
        instance.stop()
        instance.settings["listen"] = "127.0.0.1:0"
        assert instance.start(), instance.log_text()
        port = re.search(r"vivd\.listens .*listen=127\.0\.0\.1:(\d+)", instance.log_text())[1]
        yield sdk.Server(instance, int(port), key)
    finally:
        instance.close()


@pytest.fixture(scope="session")
def packages(build):
    """Where the npm packages are."""
    try:
        return sdk.install(build)
    except sdk.Unavailable as why:
        pytest.skip(str(why))
