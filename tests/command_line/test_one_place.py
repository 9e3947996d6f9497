"""Options that say which server and whose things: at the same place for every command."""

from __future__ import annotations

import socket
import time
import urllib.error
from collections.abc import Callable, Iterator
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
        ca=str(settings_from().ca),
    )


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """Runs the real group with a command that only says what it was told."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(main._COMMANDS, "status", (__name__, "shown", ""))
    monkeypatch.setitem(main._COMMANDS, "chat", (__name__, "shown", ""))
    SEEN.clear()
    return lambda *words: CliRunner().invoke(main.leanvibe, list(words))


@pytest.mark.parametrize("place", [0, 2, 3, 4])
@pytest.mark.parametrize("which", [("--data-dir", "d"), ("--url", "http://there:1")], ids=["here", "elsewhere"])
def test_te34_options_stand_before_a_command_or_behind_it(
    run: Callable[..., Any], which: tuple[str, str], place: int
) -> None:
    options = [*which, "--client=ann", "--json"]
    result = run(*options[:place], "status", "word", *options[place:], "--", "--json", "--url")
    assert result.exit_code == 0, result.output
    is_here = which[0] == "--data-dir"
    assert SEEN["words"] == ["word", "--json", "--url"]
    assert (SEEN["json"], SEEN["client"]) == (True, "ann")
    assert SEEN["url"] == (None if is_here else "http://there:1")
    assert (Path(SEEN["data"]).name == "d") == is_here


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--url", "http://there", "--data-dir", "d"], "--url and --data-dir both say which server"),
        (["--ca", "ca.pem"], "--ca names certificates to trust at an https://"),
        (["--ca", "ca.pem", "--url", "http://there"], "--ca names certificates to trust at an https://"),
    ],
)
def test_te61_options_that_would_say_nothing_are_refused(
    run: Callable[..., Any], options: list[str], said: str
) -> None:
    for typed in ([*options, "status"], ["status", *options]):
        result = run(*typed)
        assert (result.exit_code, SEEN) == (2, {})
        assert said in result.stderr


def test_te61_whom_to_believe_stands_before_a_command_or_behind_it(run: Callable[..., Any]) -> None:
    for typed in (["--ca", "a.pem", "status"], ["status", "--ca", "a.pem"]):
        assert run(*typed, "--url", "https://there").exit_code == 0
        assert SEEN["ca"] == "a.pem"


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
    assert group.reaching(["token", "create"]) == {"--data-dir", "--url", "--ca"}


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
    assert said == ["the connection was lost: the server is away; waiting for it to come back", "the server is back"]
    outage.take(Change(state="disconnected", delay_seconds=120.0))
    assert said[3:] == ["the server asks to be left alone for 120 s"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [("2026-12-01T23:59:00.000Z", "2026-12-01 23:59"), ("", ""), ("soon", "soon"), ("9999-12-31T23:59:59Z", None)],
)
def test_te36_times_are_those_of_this_machine(monkeypatch: pytest.MonkeyPatch, text: str, shown: str | None) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    assert local_time(text) == shown or shown is None


def every_command(group: click.Group = main.leanvibe, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of all commands that are no groups."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from every_command(command, (*before, name))
        else:
            yield (*before, name)


def needed(command: click.Command, folder: Path) -> list[str]:
    """Something for all that has to be given."""
    given: list[str] = []
    for one in command.params:
        value = str(one.type.choices[0]) if isinstance(one.type, click.Choice) else "1"
        if isinstance(one.type, click.Path):
            value = str(folder)
        if isinstance(one, click.Argument) and (one.required or one.nargs == -1):
            given.append(value)
        elif isinstance(one, click.Option) and one.required:
            given += [one.opts[0], value]
    return given


def command_of(words: tuple[str, ...]) -> click.Command:
    command: click.Command = main.leanvibe
    for word in words:
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), word)
        assert found is not None
        command = found
    return command


REACHING = {"ask", "chat", "task", "notify", "conversations", "status", "connect", "mcp", "models"}
REACHING_OF_MODEL = {"list", "load", "unload"}


@pytest.mark.parametrize("words", list(every_command()), ids=" ".join)
def test_te52_every_command_reaches_a_server_elsewhere_or_says_that_it_cannot(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LEANVIBE_DATA_DIR", str(tmp_path / "none"))
    before = sorted(tmp_path.rglob("*"))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and does not listen
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        reaches = words[0] in REACHING or (words[0] == "model" and words[1] in REACHING_OF_MODEL)
        for place in (0, len(words)):
            options = ["--url", url]
            typed = [*words[:place], *options, *words[place:], *needed(command_of(words), tmp_path)]
            done = CliRunner().invoke(main.leanvibe, typed, input="")
            said = done.output + done.stderr
            # The relay asks no sooner than it is asked.
            assert done.exit_code != 0 or words == ("mcp",), said
            assert "Usage:" not in said
            assert "no server runs" not in said
            assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
            assert ("run it on the machine that is meant" in said) == (not reaches), said
            assert reaches or done.exit_code == 2
    assert sorted(tmp_path.rglob("*")) == before, "a refused command did something"
