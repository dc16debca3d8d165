# SPDX-License-Identifier: Apache-2.0
"""What is wrong gets one clear line that names it, the right code, and leaves nothing behind."""

import os
import shutil
import socket
import subprocess
import tempfile
import time

import pytest
import vivarium


@pytest.fixture(autouse=True)
def nothing_is_left(shared):
    before = vivarium.inventory(shared, shared.tag)
    yield
    assert vivarium.inventory(shared, shared.tag) == before


@pytest.mark.parametrize("options,words", [
    (["--template", "nope"], ["template", "nope"]),
    (["--template", "../x"], ["template", "../x"]),
    (["--cpus", "0"], ["--cpus 0"]),
    (["--cpus", "100000"], ["cpus", "100000"]),
    (["--memory", "1M"], ["memory", "1"]),
    (["--memory", "0"], ["--memory 0"]),
    (["--memory", "900T"], ["memory"]),
    (["--memory", "500G"], ["memory", "host"]),
    (["--disk", "10M"], ["disk", "10", "base"]),
    (["--disk", "99999999999T"], ["disk"]),
    (["--name", "Not Good"], ["name", "Not Good"]),
    (["--env", "=x"], ["env"]),
    (["--template", ""], ["--template"]),
    (["--bogus"], ["viv run:", "bogus"]),
])
def test_bad_options(shared, options, words):
    r = shared.viv("run", *options, "--", "true")
    assert r.returncode in (2, 125)
    first = r.stderr.decode().splitlines()[0].lower()
    for word in words:
        assert word.lower() in first, first


def test_duplicate_name(shared):
    assert shared.viv("create", "--name", "twin").returncode == 0
    r = shared.viv("create", "--name", "twin")
    assert r.returncode == 125 and b"twin" in r.stderr
    assert shared.create(name="twin")[0] == 409
    assert shared.viv("rm", "twin").returncode == 0


@pytest.mark.parametrize("verb", [["exec", "nobody", "--", "true"], ["inspect", "nobody"],
                                  ["rm", "nobody"], ["logs", "nobody"]])
def test_unknown_sandbox(shared, verb):
    r = shared.viv(*verb)
    assert r.returncode in (1, 125)
    assert r.stderr.count(b"\n") == 1 and b"nobody" in r.stderr


@pytest.mark.parametrize("argv", [[], ["nonsense"], ["run"], ["run", "--"], ["exec"], ["inspect"], ["rm"],
                                  ["ls", "x"], ["version", "x"], ["version", "--x"], ["logs", "-x", "y"],
                                  ["run", "-n", "x", "--", "true"], ["create", "-t", "base"]])
def test_wrong_usage(shared, argv):
    r = shared.viv(*argv)
    assert r.returncode == 2 and r.stderr and not r.stdout
    said = r.stderr.decode().splitlines()[0]
    verb = argv[0] if argv and argv[0] != "nonsense" else ""
    assert said.startswith(f"viv {verb}: " if verb else "viv"), said


@pytest.mark.parametrize("body,word", [
    ("", "JSON"), ("{", "JSON"), ("[]", "object"), ('"x"', "object"), ("{}", "templateID"),
    ('{"templateID": 5}', "templateID"), ('{"templateID": "base", "timeout": 0}', "timeout"),
    ('{"templateID": "base", "timeout": -1}', "timeout"),
    ('{"templateID": "base", "timeout": "x"}', "timeout"),
    ('{"templateID": "base", "metadata": {"a": 1}}', "metadata"),
    ('{"templateID": "base", "envVars": {"A=B": "1"}}', "A=B"),
    ('{"templateID": "base", "vivarium": {"color": 1}}', "vivarium.color"),
    ('{"templateID": "base", "vivarium": {"cpus": 1.5}}', "cpus"),
    ('{"templateID": "base", "vivarium": []}', "vivarium"),
    ('{"templateID": "base", "autoPause": 1}', "autoPause"),
    ('{"templateID": "base", "network": {"denyOut": ["a.example"]}}', "network.denyOut"),
    ('{"templateID": "base", "volumeMounts": [{"name": "a", "path": "/a"}]}', "volumeMounts"),
    ('{"templateID": "base", "templateID": "base"}', "duplicate"),
])
@pytest.mark.parametrize("path", ["/sandboxes", "/v2/sandboxes"])
def test_bad_create_bodies(shared, path, body, word):
    status, reply = shared.request("POST", path, body, {"Content-Type": "application/json"})
    assert status == 400 and reply["code"] == 400
    assert word in reply["message"]


def test_output_that_cannot_be_written(shared):
    assert shared.viv("create", "--name", "full", "--memory", "256M").returncode == 0
    for verb in (["ls"], ["logs", "full"], ["exec", "full", "--", "echo", "x"]):
        with open("/dev/full", "w") as full:
            p = shared.popen(*verb, stdout=full, stderr=subprocess.PIPE)
            _, err = p.communicate(timeout=60)
        assert p.returncode in (1, 125) and b"space" in err, (verb, p.returncode, err)
    assert shared.viv("rm", "full").returncode == 0


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "state=dead", "order=up",
                                   "nextToken=%00", "nextToken=NOPE", "state=%zz"])
def test_bad_list_queries(shared, query):
    status, reply = shared.request("GET", f"/v2/sandboxes?{query}")
    assert status == 400 and query.split("=")[0] in reply["message"]


def test_unknown_paths_and_methods(shared):
    assert shared.request("GET", "/nope")[0] == 404
    assert shared.request("PUT", "/v2/sandboxes")[0] == 405
    assert shared.request("GET", "/sandboxes/unknown0000000000000")[0] == 404
    assert shared.request("DELETE", "/sandboxes/unknown0000000000000")[0] == 404


@pytest.mark.parametrize("path", ["/sandboxes/%ff", "/sandboxes/%c3", "/%ff", "/sandboxes/" + "%c3%a4" * 100])
def test_names_that_are_no_text(shared, path):
    status, reply = shared.request("GET", path)
    assert status == 404 and reply["code"] == 404


def test_a_name_that_is_an_id(shared):
    """Whatever others are called, an id means the sandbox of this id."""
    first = shared.create()[1]["sandboxID"]
    second = shared.create(name=first)[1]["sandboxID"]
    third = shared.create()[1]["sandboxID"]
    fourth = shared.create(name=third)[1]["sandboxID"]
    assert shared.get(f"/sandboxes/{first}")["sandboxID"] == first
    assert shared.get(f"/sandboxes/{third}")["sandboxID"] == third
    assert shared.viv("rm", first, second, third, fourth).returncode == 0


@pytest.mark.parametrize("headers,status", [
    ({"E2b-Sandbox-Id": "i123"}, 400), ({"E2b-Sandbox-Port": "49983"}, 400),
    ({"E2b-Sandbox-Id": "i1", "E2b-Sandbox-Port": "x"}, 400),
    ({"E2b-Sandbox-Id": "i1", "E2b-Sandbox-Port": "70000"}, 400),
    ({"E2b-Sandbox-Id": "iaaaaaaaaaaaaaaaaaaa", "E2b-Sandbox-Port": "49983"}, 502),
])
def test_bad_proxy_headers(shared, headers, status):
    got, reply = shared.request("GET", "/health", headers=headers)
    assert got == status and reply["code"] == status


@pytest.mark.parametrize("path", ["/init", "//init", "/%69nit", "/init/", "/INIT", "/init?x=1", "/freeze"])
def test_host_only_paths_are_not_proxied(shared, path):
    headers = {"E2b-Sandbox-Id": "iaaaaaaaaaaaaaaaaaaa", "E2b-Sandbox-Port": "49983"}
    assert shared.request("POST", path, "{}", headers)[0] == 404


@pytest.mark.parametrize("data", [
    b"GARBAGE\r\n\r\n", b"GET / HTTP/3.0\r\n\r\n", b"GET /\r\n\r\n", b"\x16\x03\x01\x02\x00",
    b"POST /sandboxes HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"GET / HTTP/1.1\r\nA : b\r\n\r\n", b"GET / HTTP/1.1\r\nA: b\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"A: " + b"x" * 40000 + b"\r\n\r\n",
])
def test_malformed_http(shared, data):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(15)
        s.connect(str(shared.run_dir / "vivd.sock"))
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
        reply = b""
        while piece := s.recv(65536):
            reply += piece
    assert reply == b"" or reply.startswith(b"HTTP/1.1 4") or reply.startswith(b"HTTP/1.1 5"), reply
    assert shared.request("GET", "/health")[0] == 204


def test_a_body_that_is_too_large(shared):
    status, _ = shared.request("POST", "/sandboxes", "x" * (2 << 20))
    assert status == 413


def test_second_daemon_on_one_directory(shared):
    r = subprocess.run([shared.build / "src" / "vivd"], env=shared.env(), capture_output=True, text=True)
    assert r.returncode != 0 and "another vivd" in r.stderr and str(shared.state) in r.stderr
    assert shared.request("GET", "/health")[0] == 204


@pytest.mark.parametrize("setting,value,word", [
    ("vmm", "nothing", "nothing"), ("disk", "nothing", "nothing"), ("default_cpus", "x", "default_cpus"),
    ("network_range", "10.0.0.0/30", "network_range"), ("log_level", "loud", "log_level"),
    ("listen", "localhost:3999", "such as 127.0.0.1:3999"),
    ("listen", "0.0.0.0:3999", "listen_public"), ("proxy_listen", "[::]:3998", "listen_public"),
    ("domain", "Box.Example.org", "lower case"), ("domain", "box.example.org:0", "lower case"),
    ("domain", ":8443", "lower case"), ("domain", "box.example.org:https", "lower case"),
])
def test_bad_settings(build, prepared, setting, value, word):
    instance = vivarium.Instance(build, prepared, **{setting: value})
    assert not instance.start()
    assert word in instance.log_text()
    del instance.settings[setting]
    instance.close()


def test_missing_vmm(make_instance):
    instance = make_instance(vmm_binary="/no/such/qemu")
    assert instance.start(), instance.log_text()
    r = instance.viv("run", "--", "true")
    assert r.returncode == 125 and b"/no/such/qemu" in r.stderr


def test_broken_vmm(make_instance):
    instance = make_instance(vmm_binary="/bin/false")
    assert instance.start(), instance.log_text()
    r = instance.viv("run", "--", "true")
    assert r.returncode == 125 and r.stderr


def test_corrupt_kernel(make_instance, prepared):
    instance = make_instance()
    (instance.state / "kernels").unlink()
    (instance.state / "kernels").mkdir()
    for version in (prepared / "kernels").iterdir():
        if version.is_dir():
            subprocess.run(["cp", "-r", version, instance.state / "kernels"], check=True)
            image = instance.state / "kernels" / version.name / "vmlinux"
            image.chmod(0o644)
            image.write_bytes(os.urandom(1 << 20))
    assert instance.start(), instance.log_text()
    r = instance.viv("run", "--memory", "256M", "--", "true")
    assert r.returncode == 125 and b"kernel" in r.stderr.lower(), r.stderr


def test_no_kernel(make_instance):
    instance = make_instance()
    (instance.state / "kernels").unlink()
    (instance.state / "kernels").mkdir()
    assert instance.start(), instance.log_text()
    r = instance.viv("run", "--", "true")
    assert r.returncode == 125 and b"vivd prepare" in r.stderr, r.stderr


def test_a_guest_that_never_comes_up(make_instance, tmp_path):
    """Its last console lines say why."""
    source = tmp_path / "init.c"
    source.write_text('#include <fcntl.h>\n#include <unistd.h>\n'
                      'int main(void) { const char s[] = "I am stuck\\n"; mknod("/c", 020600, 0x501);'
                      ' write(open("/c", 1), s, sizeof(s) - 1); for (;;) pause(); }\n')
    subprocess.run(["gcc", "-w", "-static", "-include", "sys/stat.h", "-o", tmp_path / "init", source], check=True)
    instance = make_instance(agent=tmp_path / "init", agent_start_timeout_s=6, tcg_timeout_factor=2)
    assert instance.start(), instance.log_text()
    r = instance.viv("run", "--", "true")
    assert r.returncode == 125 and b"agent" in r.stderr and b"I am stuck" in r.stderr


def test_a_guest_that_panics(make_instance):
    """It is told at once, not when the time is over."""
    instance = make_instance(agent="/bin/true", agent_start_timeout_s=60)
    assert instance.start(), instance.log_text()
    start = time.monotonic()
    r = instance.viv("run", "--", "true")
    assert r.returncode == 125 and b"Kernel panic" in r.stderr, r.stderr
    assert time.monotonic() - start < 45


def test_full_disk(make_instance):
    instance = make_instance(agent_start_timeout_s=5, tcg_timeout_factor=1)
    instance.on_small_disk(1)
    assert instance.start(), instance.log_text()
    filler = instance.state / "filler"
    filler.write_bytes(b"x" * (os.statvfs(instance.state).f_bavail * 4096 - 8192))
    r = instance.viv("run", "--", "true")
    assert r.returncode == 125 and (b"space" in r.stderr or b"full" in r.stderr), r.stderr
    filler.unlink()
    assert instance.viv("run", "--", "true").returncode in (0, 125)
    assert instance.get("/v2/sandboxes?all=true") == []


@pytest.mark.parametrize("argv,word", [(["run", "--json", "--", "true"], "json"), (["create", "--keep"], "keep")])
def test_options_of_the_other_verb(shared, argv, word):
    r = shared.viv(*argv)
    assert r.returncode == 2 and word in r.stderr.decode().splitlines()[0]


@pytest.mark.parametrize("argv,words", [
    ("template pool base -3", ["-3", "0 to 64"]),
    ("template pool base 65", ["65", "0 to 64"]),
    ("template warm --pool -1 base", ["-1", "0 to 64"]),
    ("template warm --pool x base", ["x", "0 to 64"]),
    ("run --restart always -- true", ["--restart always", "on-failure:N", "1000000"]),
    ("create --restart on-failure:0", ["--restart on-failure:0", "on-failure:N"]),
    ("create --idle 5m --on-idle stop", ["--on-idle stop", "pause or kill"]),
])
def test_values_that_options_cannot_have(shared, argv, words):
    r = shared.viv(*argv.split())
    line = r.stderr.decode().splitlines()[0]
    assert r.returncode == 2 and all(word in line for word in words), r.stderr


@pytest.mark.parametrize("which", ["VIVARIUM_STATE_DIR", "VIVARIUM_RUN_DIR"])
def test_a_directory_of_somebody_else(shared, tmp_path, which):
    (tmp_path / "theirs").write_text("x")
    tmp_path.chmod(0o755)
    own = tempfile.mkdtemp(prefix="viv-test-")
    env = {**shared.env(), "VIVARIUM_STATE_DIR": own, "VIVARIUM_RUN_DIR": f"{own}/run", which: str(tmp_path)}
    r = subprocess.run([shared.build / "src" / "vivd"], env=env, capture_output=True, text=True)
    shutil.rmtree(own)
    assert r.returncode == 1 and "holds other things" in r.stderr
    assert tmp_path.stat().st_mode & 0o777 == 0o755
