"""`leanvibe chat` as a person has it: a real terminal (a pty), the real program, the real server."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from attrs import define

from tests.emulator import Emulator
from tests.system.serving_process import (
    COMMAND,
    REPOSITORY,
    ServingProcess,
    environment,
    leanvibe,
    start_server,
    wait_for,
)

pytestmark = pytest.mark.integration

_PROMPT = re.compile(r"([>…])\x08\x1b\[2C")
"""The editor draws no space at the end of a line."""
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[=>]|\r")


@define
class Terminal:
    """A chat in a terminal."""

    process: subprocess.Popen[bytes]
    master: int
    seen: str = ""
    read: int = 0
    raw: str = ""
    """Everything, with the codes for the terminal."""
    emulator: Emulator | None = None
    """What a person sees of it, where that is asked for."""

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def drain(self, seconds: float = 0.0) -> bool:
        """Read what is there; False once it has ended."""
        if select.select([self.master], [], [], seconds)[0]:
            try:
                read = os.read(self.master, 65536).decode("utf-8", "replace")
            except OSError:
                return False
            self.raw += read
            if self.emulator is not None:
                self.emulator.write(read)
            self.seen += _CONTROL.sub("", _PROMPT.sub(r"\1 ", read))
        return True

    def until(self, wanted: str, seconds: float = 30.0) -> str:
        """What came up to and with ``wanted``, since the last call."""
        deadline = time.monotonic() + seconds
        while wanted not in self.seen[self.read :]:
            assert time.monotonic() < deadline, f"no {wanted!r} in {self.seen[self.read :]!r}"
            if not self.drain(0.1):
                raise AssertionError(f"it ended; no {wanted!r} in {self.seen[self.read :]!r}")
        at = self.seen.index(wanted, self.read) + len(wanted)
        found, self.read = self.seen[self.read : at], at
        return found


@contextmanager
def chat(
    server: ServingProcess, *arguments: str, emulator: Emulator | None = None, **settings: str
) -> Iterator[Terminal]:
    master, slave = pty.openpty()
    if emulator is not None:
        emulator.size(slave)
        settings = {"COLUMNS": str(emulator.columns), "LINES": str(emulator.rows), **settings}
    process = subprocess.Popen(
        [*COMMAND, "chat", *arguments],
        env={**environment(server.data_folder), "TERM": "xterm", "COLUMNS": "100", "LINES": "40", **settings},
        cwd=REPOSITORY,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        preexec_fn=_take_terminal,  # noqa: PLW1509  so that a typed Ctrl-C becomes its signal
    )
    os.close(slave)
    try:
        yield Terminal(process, master, emulator=emulator)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)
        os.close(master)


def _take_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingProcess]:
    with start_server(tmp_path_factory.mktemp("chat"), LEANVIBE_MOCK_STEP_SECONDS="0.005") as server:
        yield server


def test_ctrl_c_is_not_drawn_into_the_answer(serving: ServingProcess) -> None:
    with chat(serving) as terminal:
        terminal.until("> ")
        terminal.type("count to 900\n")
        terminal.until("1 2 3")
        terminal.type("\x03")
        # The echo of Ctrl-C moved the cursor, and the line that it stood in was drawn twice.
        assert "^C" not in terminal.until("cancelled")
        terminal.until("> ")
        terminal.type("\x04")
        assert terminal.process.wait(10) == 0


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("websocket_url", "this asks the server over REST, and --url named its WebSocket alone"),
        ("rest_url", "mock: mock, 0 running"),
    ],
)
def test_te43_chat_reaches_a_server_by_its_address(
    serving: ServingProcess, tmp_path: Path, address: str, told: str
) -> None:
    with chat(serving, "--url", serving.about[address], LEANVIBE_DATA_DIR=str(tmp_path)) as terminal:
        terminal.until("> ")
        terminal.type("count to 3\n")
        terminal.until("1 2 3")
        terminal.until("> ")
        terminal.type("/status\n")
        terminal.until(told)
        terminal.until("> ")
        terminal.type("\x04")
        assert terminal.process.wait(10) == 0


def test_a_conversation_with_commands_files_and_ctrl_c(serving: ServingProcess, tmp_path: Path) -> None:
    source = tmp_path / "sum.py"
    source.write_text("def add(a, b):\n    return a + b\n", encoding="utf-8")
    saved = tmp_path / "saved.md"
    with chat(serving, "--new", "tour") as terminal:
        terminal.until("/help shows more")
        terminal.until("> ")
        terminal.type("/history\n")
        terminal.until("nothing said yet")
        terminal.until("> ")
        terminal.type("count to 5\n")
        terminal.until("1 2 3 4 5")
        terminal.until("> ")
        # Many lines.
        terminal.type('"""\n')
        terminal.until("… ")
        terminal.type("line one\n")
        terminal.until("… ")
        terminal.type('and two\n"""\n')
        terminal.until("You said: line one")
        terminal.until("and two")
        terminal.until("> ")
        # Ctrl-C ends the answer and not the program.
        terminal.type("count to 900\n")
        terminal.until("1 2 3")
        terminal.type("\x03")
        terminal.until("cancelled")
        terminal.until("> ")
        # A file is read here; the mock repeats the prompt that the server made of it.
        terminal.type(f"/explain {source}\n")
        terminal.until("return a + b")
        terminal.until("> ")
        terminal.type("/explain nowhere.py\n")
        terminal.until("nowhere.py cannot be read: No such file")
        terminal.until("> ")
        terminal.type("/explian x\n")
        terminal.until("there is no /explian")
        terminal.until("> ")
        terminal.type("/status\n")
        terminal.until("mock: mock, 0 running")
        terminal.until("> ")
        terminal.type("/model\n")
        terminal.until("mock (mock)")
        terminal.until("> ")
        terminal.type("/help\n")
        terminal.until("/refactor FILE")
        terminal.until("> ")
        terminal.type("/history\n")
        terminal.until("1 2 3 4 5")
        terminal.until("line one")
        terminal.until("> ")
        terminal.type(f"/save {saved}\n")
        terminal.until("saved to")
        terminal.until("> ")
        terminal.type(f"/save {saved}\n")
        terminal.until("is there already")
        terminal.until("> ")
        terminal.type("/reset\n")
        terminal.until("tour stays stored")
        terminal.until("> ")
        terminal.type("/history\n")
        terminal.until("nothing said yet")
        terminal.until("> ")
        # Ctrl-C at the prompt leaves nothing and nobody.
        terminal.type("\x03")
        terminal.until("Ctrl-D leaves")
        terminal.type("count to 3\n")
        terminal.until("1 2 3")
        terminal.until("> ")
        terminal.type("\x04")
        assert terminal.process.wait(10) == 0
    text = saved.read_text(encoding="utf-8")
    assert text.startswith("# tour\n")
    assert "1 2 3 4 5" in text
    assert "> line one\n> and two" in text


def test_the_task_board_from_within_a_chat(serving: ServingProcess) -> None:
    with chat(serving) as terminal:
        terminal.until("> ")
        terminal.type("/tasks\n")
        terminal.until("no tasks; /task TITLE makes one")
        terminal.until("> ")
        # Markup of rich in a title is a title.
        terminal.type("/task Water the [bold]plants\n")
        terminal.until("made: Water the [bold]plants (todo)")
        terminal.until("> ")
        # Numbers are those of the board as it was last shown.
        terminal.type("/task show 1\n")
        terminal.until("no task has the number 1; /tasks shows them")
        terminal.until("> ")
        terminal.type("/tasks\n")
        terminal.until("todo")
        terminal.until("Water the [bold]plants")
        terminal.until("> ")
        terminal.type("/task show 1\n")
        terminal.until("plants (todo)")
        terminal.until("> ")
        terminal.type("/task move 1 in_progress\n")
        terminal.until("Water the [bold]plants: in_progress")
        terminal.until("> ")
        terminal.type("/task move 1 nowhere\n")
        terminal.until("status")
        terminal.until("> ")
        # The board is the same over the other transports.
        done = serving.run("task", "list", "--json")
        assert [(one["title"], one["status"]) for one in json.loads(done.stdout)["tasks"]] == [
            ("Water the [bold]plants", "in_progress")
        ]
        terminal.type("\x04")
        assert terminal.process.wait(10) == 0


@pytest.mark.parametrize(
    ("command", "says"), [("refactor", "Rewrite this code"), ("debug", "Find the errors")], ids=["refactor", "debug"]
)
def test_a_file_is_read_here_and_asked_about(serving: ServingProcess, tmp_path: Path, command: str, says: str) -> None:
    source = tmp_path / "area.py"
    source.write_text("def area(radius):\n    return 3 * radius * radius\n", encoding="utf-8")
    with chat(serving) as terminal:
        terminal.until("> ")
        terminal.type(f"/{command}\n")
        terminal.until(f"usage: /{command} FILE")
        terminal.until("> ")
        terminal.type(f"/{command} {source}\n")
        # The mock repeats the prompt, which has the intent's words and the code.
        terminal.until("You said: ")
        answer = terminal.until("return 3 * radius * radius")
        assert says in answer
        terminal.until("> ")
        terminal.type("\x04")
        assert terminal.process.wait(10) == 0


def test_another_model_is_loaded_from_within_a_chat(tmp_path: Path) -> None:
    with start_server(tmp_path / "data") as server, chat(server) as terminal:
        terminal.until("> ")
        terminal.type("/model nobody\n")
        terminal.until("nobody")
        terminal.until("> ")
        terminal.type("/model mock-other\n")
        terminal.until("mock-other (mock)")
        terminal.until("> ")
        terminal.type("which model\n")
        terminal.until("mock-other")
        terminal.until("> ")
        terminal.type("\x04")
        assert terminal.process.wait(10) == 0


def test_a_reset_begins_a_conversation_that_knows_nothing(serving: ServingProcess, tmp_path: Path) -> None:
    with chat(serving, "--new", "before") as terminal:
        terminal.until("> ")
        terminal.type("count to 3\n")
        terminal.until("1 2 3")
        terminal.until("> ")
        terminal.type("/reset\n")
        terminal.until("before stays stored")
        terminal.until("> ")
        terminal.type("count to 2\n")
        terminal.until("1 2")
        terminal.until("> ")
        terminal.type(f"/save {tmp_path / 'after.md'}\n")
        terminal.until("saved to")
        terminal.until("> ")
        terminal.type(f"/save {tmp_path / 'no' / 'x'}\n")
        terminal.until("cannot be written")
        terminal.until("> ")
        terminal.type("\x04")
        assert terminal.process.wait(10) == 0
    after = (tmp_path / "after.md").read_text(encoding="utf-8")
    assert "count to 2" in after
    assert "count to 3" not in after
    # The one before goes on where it was.
    with chat(serving, "--conversation", "before") as terminal:
        terminal.until("> ")
        terminal.type("/history\n")
        terminal.until("count to 3")
        terminal.until("> ")
        terminal.type("\x04")
        assert terminal.process.wait(10) == 0


def test_a_chat_with_a_server_that_has_tokens(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    made = leanvibe(folder, "token", "create", "--client", "system-test", "--name", "laptop", "--json")
    assert made.returncode == 0, made.stderr
    with start_server(folder) as server:
        wait_for((folder / "cli-token").exists)
        with chat(server) as terminal:
            terminal.until("> ")
            # Over the WebSocket, and over REST.
            terminal.type("count to 3\n")
            terminal.until("1 2 3")
            terminal.until("> ")
            terminal.type("/status\n")
            terminal.until("mock: mock, 0 running")
            terminal.until("> ")
            terminal.type("/model mock-other\n")
            terminal.until("mock-other (mock)")
            terminal.until("> ")
            terminal.type("\x04")
            assert terminal.process.wait(10) == 0
        # The test shows something only if nobody enters without one.
        request = urllib.request.Request(f"{server.about['rest_url']}/health")
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with pytest.raises(urllib.error.HTTPError) as refused:
            direct.open(request, timeout=60)
        with refused.value:
            assert refused.value.code == 401


def test_a_stored_conversation_goes_on_after_the_server_was_killed(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with start_server(folder) as server, chat(server, "--new", "kept") as terminal:
        terminal.until("> ")
        terminal.type("count to 4\n")
        terminal.until("1 2 3 4")
        terminal.until("> ")
        # What can be read is on disk.
        terminal.type("/history\n")
        terminal.until("1 2 3 4")
        server.process.send_signal(signal.SIGKILL)
        server.process.wait(10)
    with start_server(folder) as server, chat(server, "--conversation", "kept") as terminal:
        terminal.until("> ")
        terminal.type("/history\n")
        terminal.until("count to 4")
        terminal.until("1 2 3 4")
        terminal.until("> ")
        terminal.type("count to 2\n")
        terminal.until("1 2")
        terminal.until("> ")
        terminal.type("\x04")
        assert terminal.process.wait(10) == 0
