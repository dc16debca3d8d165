# SPDX-License-Identifier: Apache-2.0
"""What becomes of a paused sandbox whose checkpoint is damaged, and of a pause on a full disk."""

import contextlib
import errno
import hashlib
import json
import os
import pathlib
import shutil
import time

import pytest
import vivarium
import world as worlds

KEEPER = """
import os, socket, threading, time, zlib
data = os.urandom(int(os.environ.get('MIB', '20')) << 20)
drawn = set()
server = socket.create_server(('0.0.0.0', 8000))
def serve():
    while True:
        c, _ = server.accept()
        c.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 5\\r\\nConnection: close\\r\\n\\r\\nalive')
        c.close()
threading.Thread(target=serve, daemon=True).start()
while True:
    if os.path.exists('/dev/shm/ask'):
        os.unlink('/dev/shm/ask')
        with open('/dev/shm/tmp', 'w') as f:
            f.write(f'{os.getpid()} {zlib.crc32(data):08x} {zlib.adler32(data):08x}')
        os.rename('/dev/shm/tmp', '/dev/shm/answer')
    n = os.getrandom(8)
    if n in drawn:
        os.mkdir('/dev/shm/drawn-twice')
    drawn.add(n)
    time.sleep(0.05)
"""
# Counts timers of CLOCK_MONOTONIC that are due at once, and each step of the wall clock.
WATCHER = """
import ctypes, json, os, struct, time
libc = ctypes.CDLL(None)
def timer(first_s, interval_s):
    fd = libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK)
    s, ns = divmod(int(first_s * 1e9), 10**9)
    every_s, every_ns = divmod(int(interval_s * 1e9), 10**9)
    libc.timerfd_settime(fd, 0, struct.pack('4q', every_s, every_ns, s, ns), None)
    return fd
def due(fd):
    try:
        return struct.unpack('Q', os.read(fd, 8))[0]
    except BlockingIOError:
        return 0
often, late = timer(0.1, 0.1), timer(3600, 0)
seen = {'ticks': 0, 'most': 0, 'late': 0, 'longest': 0, 'steps': []}
offset, last = time.time() - time.monotonic(), time.monotonic()
while True:
    time.sleep(0.1)
    now = time.monotonic()
    n = due(often)
    seen['ticks'] += n
    seen['most'] = max(seen['most'], n)
    seen['late'] += due(late)
    seen['longest'] = max(seen['longest'], now - last)
    last = now
    step = time.time() - now - offset
    if abs(step) > 60:
        seen['steps'].append(step)
        offset += step
    with open('/dev/shm/new', 'w') as f:
        json.dump(seen, f)
    os.rename('/dev/shm/new', '/dev/shm/seen')
"""
ASK = "bash -c 'exec 3<>/dev/tcp/127.0.0.1/8000; tail -c 5 <&3'"
# Keeps a connection to a server outside, and says how it ended.
CALLER = """
import socket, sys
s = socket.create_connection((sys.argv[1], %d), 20)
s.sendall(b'x\\n')
assert s.recv(2) == b'x\\n'
open('/dev/shm/connected', 'w').close()
s.settimeout(None)
try:
    how = repr(s.recv(1))
except OSError as e:
    how = type(e).__name__
open('/dev/shm/how', 'w').write(how)
""" % worlds.PORT


class Box:
    def __init__(self, instance, name, **fields):
        self.instance = instance
        status, box = instance.create(**{"name": name, **fields})
        assert status == 201, box
        self.id = box["sandboxID"]
        self.dir = instance.state / "sandboxes" / self.id

    def sh(self, command, **kw):
        r = self.instance.viv("exec", self.id, "--", "sh", "-c", command, **kw)
        assert r.returncode == 0, r.stderr
        return r.stdout.decode().strip()

    def start(self, program, *args, env=""):
        path = f"/tmp/program-{time.monotonic_ns()}.py"
        self.sh(f"cat > {path}", stdin=program.encode())
        self.sh(f"{env} nohup python3 {path} {' '.join(args)} >/dev/null 2>/tmp/errors &")

    def pause(self, **body):
        status, reply = self.instance.request("POST", f"/sandboxes/{self.id}/pause", body)
        assert status == 204, reply

    def connect(self, **body):
        return self.instance.request("POST", f"/v2/sandboxes/{self.id}/connect", {"timeout": None, **body})

    def resume(self, **body):
        status, reply = self.connect(**body)
        assert status == 201, reply

    def state(self):
        return self.instance.get(f"/sandboxes/{self.id}")["vivarium"]["state"]

    def checkpoint(self):
        (path,) = self.dir.glob("checkpoints/*")
        return path

    def answer(self):
        """The hash of what the keeper has in its memory."""
        self.sh("rm -f /dev/shm/answer; touch /dev/shm/ask")
        return vivarium.wait_for(lambda: self.sh("cat /dev/shm/answer 2>/dev/null || true"), timeout=300,
                                 what="it answers")

    def seen(self):
        """What its program has written down last; None if nothing yet."""
        text = self.sh("cat /dev/shm/seen 2>/dev/null || true")
        return json.loads(text) if text else None

    def delete(self):
        assert self.instance.request("DELETE", f"/sandboxes/{self.id}")[0] == 204

    def become_child(self):
        """Goes on as a child of itself; the parent is removed."""
        status, reply = self.instance.request("POST", f"/sandboxes/{self.id}/fork", {"count": 1, "timeout": None})
        assert status == 201 and "sandbox" in reply[0], reply
        self.delete()
        self.id = reply[0]["sandbox"]["sandboxID"]
        self.dir = self.instance.state / "sandboxes" / self.id


def missing(path):
    path.unlink()


def cut(path):
    with open(path, "r+b") as f:
        f.truncate(path.stat().st_size - 1)


def cut_short(path):
    with open(path, "r+b") as f:
        f.truncate(50)


def flipped(path):
    with open(path, "r+b") as f:
        f.seek(path.stat().st_size // 2)
        byte = f.read(1)
        f.seek(-1, 1)
        f.write(bytes([byte[0] ^ 1]))


def flipped_secretly(path):
    """Nothing but its bytes tells of it."""
    before = path.stat()
    flipped(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@contextlib.contextmanager
def damaged(path, how):
    """Hard links are others' files, too: a copy is damaged."""
    aside = path.with_name("aside")
    path.rename(aside)
    shutil.copy2(aside, path)
    how(path)
    try:
        yield
    finally:
        aside.replace(path)


def sealed(path):
    """Waits until a layer is sealed; but some file systems have no attributes."""
    try:
        os.setxattr(path.parent, "user.vivarium.test", b"")
    except OSError as e:
        assert e.errno == errno.ENOTSUP
        return False
    return vivarium.wait_for(lambda: "user.vivarium.seal" in os.listxattr(path), what="it is sealed")


def change_manifest(**fields):
    """As if vivd had written other values."""
    def how(path):
        manifest = {**json.loads(path.read_text()), **fields}
        del manifest["sha256"]
        body = json.dumps(manifest, indent=2)[:-2]
        path.write_text(f'{body},\n  "sha256": "{hashlib.sha256(body.encode()).hexdigest()}"\n}}')

    return how


def test_damage_is_named_and_starts_nothing(shared):
    """Each file of a checkpoint: the resume is refused, by the file's name, and all goes on when it is mended."""
    box = Box(shared, "damaged", **vivarium.BOOTED)
    box.start(KEEPER, env="MIB=1")
    before = box.answer()
    box.pause()
    vivarium.wait_for(lambda: len(list(box.dir.glob("checkpoints/*"))) == 1, what="one checkpoint")
    where = box.checkpoint()
    cases = [(name, how) for name in ("manifest.json", "devices", "memory") for how in (missing, cut, flipped)]
    cases += [("manifest.json", lambda path: path.write_bytes(b"")), ("layer/0.qcow2", cut_short)]
    if sealed(where / "layer/0.qcow2"):
        cases += [("layer/0.qcow2", flipped)]
    cases += [(p.name, how) for p in where.glob("image-*") for how in (missing, flipped, flipped_secretly)]
    for name, how in cases:
        with damaged(where / name, how):
            status, reply = box.connect()
            assert status >= 400, (name, how)
            assert pathlib.PurePath(name).name.split("-")[0] in reply["message"], (name, how, reply)
            assert box.state() == "paused"
            left = vivarium.inventory(shared, shared.tag)
            assert box.id not in str(left["cgroups"]) and not (box.dir / "layer").exists()
    for fields, why in (({"vmm": "qemu 0.1"}, "saved by qemu 0.1"), ({"cpu": "another"}, "on the CPU another")):
        with damaged(where / "manifest.json", change_manifest(**fields)):
            status, reply = box.connect()
            assert status == 409 and why in reply["message"], reply
            assert "viv start" in reply["message"]
    box.resume()
    assert box.answer() == before
    box.delete()


MODERN = """#!/bin/bash
# A QEMU whose machine is of revision 1.
exec qemu-system-x86_64 "${@/force-legacy=true/force-legacy=false}"
"""


def test_memory_of_an_earlier_machine(make_instance, tmp_path):
    """What the first revision of the machine has saved goes on, and stays of that revision, also as a child."""
    qemu = tmp_path / "qemu"
    qemu.write_text(MODERN)
    for path in (qemu, tmp_path, *list(tmp_path.parents)[:-2]):
        path.chmod(0o755)
    instance = make_instance()
    assert instance.start(vmm_binary=qemu), instance.log_text()
    box = Box(instance, "old", **vivarium.BOOTED)
    box.start(KEEPER, env="MIB=1")
    before = box.answer()
    box.pause()
    instance.stop()
    now = json.loads((box.checkpoint() / "manifest.json").read_text())["vmm"]
    first = now.split("+")[0]
    assert now != first
    change_manifest(vmm=first)(box.checkpoint() / "manifest.json")
    assert instance.start(), instance.log_text()
    box.resume()
    assert box.answer() == before
    box.become_child()
    assert box.answer() == before
    box.pause()
    assert json.loads((box.checkpoint() / "manifest.json").read_text())["vmm"] == first
    box.resume()
    assert box.answer() == before
    box.pause(memory=False)
    status, reply = box.connect()  # it boots
    assert status == 201, reply
    assert f"qemu {instance.get('/sandboxes/' + box.id)['vivarium']['vmmVersion']}" == now
    box.delete()


def test_damaged_image(make_instance):
    """The image that its memory began as, which it shares with others: missing, or cut off, it is named, too."""
    instance = make_instance(warm_images=1, warm_behind="on")
    instance.own_templates()
    assert instance.start(), instance.log_text()
    Box(instance, "first").delete()
    where = (instance.state / "templates" / "base").resolve()
    vivarium.wait_for(lambda: [p for p in where.glob("checkpoints/*") if p.name.isdigit()], timeout=300,
                      what="an image is made")
    box = Box(instance, "imaged")
    box.sh("head -c 3000000 /dev/urandom > /dev/shm/blob")
    before = box.sh("sha256sum < /dev/shm/blob")
    box.pause()
    vivarium.wait_for(lambda: len(list(box.dir.glob("checkpoints/*"))) == 1, what="one checkpoint")
    (image,) = box.checkpoint().glob("image-*")
    for how in (missing, cut, flipped, flipped_secretly):
        with damaged(image, how):
            status, reply = box.connect()
            assert status == 400 and "memory image" in reply["message"], reply
            assert str(box.checkpoint()) in reply["message"] and box.state() == "paused"
            assert box.id not in str(vivarium.inventory(instance, instance.tag)["cgroups"])
    box.resume()
    assert box.sh("sha256sum < /dev/shm/blob") == before
    box.pause()
    assert instance.stop() == 0  # when what the pause leaves is done
    (image,) = box.checkpoint().glob("image-*")
    flipped_secretly(image)  # all that is made of it shares this file
    assert instance.start(), instance.log_text()
    vivarium.wait_for(lambda: f"{where}/checkpoints/1: its memory image is damaged" in instance.log_text(),
                      what="vivd has read it")
    status, reply = box.connect()
    assert status == 400 and "memory image is damaged" in reply["message"], reply
    Box(instance, "booted").delete()
    assert not (where / "checkpoints" / "1").exists()  # of no use to anybody
    flipped(image)
    box.resume()
    assert box.sh("sha256sum < /dev/shm/blob") == before
    box.delete()


def test_disk_of_a_damaged_checkpoint(shared):
    """Its memory is lost; its disk is not."""
    box = Box(shared, "half", **vivarium.BOOTED)
    box.sh("echo kept > /home/user/file")
    box.pause()
    vivarium.wait_for(lambda: len(list(box.dir.glob("checkpoints/*"))) == 1, what="one checkpoint")
    flipped(box.checkpoint() / "memory")
    assert box.connect()[0] >= 400
    flipped(box.checkpoint() / "devices")
    assert box.connect()[0] >= 400
    box.resume(memory=False)
    assert box.sh("cat /home/user/file") == "kept"
    box.pause()
    box.resume()
    assert box.sh("cat /home/user/file") == "kept"
    box.delete()


def test_memory_over_generations(shared):
    """
    Paused, resumed and forked, ten times with VIV_TEST_LONG=1: what a program has in its memory stays, bit for bit;
    what it draws never repeats; who listens goes on listening; the clock is right; a connection to the outside ends
    at once.
    """
    mib, generations = (100, 10) if os.environ.get("VIV_TEST_LONG") == "1" else (20, 3)
    outside = worlds.World()
    try:
        box = Box(shared, "generations")
        box.start(KEEPER, env=f"MIB={mib}")
        box.start(CALLER, outside.near)
        vivarium.wait_for(lambda: box.sh("ls /dev/shm/connected 2>/dev/null || true"), timeout=180,
                         what="it is connected")
        before = box.answer()
        box.sh("head -c 8000000 /dev/urandom > /dev/shm/blob")
        blob = box.sh("sha256sum < /dev/shm/blob")
        for generation in range(generations):
            box.pause()
            if generation == 0:
                time.sleep(5)  # a clock that stood still would show
            box.resume()
            assert abs(float(box.sh("date +%s.%N")) - time.time()) < 4
            assert box.answer() == before
            box.become_child()
            assert box.answer() == before
            assert box.sh("sha256sum < /dev/shm/blob") == blob
            assert box.sh("ls /dev/shm") .count("drawn-twice") == 0
            if generation == 0:
                how = vivarium.wait_for(lambda: box.sh("cat /dev/shm/how 2>/dev/null || true"), timeout=180,
                                        what="the call ends")
                assert how == "ConnectionAbortedError", how
            assert box.sh(ASK) == "alive"
        assert box.dir.is_dir() and len(list(box.dir.glob("layer/*.qcow2"))) < 16
        box.delete()
    finally:
        outside.close()


def set_back_and_pause(box, by_s):
    """To the guest it is as if it had been paused for so long when it goes on. False if vivd set it right before."""
    told = box.instance.log_text().count("event=sandbox.clock_set ")
    r = box.instance.viv("exec", "--user", "root", box.id, "--", "date", "-s", f"@{time.time() - by_s:.3f}")
    assert r.returncode == 0, r.stderr
    vivarium.wait_for(lambda: box.seen()["steps"], what="the guest's program has seen it")
    box.pause()
    return box.instance.log_text().count("event=sandbox.clock_set ") == told


def test_clocks_after_75_hours(shared):
    """The wall clock is right at once; timers of the other clock neither fire in a storm nor for what they slept."""
    asleep_s = 75 * 3600
    box = Box(shared, "sleeper")
    box.start(WATCHER)
    vivarium.wait_for(box.seen, timeout=180, what="it watches")
    while not set_back_and_pause(box, asleep_s):
        box.resume()
        box.sh("pkill -f program- || true")
        box.start(WATCHER)
    box.resume()
    assert abs(float(box.sh("date +%s.%N")) - time.time()) < 4
    before = box.seen()
    seen = vivarium.wait_for(lambda: box.seen()["ticks"] > before["ticks"] + 5 and box.seen(), what="timers fire")
    back, forth = seen["steps"]
    assert abs(back + asleep_s) < 600 and abs(forth - asleep_s) < 600, seen
    assert seen["most"] < 6000 and seen["longest"] < 600 and seen["late"] == 0, seen
    box.delete()


def test_removed_while_it_is_paused(shared):
    """What nobody wants is not saved to its end: the pause takes its way back, and the removal is next."""
    box = Box(shared, "unwanted")
    box.start(KEEPER, env="MIB=120")
    box.answer()
    c = vivarium.UnixConnection(shared.run_dir / "vivd.sock")
    c.request("POST", f"/sandboxes/{box.id}/pause", "{}")
    vivarium.wait_for(lambda: box.state() == "pausing", what="it has begun")
    box.delete()
    r = c.getresponse()
    assert r.status == 404 and b"is being removed" in r.read()
    c.close()
    assert "sandbox.paused" not in [w for line in shared.log_text().splitlines() if box.id in line
                                    for w in line.replace("event=", "").split()]
    assert not box.dir.exists() and box.id not in str(vivarium.inventory(shared, shared.tag))


def test_pause_on_a_full_disk(make_instance):
    """It is refused, the sandbox runs on, and what was there is there; with room it is paused."""
    instance = make_instance(disk_reserve="1M")  # it is tried
    with instance.sandboxes_on_small_disk(400) as where:
        assert instance.start(), instance.log_text()
        box = Box(instance, "full")
        box.start(KEEPER, env="MIB=60")
        before = box.answer()
        box.pause()
        box.resume()
        old = box.checkpoint()
        with open(where / "ballast", "wb") as f:
            f.write(bytes(shutil.disk_usage(where).free - (8 << 20)))
        status, reply = instance.request("POST", f"/sandboxes/{box.id}/pause", {})
        assert status in (500, 503) and "space" in reply["message"].lower(), reply
        assert box.state() == "running" and box.answer() == before
        assert [p.name for p in box.dir.glob("checkpoints/*")] == [old.name]
        (where / "ballast").unlink()
        box.pause()
        box.resume()
        assert box.answer() == before
        box.delete()
        instance.stop()
