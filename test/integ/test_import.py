# SPDX-License-Identifier: Apache-2.0
"""viv template import: images as others pack them become templates, whole or not at all."""

import json
import os
import shutil
import signal
import subprocess
import tarfile

import images
import pytest
import vivarium

CAPABILITY = bytes([1, 0, 0, 2, 0, 4] + [0] * 14)  # net_bind_service, effective
ENV = ["COLOUR=red", "EMPTY=", "PATH=/opt/bin:/usr/bin:/bin"]
FIELDS = {"Env": ENV, "User": "1234:1234", "WorkingDir": "/srv/app", "Cmd": ["sh"], "Entrypoint": ["/init"]}
WAYS = ["directory", "layout-tar", "saved", "layout-tar-gz"]


def layers():
    lower = (images.Tree().dir("data").add("data/old", b"old").dir("data/sub").add("data/sub/x", b"x")
             .add("gone", b"1").add("kept", b"kept").dir("tree").add("tree/leaf", b"").add("long/" + "n" * 200, b"n"))
    upper = (images.Tree().dir("data", mode=0o750, uid=1234, gid=1234).add("data/new", b"new")
             .add("data/.wh..wh..opq").add(".wh.gone").hard("data/hard", "data/new").link("data/link", "/kept")
             .add("tree", b"a file now").add("bin/tool", b"#!/bin/sh\necho by the tool\n", mode=0o4755)
             .add("bound", b"b", xattrs={"user.note": "a b", "security.capability": CAPABILITY.decode("latin1")})
             .add("fifo", kind=tarfile.FIFOTYPE).add("etc/hosts", b"10.0.0.1 elsewhere\n"))
    return [images.minimal(), lower.done(), upper.done()]


@pytest.fixture(scope="module")
def parts():
    return layers()


@pytest.fixture(scope="module")
def sources(parts, tmp_path_factory):
    """The same image in all ways that it may come."""
    where = tmp_path_factory.mktemp("images")
    packers = [images.gzip.compress, images.zstd if shutil.which("zstd") else images.gzip.compress, lambda d: d]
    layout = images.Layout(where / "oci")
    image = layout.image(parts, packers, **FIELDS)
    other = {**image, "platform": {"os": "linux", "architecture": "riscv64"}}
    proof = {**image, "annotations": {"vnd.docker.reference.type": "attestation-manifest"}}
    layout.index(other, {**image, "platform": {"os": "linux", "architecture": images.ARCH}}, proof)
    tar = images.pack(layout.dir, where / "oci.tar")
    (where / "oci.tar.gz").write_bytes(images.gzip.compress(tar.read_bytes()))
    return {"directory": layout.dir, "layout-tar": tar, "layout-tar-gz": where / "oci.tar.gz",
            "saved": images.saved(where / "saved.tar", parts, **FIELDS)}


def own_templates(instance):
    """What a test makes is not for the others."""
    (instance.state / "templates").unlink()
    (instance.state / "templates").mkdir()
    return instance


@pytest.fixture(scope="module")
def shared(build, prepared, sources):
    instance = own_templates(vivarium.Instance(build, prepared))
    assert instance.start(), instance.log_text()
    r = instance.viv("template", "import", "app", sources["directory"])
    assert r.returncode == 0 and b"3 layers, commands as app in /srv/app" in r.stderr, r.stderr
    yield instance
    instance.close()


def manifest(state, name):
    return json.loads((state / "templates" / name / "manifest.json").read_text())


def left(state):
    """What is in templates/ but locks, which stay."""
    return sorted(n for n in os.listdir(state / "templates") if not n.endswith(".lock"))


def build_import(build, state, name, source, **kw):
    return subprocess.Popen([build / "src" / "viv-build", f"--state-dir={state}", f"--import={name}",
                             f"--from={source}"], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **kw)


def refused(build, state, source):
    p = build_import(build, state, "x", source)
    err = p.communicate(timeout=120)[1]
    assert p.returncode == 1 and left(state) == [], (err, left(state))
    return err


def debugfs(state, name, command):
    return vivarium.run("debugfs", "-R", command, str(state / "templates" / name / "root.img")).stdout


def test_its_environment_user_and_directory(shared):
    script = "id -un; pwd; echo $COLOUR-$EMPTY-$PATH; tool"
    r = shared.viv("run", "--template", "app", "--", "sh", "-c", script)
    want = "app\n/srv/app\nred--/opt/bin:/usr/bin:/bin\nby the tool\n"
    assert (r.returncode, r.stdout.decode()) == (0, want), r.stderr
    r = shared.viv("run", "--template", "app", "-e", "COLOUR=blue", "--user", "root", "--", "sh", "-c",
                   "echo $COLOUR; id -un; cat /etc/hosts")
    assert r.returncode == 0, r.stderr
    assert r.stdout.decode().splitlines()[:2] == ["blue", "root"] and b"elsewhere" not in r.stdout, r.stdout


def test_a_sandbox_keeps_its_environment_when_the_template_goes(shared, sources):
    assert shared.viv("template", "import", "brief", sources["saved"]).returncode == 0
    status, box = shared.create(templateID="brief", envVars={"OWN": "1"})
    assert status == 201, box
    detail = shared.get(f"/sandboxes/{box['sandboxID']}")
    assert detail["templateID"] == "brief"
    (shared.state / "templates" / "brief").unlink()
    r = shared.viv("exec", box["sandboxID"], "--", "sh", "-c", "echo $COLOUR $OWN; cat /kept")
    assert (r.returncode, r.stdout) == (0, b"red 1\nkept"), r.stderr
    assert shared.request("DELETE", f"/sandboxes/{box['sandboxID']}")[0] == 204


def test_the_files_are_those_of_all_layers(shared):
    script = """stat -c '%n %F %a %u:%g %s %Y %h' /data /data/* /tree /bin/tool /fifo /bound
                cat /data/link; ls /data; ls -d /gone /long/n*"""
    r = shared.viv("run", "--template", "app", "--user", "root", "--", "sh", "-c", script)
    assert r.stdout.decode().splitlines() == [
        "/data directory 750 1234:1234 4096 1600000000 2",
        "/data/hard regular file 644 0:0 3 1600000000 2",
        "/data/link symbolic link 777 0:0 5 1600000000 1",
        "/data/new regular file 644 0:0 3 1600000000 2",
        "/tree regular file 644 0:0 10 1600000000 1",
        "/bin/tool regular file 4755 0:0 27 1600000000 1",
        "/fifo fifo 644 0:0 0 1600000000 1",
        "/bound regular file 644 0:0 1 1600000000 1",
        "kepthard", "link", "new", "/long/" + "n" * 200], r.stderr
    assert b"/gone" in r.stderr
    attributes = debugfs(shared.state, "app", "stat /bound")
    assert "user.note (3) = \"a b\"" in attributes, attributes
    assert f"security.capability (20) = {CAPABILITY.hex(' ')}" in attributes, attributes


@pytest.mark.parametrize("way", WAYS)
def test_all_ways_say_the_same(build, tmp_path, sources, way):
    p = build_import(build, tmp_path, "x", sources[way])
    err = p.communicate(timeout=120)[1]
    assert p.returncode == 0, err
    told = manifest(tmp_path, "x")
    assert (told["user"], told["workdir"], told["cmd"], told["entrypoint"]) == ("app", "/srv/app", ["sh"], ["/init"])
    assert told["env"] == dict(v.split("=", 1) for v in ENV)
    assert "old" not in debugfs(tmp_path, "x", "ls /data") and "new" in debugfs(tmp_path, "x", "ls /data")
    image = tmp_path / "templates" / "x" / "root.img"
    assert vivarium.run("e2fsck", "-fn", str(image)).returncode == 0
    assert left(tmp_path) == ["x", os.readlink(tmp_path / "templates" / "x")]


@pytest.mark.parametrize("compress", [lambda d: d, images.gzip.compress], ids=["plain", "gzip"])
def test_a_root_file_system(build, tmp_path, compress):
    tree = images.Tree().dir("etc").add("etc/.wh.name", b"no whiteout here").add("etc/hostname", b"h").done()
    (tmp_path / "root.tar").write_bytes(compress(tree))
    p = build_import(build, tmp_path, "x", tmp_path / "root.tar")
    err = p.communicate(timeout=120)[1]
    assert p.returncode == 0 and "a root file system, commands as root in /" in err, err
    names = debugfs(tmp_path, "x", "ls /etc")
    assert ".wh.name" in names and "hostname" not in names
    assert manifest(tmp_path, "x")["user"] == "root"


def test_who_is_not_in_the_image_is_root(build, tmp_path):
    source = images.saved(tmp_path / "s.tar", [images.Tree().dir("a").done()], User="ghost")
    p = build_import(build, tmp_path, "x", source)
    assert "no user ghost" in p.communicate(timeout=120)[1] and p.returncode == 0
    assert manifest(tmp_path, "x")["user"] == "root"


def test_an_import_again_replaces_the_link_alone(build, tmp_path, sources):
    for _ in range(2):
        assert build_import(build, tmp_path, "x", sources["saved"]).wait(120) == 0
    builds = [n for n in left(tmp_path) if n != "x"]
    assert len(builds) == 2 and os.readlink(tmp_path / "templates" / "x") in builds


def spoil(layout, what):
    """An image of one layer with one fault."""
    layer = images.gzip.compress(images.Tree().add("f", b"x" * 5000).done())
    wrong = images.sha256(b"other")
    descriptor = layout.blob(layer)
    plain = images.gzip.decompress(layer)
    conf = images.config([b"other" if what == "diff_id" else plain])
    if what == "arch":
        conf = conf.replace(images.ARCH.encode(), b"m68k")
    if what == "no layers told":
        conf = images.config([])
    blob = layout.dir / "blobs" / "sha256" / images.sha256(layer)
    if what == "bytes":
        blob.write_bytes(layer[:-1] + bytes([layer[-1] ^ 1]))
    if what == "cut":
        blob.write_bytes(layer[:-20])
    if what == "cut and said":
        descriptor = layout.blob(layer[:-20])
    if what == "missing":
        blob.unlink()
    if what == "link out":
        blob.unlink()
        blob.symlink_to("/etc/passwd")
        descriptor["size"] = os.stat("/etc/passwd").st_size
    if what == "device":
        blob.unlink()
        os.mkfifo(blob)
    if what == "digest":
        os.rename(blob, layout.dir / "blobs" / "sha256" / wrong)
        descriptor["digest"] = f"sha256:{wrong}"
    if what == "path":
        descriptor["digest"] = "sha256:../../../../etc/passwd"
    if what == "sha512":
        descriptor["digest"] = "sha512:" + 64 * "ab"
    body = {"schemaVersion": 2, "config": layout.blob(conf), "layers": [descriptor]}
    text = b"{" if what == "json" else json.dumps(body).encode()
    manifest_blob = layout.blob(text)
    return layout.index(*[manifest_blob] * (2 if what == "two" else 0 if what == "none" else 1))


@pytest.mark.parametrize("what, why", [
    ("bytes", "digest|corrupt|CRC|crc|gzip"), ("cut", "bytes instead of"), ("cut and said", "truncated|early|digest"),
    ("missing", "is missing"), ("link out", "is missing"), ("device", "no regular file"), ("digest", "its digest is"),
    ("diff_id", "decompressed, its digest is"), ("arch", "m68k"), ("no layers told", "tells of 0"),
    ("path", "a digest is none"), ("sha512", "only sha256"), ("json", "malformed"), ("two", "2 images"),
    ("none", "0 images")])
def test_a_bad_image_is_refused_and_leaves_nothing(build, tmp_path, what, why):
    err = refused(build, tmp_path, spoil(images.Layout(tmp_path / "oci"), what))
    assert any(w in err for w in why.split("|")), err


@pytest.mark.parametrize("tree, why", [
    (images.Tree().add("../out", b"x"), "'..'"),
    (images.Tree().link("l", "/").hard("h", "l/../etc/passwd"), "'..'"),
    (images.Tree().add(".wh...", b""), "hides what has no name"),
])
def test_a_layer_that_reaches_out_is_refused(build, tmp_path, tree, why):
    assert why in refused(build, tmp_path, images.saved(tmp_path / "s.tar", [tree.done()]))


def test_links_of_a_layer_lead_within_the_image(build, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    one = images.Tree().link("abs", str(outside)).link("up", "../../../../../../.." + str(outside)).done()
    two = images.Tree().add("abs/a", b"a").add("up/b", b"b").done()
    # The links lead to what the image lacks: no directory is made behind a link, inside or out.
    assert "abs/a" in refused(build, tmp_path, images.saved(tmp_path / "s.tar", [one, two]))
    three = images.Tree().dir(str(outside).lstrip("/")).done()
    p = build_import(build, tmp_path, "x", images.saved(tmp_path / "s.tar", [one, three, two]))
    err = p.communicate(timeout=120)[1]
    assert p.returncode == 0, err
    names = debugfs(tmp_path, "x", f"ls {outside}")
    assert " a " in names and " b " in names and list(outside.iterdir()) == []


@pytest.mark.parametrize("data", [b"", b"no tar at all", b"\x1f\x8b\x08\x00junk", None],
                         ids=["empty", "text", "gzip", "directory"])
def test_what_is_no_image(build, tmp_path, data):
    source = tmp_path / "file"
    if data is None:
        source.mkdir()
    else:
        source.write_bytes(data)
    refused(build, tmp_path, source)


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda s: s.name)
def test_an_end_in_between_leaves_nothing(build, tmp_path, sources, sig):
    asked, bin_dir = tmp_path / "asked", tmp_path / "bin"
    bin_dir.mkdir()
    (bin_dir / "mke2fs").write_text(f"#!/bin/sh\ntouch {asked}\nexec sleep 600\n")
    (bin_dir / "mke2fs").chmod(0o755)
    env = {**os.environ, "PATH": f"{bin_dir}:{os.environ['PATH']}"}
    p = build_import(build, tmp_path, "x", sources["directory"], env=env)
    vivarium.wait_for(asked.exists, what="the disk image is being made")
    p.send_signal(sig)
    err = p.communicate(timeout=60)[1]
    if sig == signal.SIGKILL:
        assert [n for n in left(tmp_path) if n.startswith(".x.build-")]
        assert build_import(build, tmp_path, "x", sources["directory"]).wait(120) == 0
        assert left(tmp_path) == ["x", os.readlink(tmp_path / "templates" / "x")]
    else:
        assert p.returncode == 1 and "interrupted; nothing unfinished is left" in err, err
        assert left(tmp_path) == []


def test_usage(shared, tmp_path):
    for words in ([], ["import"], ["import", "x"], ["import", "x", "y", "z"], ["what"], ["--what"]):
        assert shared.viv("template", *words).returncode == 2, words
    r = shared.viv("template", "import", "x", tmp_path / "nowhere")
    assert r.returncode == 1 and b"nowhere" in r.stderr and b"No such file" in r.stderr, r.stderr
    r = shared.viv("template", "import", "No Name", tmp_path)
    assert r.returncode == 1 and b"can be no template's name" in r.stderr, r.stderr
