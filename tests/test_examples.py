"""Each program of `examples/` runs against the real server with the mock engine, and does what its first line says."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
import trustme

from tests.javascript.tools import FOLDER, chromium, npm_file
from tests.server_fixture import RunningServer, count_to, eventually, running_server

pytestmark = pytest.mark.integration

TOP = Path(__file__).resolve().parent.parent
EXAMPLES = TOP / "examples"
SECONDS = 90.0
SECRET = "0123456789abcdef"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RunningServer]:
    async with running_server(tmp_path, mock_step_seconds=0.002) as started:
        yield started


def environment(server: RunningServer | None, **settings: str) -> dict[str, str]:
    """Where the example finds the server."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("LEANVIBE_")}
    if server is not None:
        plain |= {"LEANVIBE_URL": server.about.websocket_url, "LEANVIBE_REST": server.about.rest_url}
    return plain | {"PYTHONPATH": str(TOP), **settings}


async def run(name: str, *arguments: str, server: RunningServer | None = None, given: str = "") -> str:
    """Run an example to its end and return what it printed."""
    with trio.fail_after(SECONDS):
        done = await trio.run_process(
            [sys.executable, EXAMPLES / name, *arguments], stdin=given.encode(), capture_stdout=True, capture_stderr=True,
            check=False, env=environment(server),
        )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


@asynccontextmanager
async def started(name: str, *arguments: str, **settings: str) -> AsyncIterator[Callable[[], str]]:
    """An example that runs until it is ended; what it has printed so far."""
    process = await trio.lowlevel.open_process(
        [sys.executable, EXAMPLES / name, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env=environment(None, PYTHONUNBUFFERED="1", **settings),
    )  # fmt: skip
    printed = bytearray()
    async with trio.open_nursery() as nursery:

        async def read() -> None:
            assert process.stdout is not None
            async for chunk in process.stdout:
                printed.extend(chunk)

        nursery.start_soon(read)
        try:
            yield printed.decode
        finally:
            process.send_signal(signal.SIGKILL)
            await process.wait()
            nursery.cancel_scope.cancel()


def test_there_are_eight_and_each_is_described_and_run() -> None:
    programs = {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".html")}
    described = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert len(programs) == 8
    assert {one for one in programs if f"`examples/{one}`" in described} == programs
    assert {one for one in programs if one in Path(__file__).read_text(encoding="utf-8")} == programs


async def test_ask_streams_an_answer(server: RunningServer) -> None:
    assert await run("ask.py", "count", "to", "12", server=server) == count_to(12) + "\n"


async def test_chat_stores_its_turns(server: RunningServer) -> None:
    printed = await run("chat.py", "evening", server=server, given="count to 3\n\ncount to 5\n")
    assert printed == f"> {count_to(3)}\n> {count_to(5)}\n> "
    async with server.http(headers={"X-Client-Id": "examples"}) as http:
        turns = (await http.get("/conversations/examples/evening")).json()["turns"]
    assert [one["content"] for one in turns if one["role"] == "user"] == ["count to 3", "count to 5"]


async def test_follow_board_prints_each_event(server: RunningServer) -> None:
    async with (
        started("follow_board.py", LEANVIBE_URL=server.about.websocket_url) as printed,
        server.http(headers={"X-Client-Id": "examples"}) as http,
    ):
        await eventually(lambda: "board: " in printed(), what="the board")
        made = (await http.post("/tasks/examples", json={"title": "Paint the fence"})).json()
        await http.post(
            f"/tasks/examples/{made['id']}/move", json={"status": "in_progress", "version": made["version"]}
        )
        await eventually(lambda: "task_moved" in printed(), what="the move")
    lines = [line for line in printed().splitlines() if "task_" in line]
    assert [line.split(maxsplit=1)[1] for line in lines] == [
        "task_created Paint the fence",
        "task_moved Paint the fence",
    ]


async def test_resume_after_cut_prints_the_whole_answer_once(server: RunningServer) -> None:
    first, last = (await run("resume_after_cut.py", "count to 60", server=server)).split("\n", 1)
    before, _, after = first.partition(" [cut after event ")
    assert before + after.partition("] ")[2] == count_to(60)
    assert last == "[done]\n"


async def test_openai_client_streams_an_answer(server: RunningServer) -> None:
    assert await run("openai_client.py", "count", "to", "12", server=server) == count_to(12) + "\n"


async def test_two_actors_survive_a_crash() -> None:
    assert (await run("two_actors.py")).splitlines() == [
        "total 2 in incarnation 1", "total 5 in incarnation 1", "counter went down: crashed", "total 7 in incarnation 2",
    ]  # fmt: skip


async def test_webhook_receiver_takes_what_is_genuine_and_recent(tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    issued.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "both.pem"))
    port = free_port()
    both = str(tmp_path / "both.pem")
    settings: dict[str, Any] = {
        "push_allow_private": True,
        "push_ca_file": tmp_path / "ca.pem",
        "push_hold_seconds": 0.0,
    }
    async with (
        running_server(tmp_path, **settings) as server,
        started("webhook_receiver.py", both, both, str(port), WEBHOOK_SECRET=SECRET) as printed,
        server.http(headers={"X-Client-Id": "me"}) as http,
    ):
        await eventually(lambda: "listening on" in printed(), what="the receiver")
        url = f"https://localhost:{port}/"
        device = {"device_id": "hook", "platform": "webhook", "url": url, "secret": SECRET}
        assert (await http.post("/notifications/me/devices", json=device)).is_success
        body = {"template": "message", "fields": {"title": "It is done"}, "priority": "high"}
        sent = await http.post("/notifications/me", json=body)
        assert sent.is_success, sent.text
        await eventually(lambda: "It is done" in printed(), what="the notification")
        async with httpx.AsyncClient(verify=False, trust_env=False) as stranger:
            forged = await stranger.post(url, content=b"{}", headers={"X-LeanVibe-Signature": "v1=00"})
            assert forged.status_code == 401
            assert (await stranger.post(url, content=b"")).status_code == 413
    assert printed().count("It is done") == 1


async def test_page_asks_and_shows_the_answer(server: RunningServer) -> None:
    npm_file("playwright-core")
    handler = partial(QuietHandler, directory=str(TOP))
    pages = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio.to_thread.run_sync, pages.serve_forever, abandon_on_cancel=True))
        try:
            url = f"http://127.0.0.1:{pages.server_port}/examples/page.html?url={server.about.websocket_url}"
            command = [str(npm_file(".bin/node")), str(FOLDER / "open_page.mjs"), chromium(), url, "count to 12"]
            with trio.fail_after(SECONDS):
                done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
        finally:
            await trio.to_thread.run_sync(pages.shutdown)
            pages.server_close()
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout) == {"answer": count_to(12), "state": "done"}


class QuietHandler(SimpleHTTPRequestHandler):
    """Files, without a line for each."""

    def log_message(self, *arguments: object) -> None:
        """Print nothing."""


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])
