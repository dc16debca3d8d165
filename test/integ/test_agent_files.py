# SPDX-License-Identifier: Apache-2.0
"""The agent's files and its filesystem service, driven over loopback on the host, without a VM."""

import base64
import contextlib
import email.utils
import gzip
import hashlib
import http.client
import json
import os
import pwd
import random
import re
import socket
import stat
import struct
import subprocess
import threading
import time
import urllib.parse

import pytest
from native import MIB, OCTETS, Agent, RpcError, basic, form, program, wait_until

NOBODY = pwd.getpwnam("nobody")


def error(reply, status, text=""):
    """Checks an error of plain HTTP."""
    response, data = reply
    body = json.loads(data)
    assert (response.status, body["code"]) == (status, status), body
    assert text in body["message"], body["message"]
    return body["message"]


def fails(code, agent, method, request, text="", **headers):
    with pytest.raises(RpcError) as e:
        agent.fs(method, request, headers)
    assert e.value.code == code, e.value
    assert text in e.value.message, e.value.message


@pytest.fixture
def here(tmp_path):
    """A directory that other users reach as well."""
    for path in (tmp_path, *tmp_path.parents):
        if path.stat().st_uid == os.getuid() and not path.stat().st_mode & 0o001:
            path.chmod(path.stat().st_mode | 0o011)
    return tmp_path


# Download


def test_read(agent, here):
    data = random.Random(1).randbytes(300_001)
    (here / "a b.bin").write_bytes(data)
    response, body = agent.get(here / "a b.bin")
    assert response.status == 200 and body == data
    head = response.headers
    assert head["Content-Length"] == "300001" and head["Content-Type"] == OCTETS
    assert head["Content-Disposition"] == 'inline; filename="a b.bin"'
    assert head["Vary"] == "Accept-Encoding" and head["Accept-Ranges"] == "bytes"
    modified = email.utils.parsedate_to_datetime(head["Last-Modified"]).timestamp()
    assert modified == int((here / "a b.bin").stat().st_mtime)


def test_read_empty_has_a_length(agent, here):
    (here / "empty").touch()
    response, body = agent.get(here / "empty")
    assert response.status == 200 and body == b""
    assert response.headers["Content-Length"] == "0"
    assert agent.get(here / "empty", {"Range": "bytes=0-"})[0].status == 200


def test_read_ranges(agent, here):
    data = random.Random(2).randbytes(200_000)
    path = here / "f"
    path.write_bytes(data)
    for text, first, last in (("0-0", 0, 0), ("5-70000", 5, 70000), ("199999-", 199999, 199999),
                              ("100-", 100, 199999), ("-70000", 130000, 199999),
                              ("-999999", 0, 199999), ("150000-999999", 150000, 199999)):
        response, body = agent.get(path, {"Range": f"bytes={text}"})
        assert response.status == 206 and body == data[first:last + 1], text
        assert response.headers["Content-Range"] == f"bytes {first}-{last}/200000"
    response, body = agent.get(path, {"Range": "bytes=200000-"})
    assert response.status == 416 and response.headers["Content-Range"] == "bytes */200000"
    for text in ("bytes=0-1,5-6", "bytes=9-3", "lines=1-2", "bytes=" + "0" * 500 + "-1"):
        response, body = agent.get(path, {"Range": text})
        assert response.status == 200 and body == data, text


def test_read_if_range(agent, here):
    (here / "f").write_bytes(b"0123456789")
    date = agent.get(here / "f")[0].headers["Last-Modified"]
    for condition, status in ((date, 206), ("Sun, 06 Nov 1994 08:49:37 GMT", 200),
                              ('"tag"', 200), ("x" * 200, 200)):
        response, _ = agent.get(here / "f", {"Range": "bytes=1-2", "If-Range": condition})
        assert response.status == status, condition


def test_read_encodings(agent, here):
    (here / "f").write_bytes(b"x" * 1000)
    for accept in ("gzip, deflate, br", "*", "gzip;q=1.0, identity;q=0.1"):
        response, body = agent.get(here / "f", {"Accept-Encoding": accept})
        assert response.status == 200 and body == b"x" * 1000
        assert response.headers["Content-Encoding"] is None
    for accept in ("identity;q=0", "gzip, *;q=0"):
        error(agent.get(here / "f", {"Accept-Encoding": accept}), 406, "[identity]")


def test_read_errors(agent, here):
    (here / "f").touch()
    os.mkfifo(here / "fifo")
    (here / "loop").symlink_to("loop")
    assert error(agent.get(here / "none"), 404) == f"path '{here}/none' does not exist"
    error(agent.get(here / "f" / "below"), 404, "does not exist")
    assert error(agent.get(here), 400) == f"path '{here}' is a directory"
    error(agent.request("GET", "/files"), 400, "is a directory")
    error(agent.get(here / "fifo"), 400, "not a regular file")
    error(agent.get("/dev/null"), 400, "not a regular file")
    error(agent.get(here / "loop"), 400)
    error(agent.get("/" + "a" * 5000), 400, "too long")
    error(agent.get("~root/x"), 400, "'~'")
    error(agent.get(here / "f", username="no such"), 401, "invalid username: 'no such'")
    error(agent.request("GET", "/files?path=%zz"), 400)
    error(agent.request("GET", "/files?path=a%00b"), 400)
    response, data = agent.request("PUT", "/files", b"x")
    assert response.status == 405 and response.headers["Allow"] == "GET, POST"


def test_paths(agent, here):
    home = here / "home"
    (home / "d").mkdir(parents=True)
    (home / "d" / "f").write_bytes(b"yes")
    (home / "link").symlink_to("d")
    (home / "away").symlink_to("/etc/hostname")
    for path in (f"{home}/d/f", f"/{home}//d/./f", f"{home}/none/../d/f", f"{home}/link/f"):
        assert agent.read(path) == b"yes", path
    assert agent.read(f"{home}/away") == open("/etc/hostname", "rb").read()
    assert agent.read("/../../etc/hostname") == agent.read("/etc/hostname")
    root = pwd.getpwuid(0).pw_dir
    name = f".viv-test-{os.getpid()}"
    try:
        assert agent.write(name, b"1")[0]["path"] == f"{root}/{name}"
        for path in (name, f"~/{name}", f"./{name}", f"{root}/x/../{name}"):
            assert agent.read(path) == b"1", path
    finally:
        os.unlink(f"{root}/{name}")


def test_read_kernel_files(agent):
    """They say that they are empty, and are not."""
    response, data = agent.get("/proc/self/status")
    assert response.status == 200 and b"viv-agent" in data
    assert response.headers["Transfer-Encoding"] == "chunked"


def test_names_that_are_no_text(agent, here):
    name = b"a\xff\xc3\xa4'\"\n"
    path = os.fsencode(here) + b"/" + name
    with open(path, "wb") as f:
        f.write(b"data")
    query = urllib.parse.quote_from_bytes(path)
    response, data = agent.request("GET", f"/files?path={query}")
    assert data == b"data"
    assert response.headers["Content-Disposition"] == \
        "inline; filename*=UTF-8''" + urllib.parse.quote_from_bytes(name).replace("/", "%2F")
    shown = name.decode(errors="replace")
    entry, = agent.fs("ListDir", {"path": str(here)})["entries"]
    assert entry["name"] == shown and entry["path"] == f"{here}/{shown}"
    assert error(agent.request("GET", f"/files?path={query}x"), 404).endswith(
        f"{shown}x' does not exist")
    response, data = agent.request("POST", f"/files?path={query}", b"new", {"Content-Type": OCTETS})
    assert json.loads(data)[0]["name"] == shown
    with open(path, "rb") as f:
        assert f.read() == b"new"


# Upload


def test_write(agent, here):
    written = agent.write(here / "x" / "y" / "f", b"hello", username="nobody")
    assert written == [{"path": f"{here}/x/y/f", "name": "f", "type": "file"}]
    path = here / "x" / "y" / "f"
    assert path.read_bytes() == b"hello"
    for made, mode in ((here / "x", 0o755), (here / "x" / "y", 0o755), (path, 0o644)):
        st = made.stat()
        assert (st.st_uid, st.st_gid) == (NOBODY.pw_uid, NOBODY.pw_gid), made
        assert stat.S_IMODE(st.st_mode) == mode, made
    assert here.stat().st_uid == os.getuid()


def test_write_keeps_inode_and_mode(agent, here):
    path = here / "f"
    path.write_bytes(b"a longer text")
    path.chmod(0o755)
    before = path.stat()
    agent.write(path, b"short", username="nobody")
    after = path.stat()
    assert path.read_bytes() == b"short" and after.st_ino == before.st_ino
    assert stat.S_IMODE(after.st_mode) == 0o755 and after.st_uid == NOBODY.pw_uid


def test_write_through_links(agent, here):
    (here / "link").symlink_to("target")
    agent.write(here / "link", b"1")
    assert (here / "link").is_symlink() and (here / "target").read_bytes() == b"1"


def test_write_forms(agent, here):
    path = here / "f"
    data = random.Random(3).randbytes(500_000)
    agent.write(path, b"")
    assert path.read_bytes() == b""
    agent.write(path, data)
    assert path.read_bytes() == data
    # Chunked, without a length.
    agent.write(path, iter([data[:1], data[1:200_000], data[200_000:]]))
    assert path.read_bytes() == data
    agent.write(path, gzip.compress(data), {"Content-Encoding": "gzip"})
    assert path.read_bytes() == data
    agent.write(path, gzip.compress(data[:1000]) + gzip.compress(data[1000:]),
                {"Content-Encoding": "GZIP"})
    assert path.read_bytes() == data
    agent.write(path, gzip.compress(b"\0" * 30_000_000), {"Content-Encoding": "gzip"})
    assert path.stat().st_size == 30_000_000


def test_multipart(agent, here):
    data = random.Random(4).randbytes(300_000).replace(b"\n", b"\r\n--xxB-")
    # One file, to the path of the query, with and without a filename.
    for filename in (None, "ignored/name"):
        response, body = agent.post_parts(("file", filename, data), query=f"path={here}/one")
        assert response.status == 200
        assert json.loads(body) == [{"path": f"{here}/one", "name": "one", "type": "file"}]
        assert (here / "one").read_bytes() == data
    # Filenames are paths; other parts are passed over.
    response, body = agent.post_parts(
        ("file", f"{here}/d/e/1", b"1"), ("other", "x", b"?"), ("file", f"{here}/two", b""),
        ("file", f"{here}/spät", data), query="username=nobody")
    assert response.status == 200, body
    assert [e["path"] for e in json.loads(body)] == [f"{here}/d/e/1", f"{here}/two",
                                                     f"{here}/spät"]
    assert (here / "d" / "e" / "1").read_bytes() == b"1"
    assert (here / "two").read_bytes() == b"" and (here / "spät").read_bytes() == data
    assert (here / "d").stat().st_uid == NOBODY.pw_uid and not (here / "x").exists()
    # The coding is that of the whole body.
    response, body = agent.request(
        "POST", "/files", gzip.compress(form(("file", f"{here}/z", data))),
        {"Content-Type": 'multipart/form-data; boundary="xxBxx"', "Content-Encoding": "gzip"})
    assert response.status == 200 and (here / "z").read_bytes() == data
    # A relative filename is below the home; an empty path in the query is none.
    home = pwd.getpwuid(0).pw_dir
    name = f".viv-test-{os.getpid()}"
    try:
        response, body = agent.post_parts(("file", name, b"home"), query="path=")
        assert json.loads(body)[0]["path"] == f"{home}/{name}"
    finally:
        os.unlink(f"{home}/{name}")


def test_multipart_many(agent, here):
    parts = [("file", f"{here}/m/{i}", str(i).encode()) for i in range(500)]
    response, body = agent.post_parts(*parts)
    assert response.status == 200 and len(json.loads(body)) == 500
    assert all((here / "m" / str(i)).read_bytes() == str(i).encode() for i in range(500))


def test_write_errors(agent, here):
    (here / "d").mkdir()
    (here / "f").write_bytes(b"kept")
    os.mkfifo(here / "fifo")
    error(agent.put(here / "d", b"x"), 400, "is a directory")
    error(agent.put(here / "f" / "below", b"x"), 400, "not a directory")
    error(agent.put(here / "fifo", b"x"), 400, "not a regular file")
    error(agent.put("/dev/null", b"x"), 400, "not a regular file")
    error(agent.put(here / "f", b"x", username="no such"), 401, "invalid username")
    error(agent.request("POST", "/files", b"x", {"Content-Type": OCTETS}), 400, "'path'")
    error(agent.request("POST", f"/files?path={here}/f", b"x"), 400, "Content-Type")
    error(agent.put(here / "f", b"x", {"Content-Type": "text/plain"}), 400, "text/plain")
    error(agent.put(here / "f", b"x", {"Content-Encoding": "br"}), 400, "'br'")
    error(agent.put(here / "f", b"no gzip", {"Content-Encoding": "gzip"}), 400, "gzip")
    assert (here / "f").read_bytes() == b"kept"
    error(agent.put(here / "g", gzip.compress(b"x" * 99)[:-3], {"Content-Encoding": "gzip"}), 400,
          "incomplete")
    error(agent.put(here / "g", b"x", {"Content-Type": "multipart/form-data"}), 400, "boundary")
    for body, text in ((b"", "incomplete"), (form(("file", "x", b"y"))[:-6], "incomplete"),
                       (b"--xxBxxJUNK\r\n", "malformed"), (form(("other", "x", b"y")), "'file'"),
                       (form(("file", None, b"y")), "filename"),
                       (form(("file", "", b"y")), "filename"),
                       (form(("file", f"{here}/q", b"1"), ("file", f"{here}/./q", b"2")), "more")):
        error(agent.request("POST", "/files", body,
                            {"Content-Type": "multipart/form-data; boundary=xxBxx"}), 400, text)
    assert (here / "q").read_bytes() == b"1"
    error(agent.post_parts(("file", "a", b"1"), ("file", "b", b"2"), query=f"path={here}/q"), 400,
          "more than one file")


def test_busy_program(agent, here):
    program = here / "sleep"
    program.write_bytes(open("/bin/sleep", "rb").read())
    program.chmod(0o755)
    with subprocess.Popen([program, "100"]) as p:
        error(agent.put(program, b"x"), 409, "busy")
        p.kill()


def test_metadata(agent, here):
    path = here / "f"
    written = agent.write(path, b"1", {"X-Metadata-Color": "dark blue", "x-metadata-N": ""})
    assert written[0]["metadata"] == {"color": "dark blue", "n": ""}
    assert os.getxattr(path, "user.e2b.color") == b"dark blue"
    assert agent.fs("Stat", {"path": str(path)})["entry"]["metadata"] == {"color": "dark blue",
                                                                         "n": ""}
    os.setxattr(path, "user.other", b"mine")
    # Each upload replaces all of it, and nothing else.
    agent.write(path, b"2", {"X-Metadata-Size": "1"})
    assert sorted(os.listxattr(path)) == ["user.e2b.size", "user.other"]
    written = agent.write(path, b"3")
    assert "metadata" not in written[0] and os.listxattr(path) == ["user.other"]
    assert "metadata" not in agent.fs("Stat", {"path": str(path)})["entry"]
    response, body = agent.post_parts(("file", f"{here}/a", b""), ("file", f"{here}/b", b""),
                                      headers={"X-Metadata-Both": "yes"})
    assert [e["metadata"] for e in json.loads(body)] == [{"both": "yes"}] * 2
    entries = agent.fs("ListDir", {"path": str(here)})["entries"]
    assert [e.get("metadata") for e in entries] == [{"both": "yes"}, {"both": "yes"}, None]


def test_metadata_errors(agent, here):
    path = here / "f"
    path.write_bytes(b"kept")
    agent.write(path, b"kept", {"X-Metadata-" + "k" * 246: "v"})
    for headers in ({"X-Metadata-" + "k" * 247: "v"}, {"X-Metadata-a": "caf\xe9"},
                    {"X-Metadata-": "v"}, {"X-Metadata-a": "v" * 4090},
                    {f"X-Metadata-{i}": "v" * 500 for i in range(9)}):
        error(agent.put(path, b"new", headers), 400, "X-Metadata" if "X-Metadata-" in headers
              else "metadata")
    assert path.read_bytes() == b"kept"
    # The first of several with one name.
    with socket.create_connection(("127.0.0.1", agent.port)) as s:
        s.sendall(f"POST /files?path={path} HTTP/1.1\r\nHost: x\r\nContent-Type: {OCTETS}\r\n"
                  "Connection: close\r\nContent-Length: 0\r\nX-Metadata-A: 1\r\n"
                  "x-metadata-a: 2\r\n\r\n".encode())
        assert b'"metadata":{"a":"1"}' in s.makefile("rb").read()


@pytest.fixture
def small_disk(build, here):
    """An agent that sees a file system of 1 MiB without user attributes at `here`/small."""
    (here / "small").mkdir()
    wrapper = here / "wrapper"
    wrapper.write_text('#!/bin/sh\n'
                       f'exec unshare -m sh -c \'mount -t tmpfs -o size=1M,nr_inodes=20 tmpfs '
                       f'"{here}/small" && exec "$@"\' sh "{program(build)}" "$@"\n')
    wrapper.chmod(0o755)
    a = Agent(wrapper)
    yield a
    assert a.stop() == 0


def test_no_space(small_disk, here):
    agent, small = small_disk, here / "small"
    error(agent.put(small / "f", b"x" * (2 * MIB)), 507, "not enough disk space")
    error(agent.post_parts(("file", f"{small}/g", b"x" * (2 * MIB))), 507, "disk space")
    error(agent.put(small / "g", gzip.compress(b"\0" * (64 * MIB)), {"Content-Encoding": "gzip"}),
          507)
    for name in "fg":
        agent.fs("Remove", {"path": f"{small}/{name}"})
    # A large body is not waited for.
    started = time.monotonic()
    with contextlib.suppress(OSError):  # the connection may end while the client still sends
        error(agent.put(small / "f", iter([b"x" * MIB] * 2000)), 507)
    assert time.monotonic() - started < 20
    agent.fs("Remove", {"path": f"{small}/f"})
    assert agent.write(small / "f", b"fits")[0]["name"] == "f"
    # No more inodes.
    response = None
    for i in range(20):
        response = agent.put(small / f"i{i}", b"")
        if response[0].status != 200:
            break
    error(response, 507)
    fails("resource_exhausted", agent, "MakeDir", {"path": f"{small}/dir"})
    for i in range(20):
        agent.fs("Remove", {"path": f"{small}/i{i}"})
    with_metadata = agent.put(small / "f", b"", {"X-Metadata-A": "b"})
    if with_metadata[0].status != 200:  # tmpfs learnt to keep them with Linux 6.6
        error(with_metadata, 400, "keeps no metadata")
        assert agent.read(small / "f") == b"fits"


# Rights


TOKEN = {"X-Access-Token": "secret"}


@pytest.fixture
def secured(own_agent):
    response, _ = own_agent.request("POST", "/init", json.dumps({"accessToken": "secret"}))
    assert response.status == 200
    return own_agent


def sign(path, operation, username="", expires=None, token="secret"):
    text = f"{path}:{operation}:{username}:{token}" + (f":{expires}" if expires is not None else "")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return "v1_" + digest.rstrip("=")


def test_token(secured, here):
    path = here / "f"
    path.write_bytes(b"x")
    assert secured.get(path, TOKEN)[0].status == 200
    assert secured.put(path, b"y", TOKEN)[0].status == 200
    error(secured.get(path), 401, "missing signature query parameter")
    error(secured.put(path, b"z"), 401, "missing signature query parameter")
    error(secured.get(path, {"X-Access-Token": "wrong"}), 401, "does not match")
    # A wrong token is not made good by a signature.
    error(secured.get(path, {"X-Access-Token": "wrong"}, signature=sign(path, "read")), 401)
    assert path.read_bytes() == b"y"
    for method, name in (("GET", "/metrics"), ("GET", "/envs"), ("POST", "/files/compose"),
                         ("POST", "/filesystem.Filesystem/Stat"), ("GET", "/fil%65s?path=/")):
        assert secured.request(method, name, headers={"Content-Length": "0"})[0].status == 401


def test_signatures(secured, here):
    path = f"{here}/ä f"
    now = int(time.time())
    sent = sign(path, "write", "nobody")
    assert secured.put(path, b"1", signature=sent, username="nobody")[0].status == 200
    assert secured.get(path, signature=sign(path, "read"))[1] == b"1"
    for expires in (now + 100, now + 10**9):
        signature = sign(path, "read", expires=expires)
        assert secured.get(path, signature=signature, signature_expiration=expires)[1] == b"1"
    late = sign(path, "read", expires=now - 2)
    error(secured.get(path, signature=late, signature_expiration=now - 2), 401,
          "signature is already expired")
    good = sign(path, "read", expires=now + 100)
    for query in ({"signature": ""}, {"signature": sent}, {"signature": good},
                  {"signature": good, "signature_expiration": now + 101},
                  {"signature": sign(path, "read"), "username": "nobody"},
                  {"signature": sign(path, "read", token="other")},
                  {"signature": sign(path, "read") + "="},
                  {"signature": sign(f"{here}/./ä f", "read")}):
        error(secured.get(path, **query), 401, "invalid signature")
    error(secured.get(path, signature=good, signature_expiration="soon"), 400, "expiration")
    error(secured.put(path, b"2", signature=sign(path, "read")), 401, "invalid signature")
    # The path is signed as it is sent, and may be left to the filenames.
    assert secured.get(f"{here}/./ä f", signature=sign(f"{here}/./ä f", "read"))[1] == b"1"
    query = urllib.parse.urlencode({"signature": sign("", "write")})
    assert secured.post_parts(("file", f"{here}/up", b"3"), query=query)[0].status == 200


def test_without_a_token_signatures_do_not_matter(agent, here):
    (here / "f").write_bytes(b"x")
    assert agent.get(here / "f", signature="v1_nonsense")[0].status == 200


def test_root_only(build, here):
    a = Agent(program(build), "--root-user-only")
    error(a.put(here / "f", b"x", username="nobody"), 401, "nobody")
    fails("unauthenticated", a, "Stat", {"path": "/"}, "nobody", **basic("nobody"))
    a.write(here / "f", b"x", username="root")
    assert a.stop() == 0


# Compose


def test_compose(agent, here):
    parts = []
    for i in range(5):
        parts.append(random.Random(i).randbytes(100_000 * i))
        (here / f"p{i}").write_bytes(parts[i])
    (here / "p4b").symlink_to("p4")
    request = {"source_paths": [f"{here}/p{i}" for i in range(5)],
               "destination": f"{here}/out/whole", "username": "nobody"}
    response, data = agent.request("POST", "/files/compose", json.dumps(request))
    assert response.status == 200
    assert json.loads(data) == {"path": f"{here}/out/whole", "name": "whole", "type": "file"}
    whole = here / "out" / "whole"
    assert whole.read_bytes() == b"".join(parts)
    assert (whole.stat().st_uid, stat.S_IMODE(whole.stat().st_mode)) == (NOBODY.pw_uid, 0o644)
    assert sorted(os.listdir(here)) == ["out", "p4b"] and os.listdir(here / "out") == ["whole"]


def test_compose_errors(agent, here):
    (here / "a").write_bytes(b"a")
    (here / "d").mkdir()
    ok = {"source_paths": [f"{here}/a"], "destination": f"{here}/out"}

    def post(**change):
        return agent.request("POST", "/files/compose", json.dumps({**ok, **change}))

    error(post(source_paths=[]), 400, "source_paths")
    error(post(source_paths="x"), 400)
    error(post(destination=""), 400, "destination")
    error(post(destination=f"{here}/./a"), 400, "source and destination")
    error(post(source_paths=[f"{here}/a", f"{here}/none"]), 404, "none")
    error(post(source_paths=[f"{here}/d"]), 400, "directory")
    error(post(destination=f"{here}/d"), 400, "directory")
    error(post(destination=f"{here}/a/b"), 400)
    error(post(username="no such"), 401)
    error(agent.request("POST", "/files/compose", b"{"), 400)
    assert sorted(os.listdir(here)) == ["a", "d"] and (here / "a").read_bytes() == b"a"


# Large files, in little memory


def peak_kib(agent):
    return agent.status("VmHWM")


@pytest.mark.usefixtures("no_sanitizers")
def test_a_gibibyte_up_and_down(own_agent, here):
    agent, path = own_agent, here / "big"
    piece = random.Random(5).randbytes(MIB)
    sums = [hashlib.sha256(), hashlib.sha256()]

    def pieces():
        for i in range(1024):
            data = i.to_bytes(8, "big") + piece[8:]
            sums[0].update(data)
            yield data

    assert agent.write(path, pieces())[0]["name"] == "big"
    assert path.stat().st_size == 1 << 30
    conn = agent.connect()
    conn.request("GET", f"/files?path={path}")
    response = conn.getresponse()
    assert response.headers["Content-Length"] == str(1 << 30)
    while data := response.read(MIB):
        sums[1].update(data)
    conn.close()
    assert sums[0].digest() == sums[1].digest()
    path.unlink()
    assert peak_kib(agent) <= 8192


@pytest.mark.usefixtures("no_sanitizers")
def test_multipart_in_little_memory(own_agent, here):
    agent = own_agent
    head = form(("file", f"{here}/big", b"MARK")).split(b"MARK")
    pieces = iter([head[0], *([random.Random(6).randbytes(MIB)] * 200), head[1]])
    response, data = agent.request("POST", "/files", pieces,
                                   {"Content-Type": "multipart/form-data; boundary=xxBxx"})
    assert response.status == 200, data
    assert (here / "big").stat().st_size == 200 * MIB
    assert peak_kib(agent) <= 8192


@pytest.mark.usefixtures("no_sanitizers")
def test_clients_that_do_not_read(own_agent, here):
    """They cost no more than what is queued for each, and others are served."""
    agent = own_agent
    with open(here / "big", "wb") as f:
        f.truncate(1 << 30)
    (here / "small").write_bytes(b"x")
    stalled = []
    for _ in range(60):
        s = socket.create_connection(("127.0.0.1", agent.port))
        s.sendall(f"GET /files?path={here}/big HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        stalled.append(s)
    for s in stalled:
        assert s.recv(100).startswith(b"HTTP/1.1 200")
    assert agent.read(here / "small") == b"x"
    assert agent.status("VmRSS") < 60 * 400 + 4096
    fds = agent.open_fds()
    for s in stalled:
        s.close()
    wait_until(lambda: agent.open_fds() <= fds - 120, "the files are closed")
    assert agent.read(here / "small") == b"x"


@pytest.mark.usefixtures("no_sanitizers")
def test_transfers_are_limited(own_agent, here):
    agent = own_agent
    head = (f"POST /files?path={here}/f%d HTTP/1.1\r\nHost: x\r\nContent-Type: {OCTETS}\r\n"
            "Content-Length: 10\r\n\r\n")
    waiting = []
    for i in range(128):
        s = socket.create_connection(("127.0.0.1", agent.port))
        s.sendall((head % i).encode())
        waiting.append(s)
    wait_until(lambda: agent.get("/etc/hostname")[0].status == 429, "no more are served")
    assert agent.fs("Stat", {"path": "/"})["entry"]["path"] == "/"
    waiting.pop().close()
    wait_until(lambda: agent.get("/etc/hostname")[0].status == 200, "one is served again")
    for s in waiting:
        s.close()
    assert agent.status("VmRSS") < 8192


def test_clients_that_vanish(own_agent, here):
    agent = own_agent
    fds = agent.open_fds()
    for sent in (0, 1, 100_000):
        with socket.create_connection(("127.0.0.1", agent.port)) as s:
            s.sendall(f"POST /files?path={here}/f HTTP/1.1\r\nHost: x\r\nContent-Type: {OCTETS}\r\n"
                      f"Content-Length: 1000000\r\n\r\n".encode() + b"x" * sent)
    with open(here / "big", "wb") as f:
        f.truncate(1 << 30)
    for read in (0, 1, 500_000):
        with socket.create_connection(("127.0.0.1", agent.port)) as s:
            s.sendall(f"GET /files?path={here}/big HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            while read > 0:
                read -= len(s.recv(65536))
    wait_until(lambda: agent.open_fds() <= fds, "all is closed")


def test_file_that_becomes_shorter(own_agent, here):
    """The reply is cut, not filled up and not ended early."""
    path = here / "big"
    with open(path, "wb") as f:
        f.truncate(1 << 30)
    conn = own_agent.connect()
    conn.request("GET", f"/files?path={path}")
    response = conn.getresponse()
    response.read(1000)
    os.truncate(path, 2000)
    with pytest.raises((ConnectionError, http.client.IncompleteRead)):
        while response.read(MIB):
            pass
    conn.close()


def test_expect_continue(agent, here):
    with socket.create_connection(("127.0.0.1", agent.port)) as s:
        s.sendall(f"POST /files?path={here}/f HTTP/1.1\r\nHost: x\r\nContent-Type: {OCTETS}\r\n"
                  "Content-Length: 3\r\nExpect: 100-continue\r\n\r\n".encode())
        assert s.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        s.sendall(b"abc")
        assert s.recv(1000).startswith(b"HTTP/1.1 200")
    assert (here / "f").read_bytes() == b"abc"


# The filesystem service


def test_stat(agent, here):
    path = here / "f"
    path.write_bytes(b"12345")
    os.chown(path, NOBODY.pw_uid, 12345)
    path.chmod(0o4640)
    os.utime(path, ns=(0, 784111777_123456789))
    assert agent.fs("Stat", {"path": str(path)}) == {"entry": {
        "name": "f", "type": "FILE_TYPE_FILE", "path": str(path), "size": "5", "mode": 0o640,
        "permissions": "urw-r-----", "owner": "nobody", "group": "12345",
        "modifiedTime": "1994-11-06T08:49:37.123456789Z"}}
    entry = agent.fs("Stat", {"path": f"{here}//x/.."})["entry"]
    assert (entry["path"], entry["type"], entry["mode"]) == (str(here), "FILE_TYPE_DIRECTORY",
                                                             stat.S_IMODE(here.stat().st_mode))
    assert entry["permissions"].startswith("drwx")
    assert agent.fs("Stat", {"path": "/"})["entry"]["name"] == "/"
    assert agent.fs("Stat", {"path": "/dev/null"})["entry"]["type"] == "FILE_TYPE_UNSPECIFIED"
    assert agent.fs("Stat", {"path": "/dev/null"})["entry"]["permissions"] == "Dcrw-rw-rw-"
    fails("not_found", agent, "Stat", {"path": f"{here}/none"}, f"path '{here}/none' does not exist")
    fails("not_found", agent, "Stat", {"path": f"{here}/f/none"})
    fails("invalid_argument", agent, "Stat", {"path": 7})
    fails("invalid_argument", agent, "Stat", {"path": "~root"})
    fails("invalid_argument", agent, "Stat", {"path": "/" + "a/" * 3000})
    fails("unauthenticated", agent, "Stat", {"path": "/"}, "invalid username: 'no such'",
          **basic("no such"))


def test_stat_of_links(agent, here):
    (here / "f").write_bytes(b"12345")
    (here / "f").chmod(0o600)
    for name, target in (("to-file", "f"), ("to-link", "to-file"), ("to-dir", "/"),
                         ("to-nowhere", "none"), ("loop", "loop")):
        (here / name).symlink_to(target)
    entries = {e["name"]: e for e in agent.fs("ListDir", {"path": str(here)})["entries"]}
    for name, kind, mode, target in (
            ("to-file", "FILE", 0o600, f"{here}/f"), ("to-link", "FILE", 0o600, f"{here}/f"),
            ("to-dir", "DIRECTORY", stat.S_IMODE(os.stat("/").st_mode), "/"),
            ("to-nowhere", "SYMLINK", 0, "none"), ("loop", "SYMLINK", 0, "loop")):
        entry = entries[name]
        assert entry == agent.fs("Stat", {"path": f"{here}/{name}"})["entry"]
        assert (entry["type"], entry["mode"]) == (f"FILE_TYPE_{kind}", mode & 0o777), name
        assert entry["symlinkTarget"] == target and entry["permissions"] == "Lrwxrwxrwx"
    assert "symlinkTarget" not in entries["f"]


def test_make_dir(agent, here):
    entry = agent.fs("MakeDir", {"path": f"{here}/a/b/c"}, basic("nobody"))["entry"]
    assert (entry["path"], entry["type"], entry["owner"]) == (f"{here}/a/b/c",
                                                              "FILE_TYPE_DIRECTORY", "nobody")
    assert (here / "a").stat().st_uid == NOBODY.pw_uid
    assert stat.S_IMODE((here / "a" / "b").stat().st_mode) == 0o755
    (here / "f").touch()
    (here / "dangling").symlink_to("none")
    fails("already_exists", agent, "MakeDir", {"path": f"{here}/a/b"})
    fails("already_exists", agent, "MakeDir", {"path": "/"})
    fails("invalid_argument", agent, "MakeDir", {"path": f"{here}/f"}, "not a directory")
    fails("invalid_argument", agent, "MakeDir", {"path": f"{here}/f/x"}, "not a directory")
    fails("invalid_argument", agent, "MakeDir", {"path": f"{here}/" + "n" * 256})


def test_move(agent, here):
    (here / "f").write_bytes(b"1")
    (here / "g").write_bytes(b"2")
    (here / "d").mkdir()
    (here / "d" / "x").touch()
    entry = agent.fs("Move", {"source": f"{here}/f", "destination": f"{here}/new/dir/f2"},
                     basic("nobody"))["entry"]
    assert (entry["path"], entry["name"]) == (f"{here}/new/dir/f2", "f2")
    assert (here / "new").stat().st_uid == NOBODY.pw_uid
    agent.fs("Move", {"source": f"{here}/g", "destination": f"{here}/new/dir/f2"})
    assert (here / "new" / "dir" / "f2").read_bytes() == b"2"
    agent.fs("Move", {"source": f"{here}/d", "destination": f"{here}/e"})
    assert (here / "e" / "x").exists()
    (here / "full").mkdir()
    (here / "full" / "y").touch()
    fails("not_found", agent, "Move", {"source": f"{here}/f", "destination": f"{here}/q/r"})
    assert not (here / "q").exists()
    fails("already_exists", agent, "Move", {"source": f"{here}/e", "destination": f"{here}/full"})
    fails("invalid_argument", agent, "Move", {"source": f"{here}/e", "destination": f"{here}/e/e"})
    fails("failed_precondition", agent, "Move", {"source": f"{here}/e",
                                                 "destination": "/dev/shm/viv-test-none"},
          "different file systems")


def test_remove(agent, here):
    (here / "out").mkdir()
    (here / "out" / "kept").touch()
    deep = here / "d"
    for i in range(30):
        deep = deep / str(i)
    deep.mkdir(parents=True)
    (deep / "f").touch()
    (here / "d" / "link").symlink_to("../out")
    assert agent.fs("Remove", {"path": f"{here}/d"}) == {}
    assert not (here / "d").exists() and (here / "out" / "kept").exists()
    assert agent.fs("Remove", {"path": f"{here}/d"}) == {}
    (here / "link").symlink_to("out")
    agent.fs("Remove", {"path": f"{here}/link"})
    assert (here / "out" / "kept").exists() and not (here / "link").is_symlink()
    assert agent.fs("Remove", {"path": f"{here}/out/kept/below"}) == {}
    fails("invalid_argument", agent, "Remove", {"path": "/tmp/.."}, "root")


def names(agent, path, **request):
    return [os.path.relpath(e["path"], path)
            for e in agent.fs("ListDir", {"path": str(path), **request})["entries"]]


def test_list(agent, here):
    for path in ("b/x/1/2", "b/y", "a", "B", "b.d"):
        (here / path).mkdir(parents=True)
    for path in ("b/x/f", "c", "a/.hidden", "b/x/1/2/deep"):
        (here / path).touch()
    (here / "a" / "link").symlink_to("../b")
    assert names(agent, here) == ["B", "a", "b", "b.d", "c"]
    assert names(agent, here, depth=0) == names(agent, here, depth=1) == names(agent, here)
    assert names(agent, here, depth=2) == ["B", "a", "a/.hidden", "a/link", "b", "b/x", "b/y",
                                           "b.d", "c"]
    assert names(agent, here, depth="3") == ["B", "a", "a/.hidden", "a/link", "b", "b/x", "b/x/1",
                                             "b/x/f", "b/y", "b.d", "c"]
    assert names(agent, here, depth=4294967295)[-4:] == ["b/x/f", "b/y", "b.d", "c"]
    (here / "empty").mkdir()
    assert agent.fs("ListDir", {"path": f"{here}/empty"}) == {"entries": []}
    # Below the path that was asked for, also if that is a link.
    (here / "way").symlink_to("b")
    assert [e["path"] for e in agent.fs("ListDir", {"path": f"{here}/way", "depth": 2})["entries"]] \
        == [f"{here}/way/{p}" for p in ("x", "x/1", "x/f", "y")]
    assert all(e["path"].count("/") == 1 for e in agent.fs("ListDir", {"path": "/"})["entries"])


def test_list_errors(agent, here):
    (here / "f").touch()
    (here / "loop").symlink_to("loop")
    fails("not_found", agent, "ListDir", {"path": f"{here}/none"})
    fails("invalid_argument", agent, "ListDir", {"path": f"{here}/f"}, "not a directory")
    fails("failed_precondition", agent, "ListDir", {"path": f"{here}/loop"})
    fails("invalid_argument", agent, "ListDir", {"path": str(here), "depth": -1})


@pytest.mark.usefixtures("no_sanitizers")
def test_list_is_bounded(own_agent, here):
    agent = own_agent
    for i in range(20_000):
        (here / f"{i:05}").touch()
    entries = agent.fs("ListDir", {"path": str(here)})["entries"]
    assert [e["name"] for e in entries] == [f"{i:05}" for i in range(20_000)]
    os.mkdir(here / "more")
    for i in range(30_000):
        (here / "more" / ("n" * 200 + f"{i:05}")).touch()
    fails("resource_exhausted", agent, "ListDir", {"path": str(here), "depth": 2}, "less deep")
    wait_until(lambda: agent.status("VmRSS") < 8192, "the memory is given back")


def test_service_errors(agent):
    response, data = agent.request("POST", "/filesystem.Filesystem/Nothing", b"{}",
                                   {"Content-Type": "application/json"})
    assert response.status == 404 and json.loads(data)["code"] == "unimplemented"
    response, data = agent.request("POST", "/filesystem.Filesystem/WatchDir", b"{}",
                                   {"Content-Type": "application/json"})
    assert response.status == 415


# Watching


class Watch:
    def __init__(self, agent, path, headers=None, **request):
        body = json.dumps({"path": str(path), **request}).encode()
        self.conn = agent.connect()
        self.conn.request("POST", "/filesystem.Filesystem/WatchDir",
                          b"\0" + struct.pack(">I", len(body)) + body,
                          {"Content-Type": "application/connect+json", **(headers or {})})
        self.response = self.conn.getresponse()
        assert self.response.status == 200

    def next(self):
        head = self.response.read(5)
        assert len(head) == 5, "the stream was cut"
        flags, size = struct.unpack(">BI", head)
        message = json.loads(self.response.read(size))
        if flags == 0:
            return message
        assert flags == 2 and self.response.read() == b""
        if "error" in message:
            raise RpcError(200, message["error"])
        return None

    def start(self):
        assert self.next() == {"start": {}}
        return self

    def until(self, kind, name):
        """The events up to one, as "KIND name"."""
        seen = []
        while True:
            event = self.next()["filesystem"]
            self.event = event
            seen.append(f"{event['type'].removeprefix('EVENT_TYPE_')} {event['name']}")
            if seen[-1] == f"{kind} {name}":
                return seen

    def close(self):
        self.response.close()
        self.conn.close()


def test_watch(agent, here):
    (here / "sub").mkdir()
    watch = Watch(agent, here).start()
    agent.write(here / "f", b"1")
    assert watch.until("WRITE", "f")[0] == "CREATE f"
    (here / "f").chmod(0o600)
    assert watch.until("CHMOD", "f") == ["CHMOD f"]
    (here / "sub" / "below").touch()
    (here / "f").rename(here / "g")
    assert watch.until("CREATE", "g") == ["RENAME f", "CREATE g"]
    (here / "g").unlink()
    assert watch.until("REMOVE", "g") == ["REMOVE g"]
    watch.close()


def test_watch_with_entries(agent, here):
    watch = Watch(agent, here, recursive=True, includeEntry=True).start()
    agent.write(here / "d" / "f", b"123", {"X-Metadata-A": "b"}, username="nobody")
    watch.until("WRITE", "d/f")  # when it was created it was not the user's yet
    entry = watch.event["entry"]
    assert (entry["path"], entry["type"], entry["owner"]) == (f"{here}/d/f", "FILE_TYPE_FILE",
                                                              "nobody")
    (here / "d" / "f").unlink()
    watch.until("REMOVE", "d/f")
    assert "entry" not in watch.event
    watch.close()


def test_watch_recursive_races(agent, here):
    """Whatever is written at once into directories that are new, is told."""
    watch = Watch(agent, here, recursive=True).start()
    wanted = set()
    for i in range(100):
        path = here / f"d{i}" / "x" / "y"
        path.mkdir(parents=True)
        for j in range(3):
            (path / f"f{j}").write_bytes(b"data")
            wanted.add(f"CREATE d{i}/x/y/f{j}")
            wanted.add(f"WRITE d{i}/x/y/f{j}")
    (here / "last").touch()
    told = watch.until("CREATE", "last")
    while wanted - set(told):
        message = watch.next()["filesystem"]
        told.append(f"{message['type'].removeprefix('EVENT_TYPE_')} {message['name']}")
    assert len([t for t in told if t.startswith("CREATE ")]) == \
        len({t for t in told if t.startswith("CREATE ")}), "each is created once"
    (here / "d0" / "x").rename(here / "moved")
    (here / "moved" / "y" / "late").touch()
    watch.until("CREATE", "moved/y/late")
    watch.close()


def test_watch_errors(agent, here):
    (here / "f").touch()
    for path, code in ((f"{here}/none", "not_found"), (f"{here}/f", "invalid_argument"),
                       ("~x", "invalid_argument")):
        with pytest.raises(RpcError) as e:
            Watch(agent, path).next()
        assert e.value.code == code
        fails(code, agent, "CreateWatcher", {"path": path})


def test_watch_ends_with_its_directory(agent, here):
    (here / "d").mkdir()
    watch = Watch(agent, here / "d").start()
    agent.fs("Remove", {"path": f"{here}/d"})
    watch.until("REMOVE", ".")
    with pytest.raises(RpcError) as e:
        watch.next()
    assert e.value.code == "not_found"


def test_watch_keepalive_and_timeout(agent, here):
    watch = Watch(agent, here, {"Keepalive-Ping-Interval": "1", "Connect-Timeout-Ms": "1500"})
    assert watch.start().next() == {"keepalive": {}}
    with pytest.raises(RpcError) as e:
        watch.next()
    assert e.value.code == "deadline_exceeded"


@pytest.mark.usefixtures("no_sanitizers")
def test_watch_of_a_slow_client_ends_with_an_error(own_agent, here):
    """It gets what was kept, and is told that it is not all."""
    agent = own_agent
    fds = agent.open_fds()
    watch = Watch(agent, here).start()
    limit = int(open("/proc/sys/fs/inotify/max_queued_events").read())
    # More than the sockets take, some 12 000 events, and then the kernel's queue.
    watch.conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    name = "n" * 250
    for i in range(10_000 + limit // 2):
        os.close(os.open(here / f"{name}{i % 10}", os.O_CREAT | os.O_WRONLY))
        os.unlink(here / f"{name}{i % 10}")
    with pytest.raises(RpcError) as e:
        while watch.next() is not None:
            pass
    assert e.value.code == "data_loss" and "lost" in e.value.message
    assert agent.status("VmHWM") < 16384
    watch.close()
    wait_until(lambda: agent.open_fds() <= fds, "all is closed")


def test_watcher_to_be_asked(agent, here):
    watcher = agent.fs("CreateWatcher", {"path": str(here), "recursive": True})["watcherId"]

    def events():
        return [f"{e['type'].removeprefix('EVENT_TYPE_')} {e['name']}" for e in
                agent.fs("GetWatcherEvents", {"watcherId": watcher})["events"]]

    assert events() == []
    (here / "d").mkdir()
    (here / "d" / "f").write_bytes(b"x")
    assert set(events()) == {"CREATE d", "CREATE d/f", "WRITE d/f"}
    assert events() == []
    for i in range(50):
        (here / f"{i}").touch()
        assert f"CREATE {i}" in events()
    assert agent.fs("RemoveWatcher", {"watcherId": watcher}) == {}
    for method in ("GetWatcherEvents", "RemoveWatcher"):
        fails("not_found", agent, method, {"watcherId": watcher}, watcher)
    fails("not_found", agent, "GetWatcherEvents", {})


def test_watcher_that_is_not_asked(own_agent, here):
    agent = own_agent
    fds = agent.open_fds()
    watcher = agent.fs("CreateWatcher", {"path": str(here)})["watcherId"]
    name = "n" * 250
    for _ in range(40):
        for i in range(500):
            os.close(os.open(here / f"{name}{i}", os.O_CREAT | os.O_WRONLY))
            os.unlink(here / f"{name}{i}")
        agent.request("GET", "/health")
    kept = agent.fs("GetWatcherEvents", {"watcherId": watcher})["events"]
    assert 5_000 < len(kept) < 20_000 and kept[0]["type"] == "EVENT_TYPE_CREATE"
    fails("data_loss", agent, "GetWatcherEvents", {"watcher_id": watcher}, "lost")
    wait_until(lambda: agent.open_fds() <= fds, "what has failed holds nothing")
    assert agent.fs("RemoveWatcher", {"watcherId": watcher}) == {}


def test_watchers_are_limited(own_agent, here):
    agent = own_agent
    fds = agent.open_fds()
    watchers = [agent.fs("CreateWatcher", {"path": str(here)})["watcherId"] for _ in range(64)]
    assert len(set(watchers)) == 64
    fails("resource_exhausted", agent, "CreateWatcher", {"path": str(here)}, "64")
    for watcher in watchers[:-3]:  # some are left to the end of the agent
        agent.fs("RemoveWatcher", {"watcherId": watcher})
    wait_until(lambda: agent.open_fds() <= fds + 3, "their descriptors are closed")


def test_many_watches_that_vanish(own_agent, here):
    agent = own_agent
    fds = agent.open_fds()
    for i in range(40):
        watch = Watch(agent, here, recursive=True)
        if i % 2:
            watch.start()
        (here / f"f{i}").touch()
        watch.close()
    wait_until(lambda: agent.open_fds() <= fds, "all is closed")


# The rest


def test_metrics(agent):
    response, data = agent.request("GET", "/metrics")
    first = json.loads(data)
    assert response.status == 200 and set(first) == {
        "ts", "cpu_count", "cpu_used_pct", "mem_total", "mem_used", "mem_cache", "mem_total_mib",
        "mem_used_mib", "disk_used", "disk_total"}
    assert abs(first["ts"] - time.time()) < 5 and first["cpu_count"] == os.cpu_count()
    assert 0 < first["mem_used"] < first["mem_total"] == os.sysconf("SC_PAGE_SIZE") * \
        os.sysconf("SC_PHYS_PAGES")
    assert first["mem_total_mib"] == first["mem_total"] >> 20
    disk = os.statvfs("/")
    assert first["disk_total"] == disk.f_blocks * disk.f_frsize > first["disk_used"] > 0
    end = time.monotonic() + 0.3
    while time.monotonic() < end:
        pass
    second = json.loads(agent.request("GET", "/metrics")[1])
    assert 5 < second["cpu_used_pct"] <= 100
    assert re.fullmatch(r"\d+(\.\d\d?)?", str(second["cpu_used_pct"]))


@pytest.mark.usefixtures("no_sanitizers")
def test_idle_after_work_and_small(own_agent, here):
    agent = own_agent
    watch = Watch(agent, here, recursive=True).start()
    watcher = agent.fs("CreateWatcher", {"path": str(here)})["watcherId"]
    agent.write(here / "f", b"x" * 1_000_000)
    agent.read(here / "f")
    watch.until("CREATE", "f")
    agent.fs("GetWatcherEvents", {"watcherId": watcher})
    time.sleep(0.3)

    def switches():
        total = 0
        for task in os.listdir(f"/proc/{agent.process.pid}/task"):
            with open(f"/proc/{agent.process.pid}/task/{task}/status") as f:
                total += int(re.search(r"^voluntary_ctxt_switches:\s*(\d+)", f.read(), re.M)[1])
        return total

    before = switches()
    time.sleep(1.5)
    assert switches() == before
    assert agent.status("VmRSS") < 4096
    watch.close()


def test_at_once(agent, here):
    """Uploads, downloads, listings and watches side by side."""
    failures = []

    def work(i):
        try:
            data = random.Random(i).randbytes(700_000)
            for _ in range(5):
                agent.write(here / str(i) / "f", data)
                assert agent.read(here / str(i) / "f") == data
                assert names(agent, here / str(i)) == ["f"]
                agent.fs("Remove", {"path": f"{here}/{i}"})
        except Exception as e:  # noqa: BLE001 # told in the main thread
            failures.append(e)

    watch = Watch(agent, here, recursive=True).start()
    threads = [threading.Thread(target=work, args=(i,)) for i in range(12)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert failures == []
    (here / "end").touch()
    watch.until("CREATE", "end")
    watch.close()
