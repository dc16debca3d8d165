# SPDX-License-Identifier: Apache-2.0
"""Static analysis: minutes of work for a change of one line, so only where VIV_ANALYSIS=1 asks for it."""

import concurrent.futures
import os
import shutil
import subprocess

import pytest

pytestmark = pytest.mark.skipif(os.environ.get("VIV_ANALYSIS") != "1", reason="set VIV_ANALYSIS=1")

JOBS = 2
# The build directory may be gcc's: clang is told to live with its flags. __NO_CTYPE: no macros for
# toupper() and tolower(), whose insides would count as ours.
TIDY = ["clang-tidy", "--quiet", "--extra-arg=-Wno-unknown-warning-option",
        "--extra-arg=-ftrivial-auto-var-init=uninitialized", "--extra-arg=-D__NO_CTYPE"]
# cppcheck 2.10 reads neither typeof nor jansson's loops: it is told how they look.
CPPCHECK = ["cppcheck", "--quiet", "--error-exitcode=1", "--std=c11", "--library=posix", "--max-configs=4",
            "--enable=warning,performance,portability", f"-j{JOBS}", "-D_GNU_SOURCE", "-D__typeof__(x)=auto",
            "-Djson_object_foreach(o,k,v)=while (next(o, &k, &v))",
            "-Djson_array_foreach(a,i,v)=while (next(a, &i, &v))",
            "--template={file}:{line}: {id}: {message}"]


def need(tool):
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")


def test_clang_tidy(root, build):
    need("clang-tidy")
    if not (build / "compile_commands.json").exists():
        pytest.skip(f"no compile_commands.json in {build}: configure it first")

    def check(path):
        r = subprocess.run([*TIDY, "-p", build, path], cwd=root, capture_output=True, text=True)
        return r.stdout if r.returncode != 0 else ""

    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        found = list(pool.map(check, sorted((root / "src").glob("*/*.c"))))
    assert "".join(found) == ""


def test_cppcheck(root, build):
    need("cppcheck")
    r = subprocess.run([*CPPCHECK, "--suppressions-list=tools/cppcheck-suppressions.txt", "-Isrc",
                        f"-I{build}", "src"], cwd=root, capture_output=True, text=True)
    assert r.stderr == "" and r.returncode == 0
