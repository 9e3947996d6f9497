"""Under ``CI=true`` a skipped test fails the run, save for what no CI machine has: a GPU and macOS."""

from __future__ import annotations

import os

import pytest

ALLOWED = ("needs a GPU", "needs macOS")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the skips that CI does not forgive."""
    for report in _unforgiven(terminalreporter):
        terminalreporter.write_line(f"SKIPPED IN CI: {report.nodeid}: {report.longrepr[2]}", red=True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Turn a green run with such skips into a failed one."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and _unforgiven(reporter) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _unforgiven(reporter: pytest.TerminalReporter) -> list[pytest.TestReport]:
    if os.environ.get("CI") != "true":
        return []
    skipped = reporter.stats.get("skipped", [])
    return [one for one in skipped if not any(reason in str(one.longrepr) for reason in ALLOWED)]
