"""Connections whose clients are gone, or whose application reads no more: each ends, and gives its socket back."""

from __future__ import annotations

import json
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from actors.rest import asgi_connection
from actors.rest.asgi_connection import FrameworkConnection
from tests.rest.test_slow_clients import connect, read_to_end
from tests.server_fixture import PATIENCE_SECONDS, RunningServer, eventually, running_server

pytestmark = pytest.mark.integration


def until_no_connection(server: RunningServer) -> Callable[[], Awaitable[bool]]:
    async def there_is_none() -> bool:
        return (await server.snapshot("rest"))["connections"] == 0

    return there_is_none


def post(path: str, body: dict[str, Any], *lines: str) -> bytes:
    content = json.dumps(body).encode()
    head = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(content)}", *lines]
    return "\r\n".join([*head, "", ""]).encode() + content


async def test_ht40_a_client_that_is_gone_is_let_go_also_with_requests_behind_the_one_that_is_answered(
    tmp_path: Path,
) -> None:
    """What reads waits for the turn of the second request, which never comes: only a write finds the client gone."""
    question = {
        "model": "mock",
        "stream": True,
        "max_tokens": 1000,
        "messages": [{"role": "user", "content": "count to 5000"}],
    }
    async with running_server(tmp_path, mock_step_seconds=0.02) as server:
        for _ in range(3):
            stream = await connect(server)
            await stream.send_all(post("/v1/chat/completions", question) + 3 * post("/v1/chat/completions", question))
            with trio.fail_after(PATIENCE_SECONDS):
                received = b""
                while b"data: " not in received:
                    received += await stream.receive_some()
            stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            stream.socket.close()
        await eventually(until_no_connection(server), what="connections ended")
        await server.until_no_row_is_taken()


@pytest.mark.parametrize("way", ["fails", "cannot read it"])
async def test_ht41_an_answer_without_reading_a_body_ends_its_connection(
    engineless_server: RunningServer, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Its parts fill a queue that is no longer read; neither their sender nor the end of the answer waits for space in it."""
    monkeypatch.setattr(asgi_connection, "UNREAD_BODY_SECONDS", 0.01)

    async def read_nothing(*_: object) -> None:
        await trio.sleep_forever()

    async def fail(*_: object) -> None:
        # The body is on its way by then, and more of it than the queue holds.
        await trio.testing.wait_all_tasks_blocked(0.05)
        raise RuntimeError("x")

    def fail_at_once(*_: object) -> None:
        raise ValueError("x")

    if way == "fails":
        monkeypatch.setattr(FrameworkConnection, "handle_messages", read_nothing)
        monkeypatch.setattr(FrameworkConnection, "handle_request", fail)
    else:
        monkeypatch.setattr("quart_trio.asgi.TrioASGIHTTPConnection._create_request_from_scope", fail_at_once)
    async with await connect(engineless_server) as stream:
        head = b"POST /tasks/me HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        await stream.send_all(head + b"1\r\na\r\n" * 1000)
        with trio.fail_after(PATIENCE_SECONDS):
            received = await read_to_end(stream)
    assert received.startswith(b"HTTP/1.1 500 " if way == "fails" else b"HTTP/1.1 400 "), received[:100]
    await eventually(until_no_connection(engineless_server), what="the connection ended")


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("rest", [b"\r\n", b"garbage\r\n\r\n", b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"])
async def test_ht42_what_follows_a_clients_last_request_takes_nothing_from_its_answer(
    engineless_server: RunningServer, version: str, rest: bytes
) -> None:
    """It was answered 400 in place of what had been carried out."""
    body = b'{"title":"x"}'
    head = (
        f"POST /tasks/me HTTP/{version}\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    async with await connect(engineless_server) as stream:
        await stream.send_all(head.encode() + body + rest)
        with trio.fail_after(PATIENCE_SECONDS):
            received = await read_to_end(stream)
    assert received.startswith(b"HTTP/1.1 201 "), received[:100]
    assert received.count(b"HTTP/1.1 ") == 1
