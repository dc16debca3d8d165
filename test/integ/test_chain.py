# SPDX-License-Identifier: Apache-2.0
"""However many checkpoints and forks a running sandbox has, its disk's chain stays short, and each can be had again."""

import os
import pathlib
import re
import shutil

import vivarium
from test_fork import create, fork, post, rm, sh

ROUNDS = 40 if os.environ.get("VIV_TEST_LONG") == "1" else 24
LAYERS_MOST = 15


def layers(owner):
    return sorted((pathlib.Path(owner) / "layer").glob("*.qcow2"), key=lambda p: -int(p.stem))


def check_chain(instance, owner, live=False):
    """
    QEMU's tools find no fault in any layer that no VM writes to, and the chain leads to the base. They follow names
    that begin at a sandbox's layers, so they are shown links at that depth.
    """
    found = layers(owner)
    assert 1 <= len(found) <= LAYERS_MOST, found
    place = instance.state / "sandboxes" / "shown" / "layer"
    place.mkdir(parents=True)
    for path in found:
        os.link(path, place / path.name)
    for path in found[1 if live else 0:]:
        r = vivarium.run("qemu-img", "check", "-f", "qcow2", str(place / path.name))
        assert r.returncode == 0, (path, r.stdout, r.stderr)
    r = vivarium.run("qemu-img", "info", "--backing-chain", "-U", "-f", "qcow2", str(place / found[0].name))
    images = re.findall(r"^image: (.*)$", r.stdout, re.M)
    assert r.returncode == 0 and len(images) == len(found) + 1, (r.stdout, r.stderr)
    shutil.rmtree(place.parent)


def open_layers(pid):
    """How many files of layers a VMM has open, and how many of them have no name any more."""
    targets = [os.readlink(fd) for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir()]
    files = {t for t in targets if "/layer/" in t and "base" not in t}
    return len(files), len([t for t in files if t.endswith("(deleted)")])


def disk_sum(instance, sandbox):
    """Of the files as they are on the disk, not in the guest's memory."""
    r = instance.viv("exec", "--user", "root", sandbox, "--", "sh", "-c",
                     "sync; echo 3 > /proc/sys/vm/drop_caches; cat /home/user/* | sha256sum")
    assert r.returncode == 0, r.stderr
    return r.stdout.decode().strip()


def test_many_checkpoints(shared):
    """
    A file is changed in one place, and another one added, before each; the sums say what each is, early, in the
    middle, and last. Merged layers read the same, for those who go on, those who go back, and children.
    """
    box = create(shared)
    directory = shared.state / "sandboxes" / box
    pid = shared.get(f"/sandboxes/{box}")["vivarium"]["vmmPid"]
    sh(shared, box, "head -c 6000000 /dev/urandom > /home/user/big; sync")
    sums, longest = {}, 0
    for i in range(1, ROUNDS + 1):
        sh(shared, box, f"dd if=/dev/urandom of=/home/user/big bs=4096 seek={i * 29} count=3 conv=notrunc 2>/dev/null; "
           f"head -c {1000 * i} /dev/urandom > /home/user/f{i % 7}; rm -f /home/user/f{(i + 3) % 7}; sync")
        if i % 10 == 0:
            [child] = fork(shared, box)
            check_chain(shared, shared.state / "sandboxes" / child, live=True)
            assert disk_sum(shared, child) == disk_sum(shared, box)
            rm(shared, child)
        made = post(shared, box, "checkpoints")
        assert made["generation"] == i
        sums[i] = disk_sum(shared, box) if i in (2, ROUNDS // 2, ROUNDS) else None
        longest = max(longest, len(layers(directory)))
    assert longest <= LAYERS_MOST
    opened, deleted = open_layers(pid)
    assert opened <= LAYERS_MOST + 1 and deleted <= LAYERS_MOST, (opened, deleted)
    check_chain(shared, directory, live=True)
    for i in range(1, ROUNDS + 1):
        check_chain(shared, directory / "checkpoints" / str(i))
    assert "sandbox.disk_merged" in shared.log_text()
    assert "sandbox.merge_failed" not in shared.log_text()
    for i in (ROUNDS, 2, ROUNDS // 2):
        post(shared, box, "rollback", generation=i)
        assert disk_sum(shared, box) == sums[i], i
    post(shared, box, "pause", status=204)
    rm(shared, box)


def test_merged_after_a_pause(shared):
    """Each resume puts a layer on the disk; behind a pause they become one, which reads the same."""
    box = create(shared)
    directory = shared.state / "sandboxes" / box
    sh(shared, box, "head -c 6000000 /dev/urandom > /home/user/big; sync")
    for i in range(1, 9):
        sh(shared, box, f"dd if=/dev/urandom of=/home/user/big bs=4096 seek={i * 29} count=3 conv=notrunc 2>/dev/null; "
           f"head -c {9000 * i} /dev/urandom > /home/user/f{i % 5}; rm -f /home/user/f{(i + 2) % 5}; sync")
        before = disk_sum(shared, box)
        post(shared, box, "pause", status=204)
        if i == 8:
            vivarium.wait_for(lambda: f"event=sandbox.disk_merged id={box}" in shared.log_text(), what="it is merged")
            (checkpoint,) = (directory / "checkpoints").iterdir()
            assert len(layers(checkpoint)) == 1
            check_chain(shared, checkpoint)
        post(shared, box, "resume", timeout=3600)
        assert disk_sum(shared, box) == before, i
    post(shared, box, "pause", status=204)
    rm(shared, box)
