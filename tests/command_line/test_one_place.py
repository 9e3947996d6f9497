"""Options that say which server and whose things: at the same place for every command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from actors.command_line import main
from actors.command_line.options import client_name_default, settings_from, url_given
from actors.command_line.serve import _in_words
from actors.storage.errors import DatabaseUnusable
from runtime.errors import StartDeadlineExceeded

SEEN: dict[str, Any] = {}


@click.command()
@click.argument("words", nargs=-1)
@click.option("--json", "as_json", is_flag=True)
def shown(words: tuple[str, ...], as_json: bool) -> None:
    """Says what it was told."""
    SEEN.update(
        words=list(words),
        json=as_json,
        url=url_given(),
        client=client_name_default(),
        data=str(settings_from().data_dir),
    )


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """Runs the real group with a command that only says what it was told."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(main._COMMANDS, "status", (__name__, "shown", ""))
    monkeypatch.setitem(main._COMMANDS, "chat", (__name__, "shown", ""))
    SEEN.clear()
    return lambda *words: CliRunner().invoke(main.leanvibe, list(words))


@pytest.mark.parametrize("place", [0, 2, 3, 5, 6])
def test_te34_options_stand_before_a_command_or_behind_it(run: Callable[..., Any], place: int) -> None:
    options = ["--data-dir", "d", "--client=ann", "--url", "http://there:1", "--json"]
    result = run(*options[:place], "status", "word", *options[place:], "--", "--json", "--url")
    assert result.exit_code == 0, result.output
    expected = {"words": ["word", "--json", "--url"], "json": True, "url": "http://there:1", "client": "ann"}
    assert {**expected, "data": SEEN["data"]} == SEEN
    assert Path(SEEN["data"]).name == "d"


def test_te34_a_command_for_this_machine_alone_refuses_an_address(run: Callable[..., Any]) -> None:
    result = run("chat", "--url", "ws://there/ws")
    assert (result.exit_code, SEEN) == (2, {})


def test_te34_whose_token_is_made_is_not_who_asks() -> None:
    group = main.leanvibe
    assert isinstance(group, main._LazyGroup)
    assert "--client" in group.reaching(["task", "list"])
    assert group.reaching(["token", "create"]) == {"--data-dir", "--url"}


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            OSError(28, "No space left on device", "/x"),
            "the system refused something that it needs: No space left on device (/x)",
        ),
        (DatabaseUnusable("the database is away"), "the database is away"),
        (StartDeadlineExceeded("rest", 5.0), "rest was not started within 5 s"),
        (KeyError(), "an error inside the server that nothing expected: without a text (a KeyError)"),
    ],
)
def test_te33_why_a_server_gave_up_is_a_sentence(error: Exception, words: str) -> None:
    assert _in_words(error) == words
