"""`docs/guarantees.md`, the tests that it names and the mutation list say the same."""

from __future__ import annotations

import re
from pathlib import Path

from tests.test_mutations import MUTATIONS, functions_of

TOP = Path(__file__).resolve().parent.parent
ROW = re.compile(r"^\| (?P<identifier>[A-Z]{2}[0-9]+) \| (?P<promise>.+) \| `(?P<test>tests/[^`]+)` \|$")
PREFIX = re.compile(r"^## (?P<prefix>[A-Z]{2}): ")


def listed() -> list[tuple[str, str, str]]:
    """Section's prefix, identifier and test of every row."""
    rows, prefix = [], ""
    for line in (TOP / "docs/guarantees.md").read_text(encoding="utf-8").splitlines():
        if section := PREFIX.match(line):
            prefix = section["prefix"]
        elif line.startswith("| ") and not line.startswith("| id "):
            row = ROW.match(line)
            assert row is not None, f"not a row of `| ID | promise | test |`: {line}"
            rows.append((prefix, row["identifier"], row["test"]))
    return rows


def test_each_guarantee_has_an_identifier_of_its_own_in_its_section() -> None:
    identifiers = [identifier for _, identifier, _ in listed()]
    assert len(identifiers) == len(set(identifiers))
    assert [one for prefix, one, _ in listed() if not one.startswith(prefix)] == []


def test_each_guarantee_names_a_test_that_exists() -> None:
    missing = []
    for _, identifier, test in listed():
        file, _, function = test.partition("::")
        if not (TOP / file).is_file() or (function and function not in functions_of(TOP / file)):
            missing.append((identifier, test))
    assert missing == []


def test_a_mutation_that_cites_a_section_of_this_page_cites_one_of_its_rows() -> None:
    identifiers = {identifier for _, identifier, _ in listed()}
    prefixes = {prefix for prefix, _, _ in listed()}
    cited = {one["promise"] for one in MUTATIONS if one["promise"][:2] in prefixes and one["promise"][2:].isdigit()}
    assert cited - identifiers == set()


def test_each_test_that_the_map_of_tests_names_exists() -> None:
    text = (TOP / "tests/README.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[^`:]+\.py)::(\w+)`", text)
    assert len(named) > 40
    assert [one for one in named if one[1] not in functions_of(TOP / one[0])] == []
