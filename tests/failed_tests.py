"""Names of the tests that failed, for `scripts/test`, which judges them again alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

VARIABLE = "FAILED_TESTS_FILE"
"""Names the file; one test a line, as pytest takes them from `@FILE`."""


def write_failed_tests(reporter: pytest.TerminalReporter) -> None:
    """Write the file if the variable is set; a test whose process died counts as failed."""
    place = os.environ.get(VARIABLE)
    if place:
        failed = [one.nodeid for kind in ("failed", "error") for one in reporter.stats.get(kind, [])]
        Path(place).write_text("".join(f"{name}\n" for name in dict.fromkeys(failed)), encoding="utf-8")
