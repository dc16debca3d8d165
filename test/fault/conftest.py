# SPDX-License-Identifier: Apache-2.0
"""Prints the fault matrix: of each operation's steps, which ways were run and how they ended."""

import pytest

from matrix import WAYS

SIGNS = {"passed": "+", "failed": "F", None: "."}


def pytest_configure(config):
    config.addinivalue_line("markers", "cell(operation, point, way): a cell of the fault matrix")
    config.cells = {}


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A cell has failed if any part of its test has."""
    report = (yield).get_result()
    mark = item.get_closest_marker("cell")
    if mark is None or (report.when != "call" and report.passed):
        return
    item.failed = getattr(item, "failed", False) or report.failed
    cells = item.config.cells
    cells[mark.args] = "failed" if report.failed else cells.get(mark.args, report.outcome)


def pytest_terminal_summary(terminalreporter, config):
    cells = config.cells
    if not cells:
        return
    terminalreporter.section("fault matrix")
    rows = list(dict.fromkeys((operation, point) for operation, point, _ in cells))
    width = max(len(f"{operation}  {point}") for operation, point in rows)
    for number, way in enumerate(WAYS):
        terminalreporter.write_line(f"{' ' * width}  {'| ' * number}{way}")
    for operation, point in rows:
        signs = [SIGNS.get(cells.get((operation, point, way)), "s") for way in WAYS]
        terminalreporter.write_line(f"{operation}  {point}".ljust(width) + "  " + " ".join(signs))
    failed = sum(outcome == "failed" for outcome in cells.values())
    terminalreporter.write_line(f"cells {len(cells)} run, {failed} failed")
