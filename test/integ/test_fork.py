# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of sandboxes that go on, rollback, and forks, as a client sees them, with real VMs."""

import concurrent.futures
import json
import os
import signal

import pytest
import vivarium

# Counts in /dev/shm/count, and runs no other program for it: each costs an emulated guest much.
COUNTER = """
mkfifo /dev/shm/tick
exec 3<>/dev/shm/tick
n=0
while :; do
    n=$((n + 1))
    printf '%09d\\n' $n 1<>/dev/shm/count
    read -t 0.05 -u 3
done
"""


def create(instance, **fields):
    status, reply = instance.create(**{**vivarium.BOOTED, "timeout": 3600, **fields})
    assert status == 201, reply
    return reply["sandboxID"]


def sh(instance, sandbox, command, **kw):
    r = instance.viv("exec", sandbox, "--", "sh", "-c", command, **kw)
    assert r.returncode == 0, r.stderr
    return r.stdout.decode().strip()


def post(instance, sandbox, what, status=201, **body):
    got, reply = instance.request("POST", f"/sandboxes/{sandbox}/{what}", body)
    assert got == status, reply
    return reply


def fork(instance, sandbox, **body):
    children = post(instance, sandbox, "fork", **{"timeout": 600, **body})
    assert all("sandbox" in child for child in children), children
    return [child["sandbox"]["sandboxID"] for child in children]


def rm(instance, *sandboxes):
    for sandbox in sandboxes:
        status, reply = instance.request("DELETE", f"/sandboxes/{sandbox}")
        assert status == 204, reply


def count(instance, sandbox):
    return int(sh(instance, sandbox, "cat /dev/shm/count"))


def counter(instance, **fields):
    box = create(instance, **fields)
    sh(instance, box, "cat > /tmp/counter; nohup bash /tmp/counter >/dev/null 2>&1 &", stdin=COUNTER.encode())
    vivarium.wait_for(lambda: sh(instance, box, "cat /dev/shm/count 2>/dev/null; true"), what="it counts")
    return box


def counts_on(instance, sandbox):
    before = count(instance, sandbox)
    vivarium.wait_for(lambda: count(instance, sandbox) > before, what=f"{sandbox} counts on")


def disk_owners(instance, sandbox):
    """Sandboxes other than this one that have a hard link to a layer that it may write to."""
    layers = sorted((instance.state / "sandboxes" / sandbox / "layer").glob("*.qcow2"),
                    key=lambda p: int(p.stem))
    return os.stat(layers[-1]).st_nlink


def test_checkpoint_goes_on(shared):
    box = counter(shared)
    before = count(shared, box)
    made = post(shared, box, "checkpoints")
    assert made["generation"] == 1 and made["parent"] == 0 and made["kept"] is True
    assert 0 < made["stallMs"] < made["totalMs"]
    assert count(shared, box) >= before
    counts_on(shared, box)
    assert disk_owners(shared, box) == 1
    again = post(shared, box, "checkpoints")
    assert (again["generation"], again["parent"]) == (2, 1)
    counts_on(shared, box)
    listed = shared.get(f"/sandboxes/{box}/checkpoints")
    assert [c["generation"] for c in listed] == [1, 2]
    assert all(c["allocatedBytes"] > 0 and c["kept"] for c in listed)
    status, _ = shared.request("DELETE", f"/sandboxes/{box}/checkpoints/1")
    assert status == 204
    status, reply = shared.request("DELETE", f"/sandboxes/{box}/checkpoints/1")
    assert status == 404, reply
    assert [c["generation"] for c in shared.get(f"/sandboxes/{box}/checkpoints")] == [2]
    counts_on(shared, box)
    rm(shared, box)


def test_rollback_returns_file_and_memory(shared):
    box = counter(shared, **vivarium.IMAGED)
    sh(shared, box, "echo before | tee /home/user/file > /dev/shm/word; sync")
    post(shared, box, "checkpoints")
    sh(shared, box, "echo behind | tee /home/user/file > /dev/shm/word; rm /tmp/counter; "
       "dd if=/dev/urandom of=/home/user/junk bs=1M count=8 2>/dev/null; sync")
    deadline = shared.get(f"/sandboxes/{box}")["endAt"]
    post(shared, box, "rollback", generation=1)
    assert shared.get(f"/sandboxes/{box}")["endAt"] == deadline
    assert sh(shared, box, "cat /home/user/file /dev/shm/word; ls /home/user/junk /tmp/counter 2>/dev/null; true") == \
        "before\nbefore\n/tmp/counter"
    counts_on(shared, box)
    # From rest as well, and without a number to the last one.
    sh(shared, box, "echo third > /home/user/file; sync")
    post(shared, box, "pause", status=204)
    post(shared, box, "rollback", generation=1, timeout=600)
    assert sh(shared, box, "cat /home/user/file") == "before"
    assert [c["generation"] for c in shared.get(f"/sandboxes/{box}/checkpoints")] == [1]
    post(shared, box, "rollback", status=404, generation=7)
    counts_on(shared, box)
    rm(shared, box)


def test_fork(shared):
    box = counter(shared, envVars={"WHO": "me"}, metadata={"a": "b"})
    sh(shared, box, "echo common > /home/user/file; sync")
    before = count(shared, box)
    children = fork(shared, box, count=3)
    assert len(set(children)) == 3
    everybody = [box, *children]
    for one in everybody:
        assert count(shared, one) >= before
        counts_on(shared, one)
        assert sh(shared, one, "cat /home/user/file; echo $WHO") == "common\nme"
        assert shared.get(f"/sandboxes/{one}")["metadata"] == {"a": "b"}
        assert disk_owners(shared, one) == 1
    for one in everybody:
        sh(shared, one, f"echo {one} > /home/user/mine; dd if=/dev/urandom of=/home/user/big bs=1M count=4 2>/dev/null; "
           "sha256sum /home/user/big > /home/user/sum; sync")
    for one in everybody:
        assert sh(shared, one, "cat /home/user/mine; sha256sum -c /home/user/sum >/dev/null && echo whole") == f"{one}\nwhole"
    ids = [sh(shared, one, "cat /proc/sys/kernel/random/boot_id; hostname; cat /etc/machine-id").splitlines()
           for one in everybody]
    for line, who in ((0, ids), (1, ids), (2, ids[1:])):
        assert len({lines[line] for lines in who}) == len(who), ids
    assert not (shared.state / "sandboxes" / box / "passing").exists()
    # The source goes; its children need nothing of it. And theirs neither.
    rm(shared, box)
    [grandchild] = fork(shared, children[0])
    [third] = fork(shared, grandchild)
    rm(shared, children[0], grandchild)
    assert sh(shared, third, "cat /home/user/mine; sha256sum -c /home/user/sum >/dev/null && echo whole") == \
        f"{children[0]}\nwhole"
    counts_on(shared, third)
    rm(shared, third, *children[1:])


# Draws all the time, and notes what was drawn in which generation. What the cut came upon belongs to neither.
DRAWER = """
import os, time
def generation():
    try:
        return open('/run/vivarium/generation').read().strip()
    except FileNotFoundError:
        return '0'
while True:
    was = generation()
    drawn = os.getrandom(16).hex()
    if generation() == was:
        with open('/dev/shm/drawn-' + was, 'a') as f:
            f.write(drawn + '\\n')
    time.sleep(0.2)
"""
# The drawer's, from the last cut on, three at least, and what the shell and a new program draw.
DRAWN = """
f=/dev/shm/drawn-$(cat /run/vivarium/generation 2>/dev/null || echo 0)
until [ "$(cat $f 2>/dev/null | wc -l)" -ge 3 ]; do sleep 0.1; done
cat $f
bash -c 'echo $SRANDOM-$SRANDOM-$SRANDOM-$SRANDOM'
od -A n -t x8 -N 16 /dev/urandom | tr -d ' '
"""


def test_clones_draw_different_random_numbers(shared):
    """Twenty of them (50 with VIV_TEST_LONG=1), made of two instants: a program that draws all the time, and others."""
    box = create(shared, **vivarium.IMAGED)
    sh(shared, box, "cat > /tmp/drawer.py; nohup python3 /tmp/drawer.py >/dev/null 2>&1 &", stdin=DRAWER.encode())
    drawn = sh(shared, box, DRAWN).split()[-2:]
    n = 50 if os.environ.get("VIV_TEST_LONG") == "1" else 20
    for count in (n // 2, n - n // 2):
        children = fork(shared, box, count=count)
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            for words in pool.map(lambda one: sh(shared, one, DRAWN).split(), children):
                assert len(words) >= 5
                drawn += words
        rm(shared, *children)
    drawn += sh(shared, box, DRAWN).split()
    assert len(set(drawn)) == len(drawn) > 5 * n
    rm(shared, box)


def test_fork_of_a_paused_one(shared):
    box = counter(shared, **vivarium.IMAGED)
    post(shared, box, "pause", status=204)
    post(shared, box, "fork", status=409)
    children = fork(shared, box, count=2, paused=True)
    assert shared.get(f"/sandboxes/{box}")["state"] == "paused"
    for one in children:
        counts_on(shared, one)
    rm(shared, box)
    for one in children:
        counts_on(shared, one)
    rm(shared, *children)


def test_errors(shared):
    box = create(shared, **vivarium.IMAGED)
    for bad in ({"count": 0}, {"count": 101}, {"count": "x"}, {"timeout": 0}):
        post(shared, box, "fork", status=400, **bad)
    post(shared, "nosuch", "fork", status=404)
    post(shared, "nosuch", "checkpoints", status=404)
    post(shared, "nosuch", "rollback", status=404)
    reply = post(shared, box, "rollback", status=404)
    assert "has no checkpoint" in reply["message"]
    status, _ = shared.request("DELETE", f"/sandboxes/{box}/checkpoints/x")
    assert status == 404
    rm(shared, box)


# Each page is checked just before it is written to: one that is not of the instant of the cut is found then.
SWEEPER = """
import os, struct
PAGES, SIZE = 2048, 4096
room = bytearray(PAGES * SIZE)
n = 0
while True:
    for page in range(PAGES):
        was = n + 1 - PAGES if n >= PAGES else 0
        for at in (page * SIZE, page * SIZE + SIZE - 8):
            if struct.unpack_from('Q', room, at)[0] != was:
                open('/dev/shm/stale', 'w').write(f'page {page} after {n}')
                raise SystemExit
            struct.pack_into('Q', room, at, n + 1)
        n += 1
    with open('/dev/shm/sweeps.new', 'w') as f:
        f.write(str(n // PAGES))
    os.rename('/dev/shm/sweeps.new', '/dev/shm/sweeps')
"""


def sweeps(instance, sandbox):
    """How many times the program has gone over its memory."""
    return int(sh(instance, sandbox, "test ! -e /dev/shm/stale || cat /dev/shm/stale; cat /dev/shm/sweeps"))


def sweeps_on(instance, sandbox):
    before = sweeps(instance, sandbox)
    vivarium.wait_for(lambda: sweeps(instance, sandbox) >= before + 2, timeout=180, what=f"{sandbox} sweeps on")


def kernel_can_track():
    """Which pages of another process are written to (PAGEMAP_SCAN, UFFD_FEATURE_WP_ASYNC)."""
    return tuple(int(n) for n in os.uname().release.split("-")[0].split(".")[:2]) >= (6, 7)


def test_memory_that_changes_all_the_time(shared):
    """It is copied while it changes, and is of one instant all the same: in each child, and behind a pause."""
    box = create(shared)
    sh(shared, box, "cat > /tmp/sweeper.py; nohup python3 /tmp/sweeper.py >/dev/null 2>&1 &", stdin=SWEEPER.encode())
    vivarium.wait_for(lambda: sh(shared, box, "cat /dev/shm/sweeps 2>/dev/null; true"), what="it sweeps")
    children = fork(shared, box, count=2)
    if kernel_can_track():
        pid = shared.get(f"/sandboxes/{children[0]}")["vivarium"]["vmmPid"]
        assert os.readlink(f"/proc/{pid}/fd/9") == "anon_inode:[userfaultfd]"
    children += fork(shared, children[0], count=1)
    post(shared, children[1], "pause", status=204)
    post(shared, children[1], "resume", timeout=600)
    for sandbox in (box, *children):
        sweeps_on(shared, sandbox)
    rm(shared, box, *children)
