"""The chat's line editor as a person has it: a real terminal (a pty), the real program, the real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

from actors.command_line.chat_history import FILE_NAME, MAXIMUM_ENTRIES, ChatHistory
from actors.command_line.chat_input import COMMANDS
from actors.command_line.line_editor import ChatCompleter
from tests.assistant.test_chat_in_a_terminal import Terminal, chat
from tests.system.serving_process import ServingProcess, start_server

PASTE = "\x1b[200~{}\x1b[201~"


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingProcess]:
    with start_server(tmp_path_factory.mktemp("editor"), LEANVIBE_MOCK_STEP_SECONDS="0.005") as server:
        yield server


def asked(server: ServingProcess, conversation: str) -> list[str]:
    import urllib.request

    url = f"{server.about['rest_url']}/conversations/system-test/{conversation}"
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=10) as answer:
        turns: list[dict[str, Any]] = json.load(answer)["turns"]
    return [one["content"] for one in turns if one["role"] == "user"]


def type_all(terminal: Terminal, text: str) -> None:
    """In pieces that a terminal takes."""
    for begin in range(0, len(text), 500):
        terminal.type(text[begin : begin + 500])
        terminal.drain()


@pytest.mark.integration
def test_te20_a_paste_is_one_text_and_history_outlives_the_session(serving: ServingProcess) -> None:
    lines = "\n".join(f"line {number} \\" if number % 50 == 0 else f"line {number}" for number in range(200))
    long = " ".join(f"w{number}" for number in range(1250)) + " END!"
    assert len(long) > 6000
    with chat(serving, "--new", "pasted") as terminal:
        terminal.until("> ")
        type_all(terminal, PASTE.format(lines.replace("\n", "\r")))
        terminal.type("\r")
        terminal.until("You said: line 0")
        terminal.until("\n> ")
        type_all(terminal, long)
        terminal.type("\r")
        terminal.until("You said: w0")
        terminal.until("cut at 400 tokens")
        terminal.until("\n> ")
        # Its token is not kept.
        terminal.type("my lv_0123456789ab_" + "s" * 43 + "\r")
        terminal.until("You said: my")
        terminal.until("\n> ")
        terminal.type("\x04")
        assert terminal.process.wait(10) == 0
    assert asked(serving, "pasted")[:2] == [lines, long]
    file = serving.data_folder / FILE_NAME
    assert file.stat().st_mode & 0o777 == 0o600
    assert "s" * 43 not in file.read_text(encoding="utf-8")
    with chat(serving, "--new", "later") as terminal:
        terminal.until("> ")
        # Backward search, and what was found is asked.
        terminal.type("\x12END")
        terminal.until("END")
        terminal.type("\r")
        terminal.type("\r")
        terminal.until("You said: w0")
        terminal.until("\n> ")
        terminal.type("/bye\r")
        assert terminal.process.wait(10) == 0
    assert asked(serving, "later") == [long]


@pytest.mark.integration
def test_te21_what_is_typed_while_an_answer_comes_is_kept(serving: ServingProcess) -> None:
    with chat(serving, "--new", "ahead") as terminal:
        terminal.until("> ")
        terminal.type("count to 90\r")
        terminal.until("1 2 3")
        terminal.type("then this\r" + PASTE.format("and\rthat"))
        terminal.until("You said: then this")
        terminal.type("\r")
        terminal.until("You said: and")
        terminal.until("\n> ")
        # Ctrl-C gives a prompt: out of an answer, and out of a line.
        terminal.type("count to 900\r")
        terminal.until("1 2 3")
        terminal.type("kept\x03")
        terminal.until("cancelled")
        terminal.until("> kept")
        terminal.type("\x03")
        terminal.until("Ctrl-D leaves")
        terminal.until("> ")
        terminal.type("\x04")
        assert terminal.process.wait(10) == 0
    assert asked(serving, "ahead") == ["count to 90", "then this", "and\nthat", "count to 900"]


@pytest.mark.integration
@pytest.mark.parametrize(
    "environment",
    [{"TERM": "dumb"}, {"NO_COLOR": "1", "COLUMNS": "60"}],
    ids=["dumb", "without colours"],
)
def test_te22_a_plain_terminal_gets_plain_lines(serving: ServingProcess, environment: dict[str, str]) -> None:
    with chat(serving, **environment) as terminal:
        terminal.until("> ")
        terminal.type("count to 5\n")
        terminal.until("1 2 3 4 5")
        terminal.until("> ")
        terminal.type("/set temperature 0.5\n")
        terminal.until("0.5")
        terminal.until("> ")
        terminal.type("/set temperature 9\n")
        terminal.until("temperature: 9.0 is not in the range")
        terminal.until("> ")
        terminal.type("/copy\n")
        terminal.until("1 2 3 4 5\n")
        terminal.until("> ")
        terminal.type("/retry\n")
        terminal.until("1 2 3 4 5")
        terminal.until("> ")
        terminal.type("/conversations\n")
        terminal.until("* chat-")
        terminal.until("> ")
        terminal.type("/exit\n")
        assert terminal.process.wait(10) == 0
        raw = terminal.raw
    assert not [code for code in ("\x1b[3", "\x1b[0;3", "\x1b[9") if code in raw]
    if environment.get("TERM") == "dumb":
        assert "\x1b" not in raw


@pytest.mark.integration
def test_wa5_an_answer_is_made_again_in_its_place(serving: ServingProcess) -> None:
    with chat(serving, "--new", "retried") as terminal:
        terminal.until("> ")
        terminal.type("count to 5\r")
        terminal.until("1 2 3 4 5")
        terminal.until("\n> ")
        terminal.type("/retry\r")
        terminal.until("1 2 3 4 5")
        terminal.until("\n> ")
        terminal.type("/history\r")
        terminal.until("model (2 of 2)")
        terminal.until("\n> ")
        terminal.type("\x04")
        assert terminal.process.wait(10) == 0
    assert asked(serving, "retried") == ["count to 5"]


def test_te23_commands_and_files_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "with space.py").touch()
    monkeypatch.chdir(tmp_path)

    def completed(text: str) -> list[str]:
        return [one.text for one in ChatCompleter().get_completions(Document(text), CompleteEvent())]

    assert completed("/ex") == ["explain", "exit"]
    assert completed("/") == list(COMMANDS)
    for name in ("explain", "refactor", "debug", "save"):
        assert completed(f"/{name} wi") == ["th space.py"]
    assert completed("/model wi") == []
    assert completed("what is /ex") == []


def test_te24_history_is_bounded_private_and_survives_damage(tmp_path: Path) -> None:
    history = ChatHistory(tmp_path)
    for number in range(MAXIMUM_ENTRIES + 20):
        history.store_string(f"line {number}\nsecond")
    history.store_string("x" * 100_000)
    history.store_string("  ")
    with (tmp_path / FILE_NAME).open("ab") as file:
        file.write(b"{broken\n")
    found = list(ChatHistory(tmp_path).load_history_strings())
    assert len(found) == MAXIMUM_ENTRIES - 1
    assert found[0] == f"line {MAXIMUM_ENTRIES + 19}\nsecond"
    # Cut to its bounds, and for its user alone.
    assert len((tmp_path / FILE_NAME).read_bytes().splitlines()) == MAXIMUM_ENTRIES
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600
    assert list(ChatHistory(tmp_path / "nowhere").load_history_strings()) == []
    ChatHistory(tmp_path / "nowhere").store_string("is no error")
