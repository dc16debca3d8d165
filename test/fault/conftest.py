# SPDX-License-Identifier: Apache-2.0
"""Prints the fault matrix: of each operation's steps, which ways were run and how they ended."""

import pytest

from matrix import OPERATIONS, WAYS

SIGNS = {"passed": "+", "failed": "F", None: "."}
ORDER = [(o.name, f"{plan}.{step}") for o in OPERATIONS for plan, step in o.points]


class Matrix:
    """How cells ended, whichever process ran them: it is told by their reports."""

    def __init__(self):
        self.cells = {}

    def pytest_runtest_logreport(self, report):
        """A cell has failed if any part of its test has."""
        cell = dict(report.user_properties).get("cell")
        if cell is not None and (report.when == "call" or not report.passed):
            outcome = "failed" if report.failed else self.cells.get(tuple(cell), report.outcome)
            self.cells[tuple(cell)] = outcome

    def rows(self):
        """In the order in which operations meet their steps; others behind."""
        found = dict.fromkeys((operation, point) for operation, point, _ in self.cells)
        return sorted(found, key=lambda row: ORDER.index(row) if row in ORDER else len(ORDER))

    def pytest_terminal_summary(self, terminalreporter):
        if not self.cells:
            return
        terminalreporter.section("fault matrix")
        rows = self.rows()
        width = max(len(f"{operation}  {point}") for operation, point in rows)
        for number, way in enumerate(WAYS):
            terminalreporter.write_line(f"{' ' * width}  {'| ' * number}{way}")
        for operation, point in rows:
            signs = [SIGNS.get(self.cells.get((operation, point, way)), "s") for way in WAYS]
            terminalreporter.write_line(f"{operation}  {point}".ljust(width) + "  " + " ".join(signs))
        failed = sum(outcome == "failed" for outcome in self.cells.values())
        terminalreporter.write_line(f"cells {len(self.cells)} run, {failed} failed")


def pytest_configure(config):
    config.addinivalue_line("markers", "cell(operation, point, way): a cell of the fault matrix")
    config.pluginmanager.register(Matrix())


def pytest_collection_modifyitems(items):
    for item in items:
        mark = item.get_closest_marker("cell")
        if mark is not None:
            item.user_properties.append(("cell", list(mark.args)))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """For the fixture of a cell that failed, which ends its world."""
    report = (yield).get_result()
    item.failed = getattr(item, "failed", False) or report.failed
