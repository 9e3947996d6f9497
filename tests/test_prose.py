"""`scripts/check_prose`: what it finds, what it leaves alone, and that the tree is clean."""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest

TOP = Path(__file__).resolve().parent.parent
LIST = """\
# A comment.
[prose]
nobody => name the subject
    docs/old.md: history
on hand => "available"
[docstrings]
^whose => a noun or a verb
anew => "again"
[names]
Shelf => ModelRegistry
"""
SOURCE = '''\
"""Nobody reads a module's docstring in a terminal."""
__all__ = ["nobody"]

@click.command()
def ask() -> None:
    """Ask nobody."""
    name = "the value"
    """Of nobody."""
    raise ValueError(f"{name} is on
 hand")
'''.replace("\n hand", r"\n hand")


@pytest.fixture(scope="module")
def check() -> ModuleType:
    loader = SourceFileLoader("check_prose", str(TOP / "scripts" / "check_prose"))
    spec = importlib.util.spec_from_loader("check_prose", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["check_prose"] = module  # dataclasses look their module up
    loader.exec_module(module)
    return module


def test_nothing_retired_is_in_use(check: ModuleType) -> None:
    entries = check.read_list((TOP / check.LIST).read_text(encoding="utf-8"))
    found = []
    for path in check.tracked():
        file = TOP / path
        if file.suffix in check.TEXT_SUFFIXES and file.is_file():
            found += check.problems_of(path, file.read_text(encoding="utf-8", errors="replace"), entries)
    assert found == []


def test_an_exception_has_a_reason_and_covers_something(check: ModuleType) -> None:
    for entry in check.read_list((TOP / check.LIST).read_text(encoding="utf-8")):
        assert entry.instead
        for path, reason in entry.exceptions.items():
            assert reason.strip()
            assert list(TOP.glob(path)), f"{path} of {entry.words!r} matches no file"


def test_strings_and_the_help_of_commands_are_read_and_other_docstrings_are_not(check: ModuleType) -> None:
    entries = check.read_list(LIST)
    assert check.problems_of("actors/one.py", SOURCE, entries) == [
        "actors/one.py:6: 'nobody' is retired: name the subject",
        "actors/one.py:9: 'on\\n hand' is retired: \"available\"",
    ]
    assert check.problems_of("tests/one.py", SOURCE, entries) == []


def test_docstrings_are_read_at_their_opening_and_throughout(check: ModuleType) -> None:
    source = '''"""Begins anew."""
class Lease:
    """`Whose` turn it is."""
    until: float
    """Whose clock it is, is the server's business anew."""
    text = "Whose? Anew?"
'''
    entries = check.read_list(LIST)
    assert check.problems_of("runtime/one.py", source, entries) == [
        "runtime/one.py:1: 'anew' is retired: \"again\"",
        "runtime/one.py:3: '`Whose' is retired: a noun or a verb",
        "runtime/one.py:5: 'anew' is retired: \"again\"",
    ]
    assert check.problems_of("tests/one.py", source, entries) == []


def test_documents_are_read_across_lines_and_exceptions_are_kept(check: ModuleType) -> None:
    entries = check.read_list(LIST)
    text = "Nobody is\non\nhand, and onhand is no word.\n"
    assert check.problems_of("docs/new.md", text, entries) == [
        "docs/new.md:1: 'Nobody' is retired: name the subject",
        "docs/new.md:2: 'on\\nhand' is retired: \"available\"",
    ]
    assert check.problems_of("docs/old.md", "Nobody.", entries) == []
    assert check.problems_of("docs/reference/cli.md", "Nobody.", entries) == []


def test_names_are_whole_words_in_their_case_anywhere(check: ModuleType) -> None:
    entries = check.read_list(LIST)
    assert check.problems_of("scripts/x", "shelf Shelves\nShelf(1)", entries) == [
        "scripts/x:2: 'Shelf' is retired: ModelRegistry"
    ]
    assert check.problems_of(check.LIST, "Shelf", entries) == []


@pytest.mark.parametrize("line", ["nobody => x", "[prose]\nnobody", "[prose]\n  path: reason"])
def test_a_line_that_is_none_is_named(check: ModuleType, line: str) -> None:
    with pytest.raises(ValueError, match="is neither a section"):
        check.read_list(line)
