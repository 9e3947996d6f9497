"""What others wrote is shown by a terminal and never obeyed."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import attrs
import pytest

from actors.command_line import printing
from actors.command_line.desktop import desktop_command
from actors.command_line.main import main
from actors.command_line.printing import AnswerPrinter, json_text, print_line
from actors.command_line.screen import Screen, markdown, words
from actors.terminal_text import many_lines, one_line, shown_document
from protocol.events import Priority
from protocol.notifications import Notification

FOLDER = Path(printing.__file__).parent
DANGEROUS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u202a-\u202e\u2028\u2029\u2060-\u206f\ufeff\U000e0000-\U000e007f]"
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;title\x07", "␛]0;title␇"),
        ("\x1b]52;c;ZWNobw==\x1b\\", "␛]52;c;ZWNobw==␛\\"),
        ("\x1b]8;;https://evil.example\x1b\\ok\x1b]8;;\x1b\\", "␛]8;;https://evil.example␛\\ok␛]8;;␛\\"),
        ("\x9b2J\x9d0;t\x9c", "\\x9b2J\\x9d0;t\\x9c"),
        ("over\rwritten", "over␍written"),
        ("\x00\x08\x0b\x0c\x0e\x0f\x7f", "␀␈␋␌␎␏␡"),
        ("\u202egnp.exe\u202c", "\\u202egnp.exe\\u202c"),
        ("\u2066a\u2069", "\\u2066a\\u2069"),
        ("pay\u200bpal \ufeff \u2060 \u00ad", "pay\\u200bpal \\ufeff \\u2060 \\xad"),
        ("\U000e0041\U000e007f", "\\U000e0041\\U000e007f"),
        ("a\u2028b\u2029c\x85d", "a\\u2028b\\u2029c\\x85d"),
        ("\u3164\u115f\u2800", "\\u3164\\u115f\\u2800"),
        ("ad\u200dmin\u200c", "ad\\u200dmin\\u200c"),
        ("\ud800", "\\ud800"),
        ("e" + "\u0301" * 10, "e" + "\u0301" * 8 + "\\u0301\\u0301"),
        (
            "plain é 漢字 שלום \u200fא 👩\u200d👩\u200d👧 नम\u200dस् é",
            "plain é 漢字 שלום \u200fא 👩\u200d👩\u200d👧 नम\u200dस् é",
        ),
    ],
)
def test_tx20_what_a_terminal_would_obey_is_shown(text: str, shown: str) -> None:
    assert one_line(text) == shown
    assert many_lines(text) == shown
    assert one_line(shown) == shown


def test_tx20_every_control_character_is_shown() -> None:
    for code in (*range(0x20), *range(0x7F, 0xA0)):
        assert not DANGEROUS.search(one_line(f"a{chr(code)}b"))
        assert "\n" not in one_line(f"a{chr(code)}b")


def test_tx20_lines_stay_where_text_may_have_them_and_nowhere_else() -> None:
    text = "one\r\n\ttwo\n"
    assert many_lines(text) == "one\n\ttwo\n"
    assert one_line(text) == "one␍␊␉two␊"
    task = {"title": text, "tags": [text], "description": text, "\x1b": 1, "due": None}
    assert shown_document(task) == {
        "title": one_line(text), "tags": [one_line(text)], "description": "one\n\ttwo\n", "␛": 1, "due": None,
    }  # fmt: skip


def test_tx21_json_is_exact_and_safe() -> None:
    value = {"text": "".join(map(chr, (*range(0x20), *range(0x7F, 0xA0)))) + "\u202e\u200b\u2028\U000e0041é漢 \\"}
    text = json_text(value)
    assert json.loads(text) == value
    assert not DANGEROUS.search(text)
    assert "é漢" in text


def test_tx20_tables_and_lines_of_the_screen_show_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from rich.table import Table

    evil = "a\x1b[2J[/nope][bold]\x9bz :smile:"
    table = Table(title=evil)
    table.add_column(evil)
    table.add_row(evil)
    table.add_row(words(evil))
    screen = Screen()
    screen.print(table, evil)
    assert capsys.readouterr().out == "a␛[2J[/nope][bold]\\x9bz :smile:\n" * 5
    monkeypatch.setattr(Screen, "is_terminal", True)
    screen.print(table, evil)
    said = capsys.readouterr().out
    assert said.count("a␛[2J[/nope][bold]\\x9bz :smile:") == 5
    assert len({len(line) for line in said.splitlines()[1:-1]}) == 1
    print_line(evil, err=True, style="red")
    assert capsys.readouterr().err == "a␛[2J[/nope][bold]\\x9bz :smile:\n"


def test_tx20_markdown_shows_where_a_link_leads(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    Screen().print(markdown("[safe](https://evil.example/) `\x1b]0;x\x07` <b>\x9b</b>"))
    said = capsys.readouterr().out
    assert "\x1b]8" not in said
    assert "https://evil.example/" in said
    assert "␛]0;x␇" in re.sub("\x1b\\[[0-9;]*m", "", said)


class Output:
    def __init__(self, *, is_terminal: bool) -> None:
        self.text = ""
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        pass


@pytest.mark.parametrize("size", [1, 2, 7])
def test_tx22_an_answer_is_shown_on_a_terminal_and_exact_in_a_pipe(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    text = "a\r\nb\rc\x1b]0;x\x07 👩\u200d👧 x\u200dy\n\x9b2J\u202e"
    for is_terminal, expected in ((True, "a\nb␍c␛]0;x␇ 👩\u200d👧 x\\u200dy\n\\x9b2J\\u202e\n"), (False, text + "\n")):
        output = Output(is_terminal=is_terminal)
        monkeypatch.setattr(sys, "stdout", output)
        printer = AnswerPrinter()
        for at in range(0, len(text), size):
            printer.add(text[at : at + size])
        printer.end()
        assert output.text == expected


def test_tx23_notifications_of_the_desktop_are_plain_text() -> None:
    notification = Notification(
        notification_id="n", kind="message", priority=Priority.LOW, title="a\x1b]0;x\x07\nb",
        body='<a href="https://evil.example">x</a> & \\x1b \x1b[2J\nnext', data={}, created_at="2026-01-01T00:00:00.000Z",
    )  # fmt: skip
    assert desktop_command("notify-send", notification)[-3:] == [
        "--",
        "a␛]0;x␇␊b",
        '&lt;a href="https://evil.example"&gt;x&lt;/a&gt; &amp; \\\\x1b ␛[2J\nnext',
    ]
    script = desktop_command("osascript", attrs.evolve(notification, title='" & do shell script "x'))
    assert script[-2:] == ['" & do shell script "x', '<a href="https://evil.example">x</a> & \\x1b ␛[2J\nnext']


def test_tx20_what_was_typed_wrongly_is_repeated_safely(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (
        ["--\x1b]0;x\x07"],
        ["\x1b]0;x\x07"],
        ["task", "move", "x", "\x9b2J"],
        ["ask", "q", "--seed", "\x1b[2J"],
    ):
        monkeypatch.setattr(sys, "argv", ["leanvibe", *arguments])
        monkeypatch.setattr("actors.command_line.main.end_when_nobody_reads", lambda: None)
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert ended.value.code == 2
        assert "Error" in said.err
        assert not DANGEROUS.search(said.err + said.out)


def test_tx20_nothing_else_of_the_command_line_writes() -> None:
    """What is printed goes through `printing` and `screen`, so that no new command forgets it."""
    writing = re.compile(r"click\.(s?echo|secho|prompt)\(|\bprint\(|\bConsole\(|\bMarkdown\(|std(out|err)\.write")
    found = {
        path.name
        for path in FOLDER.glob("*.py")
        if writing.search(re.sub(r"\.print\(", "", path.read_text(encoding="utf-8")))
    }
    assert found == {"printing.py", "screen.py"}
