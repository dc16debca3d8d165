# SPDX-License-Identifier: Apache-2.0
"""viv cp, both ways, with a real guest."""

import hashlib
import io
import os
import pathlib
import stat
import subprocess
import tarfile

import pytest


@pytest.fixture(scope="module")
def box(shared):
    status, sandbox = shared.create(name="cpbox")
    assert status == 201, sandbox
    return sandbox["sandboxID"]


@pytest.fixture
def place(shared, box):
    """An empty directory in the guest, of user's."""
    path = f"/tmp/{os.urandom(6).hex()}"
    sh(shared, f"mkdir {path}")
    return path


def sh(instance, line, user="user"):
    status, r = instance.request("POST", "/sandboxes/cpbox/exec", {"cmd": line, "user": user})
    assert status == 200 and r["exitCode"] == 0, r
    return r["stdout"]


def cp(instance, *args, **kw):
    r = instance.viv("cp", *args, **kw)
    assert (r.returncode, r.stderr) == (0, b""), r
    return r.stdout


def fails(instance, *args, code=1, **kw):
    r = instance.viv("cp", *args, **kw)
    assert r.returncode == code, r
    return r.stderr.decode()


def make_tree(top):
    (top / "sub" / "empty").mkdir(parents=True)
    (top / "a").write_text("a\n")
    (top / "sub" / "run").write_text("#!/bin/sh\n")
    (top / "sub" / "run").chmod(0o751)
    (top / "sub" / "link").symlink_to("../a")
    (top / "sub" / "dangling").symlink_to("/nowhere")
    (top / ("n" * 200)).write_bytes(b"")
    (top / os.fsdecode(b"not-utf8-\xff")).write_bytes(b"x")
    os.utime(top / "a", ns=(1, 1_234_567_890_123_456_789))
    (top / "sub").chmod(0o710)
    os.utime(top / "sub", ns=(1, 1_000_000_000_000_000_000))


def picture(top):
    """All that a copy keeps."""
    found = {}
    for path in [top, *top.rglob("*")]:
        st = path.lstat()
        if stat.S_ISLNK(st.st_mode):
            what = os.readlink(path)
        elif path.is_file():
            what = path.read_bytes()
        else:
            what = None
        name = os.fsencode(path.relative_to(top))
        is_link = stat.S_ISLNK(st.st_mode)
        found[name] = (stat.S_IFMT(st.st_mode), None if is_link else st.st_mode & 0o777, st.st_mtime_ns, what)
    return found


def test_a_tree_goes_there_and_back_as_it_was(shared, box, place, tmp_path):
    make_tree(tmp_path / "tree")
    cp(shared, tmp_path / "tree", f"cpbox:{place}/there")
    assert sh(shared, f"stat -c '%U %a %Y' {place}/there/a") == "user 644 1234567890\n"
    assert sh(shared, f"readlink {place}/there/sub/link {place}/there/sub/dangling") == "../a\n/nowhere\n"
    cp(shared, f"cpbox:{place}/there", tmp_path / "back")
    assert picture(tmp_path / "back") == picture(tmp_path / "tree")
    assert {p.lstat().st_uid for p in (tmp_path / "back").rglob("*")} == {os.getuid()}


def test_a_large_file_with_holes(shared, box, place, tmp_path):
    with open(tmp_path / "big", "wb") as f:
        for i in range(4):
            f.write(os.urandom(1 << 20))
            f.seek(9 << 20, os.SEEK_CUR)
        f.truncate(50_000_001)
    cp(shared, tmp_path / "big", f"cpbox:{place}")
    want = hashlib.sha256((tmp_path / "big").read_bytes()).hexdigest()
    size, blocks, digest = sh(shared, f"cd {place}; stat -c '%s %b' big; sha256sum < big | cut -d' ' -f1").split()
    assert (int(size), digest) == (50_000_001, want) and int(blocks) * 512 < 10 << 20
    cp(shared, f"cpbox:{place}/big", tmp_path / "back")
    st = (tmp_path / "back").stat()
    assert hashlib.sha256((tmp_path / "back").read_bytes()).hexdigest() == want and st.st_blocks * 512 < 10 << 20


def test_dockers_rules_of_the_destination_there(shared, box, place, tmp_path):
    (tmp_path / "f").write_text("f")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "x").write_text("x")
    to = f"cpbox:{place}"
    cp(shared, tmp_path / "f", f"{to}/new")
    cp(shared, tmp_path / "f", to)  # into what is there
    cp(shared, tmp_path / "f", f"{to}/")
    cp(shared, tmp_path / "d", f"{to}/new-d")
    cp(shared, tmp_path / "d", to)
    cp(shared, tmp_path / "d", f"{to}/new-d")  # now it is there
    cp(shared, f"{tmp_path}/d/.", to)
    assert sh(shared, f"cd {place}; find . -type f | sort").split() == [
        "./d/x", "./f", "./new", "./new-d/d/x", "./new-d/x", "./x"]
    assert "does not exist" in fails(shared, tmp_path / "f", f"{to}/none/")
    assert "is a file" in fails(shared, tmp_path / "d", f"{to}/f")
    assert "no directory" in fails(shared, tmp_path / "f", f"{to}/f/")
    assert "No such file" in fails(shared, tmp_path / "f", f"{to}/none/deeper")
    assert "No such file" in fails(shared, tmp_path / "none", to)


def test_dockers_rules_of_the_destination_here(shared, box, place, tmp_path):
    sh(shared, f"cd {place}; echo f > f; mkdir d; echo x > d/x; ln -s d l")
    at = f"cpbox:{place}"
    here = tmp_path / "here"
    here.mkdir()
    cp(shared, f"{at}/f", here / "new")
    cp(shared, f"{at}/f", here)
    cp(shared, f"{at}/d", here / "new-d")
    cp(shared, f"{at}/d", here)
    cp(shared, f"{at}/d/", here / "new-d")
    cp(shared, f"{at}/d/.", here)
    cp(shared, f"{at}/l", here)
    cp(shared, f"{at}/l/", here / "followed")
    cp(shared, "-L", f"{at}/l", here / "followed-too")
    files = sorted(str(p.relative_to(here)) for p in here.rglob("*") if p.is_file())
    assert files == ["d/x", "f", "followed-too/x", "followed/x", "new", "new-d/d/x", "new-d/x", "x"]
    assert os.readlink(here / "l") == "d"
    assert "does not exist" in fails(shared, f"{at}/f", f"{here}/none/")
    assert "is a file" in fails(shared, f"{at}/d", here / "f")
    assert "No such file" in fails(shared, f"{at}/none", here)
    assert "no sandbox" in fails(shared, "nobox:/etc", here)
    assert fails(shared, here, here, code=2) and fails(shared, at, at, code=2) and fails(shared, at, code=2)


def test_owners(shared, box, place, tmp_path):
    (tmp_path / "f").write_text("f")
    os.chown(tmp_path / "f", 1234, 5678)
    (tmp_path / "f").chmod(0o4755)
    cp(shared, tmp_path / "f", f"cpbox:{place}/plain")
    cp(shared, "-u", "root", tmp_path / "f", f"cpbox:{place}/root")
    cp(shared, "-a", tmp_path / "f", f"cpbox:{place}/kept")
    assert sh(shared, f"cd {place}; stat -c '%n %u %g %a' kept plain root").splitlines() == [
        "kept 1234 5678 4755", "plain 1000 1000 755", "root 0 0 755"]
    cp(shared, "-a", f"cpbox:{place}/kept", tmp_path / "kept")
    st = (tmp_path / "kept").stat()
    assert (st.st_uid, st.st_gid, st.st_mode & 0o7777) == (1234, 5678, 0o4755)
    assert "nobody-here" in fails(shared, "-u", "nobody-here", tmp_path / "f", f"cpbox:{place}")


def test_streams(shared, box, place, tmp_path):
    make_tree(tmp_path / "tree")
    for form in ("gnu", "pax", "ustar"):
        where = f"{place}/{form}"
        sh(shared, f"mkdir {where}")
        names = ["tree/a", "tree/sub"] if form == "ustar" else ["tree"]
        made = subprocess.run(["tar", "-C", tmp_path, f"--format={form}", "-c", *names], capture_output=True, check=True)
        cp(shared, "-", f"cpbox:{where}", stdin=made.stdout)
        assert sh(shared, f"cd {where}/tree; cat a; stat -c '%a %Y' sub") == "a\n710 1000000000\n"
        if form != "ustar":
            assert sh(shared, f"ls {where}/tree/{'n' * 200}")
    out = cp(shared, f"cpbox:{place}/pax/tree", "-")
    with tarfile.open(fileobj=io.BytesIO(out)) as tar:
        tar.extractall(tmp_path / "out", filter="tar") if hasattr(tarfile, "tar_filter") else tar.extractall(tmp_path / "out")
    assert {k: v[0] for k, v in picture(tmp_path / "out" / "tree").items()} == \
        {k: v[0] for k, v in picture(tmp_path / "tree").items()}
    (tmp_path / "gnu").mkdir()
    subprocess.run(["tar", "-C", tmp_path / "gnu", "-xp"], input=out, check=True)
    assert picture(tmp_path / "gnu" / "tree") == picture(tmp_path / "tree")
    assert "malformed" in fails(shared, "-", f"cpbox:{place}", stdin=b"no tar at all" * 100)
    assert "too early" in fails(shared, "-", f"cpbox:{place}", stdin=out[:len(out) // 2 + 100])
    assert "open directory" in fails(shared, "-", f"cpbox:{place}/none", stdin=out)


def test_a_streams_bad_paths_stay_out_of_the_guest_too(shared, box, place):
    for name in ("../escaped", "/tmp/escaped", "a/../../escaped"):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            tar.addfile(tarfile.TarInfo(name))
        assert "'..'" in (err := fails(shared, "-", f"cpbox:{place}", stdin=out.getvalue())) or "absolute" in err
    assert sh(shared, f"ls -d /tmp/escaped {place}/../escaped 2>&1 || true").count("No such file") == 2


def test_what_is_no_file(shared, box, place, tmp_path):
    sh(shared, f"cd {place}; mkfifo pipe; echo x > x")
    sh(shared, f"mknod {place}/null c 1 3", user="root")
    r = shared.viv("cp", f"cpbox:{place}/.", tmp_path / "here")
    assert r.returncode == 0 and sorted(r.stderr.decode().splitlines()) == [
        "viv: left out here/null, a device or pipe", "viv: left out here/pipe, a device or pipe"], r
    assert [p.name for p in (tmp_path / "here").iterdir()] == ["x"]
    cp(shared, "cpbox:/proc/cpuinfo", tmp_path)
    assert "processor" in (tmp_path / "cpuinfo").read_text()


def test_it_ends_with_its_client(shared, box, place, tmp_path):
    """A copy that is interrupted leaves the agent as it was; the next one works."""
    p = shared.popen("cp", "-", f"cpbox:{place}", stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                     stderr=subprocess.PIPE)
    head = tarfile.TarInfo("cut")
    head.size = 1 << 30
    p.stdin.write(head.tobuf() + b"\1" * (1 << 20))  # more than a pipe holds: it is read
    p.stdin.flush()
    p.send_signal(2)
    assert p.wait(60) == 128 + 2
    p.stdin.close()
    p.stderr.close()
    (tmp_path / "f").write_text("f")
    cp(shared, tmp_path / "f", f"cpbox:{place}")
