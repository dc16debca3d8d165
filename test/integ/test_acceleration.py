# SPDX-License-Identifier: Apache-2.0
"""
How vivd finds out whether KVM works. vivd sees a /dev of the test's making, and where a guest has to hang, there
is a kernel that does: so all of this is the same on a host with KVM, without, and with one that hangs Linux.
"""

import json
import os
import pathlib
import re
import shlex
import signal
import struct

import pytest
import vivarium

# In a mount namespace where /dev alone is private: a new /dev, with $1 = mode of /dev/kvm or "none".
NEW_DEV = """
set -e
mode=$1; shift
mount --make-rprivate /dev
mount -t tmpfs -o mode=0755 viv-test /dev/shm
for name in null zero full random urandom tty net/tun; do
    mkdir -p /dev/shm/$(dirname $name); touch /dev/shm/$name; mount --bind /dev/$name /dev/shm/$name
done
ln -s /proc/self/fd /dev/shm/fd
test $mode = none || mknod -m $mode /dev/shm/kvm c 10 232
mount --rbind /dev/shm /dev
exec "$@"
"""

SPIN = b"\xeb\xfe"  # jmp .
TALK = (b"\xba\xf8\x03\x00\x00"  # mov $0x3f8,%edx
        b"\xb0\x2e\xee"          # mov $'.',%al; out %al,(%dx)
        b"\xb9\x00\x00\x10\x00"  # mov $0x100000,%ecx
        b"\xe2\xfe\xeb\xf4")     # loop .; jmp to the mov of '.'
DIE = b"\x0f\x0b"  # ud2, without an interrupt table: a triple fault


@pytest.fixture
def make_instance(make_instance):
    """As everywhere, but undecided between KVM and TCG unless a test says."""
    return lambda **settings: make_instance(**{"acceleration": "auto", "warm_images": 0, **settings})


def launcher(kvm):
    return ["unshare", "--mount", "--propagation", "unchanged", "sh", "-c", NEW_DEV, "sh", kvm]


def make_kernel(state, code, version="9.9.9-test"):
    """A kernel of a few bytes of 32-bit code, entered as PVH does it."""
    base, offset = 0x100000, 0x1000
    note = struct.pack("<III4sI", 4, 4, 18, b"Xen\0", base)
    head = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 2, 62, 1, base, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    head += struct.pack("<IIQQQQQQ", 1, 7, offset, base, base, len(code), len(code), 0x1000)
    head += struct.pack("<IIQQQQQQ", 4, 4, 64 + 2 * 56, 0, 0, len(note), len(note), 4)
    (state / "kernels").unlink()
    place = state / "kernels" / version
    (place / "modules").mkdir(parents=True)
    (place / "modules" / "order").write_text("")
    (place / "vmlinux").write_bytes((head + note).ljust(offset, b"\0") + code)


def decisions(instance):
    """What the log says of each decision: acceleration, why, source."""
    found = []
    for line in instance.log_text().splitlines():
        if "event=acceleration.decided" in line:
            fields = dict(word.split("=", 1) for word in shlex.split(line) if "=" in word)
            found.append((fields["acceleration"], fields["why"], fields["source"]))
    return found


def probe_processes(instance):
    return vivarium.inventory(instance, instance.tag)["processes"]


def nothing_left(instance):
    left = vivarium.inventory(instance, instance.tag)
    return [left[k] for k in ("processes", "files")] + [[c for c in left["cgroups"] if c != "."]] == [[], [], []]


@pytest.fixture
def spinning(make_instance):
    """A guest that never does anything; what stands in for KVM has a second for it."""
    instance = make_instance(kvm_stand_in="tcg", kvm_probe_timeout_s=1)
    make_kernel(instance.state, SPIN)
    return instance


def test_on_this_host(make_instance):
    """Whatever this host has: there is a verdict within seconds, and what follows from it works."""
    instance = make_instance()
    if os.path.exists("/dev/kvm"):
        instance.launcher = launcher("0666")
    assert instance.start(), instance.log_text()
    verdict = instance.get("/version")
    known = ("no /dev/kvm", "a guest under KVM did not", "a guest under KVM reached userspace in ")
    assert verdict["accelerationReason"].startswith(known)
    assert (verdict["acceleration"] == "kvm") == ("reached" in verdict["accelerationReason"])
    assert nothing_left(instance)
    status, sandbox = instance.create(name="a")
    assert status == 201, sandbox
    assert instance.get("/sandboxes/a")["vivarium"]["acceleration"] == verdict["acceleration"]
    line = f"acceleration {verdict['acceleration']}: {verdict['accelerationReason']}\n"
    assert line in instance.viv("version").stdout.decode()
    r = instance.viv("inspect", "a")
    assert re.search(rf"^acceleration +{verdict['acceleration']}$", r.stdout.decode(), re.M)
    assert instance.viv("rm", "a").returncode == 0


def test_kvm_as_asked_for(make_instance):
    """acceleration=kvm means KVM: it works, or the message says which setting did that. There is no probe."""
    if not os.path.exists("/dev/kvm"):
        pytest.skip("this host has no /dev/kvm")
    instance = make_instance(acceleration="kvm", agent_start_timeout_s=4)
    instance.launcher = launcher("0666")
    assert instance.start(), instance.log_text()
    assert instance.get("/version")["acceleration"] == "kvm"
    status, body = instance.create(name="a")
    if status == 201:
        assert instance.get("/sandboxes/a")["vivarium"]["acceleration"] == "kvm"
    else:
        assert "under KVM (setting acceleration=kvm): " in body["message"]
    assert decisions(instance) == []


@pytest.mark.parametrize("kvm, why", [("none", "no /dev/kvm"), ("0600", "no permission: /dev/kvm is root's alone")])
def test_no_kvm(make_instance, kvm, why):
    instance = make_instance()
    instance.launcher = launcher(kvm)
    assert instance.start(), instance.log_text()
    version = instance.get("/version")
    assert version["acceleration"] == "tcg" and version["accelerationReason"].startswith(why)
    assert not (instance.state / "acceleration.json").exists()  # asked again at each start
    instance.stop()
    assert instance.start(acceleration="kvm"), instance.log_text()
    status, body = instance.create(name="a")
    assert status >= 500 and f"under KVM (setting acceleration=kvm): {why}" in body["message"]


def test_success_is_kept_and_used(make_instance):
    """What is created before the verdict gets TCG, what is created after it KVM."""
    instance = make_instance(kvm_stand_in="tcg", kvm_probe_timeout_s=60)
    assert instance.start(settle=False), instance.log_text()
    version = instance.get("/version")
    assert (version["acceleration"], version["accelerationDecided"]) == ("tcg", False)
    assert "not known yet" in version["accelerationReason"]
    status, early = instance.create(name="early")
    assert status == 201, early
    version = instance.settle()
    assert version["acceleration"] == "kvm"
    assert re.fullmatch(r"a guest under KVM reached userspace in \d+ ms", version["accelerationReason"])
    status, late = instance.create(name="late")
    assert status == 201, late
    rows = {n: instance.get(f"/sandboxes/{n}")["vivarium"]["acceleration"] for n in ("early", "late")}
    assert rows == {"early": "tcg", "late": "kvm"}
    instance.stop()
    assert instance.start(), instance.log_text()
    assert [source for _, _, source in decisions(instance)] == ["probe", "record"]
    assert instance.get("/version")["accelerationReason"] == version["accelerationReason"]
    assert instance.get("/sandboxes/late")["vivarium"]["acceleration"] == "kvm"


def test_a_silent_guest_is_given_up_early(spinning):
    assert spinning.start(kvm_probe_timeout_s=8), spinning.log_text()
    why = "a guest under KVM did not reach userspace: its console was silent for 3.0 s"
    assert decisions(spinning) == [("tcg", why, "probe")]
    assert nothing_left(spinning)


def test_a_guest_that_only_talks(make_instance):
    instance = make_instance(kvm_stand_in="tcg", kvm_probe_timeout_s=4)
    make_kernel(instance.state, TALK)
    assert instance.start(), instance.log_text()
    assert decisions(instance) == [("tcg", "a guest under KVM did not reach userspace within 4 s", "probe")]
    assert nothing_left(instance)


def test_a_guest_that_dies_is_not_recorded(make_instance):
    instance = make_instance(kvm_stand_in="tcg", kvm_probe_timeout_s=20)
    make_kernel(instance.state, DIE)
    assert instance.start(), instance.log_text()
    [(name, why, source)] = decisions(instance)
    assert (name, source) == ("tcg", "probe") and why.startswith("a guest under KVM did not come up: ")
    assert nothing_left(instance)
    assert not (instance.state / "acceleration.json").exists()


def restart(instance):
    assert instance.stop() == 0
    assert instance.start(), instance.log_text()
    return decisions(instance)[-1][2]


@pytest.mark.parametrize("key", ["boot_id", "host_kernel", "guest_kernel", "vmm", "cpu"])
def test_a_record_holds_for_what_it_was_made_with(spinning, key):
    path = spinning.state / "acceleration.json"
    assert spinning.start(), spinning.log_text()
    assert restart(spinning) == "record"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, key: "other"}))
    assert restart(spinning) == "probe"
    assert json.loads(path.read_text())[key] == record[key]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff" * 100000, b'{"acceleration": "kvm"}'],
                         ids=["empty", "cut", "array", "garbage", "bare"])
def test_a_corrupt_record_is_as_good_as_none(spinning, content):
    (spinning.state / "acceleration.json").write_bytes(content)
    assert spinning.start(), spinning.log_text()
    assert [d[2] for d in decisions(spinning)] == ["probe"]
    assert restart(spinning) == "record"


def start_probe(instance):
    assert instance.start(settle=False, kvm_probe_timeout_s=600), instance.log_text()
    [pid] = vivarium.wait_for(lambda: probe_processes(instance), what="the probe runs")
    return pid


def test_probe_is_jailed(spinning):
    pid = start_probe(spinning)
    status = dict(line.split(":\t", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines())
    assert len(set(status["Uid"].split())) == 1 and int(status["Uid"].split()[0]) >= 1879048192
    assert status["NoNewPrivs"].strip() == "1" and int(status["CapBnd"], 16) == 0


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_shutdown_does_not_wait_for_a_probe(spinning, sig):
    start_probe(spinning)
    assert spinning.stop(sig) == 0  # with less patience than the probe has
    assert nothing_left(spinning)
    assert not (spinning.state / "acceleration.json").exists()


def test_daemon_killed_in_the_probe(spinning):
    first = start_probe(spinning)
    spinning.stop(signal.SIGKILL)
    assert probe_processes(spinning) == [first]
    assert spinning.start(), spinning.log_text()
    assert first not in probe_processes(spinning)
    assert [d[2] for d in decisions(spinning)] == ["probe"]
    assert nothing_left(spinning)


def test_vmm_killed_in_the_probe(spinning):
    fd = os.pidfd_open(start_probe(spinning))
    signal.pidfd_send_signal(fd, signal.SIGKILL)
    os.close(fd)
    version = spinning.settle()
    assert version["acceleration"] == "tcg"
    assert re.match("a guest under KVM did not come up: (the VMM|QEMU) ended", version["accelerationReason"])
    assert nothing_left(spinning)


def test_without_a_kernel_it_stays_open(make_instance):
    """There is nothing to probe with; once a sandbox could be made, there is."""
    instance = make_instance(kvm_stand_in="tcg", kvm_probe_timeout_s=60)
    kernels = instance.state / "kernels"
    aside = instance.state / "aside"
    kernels.rename(aside)
    assert instance.start(settle=False), instance.log_text()
    vivarium.wait_for(lambda: "event=acceleration.undecided" in instance.log_text(), what="it was tried")
    assert not instance.get("/version")["accelerationDecided"]
    aside.rename(kernels)
    status, sandbox = instance.create(name="a")
    assert status == 201, sandbox
    assert instance.settle()["acceleration"] == "kvm"
