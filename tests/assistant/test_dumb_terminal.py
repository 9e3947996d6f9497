"""The chat on a terminal that can do nothing but show lines: what is there at once is one text, and nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.assistant.test_chat_in_a_terminal import chat
from tests.assistant.test_line_editor import asked, type_all
from tests.system.serving_process import ServingProcess, start_server

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingProcess]:
    with start_server(tmp_path_factory.mktemp("dumb"), LEANVIBE_MOCK_STEP_SECONDS="0.005") as server:
        yield server


def test_te58_a_paste_without_marks_is_one_text_and_nothing_of_it_is_lost(serving: ServingProcess) -> None:
    lines = "\n".join(f"line {number} \\" if number % 50 == 0 else f"line {number}" for number in range(200))
    long = "é" + " ".join(f"w{number}" for number in range(1250)) + " END!"
    with chat(serving, "--new", "pasted", TERM="dumb") as terminal:
        terminal.until("> ")
        type_all(terminal, lines.replace("\n", "\r") + "\r")
        terminal.until("You said: line 0")
        terminal.until("cut at 400 tokens")
        terminal.until("\n> ")
        type_all(terminal, long + "\r")
        terminal.until("You said: éw0")
        terminal.until("cut at 400 tokens")
        terminal.until("\n> ")
        # Its last line is not ended: it waits for Enter. Ends of lines as Windows has them are single ones.
        type_all(terminal, "first\r\nsecond\r\n\r\nlast")
        terminal.until("… last")
        terminal.type(" one\r")
        terminal.until("You said: first")
        terminal.until("last one")
        terminal.until("\n> ")
        terminal.type("\x04")
        assert terminal.process.wait(10) == 0
        assert "\x1b" not in terminal.raw
    assert asked(serving, "pasted") == [lines, long, "first\nsecond\n\nlast one"]


def test_te58_what_is_typed_while_an_answer_comes_is_one_text(serving: ServingProcess) -> None:
    lines = "\n".join(f"ahead {number} " + "x" * 60 for number in range(90))
    with chat(serving, "--new", "ahead", TERM="dumb") as terminal:
        terminal.until("> ")
        terminal.type("count to 200\r")
        terminal.until("1 2 3")
        type_all(terminal, lines.replace("\n", "\r") + "\r")
        terminal.until("You said: ahead 0")
        terminal.until("\n> ")
        # A line longer than a terminal's own may be, and a command, which stands for itself.
        terminal.type("count to 200\r")
        terminal.until("1 2 3")
        type_all(terminal, "/status\r" + "y" * 6000 + "\r")
        terminal.until("mock: mock")
        terminal.until("You said: yyy")
        terminal.until("\n> ")
        terminal.type("\x04")
        assert terminal.process.wait(10) == 0
    assert asked(serving, "ahead") == ["count to 200", lines, "count to 200", "y" * 6000]


def test_te58_keys_of_a_dumb_terminal(serving: ServingProcess) -> None:
    with chat(serving, "--new", "keys", TERM="dumb") as terminal:
        terminal.until("> ")
        # Back, a word back, and the line back.
        terminal.type("nonsense\x15say worse\x17wordx\x7f\r")
        terminal.until("You said: say word")
        terminal.until("\n> ")
        # Ctrl-C drops a line, a paste and a block, and always gives a prompt.
        for typed in ("dropped", "first\rsecond", '"""\rin a block'):
            terminal.type(typed)
            terminal.until(typed.rpartition("\r")[2])
            terminal.type("\x03")
            terminal.until("Ctrl-D leaves\n> ")
        terminal.type('"""\rone\rtwo\r"""\r')
        terminal.until("You said: one\ntwo")
        terminal.until("\n> ")
        terminal.type("goes \\\r")
        terminal.until("… ")
        terminal.type("on\r")
        terminal.until("You said: goes \non")
        terminal.until("\n> ")
        terminal.type("count to 900\r")
        terminal.until("1 2 3")
        terminal.type("\x03")
        terminal.until("cancelled\n> ")
        terminal.type("\x04")
        assert terminal.process.wait(10) == 0
    assert asked(serving, "keys") == ["say word", "one\ntwo", "goes \non", "count to 900"]
