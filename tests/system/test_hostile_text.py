"""Every command with text stored by a hostile program, on a real terminal and in a pipe."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.system.serving_process import COMMAND, REPOSITORY, ServingProcess, environment, start_server, wait_for

pytestmark = pytest.mark.integration

EVIL = "evil\x1b]0;PWNED\x1b\\\x1b[2J\x1b[1;1H\x1b]52;c;ZWNobw==\x1b\\\rfake\u202egnp\u2066\u200b[/nope]"
SHOWN = "evil␛]0;PWNED␛\\␛[2J␛[1;1H␛]52;c;ZWNobw==␛\\␍fake\\u202egnp\\u2066\\u200b[/nope]"
OURS = re.compile(
    r"\x1b\[[0-9;]*m|\x1b\[\?25[lh]|\x1b\[[0-9]*[AK]|\x1b\[\?1049[lh]|\x1b\[H|\r+\n|\r(?=\x1b\[(?:2K|1A))"
)
"""Colours, cursor movement, and redrawn lines."""
EDITOR = re.compile(r"\x1b\[\?(?:1|7|12|25|2004)[hl]|\x1b\[[0-9]*[ABCDGJK]|\x1b\[6n|\x08")
"""Sequences with which the line editor draws its prompt. Erasing the screen (`2J`) and absolute positioning (`H`) are not among them."""
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u202a-\u202e\u2066-\u2069]")
RUN_ALL = """
import json, sys
from actors.command_line.main import main
for arguments in json.loads(sys.argv[1]):
    print("=====", flush=True)
    sys.argv = ["leanvibe", *arguments]
    try:
        main()
    except SystemExit:
        sys.stdout.flush(), sys.stderr.flush()
"""


def commands(task_id: str) -> list[list[str]]:
    """Return every command that shows untrusted text."""
    return [
        ["task", "list"],
        ["task", "board"],
        ["task", "show", task_id],
        ["task", "show", EVIL],
        ["task", "move", task_id, "todo"],
        ["task", "done", task_id],
        ["task", "add", EVIL, "--description", EVIL, "--tag", EVIL, "--assignee", EVIL],
        ["task", "add", "x", "--due", EVIL],
        ["notify", "list"],
        ["notify", "send", f"title={EVIL}", f"nofield={EVIL}"],
        ["notify", "prefs", "--timezone", EVIL, "--quiet", "22:00-07:00"],
        ["notify", "devices", "--webhook", EVIL, "--secret", "0123456789abcdef"],
        ["notify", "read", EVIL],
        ["ask", EVIL],
        ["model", "list"],
        ["model", "path", EVIL],
        ["model", "load", EVIL],
        ["status"],
        ["inspect", "tree", "--stacks"],
        ["inspect", "state", EVIL],
        ["inspect", "state", "inference/inference"],
        ["inspect", "dead-letters", "--payload"],
        ["token", "create", "--client", "other", "--name", EVIL],
        ["token", "list"],
    ]


def post(server: ServingProcess, path: str, body: Any) -> Any:
    request = urllib.request.Request(
        server.about["rest_url"] + path, json.dumps(body).encode(), {"X-Client-Id": "system-test"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def on_terminal(server: ServingProcess, *command: str) -> str:
    """Return everything that a command writes to its terminal."""
    with terminal(server, *command) as (process, read, _):
        said = ""
        while (piece := read()) is not None:
            said += piece
        process.wait(30)
        return said


@contextmanager
def terminal(
    server: ServingProcess, *command: str, **settings: str
) -> Iterator[tuple[subprocess.Popen[bytes], Any, Any]]:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        command,
        env={**environment(server.data_folder), "TERM": "xterm-256color", "COLUMNS": "400", "LINES": "60", **settings},
        cwd=REPOSITORY,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)

    def read(seconds: float = 60.0) -> str | None:
        if not select.select([master], [], [], seconds)[0]:
            return ""
        try:
            return os.read(master, 1 << 20).decode("utf-8", "replace") or None
        except OSError:
            return None

    try:
        yield process, read, lambda text: os.write(master, text.encode())
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)
        os.close(master)


def assert_nothing_is_obeyed(said: str) -> None:
    found = OBEYED.search(OURS.sub("\n", said))
    assert found is None, repr(said[max(0, said.index(found[0]) - 60) :][:200])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingProcess]:
    with start_server(tmp_path_factory.mktemp("hostile")) as started:
        started.until_ready()
        yield started


@pytest.fixture(scope="module")
def task_id(server: ServingProcess) -> str:
    body = {"title": EVIL, "description": EVIL, "tags": [EVIL], "assignee": EVIL}
    post(server, "/notifications/system-test", {"template": "message", "fields": {"title": EVIL, "body": EVIL}})
    return str(post(server, "/tasks/system-test", body)["id"])


def test_tx24_every_command_on_a_terminal_shows_what_it_would_obey(server: ServingProcess, task_id: str) -> None:
    wanted = [one for one in commands(task_id) if one[0] != "token"]
    said = on_terminal(server, sys.executable, "-c", RUN_ALL, json.dumps(wanted))
    parts = said.split("=====\r\n")
    assert len(parts) == len(wanted) + 1
    for command, part in zip(wanted, parts[1:], strict=True):
        assert "Traceback" not in part, (command, part)
        assert_nothing_is_obeyed(part)
        if command[:2] in (["task", "list"], ["task", "show"], ["notify", "list"], ["task", "add"], ["ask", EVIL]):
            assert "PWNED" in part or "due" in part, (command, part)
    assert said.count(SHOWN) > 8


def test_tx24_every_command_in_a_pipe_too_but_for_an_answer(server: ServingProcess, task_id: str) -> None:
    for command in commands(task_id):
        done = server.run(*command)
        exact = command[0] == "ask"
        assert OBEYED.search(done.stderr) is None, (command, done.stderr)
        assert (OBEYED.search(done.stdout) is not None) is exact, (command, done.stdout)
        if exact:
            assert EVIL in done.stdout


def test_tx21_json_of_every_command_stays_exact(server: ServingProcess, task_id: str) -> None:
    for command, find in (
        (["task", "show", task_id], lambda found: found["title"]),
        (["task", "list"], lambda found: next(one["title"] for one in found["tasks"] if one["id"] == task_id)),
        (
            ["notify", "list"],
            lambda found: next(one["body"] for one in found["notifications"] if one["kind"] == "message"),
        ),
        (["ask", EVIL], lambda found: found["text"].removeprefix("You said: ")),
    ):
        done = server.run(*command, "--json")
        assert done.returncode == 0, done.stderr
        assert OBEYED.search(done.stdout) is None
        assert find(json.loads(done.stdout)) == EVIL


def test_tx24_what_is_followed_live_is_shown_too(server: ServingProcess, task_id: str) -> None:
    for arguments in (["notify", "listen", "--count", "1"], ["task", "watch"]):
        said = ""
        with terminal(server, *COMMAND, *arguments) as (process, read, _):
            deadline = time.monotonic() + 40
            while said.count("PWNED") < 1 and time.monotonic() < deadline:
                if arguments[0] == "notify":
                    fields = {"title": EVIL, "body": EVIL}
                    post(server, "/notifications/system-test", {"template": "message", "fields": fields})
                said += read(0.5) or ""
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            while (piece := read(20)) is not None:
                said += piece
            wait_for(lambda process=process: process.poll() is not None, what="its end")
        # A column may be narrower.
        assert SHOWN[:12] in said
        assert_nothing_is_obeyed(said)


def test_tx24_a_chat_shows_what_it_reads(server: ServingProcess, task_id: str) -> None:
    post(server, "/ai/process", {"type": "message", "content": "evil\u202egnp\x1b[3J", "conversation": "evil"})
    with terminal(server, *COMMAND, "chat", "--conversation", "evil") as (process, read, write):
        said = ""

        def until(wanted: str) -> None:
            nonlocal said
            deadline = time.monotonic() + 40
            while wanted not in said:
                assert time.monotonic() < deadline, said
                said += read(0.5) or ""

        until(">\x08\x1b[2C")
        for typed in ("/tasks", "/task show 1", "/model \\x", "say [bold] it", "/history", "/no[/nope]"):
            begin = len(said)
            write(typed + "\n")
            # Its echo, the answer, and the next prompt.
            deadline = time.monotonic() + 40
            while said.count(">\x08\x1b[2C", begin) < 1 or not said.endswith("\x1b[?25h"):
                assert time.monotonic() < deadline, said
                said += read(0.5) or ""
            time.sleep(0.3)
        write("\x04")
        while (piece := read(20)) is not None:
            said += piece
        process.wait(30)
    assert "PWNED" in said
    assert "evil\\u202egnp␛[3J" in said
    assert "Traceback" not in said
    assert "\x1b[2J" not in said
    assert_nothing_is_obeyed(EDITOR.sub("", said.replace("\r", "\n")))
