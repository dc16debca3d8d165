# SPDX-License-Identifier: Apache-2.0
"""`vivd prepare`, which becomes viv-build: what is there is kept, and whatever ends it leaves nothing behind."""

import os
import pathlib
import shutil
import signal
import subprocess

import pytest
import vivarium

ENDS = [signal.SIGINT, signal.SIGTERM, signal.SIGKILL]


def prepare(build, state, *options, **kw):
    return subprocess.Popen([build / "src" / "vivd", "prepare", "--config=/dev/null", f"--state-dir={state}", *options],
                            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **kw)


@pytest.fixture
def slow_apt(tmp_path):
    """A PATH whose programs know of a kernel, say where a download is to go, and wait there for their end."""
    asked, bin_dir = tmp_path / "asked", tmp_path / "bin"
    bin_dir.mkdir()
    programs = {
        "env": f'cd "$2" && pwd > {asked}.new && mv {asked}.new {asked} && exec sleep 600',
        "apt-cache": "echo '  Depends: linux-image-6.1.0-1-cloud-amd64'",
    }
    for name, text in programs.items():
        (bin_dir / name).write_text(f"#!/bin/sh\n{text}\n")
        (bin_dir / name).chmod(0o755)
    return asked, {**os.environ, "PATH": f"{bin_dir}:{os.environ['PATH']}"}


def sleepers(where):
    found = []
    for proc in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(proc / "cwd").startswith(str(where)):
                found.append(proc.name)
        except OSError:
            continue
    return found


def test_what_is_there_is_kept(build, prepared):
    before = {p: os.stat(p) for p in pathlib.Path(prepared).glob("*/*")}
    p = prepare(build, prepared)
    err = p.communicate(timeout=60)[1]
    assert p.returncode == 0 and f"{prepared} is ready" in err, err
    assert {p: os.stat(p) for p in pathlib.Path(prepared).glob("*/*")} == before


@pytest.mark.parametrize("sig", ENDS, ids=lambda s: s.name)
def test_an_end_in_between_leaves_nothing(build, tmp_path, slow_apt, sig):
    asked, env = slow_apt
    state = tmp_path / "state"
    p = prepare(build, state, env=env)
    vivarium.wait_for(asked.exists, what="the download has begun")
    assert asked.read_text().startswith(f"{state}/kernels/.build-")
    p.send_signal(sig)
    err = p.communicate(timeout=60)[1]
    vivarium.wait_for(lambda: not sleepers(state), what="the download has ended")
    if sig == signal.SIGKILL:
        asked.unlink()
        p = prepare(build, state, env=env)
        vivarium.wait_for(asked.exists, what="the next download has begun")
        assert len(list((state / "kernels").iterdir())) == 1
        p.send_signal(signal.SIGINT)
        err = p.communicate(timeout=60)[1]
    assert p.returncode == 1 and "interrupted; nothing unfinished is left" in err, err
    assert list((state / "kernels").iterdir()) == []


def test_an_installation_that_is_incomplete_says_so(build, tmp_path):
    shutil.copy(build / "src" / "vivd", tmp_path / "vivd")
    p = subprocess.run([tmp_path / "vivd", "prepare", "--config=/dev/null", f"--state-dir={tmp_path}"],
                       capture_output=True, text=True)
    if "is ready" in p.stderr or "guest kernel" in p.stderr:
        pytest.skip("a viv-build is installed where this vivd looks for it")
    assert p.returncode == 1 and "viv-build" in p.stderr and "install" in p.stderr, p.stderr


@pytest.mark.parametrize("options", [[], ["--state-dir=relative"], ["--state-dir=/x", "--root-free-mib=lots"],
                                     ["--state-dir=/x", "more"], ["--what"]])
def test_viv_build_refuses_what_it_does_not_know(build, options):
    r = vivarium.run(str(build / "src" / "viv-build"), *options)
    assert r.returncode == 1 and "vivd prepare: " in r.stderr, r.stderr
