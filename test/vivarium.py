# SPDX-License-Identifier: Apache-2.0
"""A daemon of its own for a test, and what the host looks like from outside."""

import contextlib
import fcntl
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time


# How many times longer than usual a deadline is that only a fault lets pass: with sanitizers, more than once.
PATIENCE = float(os.environ.get("VIV_TEST_PATIENCE", "1"))


# Settings of a daemon, unless a test asks for others: no slots beside those of sandboxes, no probe VM, no images made
# behind, so that what is on the host is what a test made, at every moment. Sandboxes of the default size are restored
# from the image that share_image() makes, as IMAGED says it; those of BOOTED's have none, and boot.
USUAL = {"slot_pool": 0, "acceleration": "tcg", "warm_images": 4, "warm_behind": "off"}
BOOTED, IMAGED = {"memoryMB": 256}, {"memoryMB": 512}


def run(*argv, **kw):
    return subprocess.run(argv, capture_output=True, text=True, **kw)


def lines(*argv):
    return run(*argv).stdout.splitlines()


def ip_json(*argv):
    """What ip says, which leaves the bytes of an alias as they are."""
    return json.loads(run("ip", "-j", *argv).stdout or "[]", strict=False)


def cgroup2_mount():
    for line in open("/proc/self/mounts"):
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return pathlib.Path(where)
    return None


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout=120):
        super().__init__("localhost", timeout=timeout * PATIENCE)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def mount_small(where, mib):
    assert run("mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", str(where)).returncode == 0


class Instance:
    """
    One state directory with its daemon. Templates and kernels are shared, by symbolic link.
    """

    def __init__(self, build, prepared, **settings):
        self.build, self.prepared = pathlib.Path(build), pathlib.Path(prepared)
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="viv-test-"))
        self.state, self.run_dir = self.dir / "state", self.dir / "run"
        self.state.mkdir()
        self.share_prepared()
        self.settings = {**USUAL, **settings}
        self.launcher = []  # what vivd is started by, if by anything
        self.process = None
        self.log = self.dir / "vivd.log"
        self.small = False

    def share_prepared(self):
        for shared in ("templates", "kernels"):
            (self.state / shared).symlink_to(self.prepared / shared)

    def on_small_disk(self, mib):
        """The state on a file system of its own, which can be full."""
        mount_small(self.state, mib)
        self.small = True
        self.share_prepared()

    @contextlib.contextmanager
    def sandboxes_on_small_disk(self, mib):
        """Only the sandboxes on one; gives where that is."""
        where = self.state / "sandboxes"
        where.mkdir()
        mount_small(where, mib)
        try:
            yield where
        finally:
            run("umount", "-l", str(where))

    def own_templates(self, imaged=False):
        """
        The base template in a directory of the instance's own, where images may be added; with `imaged`, the shared
        one of the default size is among them, whose files are not to be written to.
        """
        theirs, ours = self.prepared / "templates", self.state / "templates"
        version = os.readlink(theirs / "base")
        is_near = theirs.stat().st_dev == self.state.stat().st_dev
        ours.unlink()
        (ours / version).mkdir(parents=True)
        shutil.copy(theirs / version / "manifest.json", ours / version)
        (os.link if is_near else os.symlink)(theirs / version / "root.img", ours / version / "root.img")
        if imaged:
            shutil.copytree(theirs / version / "checkpoints", ours / version / "checkpoints",
                            copy_function=os.link if is_near else shutil.copy2)
        (ours / "base").symlink_to(version)

    # The daemon.

    def env(self, **more):
        env = {k: v for k, v in os.environ.items() if not k.startswith("VIVARIUM_")}
        env.update(VIVARIUM_STATE_DIR=str(self.state), VIVARIUM_RUN_DIR=str(self.run_dir))
        env.update({f"VIVARIUM_{k.upper()}": str(v) for k, v in {**self.settings, **more}.items()})
        return env

    def start(self, wait=True, settle=True, **settings):
        """Starts vivd; returns whether it came up (with `wait`), and no probe of KVM runs any more (`settle`)."""
        read, write = os.pipe()
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [*self.launcher, self.build / "src" / "vivd", f"--ready-fd={write}"], env=self.env(**settings),
                pass_fds=[write], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        os.close(write)
        ready = os.read(read, 16) if wait else b"ready"
        os.close(read)
        if not ready.startswith(b"ready"):
            self.process.wait()
            return False
        if wait and settle:
            with contextlib.suppress(OSError, http.client.HTTPException):  # a fault may have ended it
                self.settle()
        return True

    def settle(self):
        """Waits until it is known whether KVM works: the probe is a VM, too, and would be seen on the host."""
        return wait_for(lambda: [v for v in [self.get("/version")] if v["accelerationDecided"]],
                        what="the acceleration is decided")[0]

    def stop(self, sig=signal.SIGTERM):
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(sig)
        code = self.process.wait(timeout=120 * PATIENCE)
        self.process = None
        return code

    def wait_dead(self, timeout=120):
        code = self.process.wait(timeout=timeout * PATIENCE)
        self.process = None
        return code

    def close(self):
        """Removes every sandbox, stops the daemon and its directory; fails if that leaves a trace."""
        if self.process is None or self.process.poll() is not None:
            self.start()
        for sandbox in self.get("/v2/sandboxes?all=true"):
            self.request("DELETE", f"/sandboxes/{sandbox['sandboxID']}")
        tag = self.tag
        self.stop()
        if self.small:
            assert run("umount", str(self.state)).returncode == 0
        left = {k: v for k, v in inventory(self, tag).items() if v and k != "files"}
        assert left == {}, left
        shutil.rmtree(self.dir)

    def query(self, sql, *values):
        """Rows of its store, also while it is served."""
        with contextlib.closing(sqlite3.connect(f"file:{self.state}/vivarium.db?mode=ro", uri=True)) as db:
            return db.execute(sql, values).fetchall()

    @property
    def tag(self):
        return self.query("SELECT tag FROM instance")[0][0]

    def rows(self):
        return dict(self.query("SELECT id, state FROM sandbox"))

    def resident_kib(self):
        """Memory of vivd that is not elsewhere."""
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(text.split("VmRSS:")[1].split()[0])

    # Its clients.

    def viv(self, *argv, stdin=None, timeout=180, **kw):
        return subprocess.run([self.build / "src" / "viv", *map(str, argv)], env=self.env(), input=stdin,
                              stdin=subprocess.DEVNULL if stdin is None else None,
                              capture_output=True, timeout=timeout * PATIENCE, **kw)

    def popen(self, *argv, **kw):
        return subprocess.Popen([self.build / "src" / "viv", *map(str, argv)], env=self.env(), **kw)

    def request(self, method, target, body=None, headers=None):
        """Status, and the JSON or text of the reply."""
        c = UnixConnection(self.run_dir / "vivd.sock")
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
        c.request(method, target, body=body, headers=headers or {})
        r = c.getresponse()
        data = r.read()
        c.close()
        is_json = (r.getheader("Content-Type") or "").startswith("application/json")
        return r.status, json.loads(data) if is_json and data else data.decode()

    def get(self, target):
        status, body = self.request("GET", target)
        assert status == 200, (status, body)
        return body

    def create(self, **fields):
        own = {k: fields.pop(k) for k in ("name", "cpus", "memoryMB", "diskSizeMB", "user", "workdir", "restart",
                                          "idle", "onIdle") if k in fields}
        return self.request("POST", "/v2/sandboxes",
                            {"templateID": "base", "timeout": None, "vivarium": own, **fields})

    def log_text(self):
        return self.log.read_text(errors="replace")


def share_image(build, prepared):
    """Sees to a warm image of the shared base template that fits this build. One at a time, whoever else tests."""
    programs = [(build / "src" / name).stat() for name in ("vivd", "viv-agent")]
    this = repr([(p.st_ino, p.st_mtime_ns) for p in programs])
    with open(prepared / "image-of", "a+") as made:
        fcntl.flock(made, fcntl.LOCK_EX)
        made.seek(0)
        if made.read() == this:
            return
        instance = Instance(build, prepared)
        assert instance.start(), instance.log_text()
        r = instance.viv("template", "warm", "base")
        assert r.returncode == 0, r.stderr
        instance.close()
        made.truncate(0)
        made.write(this)


def inventory(instance, tag):
    """What exists on the host of one instance, as the host's own tools show it."""
    cgroup = cgroup2_mount()
    mine = (cgroup or instance.run_dir / "cgroup") / f"vivarium-{tag}"
    where = str(instance.dir)
    processes = []
    for proc in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if (proc / "stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                continue  # ended; whoever inherited it has not asked for its status yet
            cg = (proc / "cgroup").read_text()
            cmd = (proc / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if f"vivarium-{tag}" in cg or ("qemu" in cmd and where in cmd):
            processes.append(int(proc.name))
    tables = [t for t in lines("nft", "list", "tables") if t.endswith(f"vivarium_{tag}")]
    return {
        "links": sorted(l["ifname"] for l in ip_json("link")
                        if l["ifname"].startswith(f"viv{tag}")),
        "netns": sorted(n.split()[0] for n in lines("ip", "netns", "list")
                        if n.startswith(f"viv-{tag}")),
        "nft": tables,
        "cgroups": sorted(str(p.relative_to(mine)) for p in mine.glob("**/") if p.is_dir()),
        "loops": [l for l in lines("losetup", "-a") if where in l],
        "mounts": [l for l in open("/proc/self/mounts").read().splitlines()
                   if where in l or f"viv-{tag}" in l],
        "processes": sorted(processes),
        "files": files(instance),
    }


def files(instance):
    """Files of sandboxes, in both directories, but for the samples of metrics that a clean end leaves; snapshots."""
    found = [str(p.relative_to(instance.dir)) for p in (instance.state / "snapshots").glob("**/*")]
    for top in (instance.state / "sandboxes", instance.run_dir):
        for path in top.glob("i*"):
            found += [str(path.relative_to(instance.dir))]
            for where, dirs, names in os.walk(path):  # some go meanwhile, which os.walk() does not mind
                below = [pathlib.Path(where, name) for name in dirs + names]
                found += [str(p.relative_to(instance.dir)) for p in below if p != path / "metrics"]
    return sorted(found)


def wait_for(condition, timeout=60, what="condition"):
    timeout *= PATIENCE
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"{what}: not true within {timeout} s")
