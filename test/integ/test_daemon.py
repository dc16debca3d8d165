# SPDX-License-Identifier: Apache-2.0
"""The daemon as such: starting, stopping, adopting, side by side, deadlines, permissions, networks."""

import fcntl
import os
import re
import signal
import socket
import stat
import time

import pytest
import vivarium

IDLE_KIB = 6144


def test_viv_starts_vivd(make_instance):
    instance = make_instance()
    r = instance.viv("ls")
    assert r.returncode == 0, r.stderr
    assert b"starting vivd" in r.stderr
    assert b"starting vivd" not in instance.viv("ls").stderr
    stop_started(instance)


def stop_started(instance):
    """Ends a vivd that viv started: the one that holds our lock."""
    inode = os.stat(instance.state / "vivd.lock").st_ino
    for line in open("/proc/locks"):
        fields = line.split()
        if fields[1] == "FLOCK" and fields[5].rsplit(":", 1)[1] == str(inode):
            pid = os.pidfd_open(int(fields[4]))
            signal.pidfd_send_signal(pid, signal.SIGTERM)
            vivarium.wait_for(lambda: holder_is_gone(inode), what="vivd ended")
            os.close(pid)
            return
    raise AssertionError("nobody holds the lock")


def holder_is_gone(inode):
    return not any(line.split()[5].endswith(f":{inode}") for line in open("/proc/locks")
                   if line.split()[1] == "FLOCK")


def test_many_viv_start_one_vivd(make_instance):
    instance = make_instance()
    ps = [instance.popen("ls", stdout=-1, stderr=-1) for _ in range(4)]
    outs = [p.communicate(timeout=60) for p in ps]
    assert [p.returncode for p in ps] == [0] * 4, outs
    assert sum(b"starting vivd" in err for _, err in outs) == 1
    stop_started(instance)


def test_a_failed_start_leaves_the_vms_alone(make_instance):
    instance = make_instance()
    assert instance.start(), instance.log_text()
    assert instance.viv("create", "--name", "a").returncode == 0
    instance.stop()
    nowhere = instance.dir / "missing" / "vivd.sock"
    assert not instance.start(socket=nowhere)
    assert instance.wait_dead() == 1 and str(nowhere) in instance.log_text()
    assert instance.start(), instance.log_text()
    assert instance.get("/sandboxes/a")["vivarium"]["state"] == "running"
    assert instance.viv("exec", "a", "--", "true").returncode == 0


def test_a_daemon_that_dies_while_a_dead_vm_is_released(make_instance):
    """The next one goes on with it: what is volatile goes, the disk stays."""
    instance = make_instance(fault="release.cgroup.before=kill")
    assert instance.start(), instance.log_text()
    assert instance.viv("create", "--name", "a").returncode == 0
    vid = instance.get("/sandboxes/a")["sandboxID"]
    os.kill(instance.get("/sandboxes/a")["vivarium"]["vmmPid"], signal.SIGKILL)
    assert instance.wait_dead() == -signal.SIGKILL
    assert vivarium.inventory(instance, instance.tag)["netns"]
    del instance.settings["fault"]
    assert instance.start(), instance.log_text()
    assert instance.get("/sandboxes/a")["vivarium"]["state"] == "stopped"

    def released():
        left = vivarium.inventory(instance, instance.tag)
        return not left["netns"] and vid not in left["cgroups"] and f"run/{vid}" not in left["files"]

    vivarium.wait_for(released, what="released")
    assert f"state/sandboxes/{vid}/layer/0.qcow2" in vivarium.files(instance)


def test_socket_permissions(shared):
    mode = os.stat(shared.run_dir / "vivd.sock").st_mode
    assert stat.S_IMODE(mode) == 0o660
    assert stat.S_IMODE(os.stat(shared.state).st_mode) == 0o700


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_vms_outlive_the_daemon(make_instance, sig):
    instance = make_instance()
    assert instance.start(), instance.log_text()
    assert instance.viv("create", "--name", "a", "--env", "X=1", "--memory", "256M").returncode == 0  # it boots
    before = instance.get("/sandboxes/a")
    assert instance.viv("exec", "a", "--", "sh", "-c", "sleep 1000 & echo $! >pid").returncode == 0
    code = instance.stop(sig)
    assert code == (0 if sig != signal.SIGKILL else -signal.SIGKILL)
    assert instance.start(), instance.log_text()
    after = instance.get("/sandboxes/a")
    for key in ("vmmPid", "address", "name", "cpus", "memoryMB", "createdAt", "kernelVersion"):
        assert after["vivarium"][key] == before["vivarium"][key]
    assert after["envdAccessToken"] == before["envdAccessToken"]
    r = instance.viv("exec", "a", "--", "sh", "-c", "kill -0 $(cat pid) && echo $X")
    assert (r.returncode, r.stdout) == (0, b"1\n"), r.stderr
    assert b"viv-agent: ready" in instance.viv("logs", "a").stdout


def test_two_daemons_side_by_side(make_instance):
    one, two = make_instance(), make_instance()
    assert one.start() and two.start()
    assert one.tag != two.tag
    assert one.viv("create", "--name", "same").returncode == 0
    assert two.viv("create", "--name", "same").returncode == 0
    addresses = {i.get("/sandboxes/same")["vivarium"]["address"] for i in (one, two)}
    assert len(addresses) == 2
    two.stop(signal.SIGKILL)
    assert two.start()
    assert one.viv("exec", "same", "--", "true").returncode == 0
    assert two.viv("exec", "same", "--", "true").returncode == 0


def test_deadline(make_instance):
    instance = make_instance()
    assert instance.start()
    status, sandbox = instance.request("POST", "/sandboxes", {"templateID": "base", "timeout": 2})
    assert status == 201
    vivarium.wait_for(lambda: instance.get("/v2/sandboxes?all=true") == [], what="it expired")


def test_deadline_that_passed_without_a_daemon(make_instance):
    instance = make_instance()
    assert instance.start()
    status, _ = instance.request("POST", "/sandboxes", {"templateID": "base", "timeout": 3})
    assert status == 201
    instance.stop(signal.SIGKILL)
    assert instance.start()
    vivarium.wait_for(lambda: instance.get("/v2/sandboxes?all=true") == [], what="it expired")


def test_creator_that_goes_away(make_instance):
    """Nobody has learnt the id: the sandbox is undone."""
    instance = make_instance()
    assert instance.start()
    c = vivarium.UnixConnection(instance.run_dir / "vivd.sock")
    c.request("POST", "/v2/sandboxes", '{"templateID": "base"}')
    vivarium.wait_for(lambda: instance.get("/v2/sandboxes?all=true"), what="under way")
    c.close()
    vivarium.wait_for(lambda: instance.get("/v2/sandboxes?all=true") == [], what="undone")


def test_destroy_during_create(make_instance):
    instance = make_instance()
    assert instance.start()
    p = instance.popen("create", "--name", "x", stdout=-1, stderr=-1)
    vivarium.wait_for(lambda: instance.get("/v2/sandboxes?all=true"), what="under way")
    assert instance.request("DELETE", "/sandboxes/x")[0] == 204
    assert instance.get("/v2/sandboxes?all=true") == []
    assert p.wait(timeout=60) == 125


def test_lists_pages_and_filters(make_instance):
    instance = make_instance()
    assert instance.start()
    for i in range(3):
        status, _ = instance.create(name=f"n{i}", metadata={"k": str(i), "a b": "c&d"})
        assert status == 201
    names = [s["vivarium"]["name"] for s in instance.get("/v2/sandboxes")]
    assert names == ["n2", "n1", "n0"]
    assert [s["vivarium"]["name"] for s in instance.get("/v2/sandboxes?order=asc")] == names[::-1]
    hit = instance.get("/v2/sandboxes?metadata=k%3D1%26a%2520b%3Dc%2526d")
    assert [s["vivarium"]["name"] for s in hit] == ["n1"]
    assert instance.get("/v2/sandboxes?state=paused") == []
    assert instance.get("/v2/sandboxes?template=nope") == []
    c = vivarium.UnixConnection(instance.run_dir / "vivd.sock")
    c.request("GET", "/v2/sandboxes?limit=2")
    r = c.getresponse()
    r.read()
    token = r.getheader("X-Next-Token")
    assert token and r.getheader("X-Total-Running") == "3"
    rest = instance.get(f"/v2/sandboxes?limit=2&nextToken={token}")
    assert [s["vivarium"]["name"] for s in rest] == ["n0"]


def test_open_files(make_instance):
    """All that vivd may have, but not for its VMMs; too few are a clear error."""
    instance = make_instance()
    instance.launcher = ["prlimit", "--nofile=1000:8000"]
    assert instance.start(), instance.log_text()
    assert open_files(instance.process.pid) == (8000, 8000)
    assert instance.viv("create", "--name", "a").returncode == 0
    (pid,) = vivarium.inventory(instance, instance.tag)["processes"]
    assert open_files(pid) == (1024, 1024)
    instance.stop()
    instance.launcher = ["prlimit", "--nofile=100:100"]
    assert not instance.start() and instance.wait_dead() == 1
    assert "vivd may have 100 files open, and needs 256 at least" in instance.log_text()
    # What is enough for fewer sandboxes than there are slots is said at start, and one too many is refused.
    assert "event=limits.low" not in instance.log_text()
    instance.launcher = ["prlimit", "--nofile=256:256"]
    assert instance.start(), instance.log_text()
    assert "event=limits.low of=files have=256 enough_for_sandboxes=5" in instance.log_text()
    status, reply = instance.request("POST", "/sandboxes/a/fork", {"count": 5})
    assert status == 503 and "LimitNOFILE" in reply["message"], reply
    instance.stop()
    instance.launcher = []
    assert instance.start(), instance.log_text()


def open_files(pid):
    text = open(f"/proc/{pid}/limits").read()
    return tuple(map(int, re.search(r"^Max open files +(\d+) +(\d+)", text, re.M).groups()))


def test_a_start_that_never_ends_is_not_waited_for(make_instance):
    """Whoever holds the lock is starting vivd; a viv that waits for it gives up and says which lock it is."""
    instance = make_instance()
    instance.run_dir.mkdir()
    path = instance.run_dir / "viv-start.lock"
    with open(path, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        r = instance.viv("ls", timeout=150)
    assert r.returncode != 0 and str(path).encode() in r.stderr, r.stderr
    assert b"another viv has been starting vivd for 60 s" in r.stderr


def test_a_vmm_that_does_not_answer_holds_nobody_up(make_instance):
    """Whether it can be adopted is asked again and again, beside all else; once it answers, it is."""
    instance = make_instance()
    assert instance.start(), instance.log_text()
    assert instance.viv("create", "--name", "a").returncode == 0
    (vmm,) = vivarium.inventory(instance, instance.tag)["processes"]
    instance.stop()
    os.kill(vmm, signal.SIGSTOP)
    try:
        assert instance.start(), instance.log_text()
        vivarium.wait_for(lambda: slowest_answer(instance) and instance.log_text().count("sandbox.unsure") >= 3,
                          what="it was asked again")
    finally:
        os.kill(vmm, signal.SIGCONT)
    vivarium.wait_for(lambda: instance.viv("exec", "a", "--", "true").returncode == 0, what="it was adopted")


def slowest_answer(instance):
    """The daemon answers meanwhile: an adoption on its one thread would take ten seconds of each."""
    before = time.monotonic()
    assert len(instance.get("/v2/sandboxes")) == 1
    assert time.monotonic() - before < 8
    return True


@pytest.mark.usefixtures("no_sanitizers")
def test_memory(make_instance):
    """What the daemon holds for nothing, and after boots: libraries that take much are not among it."""
    instance = make_instance(slot_pool=4)
    assert instance.start(), instance.log_text()
    # Not while it makes its slots.
    idle = vivarium.wait_for(lambda: [n for n in [instance.resident_kib()] if n <= IDLE_KIB], what="it is small")[0]
    for _ in range(3):
        assert instance.viv("run", "--memory", "128M", "--", "true").returncode == 0
    assert instance.resident_kib() - idle <= 2048


def test_vmm_is_jailed(shared):
    status, sandbox = shared.create(name="jailed")
    assert status == 201
    pid = shared.get("/sandboxes/jailed")["vivarium"]["vmmPid"]
    state = dict(line.split(":", 1) for line in open(f"/proc/{pid}/status"))
    assert int(state["Uid"].split()[0]) > 65535 and len(set(state["Uid"].split())) == 1
    for caps in ("CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb"):
        assert int(state[caps], 16) == 0, caps
    assert state["NoNewPrivs"].strip() == "1" and state["Seccomp"].strip() == "2"
    assert state["Groups"].strip() == ""
    assert os.readlink(f"/proc/{pid}/ns/net") != os.readlink("/proc/self/ns/net")
    assert f"vivarium-{shared.tag}" in open(f"/proc/{pid}/cgroup").read()
    assert shared.viv("rm", "jailed").returncode == 0


def test_guest_cannot_reach_the_host_or_its_neighbours(shared):
    """A listener on each of the host's own addresses, and another sandbox's agent."""
    assert shared.viv("create", "--name", "inside").returncode == 0
    assert shared.viv("create", "--name", "other").returncode == 0
    address = shared.get("/sandboxes/other")["vivarium"]["address"]
    gateway = ".".join(address.split(".")[:3] + [str(int(address.split(".")[3]) - 1)])
    with socket.socket() as s:
        s.bind(("0.0.0.0", 0))
        s.listen()
        port = s.getsockname()[1]
        for host, p in ((address, 49983), (gateway, port), ("169.254.0.22", port)):
            r = shared.viv("exec", "inside", "--", "timeout", "2", "bash", "-c", f"echo >/dev/tcp/{host}/{p}")
            assert r.returncode != 0, host
        # The other way round the host does reach the guest's agent: the rules are what stopped it.
        with socket.create_connection((address, 49983), timeout=5):
            pass
    assert shared.viv("rm", "inside", "other").returncode == 0
