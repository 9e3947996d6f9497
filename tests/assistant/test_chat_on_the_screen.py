"""What stands on the screen of a chat, and in the scroll-back above it: the real program, a terminal emulator."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.assistant.test_chat_in_a_terminal import Terminal, chat
from tests.assistant.test_line_editor import PASTE, asked, type_all
from tests.emulator import Emulator
from tests.system.serving_process import ServingProcess, start_server

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingProcess]:
    with start_server(tmp_path_factory.mktemp("screen"), LEANVIBE_MOCK_STEP_SECONDS="0.005") as server:
        yield server


def seen(terminal: Terminal) -> list[str]:
    """All lines, once nothing more comes."""
    assert terminal.emulator is not None
    before = None
    while before != terminal.raw:
        before = terminal.raw
        terminal.drain(0.3)
    return terminal.emulator.lines


@pytest.mark.parametrize("columns", [60, 120])
def test_te57_a_paste_higher_than_the_screen_stands_in_the_scroll_back_once(
    serving: ServingProcess, columns: int
) -> None:
    name = f"high-{columns}"
    lines = [f"pasted line {number}" for number in range(200)]
    text = "\n".join(lines)
    with chat(serving, "--new", name, emulator=Emulator(columns, 24)) as terminal:
        terminal.until("> ")
        terminal.type("count to 3\r")
        terminal.until("1 2 3")
        terminal.until("> ")
        type_all(terminal, PASTE.format("\r".join(lines)))
        terminal.type("\r")
        terminal.until("You said: pasted line 0")
        terminal.until("\n> ")
        # A long one without an end of a line, too.
        long = " ".join(f"w{number}" for number in range(1250))
        type_all(terminal, PASTE.format(long))
        terminal.type("\r")
        terminal.until("You said: w0")
        terminal.until("\n> ")
        terminal.type("/set max-tokens 5\r")
        terminal.until("\n> ")
        shown = seen(terminal)
        terminal.type("\x04")
        assert terminal.process.wait(10) == 0
    assert asked(serving, name) == ["count to 3", text, long]
    typed = [one for one in shown if one.startswith(("> ", "… "))]
    assert typed[:4] == ["> count to 3", "> pasted line 0", "… pasted line 1", "… pasted line 2"]
    assert typed[4].startswith("> w0 w1 ")
    assert typed[5:] == ["> /set max-tokens 5"]
    assert [one.strip() for one in shown if one.startswith("  [")] == [
        f"[200 lines, {len(text):,} characters]",
        f"[{len(long):,} characters]",
    ]
    # The mock repeats what it was told, once.
    assert len([one for one in shown if re.search(r"pasted line 0$", one)]) == 2
    assert len([one for one in shown if one == "1 2 3"]) == 1


def test_te57_a_paste_that_fits_stays_as_it_was_typed(serving: ServingProcess) -> None:
    with chat(serving, "--new", "fits", emulator=Emulator(60, 24)) as terminal:
        terminal.until("> ")
        type_all(terminal, PASTE.format("\r".join(f"short {number}" for number in range(10))))
        terminal.type("\r")
        terminal.until("You said: short 0")
        terminal.until("\n> ")
        shown = seen(terminal)
        terminal.type("\x04")
        assert terminal.process.wait(10) == 0
    assert [one for one in shown if one.startswith(("> ", "… "))] == [
        "> short 0",
        *(f"… short {number}" for number in range(1, 10)),
    ]


@pytest.mark.parametrize("settings", [{}, {"TERM": "dumb"}], ids=["capable", "dumb"])
def test_te56_an_outage_in_an_answer_is_told_once_and_no_text_is_repeated(
    tmp_path: Path, settings: dict[str, str]
) -> None:
    folder = tmp_path / "data"
    slow = {"LEANVIBE_MOCK_STEP_SECONDS": "0.02"}
    with start_server(folder, **slow) as server:
        emulator = Emulator(60, 24)
        port = re.search(r":(\d+)", server.about["rest_url"])
        assert port
        with chat(server, "--new", "cut", emulator=emulator, **settings) as terminal:
            terminal.until("> ")
            terminal.type("count to 300\r")
            terminal.until(" 60 ")
            server.process.send_signal(signal.SIGKILL)
            server.process.wait(10)
            terminal.until("the server is away")
            with start_server(folder, **slow):
                terminal.until("the server is back")
                terminal.until("> ", 60)
                terminal.type("count to 2\r")
                terminal.until("1 2")
                terminal.until("> ")
                shown = seen(terminal)
                terminal.type("\x04")
                assert terminal.process.wait(10) == 0
    text = "\n".join(shown)
    assert text.count("the server is away") == text.count("the server is back") == 1
    numbers = [int(one) for one in re.findall(r"(?<![\w-])\d+(?![\w-])", text.split("count to 300")[1].split("> ")[0])]
    counted = [one for index, one in enumerate(numbers) if one == index + 1]
    assert len(counted) >= 60
    assert counted == list(range(1, len(counted) + 1)), text
