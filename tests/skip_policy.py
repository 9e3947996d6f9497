"""Under ``CI=true`` a skipped test fails the run, save for what its machine cannot have: a table says what that is."""

from __future__ import annotations

import os
import sys

import pytest

from tests.failed_tests import write_failed_tests

ALLOWED: dict[str, tuple[str, ...]] = {
    # What no CI machine of either kind has.
    "": ("needs a GPU",),
    "linux": ("needs macOS",),
    "darwin": (
        # What the kernel does not tell, bound or have there.
        "is Linux's",
        "are Linux's",
        "needs Linux",
        "macOS has Accelerate",
        "elsewhere the system does not tell what a process holds",
        "macOS keeps no such count",
        "asks Linux what a process has mapped",
        "the kernel bounds no process's memory elsewhere",
        "macOS does not count who waits for a processor",
        "needs macOS's own way to",
        "looks into /proc",
        "mounting needs root on Linux",
        # Programs that the workflow installs on Linux alone.
        "systemd is not installed",
        "promtool is not installed",
        "is not installed; ./scripts/prepare_javascript does it",
        "no Chromium; ./scripts/prepare_javascript installs it",
        "node is missing",
        "PostgreSQL is not installed",
        "Redis is not installed",
    ),
}
"""Parts of reasons that a run in CI forgives, by ``sys.platform``; those under the empty name everywhere."""
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


def is_forgiven(reason: str, platform: str = sys.platform) -> bool:
    """Whether a machine of CI may skip a test for it."""
    return any(one in reason for one in (*ALLOWED[""], *ALLOWED.get(platform, ())))


def _unforgiven(reporter: pytest.TerminalReporter) -> list[pytest.TestReport]:
    if os.environ.get("CI") != "true":
        return []
    return [one for one in reporter.stats.get("skipped", []) if not is_forgiven(str(one.longrepr))]
