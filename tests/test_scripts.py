"""Programs for people that CI does not run as a whole: they start at least, so that a name that moved is noticed here."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"
PROGRAMS = [*sorted(SCRIPTS.glob("bench_*")), SCRIPTS / "soak", SCRIPTS / "fuzz"]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda one: one.name)
def test_a_program_for_people_says_what_it_takes(program: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(program), "--help"], check=False, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: ")
