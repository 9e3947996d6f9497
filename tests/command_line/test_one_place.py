"""Options that say which server and whose things: at the same place for every command."""

from __future__ import annotations

import time
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from actors.command_line import main
from actors.command_line.local_time import local_time
from actors.command_line.options import client_name_default, settings_from, url_given
from actors.command_line.outage import Outage
from actors.command_line.rest_call import why_unreachable
from actors.command_line.serve import _in_words
from actors.storage.errors import DatabaseUnusable
from protocol.client import Change
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


def test_te34_a_command_for_this_machine_alone_refuses_an_address(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(main._COMMANDS, "inspect", (__name__, "shown", ""))
    result = run("inspect", "--url", "ws://there/ws")
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


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (urllib.error.URLError(ConnectionRefusedError(111, "Connection refused")), "Connection refused"),
        (urllib.error.URLError("unknown url type: x"), "unknown url type: x"),
        (TimeoutError("timed out"), "nothing came in time"),
        (ValueError("no JSON"), "no JSON"),
    ],
)
def test_te33_why_no_answer_came_is_told_without_pythons_names(error: Exception, words: str) -> None:
    assert why_unreachable(error) == words


def test_te36_an_outage_is_told_once_for_each_thing_that_changes() -> None:
    said: list[str] = []
    outage = Outage(said.append)
    for delay in (0.1, 0.2, 0.4, 0.8, 1.6, 3.0):
        outage.take(Change(state="disconnected", delay_seconds=delay))
    outage.take(Change(state="connected"))
    assert said[0] == "the server is away, trying again in a moment"
    assert said[-1] == "the server is back"
    assert len(said) == len(set(said))


@pytest.mark.parametrize(
    ("text", "shown"),
    [("2026-12-01T23:59:00.000Z", "2026-12-01 23:59"), ("", ""), ("soon", "soon"), ("9999-12-31T23:59:59Z", None)],
)
def test_te36_times_are_those_of_this_machine(monkeypatch: pytest.MonkeyPatch, text: str, shown: str | None) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    assert local_time(text) == shown or shown is None
