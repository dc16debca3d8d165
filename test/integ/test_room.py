# SPDX-License-Identifier: Apache-2.0
"""What the host has no room for is refused before it begins, in words that say what helps; what runs goes on."""

import contextlib
import re
import shutil

import pytest
import vivarium

RESERVE_MIB, DISK_MIB = 250, 700


def leave(where, mib):
    """Fills the disk until so much is free."""
    (where / "ballast").unlink(missing_ok=True)
    with open(where / "ballast", "wb") as f:
        for _ in range((shutil.disk_usage(where).free >> 20) - mib):
            f.write(bytes(1 << 20))


def fill(where):
    """Takes what is left."""
    with contextlib.suppress(OSError), open(where / "rest", "wb", buffering=0) as f:
        while f.write(bytes(1 << 16)):
            pass


def host_mib(field="MemTotal"):
    return int(re.search(rf"^{field}: +(\d+) kB", open("/proc/meminfo").read(), re.M)[1]) >> 10


def create(instance, **own):
    return instance.request("POST", "/v2/sandboxes", {"templateID": "base", "timeout": None, "vivarium": own})


def refused(reply, *words):
    status, body = reply
    assert status == 503 and body["error_code"] == "sandbox_capacity_unavailable", reply
    for word in words:
        assert word in body["message"], body


def own(instance, box):
    return instance.get(f"/sandboxes/{box}")["vivarium"]


def count(instance, event):
    return instance.log_text().count(f"event={event} ")


@pytest.fixture
def instance(make_instance):
    """Its sandboxes come from an image, and each is counted as all that it may have."""
    return make_instance(memory_overcommit=1, disk_reserve=f"{RESERVE_MIB}M")


def test_little_disk(instance):
    with instance.sandboxes_on_small_disk(DISK_MIB) as where:
        assert instance.start(), instance.log_text()
        status, box = create(instance)
        assert status == 201, box
        box = box["sandboxID"]
        # On a file system of their own sandboxes cannot share an image's files. It is not to blame.
        assert own(instance, box)["origin"] == "boot" and list(instance.state.glob("templates/base/checkpoints/*"))
        leave(where, RESERVE_MIB - 10)
        for what, body in (("checkpoints", {}), ("fork", {"count": 2}), ("pause", {}), ("snapshots", {"name": "s"})):
            refused(instance.request("POST", f"/sandboxes/{box}/{what}", body), "no space", "disk_reserve", "viv df")
        refused(create(instance), "no space")
        r = instance.viv("run", "true")
        assert r.returncode == 125 and b"no space on the host's disk" in r.stderr, r.stderr
        # It runs on, and comes to rest without its memory, and back.
        assert instance.viv("exec", box, "--", "sh", "-c", "echo kept > file; sync").returncode == 0
        assert instance.viv("stop", box).returncode == 0 and instance.viv("start", box).returncode == 0
        assert own(instance, box)["state"] == "running"
        # Said once, here and where people look.
        assert count(instance, "disk.low") == 1 and count(instance, "disk.enough") == 0
        assert f"less than {RESERVE_MIB} MiB nothing new" in instance.viv("doctor").stdout.decode()
        assert f"less than the {RESERVE_MIB}M of disk_reserve" in instance.viv("df").stdout.decode()
        # All at once, as at the host's end, are paused as long as there is any room.
        leave(where, RESERVE_MIB - 1)
        assert all("error" not in r for r in instance.request("POST", "/sandboxes/pause", {"memory": True})[1])
        assert own(instance, box)["state"] == "paused"
        assert instance.viv("resume", box).returncode == 0
        assert instance.viv("exec", box, "--", "cat", "file").stdout == b"kept\n"
        # With room all goes again; a little more than the reserve is no news.
        leave(where, RESERVE_MIB + 2)
        vivarium.wait_for(lambda: create(instance)[0] == 201, what="a create")
        (where / "ballast").unlink()
        vivarium.wait_for(lambda: count(instance, "disk.enough") == 1, what="it is said that there is room")
        assert instance.request("POST", f"/sandboxes/{box}/pause", {})[0] == 204
        assert count(instance, "disk.low") == 1
        for sandbox in instance.get("/v2/sandboxes?all=true"):
            assert instance.request("DELETE", f"/sandboxes/{sandbox['sandboxID']}")[0] == 204
        instance.stop()


def test_little_memory(instance):
    assert instance.start(), instance.log_text()
    total = host_mib()
    # More than the host has, whatever else runs on it.
    refused(create(instance, memoryMB=total), f"a sandbox of {total} MiB", "memory_overcommit", "pause or remove")
    assert instance.get("/v2/sandboxes?all=true") == []
    status, box = create(instance)
    assert status == 201, box
    box = box["sandboxID"]
    memory = instance.get("/df")["memory"]
    assert memory["totalMB"] == total and memory["reserveMB"] == min(total // 20, 512), memory
    assert memory["countedMB"] == 512 + 32 and 0 <= memory["ownMB"] < 512, memory
    assert memory["mostMB"] == memory["ownMB"] + memory["availableMB"] - memory["reserveMB"], memory
    assert b"are counted as 544M of at most" in instance.viv("df").stdout
    assert "are counted as 544 of at most" in instance.viv("doctor").stdout.decode()
    # Now there is room for the one that runs alone: for none beside it, nor for its children. At rest it takes none.
    instance.stop()
    assert instance.start(memory_reserve=f"{total}M"), instance.log_text()
    refused(create(instance), "a sandbox of 512 MiB")
    refused(instance.request("POST", f"/sandboxes/{box}/fork", {"count": 3}), "sandboxes of 512 MiB, counted as 1632")
    assert instance.viv("exec", box, "--", "true").returncode == 0
    assert instance.request("POST", f"/sandboxes/{box}/pause", {})[0] == 204
    assert instance.get("/df")["memory"]["countedMB"] == 0
    refused(instance.request("POST", f"/sandboxes/{box}/connect", {"timeout": 60}), "a sandbox of 512 MiB")
    assert own(instance, box)["state"] == "paused"
    instance.stop()
    assert instance.start(), instance.log_text()
    assert instance.request("POST", f"/sandboxes/{box}/connect", {"timeout": 60})[0] in (200, 201)
    # A checkpoint to go back to needs no room beside the VM that it takes the place of.
    assert instance.request("POST", f"/sandboxes/{box}/checkpoints", {})[0] == 201
    instance.stop()
    assert instance.start(memory_reserve=f"{total}M"), instance.log_text()
    assert instance.request("POST", f"/sandboxes/{box}/rollback", {})[0] == 201
    assert instance.viv("exec", box, "--", "true").returncode == 0


def test_what_waits_gives_way(make_instance):
    instance = make_instance(memory_overcommit=1, memory_reserve=f"{host_mib('MemAvailable') - 3500}M")
    assert instance.start(), instance.log_text()
    assert instance.viv("template", "pool", "base", "2").returncode == 0

    def took_the_place_of_one():
        """There is room for it beside one of them, but not beside both; unless others on the host took or gave some."""
        vivarium.wait_for(lambda: count(instance, "ready.made") - count(instance, "ready.gives_way") == 2,
                          what="two wait")
        assert instance.get("/df")["memory"]["countedMB"] == 2 * 544
        status, box = create(instance, memoryMB=instance.get("/df")["memory"]["mostMB"] - 544 - 272 - 32)
        if status == 201 and count(instance, "ready.gives_way") >= 1:
            return True
        assert status in (201, 503), box
        if status == 201:
            assert instance.request("DELETE", f"/sandboxes/{box['sandboxID']}")[0] == 204
        return False

    vivarium.wait_for(took_the_place_of_one, timeout=120, what="a sandbox takes the place of one that waits")
    # Nobody refills what there is no room for, and who is refused takes nothing from those that wait.
    refused(create(instance, memoryMB=host_mib()), "no memory")
    assert instance.viv("template", "pool", "base", "0").returncode == 0


WRITER = """
head -c 80M /dev/urandom | tee big | md5sum > /dev/shm/before
sync big
dd if=big iflag=direct bs=1M 2>/dev/null | md5sum > /dev/shm/after
echo done > /dev/shm/end
"""


def is_full(instance, box):
    return own(instance, box).get("condition") == "disk-full"


def is_saved(instance, box):
    """One that runs again may be told so just now, but does not stand still any more."""
    status, reply = instance.request("POST", f"/sandboxes/{box}/checkpoints", {})
    assert status == 201 or "stands still" not in reply["message"], reply
    return status == 201


def test_a_full_disk_freezes_guests(instance):
    """No guest sees an error of a disk that is the host's: it stands still, over a new vivd, too, and goes on."""
    with instance.sandboxes_on_small_disk(DISK_MIB) as where:
        assert instance.start(disk_reserve="16M"), instance.log_text()
        box, doomed = (create(instance)[1]["sandboxID"] for _ in range(2))
        leave(where, 40)
        for each in (box, doomed):
            r = instance.viv("exec", each, "--", "sh", "-c", f"nohup sh -c '{WRITER}' >/dev/null 2>&1 &")
            assert r.returncode == 0, r.stderr
        for each in (box, doomed):
            vivarium.wait_for(lambda: is_full(instance, each), timeout=180, what="it stands still")
        assert own(instance, box)["state"] == "running" and "disk is full" in own(instance, box)["lastError"]
        assert len(re.findall(r"^\S+ .* frozen ", instance.viv("ls").stdout.decode(), re.M)) == 2
        event = instance.get(f"/events?sandbox={box}")[-1]
        assert event["type"] == "error" and "disk is full" in event["error"], event
        for what, body in (("pause", {}), ("pause", {"memory": False}), ("checkpoints", {})):
            status, reply = instance.request("POST", f"/sandboxes/{box}/{what}", body)
            assert status == 409 and "disk is full" in reply["message"], reply
        assert instance.request("DELETE", f"/sandboxes/{doomed}")[0] == 204
        # The next vivd finds it so; how often it was tried is not told again and again.
        fill(where)
        instance.stop(9)
        assert instance.start(disk_reserve="16M"), instance.log_text()
        vivarium.wait_for(lambda: "condition" in own(instance, box), what="it is known")
        assert "disk is full" in instance.log_text() and "disk cannot be used" not in instance.log_text()
        assert 3 <= count(instance, "sandbox.frozen") <= 9
        # Nobody asks: with room it goes on where it was, and has lost nothing.
        for name in ("ballast", "rest"):
            (where / name).unlink()
        assert instance.viv("exec", box, "--", "true").returncode == 0
        vivarium.wait_for(lambda: is_saved(instance, box), what="it can do all")
        r = instance.viv("exec", box, "--", "sh", "-c", "until [ -e /dev/shm/end ]; do sleep 0.2; done; cat /dev/shm/[ab]*")
        before, after = r.stdout.split(b"\n")[:2]
        assert r.returncode == 0 and len(before) > 32 and before == after, r
        vivarium.wait_for(lambda: "condition" not in own(instance, box), what="it is well")
        assert "lastError" not in own(instance, box) and count(instance, "sandbox.goes_on") >= 1
        assert instance.viv("exec", "--user", "root", box, "--", "dmesg").stdout.count(b"I/O error") == 0
        assert instance.request("DELETE", f"/sandboxes/{box}")[0] == 204
        instance.stop()
