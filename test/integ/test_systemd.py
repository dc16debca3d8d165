# SPDX-License-Identifier: Apache-2.0
"""
The installed unit under a real systemd, as process 1 of namespaces of its own: it reads no unit of the host, and
what it makes ends with it. Its cgroups are below one of the test's, its state is the test's directory.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess

import pytest
import vivarium

SYSTEMD = pathlib.Path("/usr/lib/systemd/systemd")
HOST_UNITS = pathlib.Path("/usr/lib/systemd/system")
UNITS = ["basic.target", "local-fs.target", "multi-user.target", "network.target", "paths.target", "shutdown.target",
         "slices.target", "sockets.target", "sysinit.target", "timers.target", "umount.target"]
# Of the host's /run and /var/lib nothing is seen; where the state is, is the default of the settings.
INIT = """
mount --make-rprivate / && mount -t proc proc /proc && umount -R /sys/fs/cgroup &&
mount -t cgroup2 cgroup2 /sys/fs/cgroup && mount -t tmpfs -o mode=755 tmpfs /run &&
mount -t tmpfs -o mode=755 tmpfs /var/lib && mkdir /var/lib/vivarium && mount --bind "$1" /var/lib/vivarium &&
ip link set lo up && exec env container=lxc SYSTEMD_UNIT_PATH="$2" "$3" --system --unit=multi-user.target \
        --log-target=console
"""


class Machine:
    def __init__(self, build, directory, cgroup):
        self.build, self.cgroup = build, cgroup
        self.units, self.state, self.log = directory / "units", directory / "state", directory / "log"
        self.env = {**os.environ, "SYSTEMD_UNIT_PATH": str(self.units)}
        self.process = None

    def start(self):
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                ["unshare", "--cgroup", "--mount", "--pid", "--net", "--uts", "--ipc", "--fork", "--kill-child",
                 "sh", "-c", INIT, "sh", self.state, self.units, SYSTEMD],
                preexec_fn=lambda: (self.cgroup / "cgroup.procs").write_text(str(os.getpid())),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        vivarium.wait_for(self.is_up, what="systemd is up")

    def is_up(self):
        assert self.process.poll() is None, self.log.read_text()
        return self.init() and self.run("systemctl", "is-system-running").stdout.strip() == "running"

    def init(self):
        pid = self.process.pid
        return pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()

    def run(self, *argv):
        """Runs a program inside."""
        (pid,) = self.init()
        return subprocess.run(["nsenter", "-t", pid, "-m", "-p", "-n", "-C", "-u", "-i", *map(str, argv)],
                              env=self.env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=180)

    def ok(self, *argv):
        r = self.run(*argv)
        assert r.returncode == 0, (argv, r.stdout, r.stderr, self.log.read_text())
        return r.stdout

    def viv(self, *argv):
        """What viv says, once the service answers. With --socket it starts no vivd of its own."""
        viv = [self.build / "src" / "viv", "--socket", "/run/vivarium/vivd.sock"]
        vivarium.wait_for(lambda: self.run(*viv, "ls").returncode == 0, what="the service answers")
        return self.ok(*viv, *argv).strip()

    def vivd(self):
        return int(self.ok("systemctl", "show", "--property=MainPID", "--value", "vivd"))

    def end(self):
        self.process.kill()
        self.process.wait()
        vivarium.wait_for(self.cgroups_gone, what="all of it has ended")

    def cgroups_gone(self):
        for path in sorted(self.cgroup.glob("**/"), reverse=True):
            try:
                path.rmdir()
            except OSError:
                return False
        return True


# A sanitized vivd says what it finds where others do (systemd hands no environment on), and looks for leaks when it
# ends: it stops its threads by ptrace(2), which the unit forbids a vivd that has no such need.
SANITIZED = """
[Service]
SystemCallFilter=ptrace
Environment="ASAN_OPTIONS={asan}" "UBSAN_OPTIONS={ubsan}"
"""


@pytest.fixture
def machine(build, prepared, sanitizers, tmp_path):
    mount = vivarium.cgroup2_mount()
    for program in ("unshare", "nsenter", "ip"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is missing")
    if not SYSTEMD.exists() or mount is None:
        pytest.skip("no systemd" if mount else "no cgroup v2 hierarchy is mounted")
    cgroup = mount / f"viv-test-systemd-{os.getpid()}"
    m = Machine(build, tmp_path, cgroup)
    m.units.mkdir()
    m.state.mkdir(mode=0o700)
    for name in ("templates", "kernels"):
        (m.state / name).symlink_to(pathlib.Path(prepared) / name)
    for unit in UNITS:
        shutil.copy(HOST_UNITS / unit, m.units)
    text = (build / "dist" / "vivd.service").read_text()
    (m.units / "vivd.service").write_text(
        re.sub(r"^ExecStart=.*$", f"ExecStart={build}/src/vivd\nStandardError=append:{m.log}", text, flags=re.M))
    if sanitizers != "none":
        (m.units / "vivd.service.d").mkdir()
        (m.units / "vivd.service.d" / "sanitized.conf").write_text(SANITIZED.format(
            asan=os.environ.get("ASAN_OPTIONS", ""), ubsan=os.environ.get("UBSAN_OPTIONS", "")))
    text = (build / "dist" / "vivd-pause.service").read_text()
    (m.units / "vivd-pause.service").write_text(
        re.sub(r"^ExecStop=\S+", f"StandardError=append:{m.log}\nExecStop={build}/src/viv", text, flags=re.M))
    cgroup.mkdir()
    try:
        m.start()
        yield m
    finally:
        m.end()


def test_vms_outlive_the_service(machine):
    machine.ok("systemctl", "start", "vivd")
    machine.viv("create", "--name", "box", "--memory", "128M")
    booted = machine.viv("exec", "box", "--", "cat", "/proc/sys/kernel/random/boot_id")

    def same():
        return machine.viv("exec", "box", "--", "cat", "/proc/sys/kernel/random/boot_id") == booted

    # A restart.
    first = machine.vivd()
    machine.ok("systemctl", "restart", "vivd")
    assert machine.vivd() != first and same()
    # A crash: systemd starts it again.
    second = machine.vivd()
    machine.ok("systemctl", "kill", "--signal=KILL", "vivd")
    vivarium.wait_for(lambda: machine.vivd() not in (0, second), what="vivd was started again")
    assert same()
    # The host goes down: what is ordered to be stopped first has it paused, and a restart of vivd does not.
    machine.ok("systemctl", "start", "vivd-pause")
    machine.ok("systemctl", "restart", "vivd")
    assert same()
    machine.ok("systemctl", "stop", "vivd-pause")
    assert json.loads(machine.viv("inspect", "--json", "box"))["vivarium"]["state"] == "paused", machine.log.read_text()
    order = machine.ok("systemctl", "show", "--property=After", "--value", "vivd-pause").split()
    assert "vivd.service" in order
    machine.viv("resume", "box")
    assert same()
    # A stop, while which the VM runs on, beside the service's cgroup.
    machine.ok("systemctl", "stop", "vivd")
    (tag,) = machine.cgroup.glob("vivarium-*")
    (vm,) = [p for p in tag.iterdir() if p.is_dir()]
    assert (vm / "cgroup.procs").read_text().split()
    assert machine.run("systemctl", "is-active", "vivd").stdout.strip() == "inactive"
    machine.ok("systemctl", "start", "vivd")
    assert same()
    # Nothing is left of a service that is stopped when there are no sandboxes.
    machine.viv("rm", "box")
    machine.ok("systemctl", "stop", "vivd")
    assert [str(p) for p in machine.cgroup.glob("vivarium-*/**")] == [], machine.log.read_text()[-3000:]
    assert "viv" not in machine.ok("ip", "-o", "link") and machine.ok("nft", "list", "tables") == ""
    assert machine.run("systemctl", "is-failed", "vivd").stdout.strip() == "inactive"


def test_a_service_that_cannot_start_says_why(machine):
    (machine.units / "vivd.service").write_text(
        (machine.units / "vivd.service").read_text().replace("LimitNOFILE=65536", "LimitNOFILE=100"))
    machine.ok("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "vivd")
    vivarium.wait_for(lambda: machine.run("systemctl", "is-failed", "vivd").stdout.strip() == "failed",
                      what="systemd gave up")
    assert "needs 256 at least" in machine.log.read_text()
