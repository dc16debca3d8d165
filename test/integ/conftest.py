# SPDX-License-Identifier: Apache-2.0
"""Agents on the host for the tests that need no VM."""

import native
import pytest


@pytest.fixture(scope="module")
def agent(build):
    a = native.Agent(native.program(build))
    yield a
    assert a.stop() == 0


@pytest.fixture
def own_agent(build):
    """One that nobody else uses: for tests that set its identity, or look at its memory."""
    a = native.Agent(native.program(build))
    yield a
    assert a.stop() == 0
