# SPDX-License-Identifier: Apache-2.0
"""The real `e2b` packages from npm against a real vivd: one test here for each of theirs.

The tests are in *.test.mjs, written for node's own runner; pending.json names those that cannot pass yet,
and why. Such a test must fail: when it begins to pass, it has to leave the table.
"""

import concurrent.futures

import pytest

import sdk

FILES_AT_ONCE = 2


def cases():
    pending = sdk.pending()
    for version in sdk.VERSIONS:
        for name in sdk.tests():
            why = pending.get(name)
            marks = [pytest.mark.xfail(strict=True, reason=why)] if why else []
            yield pytest.param(version, name, id=f"{version}-{name}", marks=marks)


@pytest.fixture(scope="session")
def results(server, packages):
    """What each test gave, by version and name; the files run a few at a time."""
    parts = sorted({name.split("/")[0] for name in sdk.tests()})
    with concurrent.futures.ThreadPoolExecutor(FILES_AT_ONCE) as pool:
        jobs = {}
        for version, package in sdk.VERSIONS.items():
            status, box = server.instance.create()
            assert status == 201, box
            env = server.env(packages, package, box["sandboxID"])
            for part in parts:
                jobs[version, part] = pool.submit(sdk.run_file, packages, part, env)
        return {(version, f"{part}/{name}"): result for (version, part), job in jobs.items()
                for name, result in job.result().items()}


@pytest.mark.parametrize("version, name", cases())
def test_sdk(results, version, name):
    assert (version, name) in results, f"{name} did not run"
    failure = results[version, name]
    assert failure is None, failure


def test_each_test_of_the_files_is_known(results):
    known = set(sdk.tests())
    assert {name for _, name in results} - known == set()


def test_the_table_of_pending_tests_names_tests():
    assert set(sdk.pending()) - set(sdk.tests()) == set()
