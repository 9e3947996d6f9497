"""`leanvibe task` beside a real server."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading
from pathlib import Path
from typing import Any, Self

import pytest
from rich.console import Console

from actors.command_line.task import _drawn, _load
from actors.command_line.task_tables import board_table, task_panel
from protocol.board import BoardMirror
from protocol.client import connect
from protocol.task_model import TaskStatus
from tests.server_fixture import RunningServer
from tests.system.serving_process import COMMAND, REPOSITORY, ServingProcess, environment, start_server


def ask(server: ServingProcess, *arguments: str) -> Any:
    """What the command prints as JSON."""
    done = server.run("task", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.integration
def test_a_task_is_added_listed_moved_shown_and_done(tmp_path: Path) -> None:
    with start_server(tmp_path) as server:
        first = ask(server, "add", "Paint [the] door", "--tag", "house", "--priority", "urgent")
        second = ask(server, "add", "Dry it", "--depends-on", first["id"][:8])
        assert second["dependencies"] == [first["id"]]
        moved = ask(server, "move", second["id"], "todo", "--before", first["id"])
        assert [one["id"] for one in ask(server, "list", "--sort", "position", "--order", "ascending")["tasks"]] == [
            moved["id"],
            first["id"],
        ]
        drawn = server.run("task", "board").stdout
        assert "To do (2)" in drawn
        assert "Paint [the] door" in drawn
        assert "blocked" in drawn
        assert ask(server, "done", first["id"][:8])["status"] == "done"
        shown = ask(server, "show", first["id"][:8])
        assert [one["kind"] for one in shown["history"]] == ["moved", "created"]
        assert "History" in server.run("task", "show", first["id"]).stdout
        assert "Dry it" in server.run("task", "list", "--free").stdout
        unknown = server.run("task", "done", "zzz")
        assert (unknown.returncode, unknown.stderr) == (1, "leanvibe: no task has an id that begins with 'zzz'\n")
        refused = server.run("task", "move", first["id"], "backlog")
        assert refused.returncode == 1
        assert "from done it can go to todo, in_progress, testing" in refused.stderr


def test_without_a_server_a_command_says_what_to_do(tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "task", "board"],
        env=environment(tmp_path), cwd=REPOSITORY, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 3
    assert " serve --data-dir " in done.stderr


@pytest.mark.integration
async def test_a_watched_board_begins_with_all_its_tasks_and_takes_events_in(engineless_server: RunningServer) -> None:
    url = engineless_server.about.websocket_url
    async with connect(url, client_id="me") as client:
        for start in range(0, 120, 40):
            items = [{"create": {"title": f"task {start + number}"}} for number in range(40)]
            await client.command("task_bulk", {"items": items})
        await client.command("task_limits", {"limits": {"done": 2}})
        mirror = BoardMirror()
        limits = await _load(client, mirror, "default")
        moved = mirror.columns()[TaskStatus.TODO][0]
        mirror.apply("task_moved", {"task": {**moved, "status": "done"}})
    assert len(mirror.tasks) == 120
    text = drawn(_drawn(mirror, limits, "default"))
    assert "To do (119)" in text
    assert "Done (1 / 2)" in text
    assert "task 119" in text


@pytest.mark.integration
def test_watch_tells_of_what_another_terminal_does(tmp_path: Path) -> None:
    with start_server(tmp_path) as server:
        process = subprocess.Popen(
            [*COMMAND, "task", "watch", "--json"],
            env={**environment(tmp_path), "PYTHONUNBUFFERED": "1"}, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        guard = threading.Timer(60, process.kill)
        guard.start()
        assert process.stdout is not None
        try:
            # The first line says where the events begin.
            assert json.loads(process.stdout.readline())["type"] == "snapshot"
            added = ask(server, "add", "Paint")
            told = json.loads(process.stdout.readline())
            assert (told["type"], told["task"]) == ("task_created", added)
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=20)
            guard.cancel()


class Watching:
    """`leanvibe task watch` on a terminal of `LOW` rows."""

    def __init__(self, data_folder: Path) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", LOW, 80, 0, 0))
        plain = {name: one for name, one in environment(data_folder).items() if name not in ("LINES", "COLUMNS")}
        self._process = subprocess.Popen(
            [*COMMAND, "task", "watch"],
            env={**plain, "TERM": "xterm"}, cwd=REPOSITORY, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        )  # fmt: skip
        os.close(slave)
        self._guard = threading.Timer(180, self._process.kill)
        self._raw = ""

    def __enter__(self) -> Self:
        self._guard.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._guard.cancel()
        self._process.kill()
        self._process.wait(20)
        os.close(self._master)

    def until(self, words: str) -> None:
        while words not in self._raw:
            self._raw += os.read(self._master, 65536).decode()

    def left(self) -> str:
        """End it by Ctrl-C; what stands in its terminal then."""
        self._process.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):  # how a terminal ends
            while read := os.read(self._master, 65536).decode():
                self._raw += read
        return "\n".join(screen_rows(self._raw))


@pytest.mark.integration
def test_te44_a_watched_board_stands_once_on_a_low_screen(tmp_path: Path) -> None:
    with start_server(tmp_path) as server:
        for number in range(12):
            ask(server, "add", f"task {number}")
        with Watching(tmp_path) as watching:
            watching.until("To do (12)")
            ask(server, "add", "one more")
            watching.until("To do (13)")
            shown = watching.left()
    assert [shown.count(one) for one in ("Backlog (0)", "To do (12)", "To do (13)", "one more")] == [1, 0, 1, 1], shown


@pytest.mark.integration
def test_te44_an_outage_stands_above_a_watched_board_and_leaves_no_second_one(tmp_path: Path) -> None:
    with contextlib.ExitStack() as held:
        with start_server(tmp_path) as server:
            ask(server, "add", "the first")
            watching = held.enter_context(Watching(tmp_path))
            watching.until("To do (1)")
            server.process.kill()
            watching.until("the server is away")
        with start_server(tmp_path) as again:
            watching.until("the server is back")
            ask(again, "add", "the second")
            watching.until("To do (2)")
            shown = watching.left()
    counts = [shown.count(one) for one in ("the server is back", "Backlog (0)", "To do (1)", "To do (2)", "the first")]
    assert counts == [1, 1, 0, 1, 1], shown
    assert shown.index("is away") < shown.index("is back") < shown.index("Backlog")


LOW = 8
"""Rows of a screen that has no room for the board."""


def screen_rows(raw: str) -> list[str]:
    """What stands on a terminal of `LOW` rows and above it, after these characters and codes."""
    rows, row, column = [""], 0, 0
    for part in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", raw):
        if part == "\r":
            column = 0
        elif part == "\n":
            row += 1
            rows += [""] * (row + 1 - len(rows))
        elif part.startswith("\x1b["):
            if part.endswith("A"):
                # What has left the screen cannot be reached.
                row = max(len(rows) - LOW, row - int(part[2:-1] or 1), 0)
            elif part == "\x1b[2K":
                rows[row] = ""
        else:
            rows[row] = rows[row][:column] + part
            column += len(part)
    return rows


def drawn(what: Any) -> str:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(what)
    return console.export_text()


def test_a_full_column_says_so_and_tasks_that_do_not_fit_are_counted() -> None:
    card = {"id": "0" * 36, "title": "[red]x", "priority": "low", "is_blocked": False, "requires_approval": True}
    columns: dict[TaskStatus, list[dict[str, Any]]] = {status: [] for status in TaskStatus}
    counts = dict.fromkeys(TaskStatus, 0)
    columns[TaskStatus.TODO], counts[TaskStatus.TODO] = [card], 7
    text = drawn(board_table(columns, counts, {TaskStatus.TODO: 7}))
    for words in ("To do (7 / 7, full)", "… 6 more", "[red]x", "[needs"):
        assert words in text


def test_a_panel_shows_decision_and_analysis() -> None:
    task = {
        "id": "0" * 36, "title": "t", "project": "p", "status": "todo", "priority": "low", "version": 1, "tags": ["a"],
        "dependencies": [], "ai_analysis": "two steps", "ai_analysis_status": "done",
        "agent_decision": {"approval": "pending", "recommendation": "do it", "confidence": 0.5},
    }  # fmt: skip
    text = drawn(task_panel(task))
    assert "two steps" in text
    assert "pending: do it (confidence 0.50)" in text
    assert "failed" in drawn(task_panel({**task, "ai_analysis": None, "ai_analysis_status": "failed"}))
