"""Under ``CI=true`` a skipped test fails the run, save for what no CI machine has: a GPU and macOS."""

from __future__ import annotations

import os

import pytest

from tests.failed_tests import write_failed_tests

ALLOWED = ("needs a GPU", "needs macOS")
SKIPPED = 7
"""Exit status of a run with other skips; none of pytest's own, so that `scripts/test` does not take it for failed tests alone."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the skips that CI does not forgive, and write the names of what failed where they are wanted."""
    write_failed_tests(terminalreporter)
    for report in _unforgiven(terminalreporter):
        terminalreporter.write_line(f"SKIPPED IN CI: {report.nodeid}: {report.longrepr[2]}", red=True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Give a run with such skips a status of its own, whatever its tests said."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and _unforgiven(reporter):
        session.exitstatus = SKIPPED


def _unforgiven(reporter: pytest.TerminalReporter) -> list[pytest.TestReport]:
    if os.environ.get("CI") != "true":
        return []
    skipped = reporter.stats.get("skipped", [])
    return [one for one in skipped if not any(reason in str(one.longrepr) for reason in ALLOWED)]
