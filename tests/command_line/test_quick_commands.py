"""Short questions are short: what they import; what commands are called, where options stand, and how tables come out."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
import click
import pytest
from rich.table import Table

from actors.command_line.main import leanvibe as program
from actors.command_line.place import one_of_prefix
from actors.command_line.printing import print_line
from actors.command_line.screen import Screen, words
from actors.command_line.task_tables import board_table
from actors.settings import Settings
from protocol.task_model import TaskStatus
from tests.system.serving_process import COMMAND, REPOSITORY, ServingProcess, environment, start_server

pytestmark = pytest.mark.integration

HEAVY = {
    "trio", "httpx", "httpx2", "structlog", "sqlalchemy", "alembic", "quart", "hypercorn", "mlx", "numpy", "numba",
    "prompt_toolkit", "jinja2", "llguidance", "markdown_it", "websockets", "msgspec", "prometheus_client", "cryptography",
    "protocol.codec", "protocol.client", "protocol.commands", "protocol.tasks", "runtime", "actors.application",
}  # fmt: skip
TELL_IMPORTS = """
import atexit, sys
from actors.command_line.main import main
atexit.register(lambda: print("imported", *sys.modules, file=sys.stderr))
main()
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingProcess]:
    with start_server(tmp_path_factory.mktemp("served")) as server:
        server.until_ready()
        yield server


def ok(served: ServingProcess, *arguments: str) -> str:
    done = served.run(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def add(served: ServingProcess, title: str, *more: str) -> dict[str, Any]:
    task: dict[str, Any] = json.loads(ok(served, "task", "add", title, "--json", *more))
    return task


@pytest.mark.parametrize("arguments", [("status",), ("task", "list"), ("notify", "list")], ids=" ".join)
def test_a_short_question_imports_nothing_that_is_slow(served: ServingProcess, arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TELL_IMPORTS, *arguments],
        env=environment(served.data_folder),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    (line,) = [one for one in done.stderr.splitlines() if one.startswith("imported ")]
    assert HEAVY & set(line.split()) == set()


def test_a_task_is_edited_and_deleted(served: ServingProcess) -> None:
    made = add(served, "First", "--description", "words", "--tag", "a")
    beginning = made["id"][:13]
    edited = json.loads(
        ok(served, "task", "edit", beginning, "--title", "Other", "--description", "", "--tag", "b", "--json")
    )
    assert (edited["title"], edited.get("description"), edited["tags"]) == ("Other", None, ["b"])
    assert served.run("task", "edit", beginning).returncode == 2
    assert ok(served, "task", "rm", beginning, "--yes") == f"deleted {made['id']}  Other\n"
    assert served.run("task", "show", made["id"]).returncode == 1


def test_te54_a_question_is_left_by_ctrl_c(served: ServingProcess) -> None:
    made = add(served, "Stays", "--project", "kept")
    command = [*COMMAND, "task", "rm", made["id"]]
    ours, theirs = pty.openpty()
    asked = subprocess.Popen(
        command, env=environment(served.data_folder), cwd=REPOSITORY, stdin=theirs, stdout=theirs, stderr=theirs,
        # Its own terminal, or Ctrl-C is a letter.
        start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
    )  # fmt: skip
    os.close(theirs)
    try:
        seen = b""
        while b"[y/N]" not in seen:
            seen += os.read(ours, 4096)
        # Again where it came between the prompt and Python's wait for a line, in which that wait is not told of it.
        while asked.poll() is None:
            os.write(ours, b"\x03")
            with suppress(subprocess.TimeoutExpired):
                asked.wait(2)
        # The terminal's end, when nobody has it open any more.
        with suppress(OSError):
            while more := os.read(ours, 4096):
                seen += more
        assert asked.wait() == 1
    finally:
        asked.kill()
        asked.wait()
        os.close(ours)
    assert (b"Aborted!" in seen, b"Traceback" in seen) == (True, False)
    refused = subprocess.run(
        command,
        env=environment(served.data_folder),
        cwd=REPOSITORY,
        input="n\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (refused.returncode, "Traceback" in refused.stderr) == (1, False)
    assert json.loads(ok(served, "task", "show", made["id"], "--json"))["title"] == "Stays"


def test_nothing_at_all_names_no_task(served: ServingProcess) -> None:
    add(served, "The only one", "--project", "alone")
    done = served.run("task", "rm", "", "--yes")
    assert (done.returncode, "nothing was given" in done.stderr) == (2, True)


def test_an_ambiguous_beginning_is_told_with_what_it_may_mean(capsys: pytest.CaptureFixture[str]) -> None:
    known = [("abc1", "One"), ("abc2", "Two"), ("xyz", "Three")]
    assert one_of_prefix("x", known, what="task") == "xyz"
    with pytest.raises(SystemExit):
        one_of_prefix("abc", known, what="task")
    said = capsys.readouterr().err
    assert ("abc1  One" in said, "abc2  Two" in said, "xyz" in said) == (True, True, False)


def test_conversations_are_listed_shown_exported_and_forgotten(served: ServingProcess, tmp_path: Path) -> None:
    body = json.dumps({"type": "message", "content": "count to 3", "conversation": "counting"}).encode()
    url = f"{served.about['rest_url']}/ai/process"
    subprocess.run(
        ["curl", "-sf", "-H", "X-Client-Id: system-test", "--data-binary", "@-", url],
        input=body,
        capture_output=True,
        check=True,
    )
    listed = ok(served, "conversations", "list").splitlines()
    assert [line.split("\t")[:2] for line in listed] == [["name", "turns"], ["counting", "2"]]
    assert "count to 3\n" in ok(served, "conversations", "show", "count")
    assert ok(served, "conversations", "export", "counting").startswith("# ")
    assert len(json.loads(ok(served, "conversations", "export", "counting", "--format", "json"))["turns"]) == 2
    file = tmp_path / "kept.md"
    ok(served, "conversations", "export", "counting", "--output", str(file))
    assert file.read_text().startswith("# ")
    assert ok(served, "conversations", "rm", "counting", "--yes") == "forgot counting, 2 turns\n"
    done = served.run("conversations", "show", "counting")
    assert (done.returncode, "no conversation has a name" in done.stderr) == (1, True)


def test_reading_says_what_it_did_not_find(served: ServingProcess) -> None:
    sent = ok(served, "notify", "send", "title=news").strip()
    assert sent in ok(served, "notify", "list")
    done = served.run("notify", "read", "not-there")
    assert (done.returncode, "'not-there'" in done.stderr) == (1, True)
    assert ok(served, "notify", "read", sent[:13]).startswith("1 read")


def test_settings_are_shown_with_their_sources_and_without_secrets(served: ServingProcess) -> None:
    secret = "postgresql://me:hush@db/x"
    done = served.run("settings", "show", "--json", LEANVIBE_DATABASE=secret, LEANVIBE_MAX_ROWS="7")
    rows = {one["name"]: one for one in json.loads(done.stdout)}
    assert set(rows) == {one.name for one in attrs.fields(Settings)}
    assert rows["max_rows"] == {"name": "max_rows", "value": 7, "source": "LEANVIBE_MAX_ROWS", "default": 32}
    assert (rows["database"]["value"], "hush" in done.stdout) == ("(hidden)", False)
    assert rows["ca"]["source"] == "default"
    assert served.run("settings", "show", "colour").returncode == 2


def test_models_as_people_say_it_is_the_list(served: ServingProcess) -> None:
    assert json.loads(ok(served, "models", "--json")) == json.loads(ok(served, "model", "list", "--json"))


def test_the_server_may_be_named_before_and_behind_every_command(served: ServingProcess, tmp_path: Path) -> None:
    elsewhere = {"LEANVIBE_DATA_DIR": str(tmp_path)}
    folder = str(served.data_folder)
    for command in (
        ("status",),
        ("task", "list"),
        ("notify", "list"),
        ("inspect", "tree"),
        ("token", "list"),
        ("conversations", "list"),
        ("settings", "show", "data_dir"),
    ):
        for line in (("--data-dir", folder, *command), (*command, "--data-dir", folder)):
            done = served.run(*line, **elsewhere)
            assert done.returncode == 0, (line, done.stderr)
    ok(served, "--client", "somebody", "task", "add", "Theirs")
    assert "Theirs" in ok(served, "task", "list", "--client", "somebody")
    assert "Theirs" not in ok(served, "task", "list")


def test_every_command_that_answers_can_answer_in_json() -> None:
    """Those that run on, or whose output is the thing itself, have no other form."""
    others = {
        "serve",
        "chat",
        "completion",
        "man",
        "mcp",
        "model embed",
        "conversations export",
        "service logs",
        "model encoder",
    }
    without = set()

    def look(command: click.Command, name: str) -> None:
        context = click.Context(command)
        if isinstance(command, click.Group):
            for one in command.list_commands(context):
                found = command.get_command(context, one)
                assert found is not None
                look(found, f"{name} {one}".strip())
        elif not any("--json" in one.opts for one in command.params):
            without.add(name)

    look(program, "")
    assert without == others


def test_a_pipe_gets_whole_lines_and_no_boxes(served: ServingProcess) -> None:
    title = "A title that is far longer than any terminal is wide: " + "-".join(["word"] * 30)
    made = add(served, title, "--project", "pipe")
    done = ok(served, "task", "list", "--project", "pipe")
    assert done.splitlines()[1].split("\t")[:3] == [made["id"], title, "todo"]
    everything = done + ok(served, "task", "show", made["id"]) + ok(served, "status") + ok(served, "task", "board")
    assert re.search("[\u2500-\u257f]", everything) is None


def terminal(data_folder: Path, *arguments: str, columns: int, **settings: str) -> str:
    """What a command writes to a pseudo-terminal."""
    ours, theirs = pty.openpty()
    variables = environment(data_folder, COLUMNS=str(columns), LINES="40", **settings)
    process = subprocess.Popen(
        [*COMMAND, *arguments], env=variables, cwd=REPOSITORY, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    written = b""
    try:
        while True:
            written += os.read(ours, 65536)
    except OSError:
        pass  # the other end is closed
    finally:
        os.close(ours)
        process.wait(20)
    return written.decode()


def test_sixty_columns_are_enough_and_priority_is_a_word(served: ServingProcess) -> None:
    made = add(served, "Mend the roof", "--priority", "urgent", "--project", "narrow")
    for command in (("board", "--project", "narrow"), ("list", "--project", "narrow"), ("show", made["id"])):
        drawn = terminal(served.data_folder, "task", *command, columns=60, NO_COLOR="1", TERM="xterm-256color")
        plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", drawn)
        assert max(len(line) for line in plain.splitlines()) <= 60
        assert ("urgent" in drawn, "Mend the roof" in drawn, made["id"][:8] in drawn) == (True, True, True)
        assert re.search(r"\x1b\[[0-9;]*3[0-7]", drawn) is None


def test_a_column_that_is_full_says_so_in_words() -> None:
    counts = dict.fromkeys(TaskStatus, 0) | {TaskStatus.TODO: 2}
    drawn = board_table({one: [] for one in TaskStatus}, counts, {TaskStatus.TODO: 2}, width=200)
    assert isinstance(drawn, Table)
    assert str(drawn.columns[1].header) == "To do (2 / 2, full)"


def test_a_line_is_plain_where_colours_are_not_wanted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(click.utils, "should_strip_ansi", lambda _=None, color=None: color is False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    print_line("x", style="red")
    assert "\x1b[" in capsys.readouterr().out
    for name, value in (("NO_COLOR", "1"), ("TERM", "dumb")):
        monkeypatch.setenv(name, value)
        print_line("x", style="red")
        assert capsys.readouterr().out == "x\n"
        monkeypatch.delenv("NO_COLOR", raising=False)


def test_a_cell_with_a_tab_or_a_line_end_stays_one_cell(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("a", "b")
    table.add_row(words("one\ttwo"), "x\ny")
    Screen().print(table)
    assert [line.count("\t") for line in capsys.readouterr().out.splitlines()] == [1, 1]
