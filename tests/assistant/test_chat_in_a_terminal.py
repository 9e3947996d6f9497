"""`leanvibe chat` as a person has it: a real terminal (a pty), the real program, the real server."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from attrs import define

from tests.system.serving_process import COMMAND, REPOSITORY, ServingProcess, environment, start_server

pytestmark = pytest.mark.integration

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[=>]|\r")


@define
class Terminal:
    """A chat in a terminal."""

    process: subprocess.Popen[bytes]
    master: int
    seen: str = ""
    read: int = 0

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def until(self, wanted: str, seconds: float = 30.0) -> str:
        """What came up to and with ``wanted``, since the last call."""
        deadline = time.monotonic() + seconds
        while wanted not in self.seen[self.read :]:
            assert time.monotonic() < deadline, f"no {wanted!r} in {self.seen[self.read :]!r}"
            if select.select([self.master], [], [], 0.1)[0]:
                try:
                    self.seen += _CONTROL.sub("", os.read(self.master, 65536).decode("utf-8", "replace"))
                except OSError:
                    raise AssertionError(f"it ended; no {wanted!r} in {self.seen[self.read :]!r}") from None
        at = self.seen.index(wanted, self.read) + len(wanted)
        found, self.read = self.seen[self.read : at], at
        return found


@contextmanager
def chat(server: ServingProcess, *arguments: str) -> Iterator[Terminal]:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "chat", *arguments],
        env={**environment(server.data_folder), "TERM": "xterm", "COLUMNS": "100", "LINES": "40"},
        cwd=REPOSITORY,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        preexec_fn=_take_terminal,  # noqa: PLW1509  so that a typed Ctrl-C becomes its signal
    )
    os.close(slave)
    try:
        yield Terminal(process, master)
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


def test_a_conversation_with_commands_files_and_ctrl_c(serving: ServingProcess, tmp_path: Path) -> None:
    source = tmp_path / "sum.py"
    source.write_text("def add(a, b):\n    return a + b\n", encoding="utf-8")
    saved = tmp_path / "saved.md"
    with chat(serving, "--conversation", "tour") as terminal:
        terminal.until("/help shows more")
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
        terminal.until("not_found")
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
    assert "line one\nand two" in text


def test_a_stored_conversation_goes_on_after_the_server_was_killed(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with start_server(folder) as server, chat(server, "--conversation", "kept") as terminal:
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
