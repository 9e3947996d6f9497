"""Deadlines on progress: a slow reader is served, a stalled one is cut, and keepalive allows for slow reading."""

from __future__ import annotations

import json
import os
import re
import select
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked
from wsproto.events import CloseConnection, Ping, Pong, TextMessage

from actors.write_pace import (
    FLOOR_BYTES_PER_SECOND,
    WINDOW_SECONDS,
    Pace,
    ReaderTooSlow,
    send_paced,
    untaken_bytes,
)
from tests.connections.deaf_client import Deaf, deaf_client
from tests.connections.raw_peer import CONTINUATION, PONG, TEXT, frame, raw_peer
from tests.connections.test_keepalive import pass_seconds
from tests.server_fixture import RunningServer, eventually, running_server

FLOOR_BYTES = round(FLOOR_BYTES_PER_SECOND * WINDOW_SECONDS)


def test_fr5_a_reader_at_the_floor_is_never_given_up() -> None:
    pace = Pace(0.0)
    for second in range(1, 1000):
        assert pace.goes_on(float(second), second * FLOOR_BYTES_PER_SECOND)


@pytest.mark.parametrize("bytes_per_second", [0, 1, FLOOR_BYTES_PER_SECOND // 2])
def test_fr5_a_reader_below_it_is_given_up_after_a_window(bytes_per_second: int) -> None:
    pace = Pace(100.0, 7)
    assert pace.goes_on(100 + WINDOW_SECONDS - 1, 7 + bytes_per_second * 19)
    assert not pace.goes_on(100 + WINDOW_SECONDS, 7 + bytes_per_second * 20)


def test_fr5_what_was_taken_in_one_go_counts_for_a_window() -> None:
    pace = Pace(0.0)
    assert pace.goes_on(WINDOW_SECONDS - 1, FLOOR_BYTES)
    assert pace.goes_on(2 * WINDOW_SECONDS - 2, FLOOR_BYTES)
    assert not pace.goes_on(2 * WINDOW_SECONDS - 1, FLOOR_BYTES)


def read_now(stream: trio.SocketStream, size: int) -> bytes:
    """Return the available bytes, possibly none. The test's clock stands still, so nothing may wait."""
    try:
        data = os.read(stream.socket.fileno(), size)
    except BlockingIOError:
        return b""
    assert data, "the server has cut a reader that keeps its pace"
    return data


@asynccontextmanager
async def tcp_pair() -> AsyncIterator[tuple[trio.SocketStream, trio.SocketStream]]:
    """Open both ends of a loopback connection with small buffers."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        theirs = trio.socket.socket()
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await theirs.connect(bound.getsockname())
        ours, _ = bound.accept()
    async with (
        trio.SocketStream(trio.socket.from_stdlib_socket(ours)) as one,
        trio.SocketStream(theirs) as other,
    ):
        yield one, other


async def test_fr5_a_slow_reader_gets_all_of_it_however_long_it_takes(mock_clock: MockClock) -> None:
    data = bytes(range(256)) * 1024
    async with tcp_pair() as (ours, theirs), trio.open_nursery() as nursery:
        nursery.start_soon(send_paced, ours, data)
        received = b""
        while len(received) < len(data):
            received += read_now(theirs, 2048)
            await wait_all_tasks_blocked(0.001)
            mock_clock.jump(0.5)
        assert received == data
        assert trio.current_time() > 3 * WINDOW_SECONDS


async def test_fr5_one_that_takes_nothing_is_given_up(mock_clock: MockClock) -> None:
    async with tcp_pair() as (ours, theirs):
        outcome: list[BaseException] = []

        async def send() -> None:
            try:
                await send_paced(ours, bytes(1_000_000))
            except ReaderTooSlow as error:
                outcome.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await pass_seconds(mock_clock, round(WINDOW_SECONDS) - 2)
            assert not outcome
            assert untaken_bytes(ours) > 0
            await pass_seconds(mock_clock, 4)
        assert outcome
        assert isinstance(theirs, trio.SocketStream)


async def test_fr5_a_socket_that_is_gone_is_told_apart() -> None:
    async with tcp_pair() as (ours, theirs):
        theirs.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await theirs.aclose()
        with pytest.raises(trio.BrokenResourceError) as caught:
            await send_paced(ours, bytes(10_000_000))
        assert not isinstance(caught.value, ReaderTooSlow)
        await ours.aclose()
        assert untaken_bytes(ours) == 0
        with pytest.raises(trio.ClosedResourceError):
            await send_paced(ours, b"x")


# --- the real server ----------------------------------------------------------------------------------


async def trickle(clock: MockClock, deaf: Deaf, *, seconds: int, bytes_per_second: int) -> list[dict[str, Any]]:
    """Read so many bytes each second and answer nothing. Returns the complete messages."""
    found: list[dict[str, Any]] = []
    text = ""
    for _ in range(seconds):
        left = bytes_per_second
        while left > 0:
            data = read_now(deaf.stream, left)
            await wait_all_tasks_blocked(0.001)
            if not data:
                break
            left -= len(data)
            deaf.frames.receive_data(data)
            for one in deaf.frames.events():
                assert not isinstance(one, CloseConnection), one
                if isinstance(one, TextMessage):
                    text += one.data
                    if one.message_finished:
                        found.append(json.loads(text))
                        text = ""
        await pass_seconds(clock, 1)
    return found


@pytest.mark.websocket
@pytest.mark.integration
async def test_fr5_a_slow_link_sees_its_board(mock_clock: MockClock, tmp_path: Path) -> None:
    """It sends nothing while it reads, for longer than the ping interval and for longer than a window."""
    async with running_server(tmp_path, send_buffer_bytes=4096) as server:
        async with server.peer() as peer:
            for number in range(20):
                await peer.send("task_create", str(number), {"title": f"t{number}", "description": "d" * 8000})
                while (await peer.receive()).get("re") != str(number):
                    pass
        async with deaf_client(server, "tester") as deaf:
            await deaf.say("task_list", {"limit": 100}, "l")
            found = await trickle(mock_clock, deaf, seconds=60, bytes_per_second=4000)
        (board,) = [one for one in found if one.get("re") == "l"]
        assert len(board["data"]["tasks"]) == 20


def is_whole(received: bytes) -> bool:
    """True if an HTTP response is complete."""
    head, _, body = received.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    return length is not None and len(body) >= int(length[1])


@pytest.mark.integration
async def test_fr5_a_slow_link_sees_its_board_over_rest_as_well(mock_clock: MockClock, tmp_path: Path) -> None:
    async with running_server(tmp_path, send_buffer_bytes=4096) as server:
        async with server.http() as http:
            for number in range(20):
                made = await http.post("/tasks/me", json={"title": f"t{number}", "description": "d" * 8000})
                assert made.status_code == 201
        plain = trio.socket.socket()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        await plain.connect(("127.0.0.1", int(server.about.rest_url.rsplit(":", 1)[1])))
        async with trio.SocketStream(plain) as stream:
            await stream.send_all(b"GET /tasks/me?limit=100 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            received = await stream.receive_some(1000)
            seconds = 0
            while not is_whole(received):
                for _ in range(2):
                    # Through a full socket the kernel sends only now and then, in real time, which the mock clock does
                    # not advance.
                    await trio.to_thread.run_sync(select.select, [plain.fileno()], [], [], 10.0)
                    received += read_now(stream, 2000)
                    await wait_all_tasks_blocked(0.001)
                await pass_seconds(mock_clock, 1)
                seconds += 1
                assert seconds < 300, "given up"
        assert seconds >= 40, "longer than a window"
        head, _, body = received.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert len(json.loads(body)["tasks"]) == 20


@pytest.mark.websocket
@pytest.mark.integration
async def test_fr6_a_ping_of_rfc_6455_is_a_sign_of_life(mock_clock: MockClock, server: RunningServer) -> None:
    await server.until_engine_is("ready")
    async with deaf_client(server) as deaf:
        await eventually(server.connections)
        kinds: list[str] = []
        for number in range(8):
            await pass_seconds(mock_clock, 10)
            await deaf.stream.send_all(deaf.frames.send(Ping(b"%d" % number)))
            # Its pong shows that the server has received it, before the clock advances.
            events: list[object] = []
            while not any(isinstance(one, Pong) for one in events):
                deaf.frames.receive_data(await deaf.stream.receive_some(65_536))
                events += deaf.frames.events()
            kinds += [json.loads(one.data)["type"] for one in events if isinstance(one, TextMessage)]
        assert "ping" not in kinds, "the server has asked one that it heard"
        assert server.connections()


@pytest.mark.websocket
@pytest.mark.integration
@pytest.mark.parametrize("piece", ["pong", "fragment"])
async def test_fr6_so_is_an_unasked_pong_and_a_part_of_a_message(
    mock_clock: MockClock, server: RunningServer, piece: str
) -> None:
    await server.until_engine_is("ready")
    async with raw_peer(server) as peer:
        await peer.send(frame(TEXT, b'{"type":"ping","id":"p"', is_final=False))
        for _ in range(8):
            await pass_seconds(mock_clock, 10)
            await peer.send(frame(PONG) if piece == "pong" else frame(CONTINUATION, b" " * 100, is_final=False))
            await wait_all_tasks_blocked(0.01)
        await peer.send(frame(CONTINUATION, b"}"))
        assert (await peer.message())["type"] == "pong"
