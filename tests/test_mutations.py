"""The list of mutations and the program that applies them."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections import defaultdict
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parent.parent
MUTATIONS = tomllib.loads((TOP / "tests/mutations.toml").read_text(encoding="utf-8"))["mutation"]

SOURCE = """\
def double(number):
    return 2 * number


def halve(number):
    return number / 2
"""
TESTS = """\
import pytest
from runtime.numbers import double, halve

def test_double():
    assert double(3) == 6

@pytest.mark.parametrize("number", [0, 2])
def test_halve(number):
    assert halve(number) == number / 2

def test_of_nothing():
    assert double(0) == 0

def test_that_fails():
    assert double(1) == 1

def test_elsewhere():
    pytest.skip("needs a machine of another kind")

def test_with_a_hard_end():
    import os
    if double(3) != 6:
        os._exit(70)
"""


def functions_of(path: Path) -> set[str]:
    """Names of tests at the top of a file; a state machine's is assigned."""
    found = set()
    for one in ast.parse(path.read_bytes()).body:
        if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(one.name)
        elif isinstance(one, ast.Assign):
            found.update(target.id for target in one.targets if isinstance(target, ast.Name))
    return found


def test_every_mutation_can_be_applied_and_names_a_test_that_exists() -> None:
    edits = defaultdict(list)
    for one in MUTATIONS:
        source = (TOP / one["file"]).read_text(encoding="utf-8")
        assert source.count(one["find"]) == 1, (one["promise"], one["file"], one["find"])
        changed = source.replace(one["find"], one["replace"])
        assert changed != source, one
        if one["file"].endswith(".py"):
            compile(changed, one["file"], "exec")
        module, _, name = one["test"].partition("::")
        assert not name or name.partition("[")[0] in functions_of(TOP / module), (one["promise"], one["test"])
        edits[one["file"], one["find"], one["replace"], one["test"]].append(one["promise"])
    assert [promises for promises in edits.values() if len(promises) > 1] == []


@pytest.mark.integration
def test_each_mutation_is_told_as_what_it_came_to(tmp_path: Path) -> None:
    for folder in ("protocol", "runtime", "actors", "tests", "scripts"):
        (tmp_path / folder).mkdir()
    shutil.copy(TOP / "scripts/mutations", tmp_path / "scripts/mutations")
    (tmp_path / "runtime/numbers.py").write_text(SOURCE)
    (tmp_path / "tests/test_numbers.py").write_text(TESTS)
    doubled, halved = "2 * number", "number / 2"
    entries = [
        ("A1", doubled, "3 * number", "test_double", "red"),
        ("A2", halved, "number / 3", "test_halve", "red"),
        ("A3", doubled, "3 * number", "test_of_nothing", "SURVIVED"),
        ("A4", doubled, "3 * number", "test_that_fails", "UNSOUND"),
        ("A5", doubled, "3 * number", "test_elsewhere", "skipped"),
        ("A6", "return", "yield", "test_double", "UNSOUND"),
        ("A7", doubled, "2 * (number", "test_double", "UNSOUND"),
        ("A8", doubled, "3 * number", "test_of_another_name", "UNSOUND"),
        ("A9", doubled, "3 * number", "test_with_a_hard_end", "red"),
    ]
    (tmp_path / "tests/mutations.toml").write_text(
        "".join(
            f'[[mutation]]\npromise = "{promise}"\nfile = "runtime/numbers.py"\nfind = "{find}"\nreplace = "{replace}"\n'
            f'test = "tests/test_numbers.py::{test}"\n'
            for promise, find, replace, test, _ in entries
        )
    )
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    command = [sys.executable, "scripts/mutations", "--jobs", "2", "--json", "report.json"]
    # Neither the settings nor the plug-ins of the tests that this one is among.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV", "CI"))}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1, done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert [(one["promise"], one["outcome"]) for one in report] == [(one[0], one[4]) for one in entries], done.stdout
    reasons = {one["promise"]: one["reason"] for one in report}
    assert "assert 9 == 6" in reasons["A1"]
    assert "not green to begin with" in reasons["A4"]
    assert "another kind" in reasons["A5"]
    assert "2 times" in reasons["A6"]
    assert "no Python" in reasons["A7"]
    assert "no such test" in reasons["A8"]
    assert "70" in reasons["A9"]
    assert "3 of 9 mutations turned their test red" in done.stdout
    assert (tmp_path / "runtime/numbers.py").read_text() == SOURCE
    done = subprocess.run(
        [*command, "A2", "A3", "--again", "report.json"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, "0 of 1 mutations" in done.stdout) == (1, True), done.stdout
