# SPDX-License-Identifier: Apache-2.0
"""What `make install` puts where, and whether it works there: completions, service, group, pages."""

import contextlib
import fcntl
import json
import os
import pathlib
import pty
import re
import select
import shutil
import socket
import stat
import struct
import subprocess
import sys
import termios
import time

import pytest
import vivarium
from receiver import Receiver

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = sorted(p.name.removesuffix(".scd") for p in (ROOT / "doc/man").glob("*.scd"))
VERBS = [p[len("viv-") : -len(".1")] for p in PAGES if p.startswith("viv-") and p.endswith(".1")]
BUILD = pathlib.Path(os.environ.get("VIV_BUILD", ROOT / "build"))
# viv-hook is built only where libcurl is.
LIBEXEC = tuple(n for n in ("viv-agent", "viv-build", "viv-hook", "viv-tls") if (BUILD / "src" / n).exists())
SHIM = "viv-vmm-shim.so"
CONFINED = pathlib.Path(__file__).parent / "confined.py"


def need(program):
    if shutil.which(program) is None:
        pytest.skip(f"{program} is missing")


def meson_options(build):
    out = vivarium.run("meson", "introspect", "--buildoptions", str(build), check=True).stdout
    return {o["name"]: o["value"] for o in json.loads(out)}


def below(directory):
    return sorted(str(p.relative_to(directory)) for p in directory.rglob("*") if not p.is_dir())


class Installation:
    def __init__(self, build, destdir):
        self.build, self.destdir = build, destdir
        self.options = meson_options(build)
        self.prefix = destdir / self.options["prefix"].lstrip("/")

    def dir(self, name):
        return self.prefix / self.options[name]

    @property
    def unit(self):
        return self.prefix / "lib/systemd/system/vivd.service"

    @property
    def pause_unit(self):
        return self.prefix / "lib/systemd/system/vivd-pause.service"

    @property
    def bash(self):
        return self.dir("datadir") / "bash-completion/completions/viv"

    def expected(self):
        files = [self.dir("bindir") / "viv", self.dir("bindir") / "vivd",
                 *(self.dir("libexecdir") / "vivarium" / name for name in (*LIBEXEC, SHIM)), self.unit,
                 self.pause_unit, self.bash,
                 self.prefix / "lib/sysusers.d/vivarium.conf",
                 self.dir("datadir") / "doc/vivarium/vivd.conf.example",
                 self.dir("datadir") / "zsh/site-functions/_viv"]
        if shutil.which("scdoc"):
            files += [self.dir("mandir") / f"man{page[-1]}" / page for page in PAGES]
        return files


@contextlib.contextmanager
def install(build, destdir):
    """Installs below a directory; the log of a real installation, which uninstall reads, stays."""
    need("meson")
    log = build / "meson-logs" / "install-log.txt"
    before = log.read_bytes() if log.exists() else None
    try:
        vivarium.run("meson", "install", "-C", str(build), "--no-rebuild", "--destdir", str(destdir), check=True)
        yield Installation(build, destdir)
    finally:
        if before is None:
            log.unlink(missing_ok=True)
        else:
            log.write_bytes(before)


@pytest.fixture(scope="module")
def installed(build, tmp_path_factory):
    with install(build, tmp_path_factory.mktemp("destdir")) as installation:
        yield installation


def test_files(installed):
    found = {installed.destdir / p for p in below(installed.destdir)}
    assert found == set(installed.expected())
    for path in found:
        mode = stat.S_IMODE(path.stat().st_mode)
        program = path.name in ("viv", "vivd", *LIBEXEC, SHIM) and path != installed.bash
        assert mode == (0o755 if program else 0o644), (path, oct(mode))


def test_programs_run(installed):
    for name in ("viv", "vivd"):
        r = vivarium.run(str(installed.dir("bindir") / name), "--version", env={})
        assert r.returncode == 0 and name in r.stdout, r.stderr
    for name in LIBEXEC:
        r = vivarium.run(str(installed.dir("libexecdir") / "vivarium" / name), "--version")
        assert r.returncode == 0, r.stderr


def test_vivd_looks_for_the_installed_agent(installed):
    r = vivarium.run(str(installed.dir("bindir") / "vivd"), "config", "--config=/dev/null", env={})
    agent = re.search(r"^agent = (\S+)", r.stdout, re.M)[1]
    options = installed.options
    assert agent == f"{options['prefix']}/{options['libexecdir']}/vivarium/viv-agent"


def test_pages_are_shown(installed):
    need("scdoc")
    need("man")
    for page in PAGES:
        path = installed.dir("mandir") / f"man{page[-1]}" / page
        r = vivarium.run("man", "--warnings", "-l", str(path), env={"PATH": os.environ["PATH"],
                                                                   "LC_ALL": "C.UTF-8", "MANPAGER": "cat"})
        assert (r.returncode, r.stderr) == (0, ""), page
        assert r.stdout.startswith(f"{page[:-2]}({page[-1]})"), page


def test_uninstall_leaves_no_file(build, tmp_path):
    with install(build, tmp_path):
        assert below(tmp_path) != []
        r = vivarium.run("ninja", "-C", str(build), "uninstall")
        assert r.returncode == 0, r.stdout + r.stderr
        assert below(tmp_path) == []


# The service.


def test_the_unit_names_the_installed_vivd(installed):
    options = installed.options
    text = installed.unit.read_text()
    assert f"\nExecStart={options['prefix']}/{options['bindir']}/vivd\n" in text
    assert not re.search(r"@\w+@", text)
    text = installed.pause_unit.read_text()
    assert f"\nExecStop={options['prefix']}/{options['bindir']}/viv pause --all\n" in text


def test_systemd_accepts_the_unit(installed, tmp_path):
    need("systemd-analyze")
    unit = tmp_path / "vivd.service"
    text = re.sub(r"^ExecStart=.*$", f"ExecStart={installed.build}/src/vivd", installed.unit.read_text(),
                  flags=re.M)
    unit.write_text(text)
    pause = tmp_path / "vivd-pause.service"
    pause.write_text(re.sub(r"^ExecStop=\S+", f"ExecStop={installed.build}/src/viv", installed.pause_unit.read_text(),
                            flags=re.M))
    r = vivarium.run("systemd-analyze", "verify", "--man=no", str(unit), str(pause))
    assert [line for line in r.stderr.splitlines() if "vivd" in line] == []


def test_the_unit_keeps_the_mount_namespace(installed):
    """Each of these would hide the network namespaces' names in /run/netns (see the unit)."""
    keys = re.findall(r"^(\w+)=", installed.unit.read_text(), re.M)
    assert not {k for k in keys if re.match(
        r"Private(Tmp|Devices|Mounts|IPC)|MountFlags|Protect(System|Home|Proc|KernelTunables|KernelModules|"
        r"KernelLogs|ControlGroups)|ProcSubset|(ReadWrite|ReadOnly|Inaccessible|Exec|NoExec)Paths|"
        r"Bind(ReadOnly)?Paths|Root\w+|TemporaryFileSystem|MountImages|ExtensionImages|DynamicUser|"
        r"MemoryDenyWriteExecute|RestrictNamespaces", k)}


def test_sysusers_makes_the_group(installed, tmp_path):
    need("systemd-sysusers")
    config = installed.prefix / "lib/sysusers.d/vivarium.conf"
    (tmp_path / "etc").mkdir()
    r = vivarium.run("systemd-sysusers", f"--root={tmp_path}", "-", input=config.read_text())
    assert r.returncode == 0, r.stderr
    assert re.search(r"^vivarium:", (tmp_path / "etc/group").read_text(), re.M)


@pytest.fixture(scope="module")
def service(installed, prepared, tmp_path_factory):
    """A daemon under the restrictions of the unit, as far as they hold without systemd."""
    need("systemd-analyze")
    build = tmp_path_factory.mktemp("service")
    (build / "src").mkdir()
    (build / "src/viv").symlink_to(installed.build / "src/viv")
    start = build / "src/vivd"
    start.write_text("#!/bin/sh\n"
                     "export ASAN_OPTIONS=$ASAN_OPTIONS:detect_leaks=0  # that traces, which the unit forbids\n"
                     f"exec '{sys.executable}' '{CONFINED}' '{installed.unit}' '{installed.build}/src/vivd' \"$@\"\n")
    start.chmod(0o755)
    instance = vivarium.Instance(build, prepared, webhook_private="on")
    assert instance.start(), instance.log_text()
    yield instance
    instance.close()


def test_sandboxes_live_in_the_service(service):
    """Nothing that the unit takes away is needed to make, adopt, use, save and remove a sandbox, nor to tell of it."""
    receiver = Receiver()
    status = open(f"/proc/{service.process.pid}/status").read()
    assert re.search(r"^NoNewPrivs:\s1$", status, re.M) and re.search(r"^Seccomp:\s2$", status, re.M)
    hooked = "viv-hook" in LIBEXEC
    assert service.viv("webhook", "add", receiver.url).returncode == (0 if hooked else 1)
    assert service.viv("create", "--name", "served").returncode == 0, service.log_text()
    service.stop()
    assert service.start(), service.log_text()
    r = service.viv("exec", "served", "--", "sh", "-c", "dd if=/dev/zero of=x bs=1M count=4 && sync && id -un")
    assert (r.returncode, r.stdout) == (0, b"user\n"), r.stderr
    for verb in ("checkpoint", "pause", "resume"):
        assert service.viv(verb, "served").returncode == 0, (verb, service.log_text())
    assert service.viv("exec", "served", "--", "test", "-e", "x").returncode == 0
    assert service.viv("rm", "served").returncode == 0
    if hooked:
        told = [e["id"] for e in service.get("/events")]
        vivarium.wait_for(lambda: sorted(set(receiver.of())) == told, what="all was posted")
        assert service.viv("webhook", "rm", service.get("/events/webhooks")[0]["id"]).returncode == 0
    receiver.close()
    assert not re.search("level=(warning|error)", service.log_text()), service.log_text()


def test_the_doctor_sees_as_much_from_the_service(service, build, sanitizers):
    if sanitizers != "none":
        pytest.skip("each probe's leak sanitizer traces at its end, which the unit forbids")

    def verdicts(*argv):
        r = vivarium.run(*map(str, argv), "--json", env=service.env())
        assert r.returncode in (0, 1, 3), r.stderr
        return {(i["area"], i["name"]): i["verdict"] for i in json.loads(r.stdout)["items"]}

    outside = verdicts(build / "src/vivd", "doctor")
    assert outside and verdicts(build / "src/viv", "doctor").items() >= {
        k: v for k, v in outside.items() if k[0] != "leaks"}.items()


# Completions.


def complete(installed, *words, env=None):
    """What bash offers for the last of the words; "=" is a word of its own, as in bash."""
    script = (f'. "{installed.bash}"; viv=$1; shift; COMP_WORDS=("$viv" "$@"); COMP_CWORD=$#; '
              '_viv "$viv" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"; '
              '[ ${#COMPREPLY[@]} = 0 ] || printf "%s\\n" "${COMPREPLY[@]}"')
    r = vivarium.run("bash", "-u", "-c", script, "bash", str(installed.build / "src/viv"), *words,
                     env={"PATH": os.environ["PATH"], **(env or {})})
    assert (r.returncode, r.stderr) == (0, ""), r.stderr
    return r.stdout.split()


def test_bash_knows_the_completion(installed):
    r = vivarium.run("bash", "-c", f'. "{installed.bash}"; complete -p viv')
    assert (r.returncode, r.stdout.strip()) == (0, "complete -F _viv viv"), r.stderr


@pytest.mark.parametrize("words, offered", [
    ([""], VERBS),
    (["ru"], ["run"]),
    (["nothing"], []),
    (["--"], ["--socket", "--help", "--version"]),
    (["--socket", "/nowhere", "ve"], ["version"]),
    (["--socket", "=", "/nowhere", "ve"], ["version"]),
    (["webhook", "add", "--event", "ki"], ["killed"]),
    (["ls", "-"], ["--json", "-q", "--quiet", "--help"]),
    (["run", "--m"], ["--memory"]),
    (["run", "--name", "--m"], []),
    (["run", "--env", "A", "=", "b", "--k"], ["--keep"]),
    (["run", "--env", "A", "="], []),
    (["run", "--env", "VIV_TEST_"], ["VIV_TEST_ONE"]),
    (["run", "--", "-"], []),
    (["run", "ls", "-"], []),
    (["exec", "some", "-"], []),
    (["no-verb", ""], []),
])
def test_bash_completes(installed, words, offered):
    assert sorted(complete(installed, *words, env={"VIV_TEST_ONE": "1"})) == sorted(offered)


def test_bash_completes_files(installed, tmp_path):
    (tmp_path / "one.sock").touch()
    assert complete(installed, "--socket", f"{tmp_path}/o") == [f"{tmp_path}/one.sock"]


def test_bash_completes_sandboxes(installed, shared):
    ids = []
    for name in ("web-1", None):
        status, sandbox = shared.create(**({"name": name} if name else {}))
        assert status == 201, sandbox
        ids.append(sandbox["sandboxID"])
    by_run_dir = {"VIVARIUM_RUN_DIR": str(shared.run_dir)}
    by_socket = {"VIVARIUM_SOCKET": str(shared.run_dir / "vivd.sock")}
    for env in (by_run_dir, by_socket):
        assert sorted(complete(installed, "rm", "", env=env)) == sorted([*ids, "web-1"])
    assert complete(installed, "--socket", by_socket["VIVARIUM_SOCKET"], "exec", "we") == ["web-1"]
    assert complete(installed, "inspect", "web-1", "", env=by_run_dir) == []
    assert complete(installed, "rm", "web-1", "w", env=by_run_dir) == ["web-1"]
    assert complete(installed, "ls", "", env=by_run_dir) == []
    assert shared.viv("rm", *ids).returncode == 0


def test_bash_completion_starts_no_daemon(installed, tmp_path):
    """Neither without a socket nor with one that nobody listens on any more."""
    env = {"VIVARIUM_RUN_DIR": str(tmp_path), "VIVARIUM_STATE_DIR": str(tmp_path / "state")}
    assert complete(installed, "rm", "", env=env) == []
    assert below(tmp_path) == []
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(tmp_path / "vivd.sock"))
    assert complete(installed, "rm", "", env=env) == []
    assert [p for p in tmp_path.iterdir()] == [tmp_path / "vivd.sock"]


def test_bash_completion_is_clean(installed):
    need("shellcheck")
    r = vivarium.run("shellcheck", str(installed.bash))
    assert r.returncode == 0, r.stdout


def test_zsh_completion_parses(installed):
    need("zsh")
    path = installed.dir("datadir") / "zsh/site-functions/_viv"
    r = vivarium.run("zsh", "-n", str(path))
    assert (r.returncode, r.stderr) == (0, "")


def test_zsh_completion_is_found(installed):
    """compinit takes the command's name from the first line."""
    path = installed.dir("datadir") / "zsh/site-functions/_viv"
    assert path.read_text().startswith("#compdef viv\n")


def zsh(installed, typed, env=None):
    """What an interactive zsh shows after a line was typed on its terminal, TABs and all."""
    need("zsh")
    functions = installed.dir("datadir") / "zsh/site-functions"
    setup = (f"fpath=({functions} $fpath); path=({installed.build}/src $path); autoload -Uz compinit; "
             "compinit -u -D; zstyle ':completion:*' menu no; setopt no_beep list_rows_first; LISTMAX=0; PS1=")
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 200, 200, 0, 0))
    shell = subprocess.Popen(["zsh", "-f", "-i"], stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
                             env={"PATH": os.environ["PATH"], "TERM": "dumb", "LC_ALL": "C.UTF-8", **(env or {})})
    os.close(slave)
    try:
        say(master, f"{setup}\nprint be''gin\n", "begin")
        say(master, typed, None)
        return say(master, "\x15print e''nd\n", "end")
    finally:
        shell.kill()
        shell.wait()
        os.close(master)


def say(master, text, until):
    os.write(master, text.encode())
    shown, end = "", time.monotonic() + 60
    while until is not None and f"\n{until}\r" not in shown:
        assert select.select([master], [], [], end - time.monotonic())[0], f"no {until} in {shown!r}"
        shown += os.read(master, 65536).decode(errors="replace")
    return shown


def listed(shown):
    """The words that zsh lists, each at the beginning of a line, descriptions behind them."""
    return {word for line in shown.split("\r\n")[1:-1] for word in re.findall(r"^(\S+)|(?<= )(-\w) ", line)
            for word in word if word} - {"end"}


def test_zsh_completes_verbs_and_options(installed):
    assert {v for v in listed(zsh(installed, "viv \t")) if not v.startswith("viv")} == set(VERBS)
    assert "viv run " in zsh(installed, "viv ru\t")
    assert {"--json", "--quiet", "-q", "--help"} <= listed(zsh(installed, "viv ls -\t"))
    assert "viv run --mem" in zsh(installed, "viv run --mem\t")
    assert "-- memory" not in zsh(installed, "viv run -- --m\t")


def test_zsh_completes_sandboxes(installed, shared, tmp_path):
    for name in ("web-1", "web-2"):
        assert shared.create(name=name)[0] == 201
    env = {"VIVARIUM_RUN_DIR": str(shared.run_dir)}
    assert {"web-1", "web-2"} <= set(zsh(installed, "viv rm \t", env=env).split())
    assert "viv exec web-1 " in zsh(installed, "viv exec web-1\t", env=env)
    assert "web-1" not in zsh(installed, "viv rm \t", env={"VIVARIUM_RUN_DIR": str(tmp_path)})
    assert below(tmp_path) == []
    assert shared.viv("rm", "web-1", "web-2").returncode == 0
