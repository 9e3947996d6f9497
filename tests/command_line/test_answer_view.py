"""Answers on a terminal: once, whole, and laid out the same however they came."""

from __future__ import annotations

import io
import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.command_line.answer_markdown import MARKUP, block_lines, line_text
from actors.command_line.answer_view import AnswerView
from actors.command_line.screen import Screen, markdown
from actors.terminal_text import many_lines
from tests.emulator import Emulator

SAMPLES = [
    "<h1>Hello</h1>\n<p>World</p>\n<!-- a comment -->",
    "Use List<int> and std::vector<T>, `a<b>` and &lt;p&gt; &copy; <br>.",
    "2*3*4 = 24, 2**3**4, *args and **kwargs, a*b*c, snake_case_name, __init__, ~~gone~~",
    "Roses are red,\nviolets are blue;\n    sugar is sweet,\n  and so are you.",
    "if a<b and c>d: swap(a[i](x), b[j] )",
    "[1]: https://example.com 'title'\n\nSee [1] and [the page](https://example.com/ü 'a title') <https://auto.link>",
    "![a picture](p.png) \\d+ \\( x \\) \\[ y \\] C:\\temp\\new \\* \\_",
    "1. one\n1. again\n7. seven\n\n1986. A great year\n3) three\n* star\n+ plus\n- minus\n    - deep\n",
    "Total\n-----\nSum\n===\n# C #\n#hashtag\n#include <stdio.h>\n***\n",
    "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 | 5 |\n\nafter",
    "| " + " | ".join(f"column{n}" for n in range(20)) + " |\n" + "|---" * 20 + "|\n| " + "x |" * 20,
    "```python title=main.py\ndef f():\n\treturn '" + "x" * 90 + "'\n\n\n```\nafter",
    "```\nnever closed <b>\n  *a*",
    "> quoted\n> > twice\nlazy\n\n    indented code\n\n- item\n  ```c\n  int *p;\n  ```\n- next",
    "a \u202e b \x1b[2J \u2028 c \r\n d \r e \u200d",
    "$$\\frac{a}{b} \\\\ c$$ and { \\{ } and a\\\nb",
    "word " * 700,
    "Sizes:\n| a | b |\n|---|---|\n| 1 | 2 |\n| much wider than the head | 4 |\n\nafter\n\na | b\n--|--\n1 | widest of all cells\n",
    "- first\n- second\n\n  | a | b |\n  |---|---|\n  | 1 | 2 |\n  | much wider | 4 |\n- third\n\n> | q | r |\n> |---|---|\n> | wide | x |",
    "name " * 20 + "| b |\n" + "|---" * 2 + "|\n| 1 | 2 |\n",
]
texts = st.one_of(
    st.sampled_from(SAMPLES),
    st.lists(
        st.sampled_from(
            [
                *"ab1 *_`~#>|-+=[]()<&\\!:\n\t",
                "\n\n",
                "```",
                "- ",
                "1. ",
                "    ",
                "é🙂",
                "|a|b|\n|-|-|\n",
                "|long cell|2|\n",
            ]
        ),
        max_size=60,
    ).map("".join),
)


class Terminal:
    """What stands on a terminal, scrolled away or not, after what was written to it."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.rows: list[str] = [""]
        self.row = 0

    def write(self, data: str) -> None:
        for part in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", data):
            if part == "\n":
                self.row += 1
                if self.row == len(self.rows):
                    self.rows.append("")
            elif part.endswith("A") and part.startswith("\x1b["):
                self.row -= int(part[2:-1])
                assert self.row >= 0
            elif part == "\x1b[J":
                self.rows[self.row :] = [""]
            elif part[0] not in "\r\x1b":
                self._put(part)

    def _put(self, text: str) -> None:
        from rich.cells import cell_len

        for one in text.expandtabs(8) if not self.rows[self.row] else text:
            if cell_len(self.rows[self.row] + one) > self.width:
                self.row += 1
                if self.row == len(self.rows):
                    self.rows.append("")
            self.rows[self.row] += one

    @property
    def text(self) -> str:
        return "\n".join(row.rstrip() for row in self.rows).strip("\n")


def screen_of(width: int, height: int = 24) -> tuple[Screen, io.StringIO]:
    written = io.StringIO()
    screen = Screen(markup=True)
    screen.file, screen.width, screen.height = written, width, height
    screen._force_terminal, screen._color_system = True, None
    return screen, written


def shown(text: str, cuts: list[int], width: int) -> str:
    screen, written = screen_of(width)
    view = AnswerView(screen)
    for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        view.add(text[begin:end])
        view.tick(now=True)
    view.end()
    terminal = Terminal(width)
    terminal.write(written.getvalue())
    return terminal.text


def lost(source: str, visible: str) -> Counter[str]:
    wanted = Counter(one for one in many_lines(source) if not one.isspace() and one not in MARKUP)
    return wanted - Counter(visible)


@settings(deadline=None, max_examples=40)
@given(texts, st.sampled_from([20, 60, 80]))
def test_te10_no_character_that_is_no_markup_is_lost(text: str, width: int) -> None:
    assert not lost(text, shown(text, [], width))


@pytest.mark.parametrize(
    "text",
    [
        "<h1>Hello</h1>\n<p>World</p>",
        "Use List<int> and std::vector<T>.",
        "2*3*4 = 24 and 2**3**4",
        "Roses are red,\n  violets are blue.",
        "if a<b and c>d: swap(f[i](x))",
        "&lt;b&gt; and __init__ and \\d+ and ~~x~~",
        "[1]: https://example.com",
        "Total\n===",
    ],
)
def test_te10_what_is_no_markup_stands_as_it_was_written(text: str) -> None:
    assert shown(text, [], 60) == text


def test_te10_numbers_of_a_list_are_those_of_the_model() -> None:
    assert shown("3. x\n7. y", [], 60).split() == ["3.", "x", "7.", "y"]


def test_te10_a_table_with_more_cells_than_columns_is_shown_as_it_was_written() -> None:
    assert shown("|a|b|\n|-|-|\n|1|2|3|", [], 60) == "|a|b|\n|-|-|\n|1|2|3|"


def test_te11_code_is_never_altered() -> None:
    code = "def f():\n\treturn  '" + "x" * 90 + "'   \n\n\nprint( 1 )  # *a*\n\n"
    screen, _ = screen_of(60)
    lines = [line_text(one) for one in block_lines(f"```python\n{code}```", screen, 60)]
    assert "\n".join(lines[1:]) + "\n" == code
    # And not in a list either.
    nested = block_lines("- x\n  ```\n  " + "y" * 90 + "\n  ```", screen, 60)
    assert any("y" * 90 in line_text(one) for one in nested)


def test_te12_what_a_fence_says_of_its_code_is_written_once_it_is_whole() -> None:
    text = "```python title=main.py\nprint()\n```\nafter"
    assert shown(text, list(range(len(text))), 60) == shown(text, [], 60)


@settings(deadline=None, max_examples=40)
@given(texts, st.data())
def test_te12_an_answer_stands_on_the_screen_once_however_it_came(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    assert shown(text, cuts, 60) == shown(text, [], 60)


@pytest.mark.parametrize(
    "text",
    [
        " ".join(str(one) for one in range(1500)),
        "".join(f"{one}. item number {one}\n" for one in range(1, 120)),
        "```python\n" + "".join(f"x{one} = {one}\n" for one in range(120)) + "```\nthe end",
        "**a " + " ".join(str(one) for one in range(900)) + "** end",
        "".join(f"paragraph {one}\n\n" for one in range(60)),
        "| n | text |\n|---|---|\n" + "".join(f"| {one} | {'x' * (one // 3)} |\n" for one in range(60)) + "\nthe end",
    ],
    ids=["paragraph", "list", "code", "bold", "paragraphs", "table"],
)
def test_te12_an_answer_longer_than_the_screen_never_reaches_above_it(text: str) -> None:
    screen, written = screen_of(60, 24)
    view = AnswerView(screen)
    for begin in range(0, len(text), 97):
        view.add(text[begin : begin + 97])
        view.tick(now=True)
    view.end()
    assert max((int(one) for one in re.findall(r"\x1b\[(\d+)A", written.getvalue())), default=0) < 24
    terminal = Terminal(60)
    terminal.write(written.getvalue())
    assert terminal.text == shown(text, [], 60)


TABLES = {
    "wider later": "Sizes:\n\n| a | b |\n|---|---|\n| 1 | 2 |\n| much wider than the head | 4 |\n\nafter",
    "below a line": "Sizes:\na | b\n--|--\n1 | 2\nmuch wider than the head | 4\nafter",
    "in a list": "- one\n- two\n\n  | a | b |\n  |---|---|\n  | 1 | 2 |\n  | much wider | 4 |\n- three",
    "higher than the screen": "|n|x|\n|-|-|\n" + "".join(f"| {one} | {'x' * one} |\n" for one in range(20)) + "\nend",
    "with a long head": "name " * 14 + "| b |\n|---|---|\n| 1 | 2 |\n| a wider one | 3 |\n",
}


@pytest.mark.parametrize("text", TABLES.values(), ids=TABLES)
def test_te55_a_table_whose_later_rows_are_wider_stands_once(text: str) -> None:
    """On a terminal of twelve rows, however it comes."""
    seen = []
    for size in (1, 7, len(text)):
        screen, written = screen_of(60, 12)
        view = AnswerView(screen)
        for begin in range(0, len(text), size):
            view.add(text[begin : begin + size])
            view.tick(now=True)
        view.end()
        emulator = Emulator(60, 12)
        emulator.write(written.getvalue().replace("\n", "\r\n"))
        seen.append(emulator.text)
    assert seen[0] == seen[1] == seen[2]
    assert seen[0].count("wider") == text.count("wider")
    assert len([one for one in seen[0].splitlines() if "──" in one]) == 1


def test_te55_a_line_that_changed_after_all_is_taken_back_where_the_screen_still_has_it() -> None:
    screen, written = screen_of(60, 12)
    view = AnswerView(screen)
    view.add("before\n\n")
    view.add("one\ntwo\nthree\nfour")
    view.tick(now=True)
    # As if the layout had an idea of its own.
    view._source = view._source.replace("two", "2")
    view.end()
    emulator = Emulator(60, 12)
    emulator.write(written.getvalue().replace("\n", "\r\n"))
    assert emulator.lines == ["before", "", "one", "2", "three", "four"]


def test_te56_what_is_said_beside_an_answer_repeats_nothing_of_it() -> None:
    text = "the first paragraph\n\n" + "".join(f"line {one} of a poem\n" for one in range(30)) + "and the end"
    screen, written = screen_of(60, 12)
    view = AnswerView(screen)
    for begin in range(0, len(text), 13):
        view.add(text[begin : begin + 13])
        view.tick(now=True)
        if begin in (26, 260, 273):
            view.note(f"note {begin}", "yellow")
    view.end()
    emulator = Emulator(60, 12)
    emulator.write(written.getvalue().replace("\n", "\r\n"))
    lines = emulator.lines
    notes = [one for one in lines if one.startswith("note")]
    assert notes == ["note 26", "note 260", "note 273"]
    assert [one for one in lines if one and one not in notes] == [one for one in text.split("\n") if one]


def test_te12_what_is_going_on_leaves_nothing_behind() -> None:
    screen, written = screen_of(60)
    view = AnswerView(screen)
    view.say("reading the question · 1 s")
    view.say("reading the question · 2 s")
    assert "2 s" in written.getvalue()
    view.add("word")
    view.end()
    terminal = Terminal(60)
    terminal.write(written.getvalue())
    assert terminal.text == "word"


def test_te10_a_stored_text_is_laid_out_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    screen, written = screen_of(60)
    for text in SAMPLES:
        written.truncate(0)
        written.seek(0)
        screen.print(markdown(text), soft_wrap=True)
        assert not lost(text, written.getvalue()), text
