# SPDX-License-Identifier: Apache-2.0
"""The npm packages: what is installed, which tests drive them, and how these are run."""

import fcntl
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import xml.etree.ElementTree

HERE = pathlib.Path(__file__).resolve().parent
VERSIONS = {"2.51": "e2b", "2.45": "e2b-2.45"}
TEST = re.compile(r"""^(?:  )?test\((['"`])(.+?)\1, """, re.M)
ARCHITECTURES = {"x86_64": "x64", "aarch64": "arm64"}


class Server:
    """A daemon, and what its clients must know."""

    def __init__(self, instance, port, key):
        self.instance, self.port, self.key = instance, port, key
        self.url = f"http://127.0.0.1:{port}"

    def env(self, home, package, sandbox):
        keep = ("PATH", "HOME", "LANG", "TMPDIR")
        return {**{k: os.environ[k] for k in keep if k in os.environ},
                "E2B_API_URL": self.url, "E2B_SANDBOX_URL": self.url, "E2B_API_KEY": self.key,
                "SDK_HOME": str(home), "SDK_PACKAGE": package, "SDK_SANDBOX": sandbox}


class Unavailable(Exception):
    """Why the packages cannot be installed."""


def pending():
    """What does not work yet: the name of a test, and what it waits for."""
    return json.loads((HERE / "pending.json").read_text())


def table_of(text, name):
    """The keys of an object literal at the top of a test file."""
    body = re.search(rf"^const {name} = \{{\n(.*?)^\}}", text, re.M | re.S)[1]
    return [a or b for a, b in re.findall(r"^  (?:'([^']+)'|(\w+)): \[", body, re.M)]


def tests():
    """The tests' names, file/test, as their files say."""
    found = []
    for path in sorted(HERE.glob("*.test.mjs")):
        text = path.read_text()
        part = path.name.removesuffix(".test.mjs")
        for _, name in TEST.findall(text):
            where = re.search(r"\$\{name\}", name)
            if not where:
                found.append(f"{part}/{name}")
                continue
            table = re.findall(r"Object\.entries\((\w+)\)", text[:text.index(name)])[-1]
            found += [f"{part}/{name.replace('${name}', key)}" for key in table_of(text, table)]
    return found


def install(build):
    """Where the packages are, installed once per build directory and change of the lock file."""
    home = pathlib.Path(build) / "sdk"
    home.mkdir(parents=True, exist_ok=True)
    files = [HERE / name for name in ("package.json", "package-lock.json", ".npmrc")]
    want = hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()
    stamp = home / "installed"
    with open(home / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if stamp.exists() and stamp.read_text() == want:
            return home
        stamp.unlink(missing_ok=True)
        for f in files:
            shutil.copy(f, home)
        npm(home)
        stamp.write_text(want)
    return home


def npm(home):
    if shutil.which("npm") is None:
        raise Unavailable("npm is not installed")
    try:
        done = subprocess.run(["npm", "ci", "--ignore-scripts", "--no-progress",
                               "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=5000"],
                              cwd=home, text=True,
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=180)
    except subprocess.TimeoutExpired:
        raise Unavailable("npm did not install the packages within 180 s") from None
    if done.returncode != 0:
        errors = [l for l in done.stderr.splitlines() if re.match(r"npm (ERR!|error)", l)]
        text = "\n".join(errors)
        if re.search(r"ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT|ENETUNREACH|network", text):
            raise Unavailable(f"npm cannot be reached: {errors[0]}")
        raise AssertionError(f"npm ci failed:\n{done.stderr}")


def node(home):
    return home / "node_modules" / f"node-linux-{ARCHITECTURES[os.uname().machine]}" / "bin" / "node"


def run_file(home, part, env):
    """Runs the tests of a file; what each gave: None when it passed, else why it failed."""
    with tempfile.NamedTemporaryFile(suffix=".xml") as report:
        argv = [node(home), "--test", "--test-reporter=junit",
                f"--test-reporter-destination={report.name}", HERE / f"{part}.test.mjs"]
        done = subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=600)
        return results_of(report.name, done)


def results_of(report, done):
    try:
        root = xml.etree.ElementTree.parse(report).getroot()
    except xml.etree.ElementTree.ParseError:
        raise AssertionError(f"node gave no report\n{done.stdout}\n{done.stderr}") from None
    results = {}
    for case in root.iter("testcase"):
        failure = case.find("failure")
        name = case.get("name").replace("&quot;", '"')  # node escapes it once too often
        results[name] = None if failure is None else failure.text or failure.get("message")
    return results
