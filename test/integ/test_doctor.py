# SPDX-License-Identifier: Apache-2.0
"""doctor, df and prune: what a host lacks, what is left on it, what takes room; with and without vivd."""

import json
import os
import pathlib
import shutil
import signal
import subprocess

import pytest
import tcp
import vivarium

AREAS = {"host", "kernel", "cgroup", "vmm", "prepared", "programs", "acceleration", "disk", "clock", "network",
         "memory", "limits"}
ORPHAN = "iorphan0000000000000"  # in the form of a sandbox's id


def doctor(instance, *flags):
    """Exit code, report and the leaks by kind."""
    r = instance.viv("doctor", "--json", *flags)
    report = json.loads(r.stdout)
    leaks = {(i["area"], i["name"]) for i in report["items"] if i["verdict"] == "leak"}
    return r.returncode, report, leaks


def item(report, area, name):
    return next(i for i in report["items"] if (i["area"], i["name"]) == (area, name))


def sh(*argv, **kw):
    return subprocess.run(argv, check=True, capture_output=True, text=True, **kw)


def mine(instance):
    return (vivarium.cgroup2_mount() or instance.run_dir / "cgroup") / f"vivarium-{instance.tag}"


class Planted:
    """One of each kind that nobody owns, and their names as the doctor shows them."""

    def __init__(self, instance):
        tag, self.instance = instance.tag, instance
        self.process = subprocess.Popen(["tail", "-f", "/dev/null"])
        cgroup = mine(instance) / ORPHAN
        (cgroup / "below").mkdir(parents=True)
        (cgroup / "below" / "cgroup.procs").write_text(str(self.process.pid))
        self.stray = subprocess.Popen(["tail", "-f", "/dev/null"])
        (mine(instance) / "cgroup.procs").write_text(str(self.stray.pid))
        sh("ip", "tuntap", "add", f"viv{tag}-300", "mode", "tap")
        sh("ip", "tuntap", "add", f"viv{tag}-odd", "mode", "tap")
        sh("ip", "link", "set", f"viv{tag}-odd", "alias", "\x1b[31mred")
        sh("ip", "netns", "add", f"viv-{tag}-301")
        sh("ip", "netns", "add", f"viv-{tag}-odd")
        run_dir = instance.run_dir / ORPHAN
        (run_dir / "mnt").mkdir(parents=True)
        sh("mount", "-t", "tmpfs", "vivtest", run_dir / "mnt")
        (run_dir / "mnt" / "file").write_text("x")
        self.volatile = {
            ("cgroup", ORPHAN), ("link", f"viv{tag}-300"), ("link", f"viv{tag}-odd"),
            ("netns", f"viv-{tag}-301"), ("netns", f"viv-{tag}-odd"), ("mount", str(run_dir / "mnt")),
            ("run directory", ORPHAN), ("process", str(self.stray.pid)),
        }
        self.plant_loop(run_dir)
        data = instance.state / "sandboxes" / ORPHAN / "layer"
        data.mkdir(parents=True)
        (data / "0.qcow2").write_text("precious")
        self.data = {("data", ORPHAN)}

    def plant_loop(self, run_dir):
        """Where the host has loop devices."""
        image = run_dir / "image"
        image.write_bytes(bytes(1 << 20))
        r = subprocess.run(["losetup", "--find", "--show", image], capture_output=True, text=True)
        if r.returncode == 0:
            self.volatile.add(("loop", r.stdout.strip().removeprefix("/dev/")))

    def end(self):
        assert self.process.wait(timeout=10) == -signal.SIGKILL
        assert self.stray.wait(timeout=10) == -signal.SIGKILL


def check_planted(instance, served):
    """Finds, removes what is volatile, then data; each by its name."""
    planted = Planted(instance)
    code, report, leaks = doctor(instance)
    assert leaks == planted.volatile | planted.data
    assert code == 3 and report["verdict"] == "leak"
    assert "\x1b" not in json.dumps(report).encode().decode("unicode_escape")
    text = instance.viv("doctor").stdout.decode()
    assert all(name in text for _, name in leaks) and "leaks left" in text

    code, report, leaks = doctor(instance, "--fix")
    assert leaks == planted.data and code == 3
    fixed = {(i["area"], i["name"]) for i in report["items"] if i["verdict"] == "fixed"}
    assert fixed == planted.volatile
    planted.end()
    assert (instance.state / "sandboxes" / ORPHAN / "layer" / "0.qcow2").read_text() == "precious"

    r = instance.viv("doctor", "--delete")
    assert r.returncode == 2 and b"--fix" in r.stderr
    code, report, leaks = doctor(instance, "--fix", "--delete")
    assert leaks == set() and code == 0
    assert item(report, "data", ORPHAN)["verdict"] == "fixed"
    assert not (instance.state / "sandboxes" / ORPHAN).exists()
    assert doctor(instance)[2] == set()
    assert (instance.process is not None) == served


def test_clean_with_vivd(make_instance):
    instance = make_instance()
    assert instance.start(), instance.log_text()
    assert instance.viv("create", "--name", "a").returncode == 0
    code, report, leaks = doctor(instance)
    assert leaks == set() and code == 0, report
    assert report["verdict"] in ("ok", "degraded")
    assert {i["area"] for i in report["items"]} == AREAS
    for i in report["items"]:
        assert set(i) == {"area", "name", "verdict", "what", "why", "advice"}
        assert i["what"] and (i["verdict"] == "ok" or i["why"])
    assert item(report, "vmm", "qemu")["what"].startswith("qemu ")
    assert item(report, "programs", "viv-hook")["verdict"] == "ok"
    # Each area is one group.
    areas = [i["area"] for i in report["items"]]
    assert len([a for a, b in zip(areas, areas[1:] + [None]) if a != b]) == len(set(areas))
    code, _, leaks = doctor(instance, "--fix", "--delete")
    assert leaks == set() and code == 0
    assert instance.viv("exec", "a", "--", "true").returncode == 0


def test_clean_without_vivd(make_instance):
    """Nothing is started, and nothing is made."""
    instance = make_instance()
    assert instance.start(), instance.log_text()
    instance.stop()
    before = sorted(p.name for p in instance.run_dir.iterdir())
    r = instance.viv("doctor")
    assert r.returncode == 0, r.stdout
    assert b"starting vivd" not in r.stderr and r.stdout.startswith(b"AREA")
    assert sorted(p.name for p in instance.run_dir.iterdir()) == before
    assert not (instance.run_dir / "vivd.sock").exists()


def test_leaks_with_vivd(make_instance):
    instance = make_instance()
    assert instance.start(), instance.log_text()
    assert instance.viv("create", "--name", "bystander").returncode == 0
    check_planted(instance, served=True)
    assert instance.viv("exec", "bystander", "--", "true").returncode == 0


def test_leaks_without_vivd(make_instance):
    instance = make_instance()
    assert instance.start(), instance.log_text()
    assert instance.viv("create", "--name", "bystander").returncode == 0
    assert instance.stop() == 0
    check_planted(instance, served=False)
    assert instance.start(), instance.log_text()
    assert instance.viv("exec", "bystander", "--", "true").returncode == 0


def test_what_a_killed_vivd_leaves(make_instance):
    """Its pool, its table and its cgroup are nobody's when there is no sandbox."""
    instance = make_instance(slot_pool=2)
    assert instance.start(), instance.log_text()
    tag = instance.tag
    vivarium.wait_for(lambda: vivarium.inventory(instance, tag)["links"], what="a slot is ready")
    instance.stop(signal.SIGKILL)
    _, _, leaks = doctor(instance)
    assert {("nft table", f"vivarium_{tag}"), ("cgroup", f"vivarium-{tag}")} <= leaks
    assert "link" in {kind for kind, _ in leaks} and "netns" in {kind for kind, _ in leaks}
    code, _, leaks = doctor(instance, "--fix")
    assert leaks == set() and code == 0
    left = {k: v for k, v in vivarium.inventory(instance, tag).items() if v}
    assert left == {}, left


def test_without_a_state_directory(make_instance, tmp_path):
    instance = make_instance()
    env = instance.env(state_dir=tmp_path / "none", run_dir=tmp_path / "nowhere")
    r = subprocess.run([instance.build / "src" / "viv", "doctor", "--json"], env=env, capture_output=True)
    assert r.returncode == 1, r.stderr
    report = json.loads(r.stdout)
    assert item(report, "prepared", "kernel")["verdict"] == "missing"
    assert "vivd prepare" in item(report, "prepared", "template")["advice"]
    assert list(tmp_path.iterdir()) == []


def test_vivd_doctor_beside_a_vivd(make_instance):
    """Only the one that runs knows what is its own."""
    instance = make_instance()
    assert instance.start(), instance.log_text()
    vivd = [instance.build / "src" / "vivd", "doctor"]
    r = subprocess.run(vivd, env=instance.env(), capture_output=True, text=True)
    assert r.returncode == 0 and "viv doctor" in r.stdout and "is running" in r.stdout
    r = subprocess.run([*vivd, "--fix"], env=instance.env(), capture_output=True, text=True)
    assert r.returncode == 1 and "viv doctor --fix" in r.stderr
    r = subprocess.run([*vivd, "--delete"], env=instance.env(), capture_output=True, text=True)
    assert r.returncode == 1 and "--fix" in r.stderr


def test_missing_program_names_its_package(make_instance):
    """In a mount namespace of its own, where neither nft nor viv-hook is a program."""
    instance = make_instance()
    hide = ('mount --bind /dev/null "$(command -v nft)"; [ ! -e "$1" ] || mount --bind /dev/null "$1";'
            ' exec "$0" doctor --json')
    programs = instance.build / "src"
    r = subprocess.run(["unshare", "--mount", "sh", "-c", hide, programs / "vivd", programs / "viv-hook"],
                       env=instance.env(), capture_output=True, text=True)
    assert r.returncode == 1, r.stderr
    nft = item(json.loads(r.stdout), "network", "nft")
    assert nft["verdict"] == "missing" and nft["advice"] == "install the package nftables"
    hook = item(json.loads(r.stdout), "programs", "viv-hook")
    assert hook["verdict"] == "degraded" and "webhooks" in hook["why"] and "libcurl4-openssl-dev" in hook["advice"]


def test_row_without_its_data(make_instance):
    instance = make_instance()
    assert instance.start(), instance.log_text()
    _, sandbox = instance.create(name="lost")
    instance.stop()
    shutil.rmtree(instance.state / "sandboxes" / sandbox["sandboxID"])
    code, report, leaks = doctor(instance)
    assert leaks == {("sandbox", sandbox["sandboxID"])} and code == 3
    assert "viv rm" in item(report, "sandbox", sandbox["sandboxID"])["advice"]


@pytest.mark.parametrize("body", ["[]", "{", '{"fix": 1}', '{"other": true}', '{"delete": true}'])
def test_bad_requests(shared, body):
    status, reply = shared.request("POST", "/doctor", body)
    assert status == 400 and reply["message"]
    status, reply = shared.request("POST", "/prune", body)
    assert status == 400 and reply["message"]


def test_a_key_looks_but_does_not_touch(make_instance):
    instance = make_instance()
    key = {"X-API-KEY": tcp.start(instance)}
    for target in ("/doctor", "/df"):
        assert tcp.request(instance, "GET", target)[0] == 401
        assert tcp.request(instance, "GET", target, headers=key)[0] == 200
    for target, body in (("/doctor", {"fix": True}), ("/prune", {})):
        status, _, reply = tcp.request(instance, "POST", target, body, headers=key)
        assert status == 403 and "unix socket" in reply["message"]
        assert tcp.request(instance, "POST", target, body, unix=True)[0] == 200


def own_cache(instance, prepared):
    """Kernels and templates of its own, sparse copies, in place of the shared ones."""
    for name in ("kernels", "templates"):
        (instance.state / name).unlink()
        sh("cp", "-a", "--sparse=always", pathlib.Path(prepared) / name, instance.state / name)


def newest_template(instance):
    return (instance.state / "templates" / "base").readlink()


def replace_template(instance):
    """As a new build does it: another version, and the link to it. Returns the old one's name."""
    templates = instance.state / "templates"
    old = newest_template(instance)
    new = "base@" + "0" * 16
    sh("cp", "-a", "--sparse=always", templates / old, templates / new)
    (templates / "next").symlink_to(new)
    (templates / "next").rename(templates / "base")
    return str(old)


def add_kernel(instance, like, version):
    """As a build does it: at once, by its name."""
    new = instance.state / "kernels" / ".new"
    # Without initramfs images: vivd may be removing those that nothing uses.
    shutil.copytree(new.parent / like, new, ignore=shutil.ignore_patterns("initramfs-*", ".initramfs-*"))
    new.rename(new.with_name(version))


def stop_vm(instance, name):
    """Ends a sandbox's VM: then it is stopped, with its disk."""
    pid = os.pidfd_open(instance.get(f"/sandboxes/{name}")["vivarium"]["vmmPid"])
    signal.pidfd_send_signal(pid, signal.SIGKILL)
    os.close(pid)
    vivarium.wait_for(lambda: instance.get(f"/sandboxes/{name}")["vivarium"]["state"] == "stopped",
                      what="it is stopped")


def prune(instance, *flags):
    r = instance.viv("prune", "--json", *flags)
    assert r.returncode == 0, r.stderr
    reply = json.loads(r.stdout)
    return {(i["kind"], i["name"]) for i in reply["removed"]}, reply


def test_prune_keeps_what_a_stopped_sandbox_needs(make_instance, prepared):
    instance = make_instance()
    own_cache(instance, prepared)
    assert instance.start(), instance.log_text()
    assert instance.viv("create", "--name", "a").returncode == 0
    kernel = instance.get("/sandboxes/a")["vivarium"]["kernelVersion"]
    old = replace_template(instance)
    kernels = instance.state / "kernels"
    add_kernel(instance, kernel, "99.0-new")
    stop_vm(instance, "a")
    removed, reply = prune(instance)
    assert ("template", old) not in removed and ("kernel", kernel) not in removed
    why = {i["name"]: i["why"] for i in reply["kept"]}
    assert why[old] and kernel in why
    assert (instance.state / "templates" / old / "root.img").exists()
    # Also for a daemon that knows of it only what the files say.
    instance.stop()
    assert instance.start(), instance.log_text()
    removed, reply = prune(instance)
    assert ("template", old) not in removed and ("kernel", kernel) not in removed
    assert "lies over it" in {i["name"]: i["why"] for i in reply["kept"]}[old]
    # And when it is gone, they go.
    assert instance.viv("rm", "a").returncode == 0
    removed, _ = prune(instance)
    assert {("template", old), ("kernel", kernel)} <= removed
    assert not (instance.state / "templates" / old).exists() and not (kernels / kernel).exists()
    assert str(newest_template(instance)) == "base@" + "0" * 16
    assert instance.viv("run", "--", "true").returncode == 0


def test_a_start_removes_kernels_that_nothing_uses(make_instance, prepared):
    """Kernels and initramfs images; templates are left to `viv prune`."""
    instance = make_instance()
    own_cache(instance, prepared)
    kernels = instance.state / "kernels"
    assert instance.start(), instance.log_text()
    assert instance.viv("create", "--name", "a").returncode == 0
    used = instance.get("/sandboxes/a")["vivarium"]["kernelVersion"]
    template = replace_template(instance)
    for version in ("1.0-old", "99.0-new"):
        add_kernel(instance, used, version)
    (kernels / used / "initramfs-0123456789abcdef").write_text("of an agent that was replaced")
    instance.stop()
    assert instance.start(), instance.log_text()
    vivarium.wait_for(lambda: not (kernels / "1.0-old").exists(), what="what is old is gone")
    vivarium.wait_for(lambda: not list(kernels.glob("*/initramfs-0123456789abcdef")), what="its image as well")
    assert {p.name for p in kernels.iterdir() if p.name[0] != "."} == {used, "99.0-new"}
    assert (instance.state / "templates" / template).exists()
    # One that comes while vivd runs makes others old at once.
    add_kernel(instance, used, "99.1-newer")
    vivarium.wait_for(lambda: not (kernels / "99.0-new").exists(), what="what is old is gone")
    assert instance.viv("rm", "a").returncode == 0
    add_kernel(instance, used, "99.2-newest")
    vivarium.wait_for(lambda: [p.name for p in kernels.iterdir() if p.name[0] != "."] == ["99.2-newest"],
                      what="nothing uses the others")


def test_prune_keeps_templates_when_a_layer_does_not_tell(make_instance, prepared):
    instance = make_instance()
    own_cache(instance, prepared)
    assert instance.start(), instance.log_text()
    old = replace_template(instance)
    orphan = instance.state / "sandboxes" / ORPHAN
    (orphan / "layer").mkdir(parents=True)
    for spoil in (lambda: (orphan / "layer" / "0.qcow2").write_text("no qcow2"),
                  lambda: (orphan / "layer" / "0.qcow2").rename(orphan / "layer" / "disk.other"),
                  lambda: (shutil.rmtree(orphan / "layer"), (orphan / "something").mkdir())):
        spoil()
        removed, reply = prune(instance)
        assert ("template", old) not in removed
        assert ORPHAN in {i["name"]: i["why"] for i in reply["kept"]}[old]
    shutil.rmtree(orphan)
    assert ("template", old) in prune(instance)[0]


def test_prune_keeps_the_template_of_a_paused_sandbox(make_instance, prepared):
    instance = make_instance()
    own_cache(instance, prepared)
    assert instance.start(), instance.log_text()
    assert instance.viv("create", "--name", "a").returncode == 0
    assert instance.viv("pause", "a").returncode == 0
    old = replace_template(instance)
    assert ("template", old) not in prune(instance)[0]
    assert instance.viv("resume", "a").returncode == 0
    assert instance.viv("exec", "a", "--", "true").returncode == 0


def test_prune_and_df(make_instance, prepared):
    instance = make_instance()
    own_cache(instance, prepared)
    kernels, templates = instance.state / "kernels", instance.state / "templates"
    kernel = next(p.name for p in kernels.iterdir() if (p / "vmlinux").exists())
    for old in kernels.glob("*/initramfs-*"):
        old.unlink()
    assert instance.start(), instance.log_text()
    assert instance.viv("create", "--name", "a").returncode == 0
    # What got old since vivd has started.
    (templates / ".base.build-dead").mkdir()
    (templates / ".base.build-dead" / "half").write_bytes(b"z" * 200000)
    (templates / ".base.build-alive").mkdir()
    (kernels / kernel / "initramfs-0123456789abcdef").write_bytes(b"x" * 100000)
    (kernels / "1.0-old").mkdir()
    (kernels / "1.0-old" / "vmlinux").write_bytes(b"y" * 300000)
    want = {("initramfs", f"{kernel}/initramfs-0123456789abcdef"), ("kernel", "1.0-old"),
            ("temporary", "templates/.base.build-dead")}
    lock = subprocess.Popen(["flock", templates / ".base.build-alive", "sh", "-c", "echo held; exec tail -f /dev/null"],
                            stdout=subprocess.PIPE)
    assert lock.stdout.readline() == b"held\n"
    usage = instance.get("/df")
    assert {(i["kind"], i["name"]) for i in usage["items"] if i["unused"]} == want
    assert {i["kind"] for i in usage["items"]} == {"kernel", "initramfs", "template", "temporary"}
    sandbox = instance.get("/sandboxes/a")
    assert [s["sandboxID"] for s in usage["sandboxes"]] == [sandbox["sandboxID"]]
    assert usage["sandboxes"][0]["known"] and usage["sandboxes"][0]["bytes"] > 100000
    assert usage["stateDir"]["freeBytes"] > 0 and usage["runBytes"] > 0
    text = instance.viv("df").stdout.decode()
    assert kernel in text and sandbox["sandboxID"] in text and "viv prune would free" in text

    removed, dry = prune(instance, "--dry-run")
    assert removed == want and (kernels / "1.0-old").exists()
    assert prune(instance)[0] == want
    assert dry["bytes"] >= 600000
    assert not (kernels / "1.0-old").exists() and not (templates / ".base.build-dead").exists()
    assert (templates / ".base.build-alive").exists()
    assert sorted(p.name for p in kernels.iterdir()) == [kernel]
    assert not list(kernels.glob("*/.initramfs-*"))
    lock.kill()
    lock.wait()
    assert instance.viv("prune").stdout == b"0K were removed.\n"
    assert instance.viv("exec", "a", "--", "true").returncode == 0


def test_prune_leaves_shared_directories_alone(make_instance, prepared):
    instance = make_instance()
    assert instance.start(), instance.log_text()
    before = sorted(str(p) for p in pathlib.Path(prepared).glob("*/*"))
    removed, reply = prune(instance, "--dry-run")
    assert removed == set()
    assert prune(instance)[0] == set()
    assert {i["why"] for i in reply["kept"] if i["kind"] == "initramfs"} == {
        "its directory is a link: others may use it"}
    assert sorted(str(p) for p in pathlib.Path(prepared).glob("*/*")) == before
