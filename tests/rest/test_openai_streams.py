"""Streams over REST and the people who leave them: the row is freed, and one who stops reading holds up nobody."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from actors import write_pace
from actors.rest import http_connection
from tests.server_fixture import RunningServer, count_to, eventually, running_server

pytestmark = pytest.mark.integration


def chat(text: str, **fields: Any) -> dict[str, Any]:
    """A request body."""
    return {"model": "mock", "messages": [{"role": "user", "content": text}], **fields}


async def test_the_stream_is_server_sent_events_and_ends_with_done(server: RunningServer) -> None:
    async with server.http() as http:
        response = await http.post("/v1/chat/completions", json=chat("count to 5", stream=True))
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-cache"
    assert "content-length" not in response.headers
    events = response.text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    parts = [json.loads(one.removeprefix("data: ")) for one in events[:-2]]
    assert all(one.startswith("data: ") for one in events[:-1])
    assert "".join(one["choices"][0]["delta"].get("content", "") for one in parts) == count_to(5)
    # Nobody asked for it.
    assert all("usage" not in one for one in parts)


@pytest.mark.parametrize("is_streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("is_queued", [True, False], ids=["queued", "decoding"])
async def test_promise_3_a_client_that_leaves_frees_its_row_at_once(
    tmp_path: Path, is_streamed: bool, is_queued: bool
) -> None:
    async with (
        running_server(tmp_path, mock_step_seconds=0.005, max_rows=1) as server,
        server.http() as http,
        server.peer() as peer,
    ):
        if is_queued:
            await peer.send("generate", "first", {"prompt": "count to 900"})
            assert (await peer.receive())["type"] in ("accepted", "token")

        async def there() -> bool:
            seen = await server.snapshot("inference/inference")
            return bool(seen["waiting"] if is_queued else seen["running"])

        async with trio.open_nursery() as nursery:

            async def leave_once_it_is_there() -> None:
                await eventually(there)
                nursery.cancel_scope.cancel()

            nursery.start_soon(leave_once_it_is_there)
            await http.post("/v1/chat/completions", json=chat("count to 900", stream=is_streamed))

        async def gone() -> bool:
            seen = await server.snapshot("inference/inference")
            return seen["waiting"] == 0 and seen["running"] == int(is_queued)

        await eventually(gone)
        assert (await server.snapshot("inference/inference"))["finished"] == {"cancelled": 1}


async def test_a_stream_that_is_left_before_its_first_byte_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a client leaves between acceptance and the response's start, no code of the body ever runs."""
    from quart_trio.asgi import TrioASGIHTTPConnection

    is_waiting = trio.Event()

    async def never_send(*_: Any) -> None:
        is_waiting.set()
        await trio.sleep_forever()

    async with running_server(tmp_path, mock_step_seconds=0.005) as server:
        monkeypatch.setattr(TrioASGIHTTPConnection, "_send_response", never_send)
        async with server.http() as http, trio.open_nursery() as nursery:

            async def leave() -> None:
                await is_waiting.wait()
                assert (await server.snapshot("inference/inference"))["running"] == 1
                nursery.cancel_scope.cancel()

            nursery.start_soon(leave)
            await http.post("/v1/chat/completions", json=chat("count to 900", stream=True))
        await server.until_no_row_is_taken()
        assert (await server.snapshot("inference/inference"))["finished"] == {"cancelled": 1}


@asynccontextmanager
async def stalled_curl(server: RunningServer, folder: Path) -> AsyncIterator[subprocess.Popen[bytes]]:
    """A real curl that asks for a long stream and is stopped once it has begun."""
    body = json.dumps(chat("count to 1700", stream=True, logprobs=True, top_logprobs=5, max_tokens=8000))
    output = folder / "curl.out"
    command = ["curl", "--silent", "--show-error", "--no-buffer", "--noproxy", "*", "--output", str(output)]
    command += ["--header", "Content-Type: application/json", "--data", body]
    process = subprocess.Popen(  # noqa: ASYNC220  forking is quick, and the loop has nothing else to do meanwhile
        [*command, f"{server.about.rest_url}/v1/chat/completions"], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        await eventually(lambda: output.exists() and output.stat().st_size > 0, what="the first bytes")
        process.send_signal(signal.SIGSTOP)
        yield process
    finally:
        process.kill()
        await trio.to_thread.run_sync(process.communicate)


async def test_a_reader_that_stopped_hinders_neither_others_nor_the_shutdown(tmp_path: Path) -> None:
    with trio.fail_after(60):
        async with (
            running_server(tmp_path, send_buffer_bytes=4096, mock_step_seconds=0.0005) as server,
            stalled_curl(server, tmp_path) as curl,
            server.http() as http,
        ):
            answer = await http.post("/v1/chat/completions", json=chat("count to 3"))
            assert answer.json()["choices"][0]["message"]["content"] == "1 2 3"
            server.system.request_stop("test")
            # The reader's process is still there, stopped, with its connection open.
            await eventually(lambda: server.system.root is not None and server.system.root.life is None, what="stopped")
            assert _state(curl.pid) == "T"


def _state(pid: int) -> str:
    """The process's state letter; T is stopped."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]


async def test_a_reader_that_takes_nothing_is_cut_at_the_write_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_pace, "WINDOW_SECONDS", 0.3)
    async with (
        running_server(tmp_path, send_buffer_bytes=4096, mock_step_seconds=0.0005) as server,
        stalled_curl(server, tmp_path) as curl,
    ):
        await server.until_no_row_is_taken()
        os.kill(curl.pid, signal.SIGCONT)
        status = await trio.to_thread.run_sync(lambda: curl.wait(10))
    # 18: the transfer ended before it was complete; 56: the connection was reset.
    assert status in (18, 56)
    assert b"[DONE]" not in (tmp_path / "curl.out").read_bytes()


@pytest.mark.parametrize("is_streamed", [True, False], ids=["streamed", "whole"])
async def test_an_answer_may_take_longer_than_a_client_may_be_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_streamed: bool
) -> None:
    """A regression: whoever waited 30 seconds for an answer was cut as one who sends nothing."""
    for name in ("HEAD_SECONDS", "WINDOW_SECONDS"):
        monkeypatch.setattr(http_connection, name, 0.2)
    async with running_server(tmp_path, mock_step_seconds=0.005) as server, server.http() as http:
        answer = await http.post("/v1/chat/completions", json=chat("count to 80", stream=is_streamed))
        assert answer.status_code == 200
        assert answer.text.rstrip().endswith("[DONE]") or answer.json()["choices"][0]["message"]["content"] == count_to(
            80
        )
