# SPDX-License-Identifier: Apache-2.0
"""Sandboxes that come and go leave nothing: no file that vivd holds open, no memory of it, nothing on the host."""

import os
import pathlib

import vivarium

FIRST = 20  # until what is kept for the next one is there
GROWTH_KIB = 1024


def cycle(instance):
    status, box = instance.create()
    assert status == 201, box
    assert instance.request("DELETE", f"/sandboxes/{box['sandboxID']}")[0] == 204


def held(instance):
    """What vivd has: open files and threads."""
    proc = pathlib.Path(f"/proc/{instance.process.pid}")
    return len(list((proc / "fd").iterdir())), len(list((proc / "task").iterdir()))


def test_cycles(shared, sanitizers):
    """1000 of them with VIV_TEST_LONG=1."""
    for _ in range(FIRST):
        cycle(shared)
    before, files, memory = vivarium.inventory(shared, shared.tag), held(shared), shared.resident_kib()
    for _ in range(1000 if os.environ.get("VIV_TEST_LONG") == "1" else 40):
        cycle(shared)
    vivarium.wait_for(lambda: held(shared) == files, what=f"as many files and threads as before: {files}")
    assert vivarium.inventory(shared, shared.tag) == before
    assert shared.rows() == {}
    if sanitizers == "none":
        assert shared.resident_kib() - memory <= GROWTH_KIB
