"""Which tests count for branch coverage: those that reach most of the code; the others run at full speed.

Tracing doubles the processor time of a test on Python 3.11, and every process that it starts begins a third of a second later. The gate
is the same: what only an unmeasured test reaches counts as not covered. A test file of one of these folders is a whole program
seen from outside, and what it runs has tests of its own below.
"""

from __future__ import annotations

import os
from collections.abc import Generator

import coverage
import pytest

UNMEASURED = (
    "tests/clients/",
    "tests/console/",
    "tests/fuzzing/",
    "tests/inference/promises/",
    "tests/javascript/",
    "tests/notifications/test_push_page.py",
    "tests/responses/",
    "tests/rest/test_continue_cli.py",
    "tests/rest/test_forced_calls",
    "tests/rest/test_openai_node.py",
    "tests/system/",
    "tests/test_",
)
"""How the id of a test begins. `scripts/test` fails where the rest leaves too much uncovered."""
PASSED_ON = "COVERAGE_PROCESS_CONFIG"
"""Variable by which coverage.py reaches the processes that a test starts."""


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Lay the measurement aside for one test with its fixtures, here and in what it starts."""
    measured = coverage.Coverage.current()
    if measured is None or not item.nodeid.startswith(UNMEASURED):
        return (yield)
    passed_on = os.environ.pop(PASSED_ON, None)
    measured.stop()
    try:
        return (yield)
    finally:
        measured.start()
        if passed_on is not None:
            os.environ[PASSED_ON] = passed_on
