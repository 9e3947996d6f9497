"""Which conversation a chat goes on with: named by the beginning of its name, never begun by a mistake."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.assistant.test_chat_in_a_terminal import chat
from tests.assistant.test_line_editor import asked
from tests.system.serving_process import ServingProcess, start_server

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingProcess]:
    with start_server(tmp_path_factory.mktemp("conversations"), LEANVIBE_MOCK_STEP_SECONDS="0.005") as server:
        for name in ("garden", "garden-2", "kitchen"):
            with chat(server, "--new", name) as terminal:
                terminal.until("> ")
                terminal.type(f"count to 2 in {name}\r")
                terminal.until("1 2")
                terminal.until("\n> ")
                terminal.type("\x04")
                assert terminal.process.wait(10) == 0
        yield server


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--conversation", "nope"), ["no conversation has a name that begins with 'nope'", "chat --new nope` begins"]),
        (("--conversation", "no pe"), ["no conversation has a name that begins with 'no pe'"]),
        (("--conversation", "gar"), ["2 conversations have a name that begins with 'gar'", "garden ", "garden-2 "]),
        (("--new", "garden"), ["there is a conversation garden already", "chat --conversation garden` goes on"]),
        (("--new", "a b"), ["1 to 64 letters"]),
        (("--new", "a", "--conversation", "b"), ["give one of them"]),
    ],
)
def test_te59_a_name_that_names_no_conversation_or_several_is_refused(
    serving: ServingProcess, options: tuple[str, ...], said: list[str]
) -> None:
    done = serving.run("chat", *options)
    assert done.returncode == 2
    for one in said:
        assert one in done.stderr
    assert "> " not in done.stdout


def test_te59_the_beginning_of_a_name_goes_on_with_it(serving: ServingProcess, tmp_path: Path) -> None:
    with chat(serving, "--conversation", "kit") as terminal:
        terminal.until("> ")
        terminal.type("/history\r")
        terminal.until("count to 2 in kitchen")
        terminal.until("\n> ")
        for typed, said in (
            (
                "/conversations nope",
                "no conversation has a name that begins with 'nope'; `/reset nope` begins a new one",
            ),
            ("/conversations garden-", "going on with garden-2"),
            ("/conversations gar", "2 conversations have a name that begins with 'gar'"),
            ("/conversations garden", "going on with garden"),
            ("/reset kitchen", "there is a conversation kitchen already"),
            ("/history", "count to 2 in garden"),
            ("/reset cellar", "garden stays stored; cellar begins"),
        ):
            terminal.type(f"{typed}\r")
            terminal.until(said)
            terminal.until("\n> ")
        terminal.type("count to 2 in cellar\r")
        terminal.until("1 2")
        terminal.until("\n> ")
        terminal.type("\x04")
        assert terminal.process.wait(10) == 0
    assert asked(serving, "cellar") == ["count to 2 in cellar"]
    assert asked(serving, "kitchen") == ["count to 2 in kitchen"]
