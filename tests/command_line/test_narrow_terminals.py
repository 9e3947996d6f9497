"""Lines and tables on narrow terminals: broken between words; ids, paths and commands stay whole."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from actors.command_line.narrow import wrap_text, wrapped
from actors.command_line.screen import Screen, words
from actors.command_line.task_tables import tasks_table

PATH = "/var/lib/leanvibe/" + "deep/" * 12 + "file"


def drawn(what: object, width: int) -> str:
    screen = Screen()
    screen.file, screen.width, screen.height = io.StringIO(), width, 24
    screen._force_terminal, screen._color_system = True, None
    screen.print(what)
    return screen.file.getvalue()


def test_te60_lines_break_between_words_and_commands_stay_whole() -> None:
    text = f"no server runs on {PATH}; start one with `leanvibe serve --data-dir here`, or name another."
    lines = wrapped(text, 40).split("\n")
    assert " ".join(lines) == text
    assert any("`leanvibe serve --data-dir here`," in one for one in lines)
    assert any(PATH in one for one in lines)
    assert all(cell_len(one) <= 40 or " " not in one for one in lines)
    assert wrapped("  leanvibe model pull " + "word " * 12, 40).split("\n")[1].startswith("  word")


@given(st.text("ab `é界\n", max_size=120), st.integers(1, 30))
def test_te60_nothing_is_lost_of_a_line_that_is_broken(text: str, width: int) -> None:
    for one in (wrapped(text, width), wrap_text(Text(text, style="bold"), width, indent=2).plain):
        assert one.split() == text.split()
    for line in wrapped(text, width).split("\n"):
        assert cell_len(line) <= width or not re.search(r"[^\s`]\s+[^\s`]", re.sub("`[^`]+`", "", line)), line


TITLES = ["Buy some milk", "Rewrite the internationalization of notifications", "x"]


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_te60_no_word_of_a_table_is_broken_at_any_width(width: int) -> None:
    tasks = [
        {"id": f"0123456{number}-0000", "title": title, "status": "in_progress", "priority": "medium", "tags": ["errands", "home"], "due": "2026-12-01T10:00:00.000Z"}
        for number, title in enumerate(TITLES)
    ]  # fmt: skip
    text = drawn(tasks_table(tasks), width)
    assert all(cell_len(line) <= width for line in text.splitlines()), text
    for word in " ".join([*TITLES, "in_progress", "medium", "errands,", "home", "01234560", "01234562"]).split():
        assert re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text), (word, text)


@pytest.mark.parametrize("width", [40, 60, 120])
def test_te60_a_path_and_a_command_in_a_table_stay_whole(width: int) -> None:
    table = Table(title="Settings")
    table.add_column("name", no_wrap=True)
    for heading in ("value", "source"):
        table.add_column(heading, overflow="fold")
    table.add_row("data_dir", words(PATH), "not here; `leanvibe model pull embedded` gets it")
    table.add_row("port", "8000", "–")
    text = drawn(table, width)
    for one in (PATH, "`leanvibe model pull embedded`", "data_dir", "8000", "Settings"):
        assert one in text
    pairs = Table(show_header=False)
    pairs.add_row("status", "healthy " * 20)
    pairs.add_row("address", PATH)
    text = drawn(pairs, width)
    assert text.count("healthy") == 20
    assert PATH in text
