"""Commands that follow a server wait for the end of its outage, and say so: real programs, a server that is restarted."""

from __future__ import annotations

import json
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.system.serving_process import COMMAND, ServingProcess, leanvibe, start_server
from tests.system.test_hostile_text import post, terminal

pytestmark = pytest.mark.integration

SECONDS = 60.0


class Watched:
    """Collects a program's output to its terminal."""

    def __init__(self, read: Any) -> None:
        self._read = read
        self.said = ""

    def until(self, wanted: str, poke: Any = None) -> None:
        deadline = time.monotonic() + SECONDS
        while wanted not in self.said:
            assert time.monotonic() < deadline, self.said
            if poke is not None:
                poke()
            self.said += self._read(0.3) or ""


def kill(server: ServingProcess) -> None:
    server.process.send_signal(signal.SIGKILL)
    server.process.wait(10)


def test_cl9_commands_that_follow_wait_an_outage_out_and_say_so(tmp_path: Path) -> None:
    """Killed and restarted, on other ports."""
    with ExitStack() as stack:
        server = stack.enter_context(start_server(tmp_path))
        server.until_ready()
        listen, watch, chat = (
            stack.enter_context(terminal(server, *COMMAND, *arguments))
            for arguments in (["notify", "listen"], ["task", "watch"], ["chat"])
        )
        heard, seen, said = (Watched(one[1]) for one in (listen, watch, chat))

        def tell(running: ServingProcess, text: str) -> None:
            body = {"template": "message", "fields": {"title": text}}
            post(running, "/notifications/system-test", body)
            post(running, "/tasks/system-test", {"title": text})

        for one in (heard, seen):
            one.until("before", poke=lambda: tell(server, "before"))
        said.until(">")
        kill(server)
        for one in (heard, seen, said):
            one.until("the server is away")
        again = stack.enter_context(start_server(tmp_path))
        again.until_ready()
        chat[2]("count to 7\n")
        for one in (heard, seen, said):
            one.until("the server is back")
        said.until("6 7")
        tell(again, "afterwards")
        for one in (heard, seen):
            one.until("afterwards")
        for one in (heard, seen, said):
            assert "Traceback" not in one.said
            assert "ExceptionGroup" not in one.said


def test_cl9_a_server_that_refuses_for_good_ends_it_with_a_sentence(tmp_path: Path) -> None:
    with start_server(tmp_path) as server:
        server.until_ready()
        created = server.run("token", "create", "--client", "system-test", "--json")
        assert created.returncode == 0, created.stderr
        made = json.loads(created.stdout)
        url = server.about["websocket_url"]
        with terminal(server, *COMMAND, "task", "watch", "--url", url, LEANVIBE_TOKEN=made["token"]) as (
            process,
            read,
            _,
        ):
            watched = Watched(read)
            watched.until("Backlog")
            revoked = server.run("token", "revoke", made["token_id"])
            assert revoked.returncode == 0, revoked.stderr
            watched.until("the server refuses this client")
            assert process.wait(20) == 1
            assert "Traceback" not in watched.said
            assert "Exceptions from" not in watched.said


def test_cl9_nobody_there_is_one_line_for_a_person(tmp_path: Path) -> None:
    done = leanvibe(tmp_path, "task", "list", "--url", "ws://127.0.0.1:9/ws")
    assert done.returncode == 1
    assert done.stderr.startswith("leanvibe: no answer from the server: ")
    assert len(done.stderr.splitlines()) == 1
    assert "Exceptions from" not in done.stderr
