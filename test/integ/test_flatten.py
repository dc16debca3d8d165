# SPDX-License-Identifier: Apache-2.0
"""Templates out of sandboxes' disks, with real VMs."""

import concurrent.futures
import json
import subprocess

import pytest
import vivarium
from test_fork import create, post, rm, sh


@pytest.fixture(scope="module")
def own(build, prepared):
    """A daemon whose templates are its own: it makes some."""
    instance = vivarium.Instance(build, prepared)
    instance.own_templates()
    assert instance.start(), instance.log_text()
    yield instance
    instance.close()


def make(instance, template, **fields):
    status, reply = instance.request("POST", "/v2/sandboxes", {"templateID": template, "timeout": 600, **fields})
    assert status == 201, reply
    return reply["sandboxID"]


def image(instance, name):
    return (instance.state / "templates" / name).resolve() / "root.img"


def stages(instance):
    return [p.name for p in (instance.state / "templates").glob(".*build-*")]


def started(instance, box):
    """How often the start command ran on this disk, and how many run."""
    count = "wc -l < /home/user/starts; cat /proc/[0-9]*/comm 2>/dev/null | grep -cx sleep"
    return tuple(map(int, sh(instance, box, count).split()))


def test_flatten_a_running_one(own):
    start = own.state / "templates" / "base" / "start.json"
    start.write_text(json.dumps({"startCmd": "date >> /home/user/starts; exec sleep 100000",
                                 "readyCmd": "test -s /home/user/starts"}))
    box = create(own, envVars={"WHO": "me"})
    alone = ("mkdir -p /etc/ssh /var/lib/dbus; echo secret > /etc/ssh/ssh_host_rsa_key; echo its > /etc/ssh/my_key;"
             " echo 0123456789abcdef0123456789abcdef | tee /etc/machine-id > /var/lib/dbus/machine-id")
    assert own.viv("exec", "--user", "root", box, "--", "sh", "-c", alone).returncode == 0
    sh(own, box, "head -c 4000000 /dev/urandom > /home/user/file; sha256sum < /home/user/file > /home/user/sum;"
       " head -c 60000000 /dev/urandom > /home/user/big; sync; rm /home/user/big", timeout=300)
    made = post(own, box, "flatten", name="flat")
    assert made["templateID"] == "flat" and made["vivarium"]["allocatedBytes"] > 0
    assert own.get(f"/sandboxes/{box}")["vivarium"]["state"] == "stopped"
    # Checked, and no larger than what is in it: what was removed is not.
    path = image(own, "flat")
    assert subprocess.run(["e2fsck", "-fn", path], capture_output=True).returncode == 0
    root = json.loads((path.parent / "manifest.json").read_text())
    assert path.stat().st_size == made["vivarium"]["rootBytes"] == root["root_bytes"]
    assert path.stat().st_uid == 0 and path.stat().st_mode & 0o777 == 0o444
    base = image(own, "base").stat()
    assert path.stat().st_blocks * 512 < base.st_blocks * 512 + 40_000_000
    assert path.stat().st_size < base.st_size
    # It is booted, and grown to the disk.
    new = make(own, "flat", vivarium={"memoryMB": 256, "diskSizeMB": 3000})
    assert sh(own, new, "cd /home/user; sha256sum < file | cmp - sum && echo same; echo $WHO; ls big 2>&1 | wc -l"
              ).splitlines() == ["same", "me", "1"]
    assert int(sh(own, new, "df -m / | tail -1").split()[1]) > 2500
    # What its template starts is started in it, too; what was the sandbox's alone is not there.
    flat = own.get("/templates/flat")["vivarium"]
    assert flat["startCmd"].startswith("date >> ") and flat["readyCmd"] == "test -s /home/user/starts"
    assert started(own, new) == (2, 1)
    assert sh(own, new, "cat /etc/machine-id; stat -c %A%s /etc/machine-id; ls /etc/ssh /var/lib/dbus").split() == [
        "-r--r--r--0", "/etc/ssh:", "my_key", "/var/lib/dbus:"]
    # The sandbox goes on from its disk, and neither needs the other.
    status, _ = own.request("POST", f"/v2/sandboxes/{box}/connect", {"timeout": 600})
    assert status == 201
    assert started(own, box) == (2, 1)
    assert sh(own, box, "cat /etc/machine-id") == "0123456789abcdef0123456789abcdef"
    # What is made of a snapshot of it goes on with the same one; when that is booted, it is started again.
    post(own, box, "snapshots", name="begun")
    child = make(own, "begun")
    assert started(own, child) == (2, 1)
    assert own.viv("restart", child, timeout=300).returncode == 0
    assert started(own, child) == (3, 1)
    rm(own, child)
    assert own.request("DELETE", "/templates/begun")[0] == 204
    # What does not come up keeps nobody out of his sandbox.
    start.write_text("{")
    assert own.viv("restart", box, timeout=300).returncode == 0
    why = own.get(f"/sandboxes/{box}")["vivarium"]["lastError"]
    assert why.startswith("what template base starts: ") and "start.json" in why
    assert any(why in e["message"] for e in own.get(f"/v2/sandboxes/{box}/logs")["logs"])
    assert sh(own, box, "echo in") == "in"
    start.unlink()
    assert sh(own, box, "cd /home/user; sha256sum < file | cmp - sum && echo same") == "same"
    rm(own, box)
    assert sh(own, new, "cd /home/user; sha256sum < file | cmp - sum && echo same") == "same"
    rm(own, new)
    assert stages(own) == []
    assert own.request("DELETE", "/templates/flat")[0] == 204


def test_flatten_one_at_rest(own):
    box = create(own)
    sh(own, box, "echo one > /home/user/file")
    post(own, box, "pause", status=204)
    post(own, box, "flatten", name="rest")
    assert own.get(f"/sandboxes/{box}")["vivarium"]["state"] == "paused"
    status, _ = own.request("POST", f"/v2/sandboxes/{box}/connect", {"timeout": 600})
    assert status == 201
    sh(own, box, "echo two > /home/user/file")
    first = image(own, "rest")
    r = own.viv("flatten", box, "rest", timeout=300)
    assert r.returncode == 0, r.stderr
    name, size = r.stdout.decode().split()
    assert name == "rest" and float(size.rstrip("M")) > 100
    assert image(own, "rest") != first
    new = make(own, "rest", vivarium={"memoryMB": 256})
    assert sh(own, new, "cat /home/user/file") == "two"
    rm(own, box, new)
    assert own.request("DELETE", "/templates/rest")[0] == 204


def test_errors_of_flatten(own):
    box = create(own)
    for bad in ({}, {"name": 7}, {"name": ""}, {"name": "a/b"}, {"name": "-x"}):
        post(own, box, "flatten", status=400, **bad)
    post(own, "nosuch", "flatten", status=404, name="x")
    post(own, box, "snapshots", name="taken")
    assert "snapshot" in post(own, box, "flatten", status=409, name="taken")["message"]
    r = own.viv("template", "import", "taken", own.build / "src" / "viv")
    assert r.returncode == 1 and b"a snapshot has the name taken" in r.stderr, r.stderr
    made = make(own, "taken")
    assert own.get(f"/sandboxes/{made}")["vivarium"]["origin"] == "snapshot"
    assert own.get(f"/sandboxes/{made}")["templateID"] == "taken:default"
    rm(own, made)
    assert own.request("DELETE", "/templates/taken")[0] == 204
    assert own.get(f"/sandboxes/{box}")["state"] == "running"
    for bad in ([], [box], [box, "x", "y"]):
        assert own.viv("flatten", *bad).returncode == 2
    rm(own, box)


@pytest.mark.parametrize("how", ["removed", "stopped"])
def test_flatten_that_is_ended(own, how):
    """By the sandbox's removal, or by vivd's end: there is no template, and nothing of it is left."""
    box = create(own)
    post(own, box, "pause", status=204)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        reply = pool.submit(own.request, "POST", f"/sandboxes/{box}/flatten", {"name": "ended"})
        vivarium.wait_for(lambda: stages(own) or reply.done(), what="it has begun")
        if how == "removed":
            rm(own, box)
        else:
            assert own.stop() == 0
            assert own.start(), own.log_text()
        status, message = reply.result()
    if status == 201:  # it was faster
        assert own.request("DELETE", "/templates/ended")[0] == 204
    else:
        assert (status, message["message"].split(": ")[-1].split(";")[0]) == (
            (404, "it is being removed") if how == "removed" else (503, "vivd is shutting down"))
    assert stages(own) == [] and not (own.state / "templates" / "ended").exists()
    if how == "stopped":
        assert own.get(f"/sandboxes/{box}")["vivarium"]["state"] == "paused"
        assert own.request("POST", f"/v2/sandboxes/{box}/connect", {"timeout": 600})[0] == 201
        rm(own, box)
