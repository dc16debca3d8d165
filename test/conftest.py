# SPDX-License-Identifier: Apache-2.0
"""What all Python tests share: where the tree and the build are."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import vivarium  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def root():
    return ROOT


@pytest.fixture(scope="session")
def build():
    return pathlib.Path(os.environ.get("VIV_BUILD", ROOT / "build"))


@pytest.fixture(scope="session")
def sanitizers(build):
    """Those of the build, "none" without."""
    options = json.loads(vivarium.run("meson", "introspect", "--buildoptions", str(build), check=True).stdout)
    return next(o["value"] for o in options if o["name"] == "b_sanitize")


@pytest.fixture(scope="session")
def no_sanitizers(sanitizers):
    """For tests of how much memory something takes."""
    if sanitizers != "none":
        pytest.skip(f"memory is measured, and the build has sanitizers ({sanitizers}), which take their own")


@pytest.fixture(scope="session")
def prepared(build):
    """A state directory with a kernel, the base template and a warm image of it, made once per build directory."""
    state = pathlib.Path(os.environ.get("VIV_TEST_STATE", build / "test-state"))
    subprocess.run([build / "src" / "vivd", "prepare", f"--state-dir={state}"], check=True)
    vivarium.share_image(build, state)
    return state


@pytest.fixture
def make_instance(build, prepared):
    """Makes daemons' directories; each is closed at the end, which checks that nothing is left."""
    made = []

    def make(**settings):
        made.append(vivarium.Instance(build, prepared, **settings))
        return made[-1]

    yield make
    for instance in made:
        instance.close()


@pytest.fixture(scope="module")
def shared(build, prepared):
    """One running daemon for the tests of a file; its sandboxes of the default size come from an image."""
    instance = vivarium.Instance(build, prepared)
    assert instance.start(), instance.log_text()
    yield instance
    instance.close()
