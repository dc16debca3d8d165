# SPDX-License-Identifier: Apache-2.0
"""Warm templates: images of a booted VM, that creates restore instead of booting."""

import hashlib
import re
import shutil
import signal

import pytest
import vivarium

MEMORY = 256


@pytest.fixture
def make_warm(make_instance):
    """Makes instances that keep images of their templates."""
    def make(**settings):
        instance = make_instance(**{"warm_behind": "on", **settings})
        instance.own_templates()
        return instance

    return make


@pytest.fixture(scope="module")
def imaged(build, prepared):
    """A daemon with an image of the default size, for tests that need no other."""
    instance = vivarium.Instance(build, prepared)
    instance.own_templates(imaged=True)
    assert instance.start(), instance.log_text()
    yield instance
    instance.close()


def create(instance, **fields):
    status, reply = instance.create(**{"memoryMB": MEMORY, **fields})
    assert status == 201, (reply, instance.log_text())
    return reply["sandboxID"]


def origin(instance, box):
    return instance.get(f"/sandboxes/{box}")["vivarium"]["origin"]


def sh(instance, box, command, **kw):
    r = instance.viv("exec", box, "--", "sh", "-c", command, **kw)
    assert r.returncode == 0, r.stderr
    return r.stdout.decode().strip()


def images(instance, template="base"):
    """The directories of a template's images."""
    found = (instance.state / "templates" / template).resolve().glob("checkpoints/*")
    return sorted(p for p in found if p.name.isdigit())


def make_image(instance):
    """Has an image made, as a create does that finds none. Returns its directory."""
    before = images(instance)
    box = create(instance)
    assert origin(instance, box) == "boot"
    new = vivarium.wait_for(lambda: set(images(instance)) - set(before), timeout=300, what="an image is made")
    instance.request("DELETE", f"/sandboxes/{box}")
    return new.pop()


def digest(image):
    (path,) = image.glob("image-*")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def reseal(manifest, text):
    """Writes a manifest anew, with the digest of what is before that."""
    body = text[:text.rindex(',\n  "sha256"')]
    manifest.chmod(0o600)
    manifest.write_text(f'{body},\n  "sha256": "{hashlib.sha256(body.encode()).hexdigest()}"\n}}')


IDENTITY = "hostname; echo $WHO; cat /etc/machine-id /proc/sys/kernel/random/boot_id; head -c 32 /dev/urandom | md5sum"


def test_sandboxes_of_an_image(make_warm):
    instance = make_warm()
    assert instance.start(), instance.log_text()
    image = make_image(instance)
    before = digest(image)
    seen = []
    for n in range(5):
        box = create(instance, name=f"box-{n}", envVars={"WHO": f"me-{n}"}, secure=n == 0)
        assert origin(instance, box) == "warm", instance.log_text()
        stir = "dd if=/dev/urandom of=/tmp/x bs=1M count=8 2>/dev/null; cat /tmp/x >/dev/null; sync"
        seen.append(sh(instance, box, f"{IDENTITY}; {stir}").splitlines())
        assert seen[-1][:2] == [f"box-{n}", f"me-{n}"]
    for column in zip(*seen):
        assert len(set(column)) == 5, seen
    assert digest(image) == before
    assert images(instance) == [image]


def test_rest_and_boot_of_one_that_was_restored(imaged):
    """Its memory begins as the image; after a boot it begins as zeros, and nothing of the image comes back."""
    instance = imaged
    box = create(instance, **vivarium.IMAGED)
    sh(instance, box, "echo disk > /home/user/file; echo memory > /dev/shm/file; sync")
    for _ in range(2):
        assert instance.request("POST", f"/sandboxes/{box}/pause", {})[0] == 204
        assert instance.request("POST", f"/v2/sandboxes/{box}/connect", {})[0] == 201
        assert sh(instance, box, "cat /home/user/file /dev/shm/file") == "disk\nmemory"
        assert origin(instance, box) == "warm"
    assert instance.request("POST", f"/sandboxes/{box}/pause", {"memory": False})[0] == 204
    assert instance.request("POST", f"/v2/sandboxes/{box}/connect", {})[0] == 201
    assert origin(instance, box) == "boot"
    assert sh(instance, box, "cat /home/user/file; ls /dev/shm") == "disk"
    total = sh(instance, box, "head -c 32M /dev/zero | tr '\\0' 'x' > /dev/shm/x; md5sum < /dev/shm/x")
    assert instance.request("POST", f"/sandboxes/{box}/pause", {})[0] == 204
    assert instance.request("POST", f"/v2/sandboxes/{box}/connect", {})[0] == 201
    assert sh(instance, box, "md5sum < /dev/shm/x; cat /home/user/file") == f"{total}\ndisk"
    assert instance.request("DELETE", f"/sandboxes/{box}")[0] == 204


def test_images_that_are_not_used(make_warm):
    """An image of no use costs time only; other sizes and other versions of the template have their own."""
    instance = make_warm(warm_images=1)
    assert instance.start(), instance.log_text()
    first = make_image(instance)
    instance.stop()
    assert instance.start(fault="clone.vmm.after=fail"), instance.log_text()
    box = create(instance)
    assert origin(instance, box) == "boot" and "warm.unusable" in instance.log_text()
    assert not first.exists()
    second = vivarium.wait_for(lambda: images(instance), timeout=300, what="it is made anew")[0]
    instance.stop()
    assert instance.start(), instance.log_text()
    (second / "devices").write_bytes(b"damaged")
    assert origin(instance, create(instance)) == "boot"
    third = vivarium.wait_for(lambda: set(images(instance)) - {second}, timeout=300, what="it is made again").pop()
    vivarium.wait_for(lambda: images(instance) == [third], what="there is one at most")
    templates = instance.state / "templates"
    shutil.copytree(templates / "base", templates / "base@0123456789abcdef",
                    ignore=shutil.ignore_patterns("checkpoints"))
    (templates / "base").unlink()
    (templates / "base").symlink_to("base@0123456789abcdef")
    assert origin(instance, create(instance)) == "boot"


@pytest.mark.parametrize("point", ["vmm.after", "image.after", "publish.after"])
def test_killed_while_one_is_made(make_warm, point):
    instance = make_warm()
    assert instance.start(fault=f"warm.{point}=kill"), instance.log_text()
    box = create(instance)
    assert instance.wait_dead(timeout=300) == -signal.SIGKILL
    assert instance.start(warm_images=0), instance.log_text()
    templates = instance.state / "templates"
    vivarium.wait_for(lambda: not [p for p in templates.glob(".base.build-*")], what="the stage is swept")
    left = vivarium.inventory(instance, instance.tag)
    assert len(left["processes"]) == 1 and len(left["netns"]) == 1 and left["cgroups"] == [".", box], left
    assert [p.name for p in instance.run_dir.glob("i*")] == [box]
    assert len(images(instance)) == (point == "publish.after")


def template(instance, name="base"):
    return instance.get(f"/templates/{name}")


def test_templates(make_warm):
    """They are listed, inspected, warmed and removed, as a client of the API and as a user sees it."""
    instance = make_warm()
    assert instance.start(), instance.log_text()
    (listed,) = instance.get("/templates")
    assert instance.get("/v2/templates") == [listed]
    assert listed["templateID"] == "base" and listed["buildStatus"] == "ready" and listed["names"] == ["base"]
    assert template(instance)["builds"][0]["buildID"] == listed["buildID"]
    assert template(instance)["vivarium"]["images"] == []
    for _ in range(2):
        r = instance.viv("template", "warm", "--memory", f"{MEMORY}M", "base", timeout=300)
        assert (r.returncode, r.stdout) == (0, b"base\n"), r.stderr
    (image,) = template(instance)["vivarium"]["images"]
    assert image["usable"] and image["memoryMB"] == MEMORY and image["bytes"] > 1 << 20
    assert " 1  " in instance.viv("template", "ls").stdout.decode()
    # What booted with another command line is of no use any more; so is what does not say.
    (manifest,) = [i / "manifest.json" for i in images(instance)]
    whole, line = manifest.read_text(), '"cmdline": "console=ttyS0 '
    for other in (whole.replace(line, line + "debug "), re.sub(r'\n *"cmdline": "[^"]*",', "", whole)):
        assert other != whole
        reseal(manifest, other)
        assert not template(instance)["vivarium"]["images"][0]["usable"]
    reseal(manifest, whole)
    assert template(instance)["vivarium"]["images"][0]["usable"]
    box = create(instance)
    assert origin(instance, box) == "warm"
    r = instance.viv("template", "rm", "base")
    assert r.returncode == 1 and box.encode() in r.stderr
    (item,) = [i for i in instance.get("/df")["items"] if i["kind"] == "template"]
    (root,) = (instance.state / "templates").glob("base/root.img")
    assert not item["unused"] and item["bytes"] >= root.stat().st_blocks * 512 + image["bytes"]
    assert instance.request("DELETE", f"/sandboxes/{box}")[0] == 204
    r = instance.viv("template", "rm", "base")
    assert (r.returncode, r.stdout) == (0, b"base\n"), r.stderr
    assert not [p for p in (instance.state / "templates").iterdir() if not p.name.endswith(".lock")]
    assert instance.get("/templates") == []
    for method, target in (("GET", "/templates/base"), ("DELETE", "/templates/base"), ("GET", "/templates/no%2Fsuch"),
                           ("POST", "/templates/base/warm")):
        status, reply = instance.request(method, target)
        assert status == 404, reply
    assert instance.create()[0] == 404


def test_free_memory_does_not_reach_the_disk(imaged):
    instance = imaged
    box = create(instance, **vivarium.IMAGED)
    assert origin(instance, box) == "warm"

    def saved(command):
        sh(instance, box, command)
        assert instance.viv("pause", box, timeout=120).returncode == 0
        n = instance.get(f"/sandboxes/{box}")["vivarium"]["checkpointBytes"]
        assert instance.viv("resume", box, timeout=120).returncode == 0
        return n

    use = "head -c 60000000 /dev/urandom > /dev/shm/x"
    kept = saved(use)
    free = saved("rm /dev/shm/x")
    assert kept > 60_000_000 and kept - free > 58_000_000, (kept, free)
    assert instance.request("DELETE", f"/sandboxes/{box}")[0] == 204


# Its words have one length, so that whoever reads finds a whole one; a shell does it by itself, which costs little.
COUNTER = ("mkfifo /tmp/tick; exec 3<>/tmp/tick; n=0; while :; do n=$((n + 1)); "
           "printf '%06d\\n' $n 1<>/tmp/count; read -t 0.05 -u 3; done")


def test_what_a_template_starts_goes_on_in_its_sandboxes(make_warm):
    instance = make_warm()
    assert instance.start(), instance.log_text()
    r = instance.viv("template", "warm", "--memory", f"{MEMORY}M", "--start", f"echo me-$(id -un); {COUNTER}",
                     "--ready", "test $(cat /tmp/count) -ge 20", "base", timeout=300)
    assert (r.returncode, r.stdout) == (0, b"base\n"), (r.stderr, instance.log_text())
    status = instance.viv("template", "status").stdout.decode()
    assert "base: warm\n" in status and f"{MEMORY}M memory" in status and ": ready," in status
    assert "is ready by: test $(cat /tmp/count)" in status
    boxes = [create(instance) for _ in range(2)]
    for box in boxes:
        assert origin(instance, box) == "warm", instance.log_text()
        first = int(sh(instance, box, "cat /tmp/count"))
        assert first >= 20
        vivarium.wait_for(lambda: int(sh(instance, box, "cat /tmp/count") or 0) > first, what="it goes on")
    # One that has to boot runs it as well, and is handed out when it is ready.
    box = create(instance, memoryMB=MEMORY + 64)
    assert origin(instance, box) == "boot"
    assert int(sh(instance, box, "cat /tmp/count")) >= 20
    # Another command: the image is of no use any more.
    r = instance.viv("template", "warm", "--memory", f"{MEMORY}M", "--start", "", "base", timeout=300)
    assert r.returncode == 0, r.stderr
    box = create(instance)
    assert origin(instance, box) == "warm", instance.log_text()
    assert sh(instance, box, "ls /tmp/count 2>/dev/null; echo none") == "none"
    status = instance.viv("template", "status", "base").stdout.decode()
    assert "of no use any more" in status and "starts" not in status


# Python's own server takes such a guest seconds to start.
SERVER = """
import socket
s = socket.create_server(('127.0.0.1', 8000))
while True:
    c = s.accept()[0]
    c.recv(4096)
    c.sendall(b'HTTP/1.0 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok')
    c.close()
"""
ASK = r"exec 3<>/dev/tcp/127.0.0.1/8000; printf 'GET / HTTP/1.0\r\n\r\n' >&3; head -1 <&3 | tr -d '\r'"


@pytest.mark.parametrize("ready", ["8000", "http://localhost:8000/"])
def test_ready_by_a_port_or_a_url(make_warm, ready):
    instance = make_warm()
    assert instance.start(), instance.log_text()
    server = f'sleep 0.5; exec python3 -c "{SERVER}"'
    if ready != "8000":  # as what puts itself into the background
        server = f"({server}) >/dev/null 2>&1 & exit 0"
    status, reply = instance.request("POST", "/templates/base/warm",
                                     {"memoryMB": MEMORY, "startCmd": server, "readyCmd": ready})
    assert status == 204, (reply, instance.log_text())
    own = instance.get("/templates/base")["vivarium"]
    assert (own["startCmd"], own["readyCmd"]) == (server, ready)
    box = create(instance)
    assert origin(instance, box) == "warm"
    assert sh(instance, box, f'bash -c "{ASK}"') == "HTTP/1.0 200 OK"


def test_what_is_never_ready_makes_no_image(make_warm):
    instance = make_warm()
    assert instance.start(), instance.log_text()
    for ready, why in (("0", "nothing that can be waited for"), ("70000", "nothing that can be waited for"),
                       ("http://example.com/", "nothing that can be waited for")):
        status, reply = instance.request("POST", "/templates/base/warm", {"startCmd": "true", "readyCmd": ready})
        assert (status, why in reply["message"]) == (400, True), reply
    for body in ({"readyCmd": "true"}, {"startCmd": 5}, {"startCmd": "", "readyCmd": "true"},
                 {"startCmd": "x" * 5000}):
        status, reply = instance.request("POST", "/templates/base/warm", body)
        assert status == 400, (body, reply)
    assert "startCmd" not in instance.get("/templates/base")["vivarium"]
    # What fails is not waited for: its end and its last words are told.
    for command, words in (("echo one; echo no file /etc/x >&2; echo; exit 7", ("exit status 7", "no file /etc/x")),
                           ("kill -9 $$", ("signal: killed", "it wrote nothing"))):
        status, reply = instance.request("POST", "/templates/base/warm",
                                         {"memoryMB": MEMORY, "startCmd": command, "readyCmd": "8000"})
        assert status == 502 and all(word in reply["message"] for word in words), (status, reply)
    # The agent is asked by somebody who leaves: vivd ends, and so does the wait.
    making = instance.popen("template", "warm", "--memory", f"{MEMORY}M", "--start", "sleep 1000", "--ready", "false",
                            "base")
    vivarium.wait_for(lambda: instance.get("/templates/base")["vivarium"]["making"], what="the image is being made")
    assert instance.stop() == 0
    assert making.wait(timeout=60) == 1
    assert images(instance) == []


def test_a_larger_disk_is_grown_before_it_is_handed_out(imaged):
    instance = imaged
    found = images(instance)
    before = list(map(digest, found))
    size = "df -m --output=size / | tail -1"
    usual = create(instance, **vivarium.IMAGED)
    small = int(sh(instance, usual, size))
    disk = instance.get(f"/sandboxes/{usual}")["diskSizeMB"]
    box = create(instance, **vivarium.IMAGED, diskSizeMB=disk + 3000)
    assert origin(instance, box) == "warm", instance.log_text()
    assert instance.get(f"/sandboxes/{box}")["diskSizeMB"] == disk + 3000
    assert int(sh(instance, box, size)) > small + 2700
    sh(instance, box, "head -c 10000000 /dev/urandom >/home/user/data; sync; md5sum /home/user/data >/home/user/sum")
    # What was grown is paused, resumed and forked as any other; its layers are of two sizes.
    for _ in range(2):
        assert instance.request("POST", f"/sandboxes/{box}/pause")[0] == 204, instance.log_text()
        assert instance.request("POST", f"/sandboxes/{box}/resume", {"timeout": None})[0] == 201
        assert sh(instance, box, "md5sum -c /home/user/sum") == "/home/user/data: OK"
    assert int(sh(instance, box, size)) > small + 2700
    assert images(instance) == found and list(map(digest, found)) == before
    # One that is smaller than the image's boots: nothing can shrink.
    little = create(instance, **vivarium.IMAGED, diskSizeMB=disk - 1000)
    assert origin(instance, little) == "boot"
    assert int(sh(instance, little, size)) < small
