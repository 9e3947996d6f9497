"""Clients that take their time, send too much, or are too many: each costs the server bounded time and memory."""

from __future__ import annotations

import contextlib
import json

import pytest
import trio
from trio.testing import MockClock

from actors.rest import open_connections
from tests.server_fixture import RunningServer, eventually

pytestmark = pytest.mark.integration


async def connect(server: RunningServer) -> trio.SocketStream:
    """A plain connection to the REST port."""
    return await trio.open_tcp_stream("127.0.0.1", int(server.about.rest_url.rsplit(":", 1)[1]))


async def read_to_end(stream: trio.SocketStream) -> bytes:
    """Everything that comes; a reset is an end too."""
    received = b""
    try:
        async for chunk in stream:
            received += chunk
    except trio.BrokenResourceError:
        pass
    return received


class Reader:
    """Notes when the server has ended the connection, and what it said."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self.received = b""
        self.has_ended = False

    async def run(self) -> None:
        self.received = await read_to_end(self._stream)
        self.has_ended = True


async def drip(clock: MockClock, stream: trio.SocketStream, data: bytes, *, seconds: float) -> tuple[float, bytes]:
    """Send a byte every ``seconds`` until the server ends it: after how long, and what it said."""
    reader = Reader(stream)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader.run)
        for byte in data:
            try:
                await stream.send_all(bytes([byte]))
            except trio.BrokenResourceError:
                break
            await trio.testing.wait_all_tasks_blocked(0.01)
            if reader.has_ended:
                break
            clock.jump(seconds)
            await trio.testing.wait_all_tasks_blocked(0.01)
        elapsed = trio.current_time() - began
        assert reader.has_ended, "the server still waits"
    return elapsed, reader.received


HEAD = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"a" * 100


async def test_a_head_that_drips_is_cut_after_ten_seconds(
    mock_clock: MockClock, engineless_server: RunningServer
) -> None:
    """Slow loris: each byte comes in good time, the head never ends."""
    async with await connect(engineless_server) as stream:
        elapsed, received = await drip(mock_clock, stream, HEAD, seconds=1.5)
    assert 10 <= elapsed <= 12
    assert received.startswith(b"HTTP/1.1 408 ")


async def test_a_second_head_that_drips_is_cut_as_well(mock_clock: MockClock, engineless_server: RunningServer) -> None:
    async with await connect(engineless_server) as stream:
        await stream.send_all(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 ")
        elapsed, received = await drip(mock_clock, stream, HEAD, seconds=1.5)
    assert 10 <= elapsed <= 12
    assert b"HTTP/1.1 408 " in received


async def test_a_head_sent_behind_an_unanswered_request_counts_from_its_turn(
    mock_clock: MockClock, engineless_server: RunningServer
) -> None:
    async with await connect(engineless_server) as stream:
        await stream.send_all(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n" + HEAD[:20])
        elapsed, received = await drip(mock_clock, stream, HEAD[20:], seconds=1.5)
    assert received.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 408 " in received
    assert 10 <= elapsed <= 12


async def test_a_body_that_drips_is_cut_within_thirty_seconds(
    mock_clock: MockClock, engineless_server: RunningServer
) -> None:
    async with await connect(engineless_server) as stream:
        await stream.send_all(b"POST /ai/process HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n\r\n")
        elapsed, received = await drip(mock_clock, stream, b" " * 499, seconds=1.0)
    assert 20 <= elapsed <= 31
    assert received.startswith(b"HTTP/1.1 408 ")


async def test_ht30_a_body_that_keeps_coming_is_taken_however_long_it_takes(
    mock_clock: MockClock, engineless_server: RunningServer
) -> None:
    """At 2 KiB a second a task of 200 KB takes a minute and a half."""
    body = json.dumps({"title": "over a slow link", "description": "x" * 9_000, "metadata": {}}).encode()
    body += b" " * (200_000 - len(body))
    async with await connect(engineless_server) as stream:
        head = f"POST /tasks/me HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        await stream.send_all(head.encode())
        for start in range(0, len(body), 4096):
            await stream.send_all(body[start : start + 4096])
            await trio.testing.wait_all_tasks_blocked(0.01)
            mock_clock.jump(2)
            await trio.testing.wait_all_tasks_blocked(0.01)
        with trio.fail_after(60):
            answer = await stream.receive_some()
    assert answer.split(b" ")[1] in (b"201", b"422"), answer[:300]
    assert b"408" not in answer.split(b"\r\n")[0]


async def test_a_body_that_nobody_reads_is_cut_within_thirty_seconds(
    mock_clock: MockClock, engineless_server: RunningServer
) -> None:
    async with await connect(engineless_server) as stream:
        await stream.send_all(b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n\r\n")
        elapsed, received = await drip(mock_clock, stream, b" " * 499, seconds=1.0)
    assert elapsed <= 31
    assert received.startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize(("requests", "seconds"), [(0, 10), (1, 15)])
async def test_silence_is_cut(
    mock_clock: MockClock, engineless_server: RunningServer, requests: int, seconds: int
) -> None:
    async with await connect(engineless_server) as stream:
        for _ in range(requests):
            await stream.send_all(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await stream.receive_some()
        reader = Reader(stream)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reader.run)
            await trio.testing.wait_all_tasks_blocked(0.01)
            mock_clock.jump(seconds - 1)
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert not reader.has_ended
            mock_clock.jump(2)
            await eventually(lambda: reader.has_ended)


async def test_an_answer_takes_as_long_as_it_takes(mock_clock: MockClock, engineless_server: RunningServer) -> None:
    """A client that waits for its answer sends nothing meanwhile, and that is no silence to be cut."""

    async def waiting() -> int:
        return int((await engineless_server.snapshot("inference/inference"))["waiting"])

    body = b'{"type":"message","content":"x"}'
    async with await connect(engineless_server) as stream:
        head = f"POST /ai/process HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        await stream.send_all(head.encode() + body)
        await eventually(waiting)
        # Longer than silence may last, and shorter than a worker may take to say hello.
        for _ in range(4):
            # Storage works in threads, by real time: a clock that jumps over an ask on its way ends that ask.
            await eventually(lambda: _is_settled(engineless_server))
            mock_clock.jump(4.5)
            await trio.testing.wait_all_tasks_blocked(0.01)
        assert await waiting() == 1

    async def has_been_let_go() -> bool:
        # Whether a client that ended its half has gone is asked a second later.
        mock_clock.jump(0.2)
        await trio.testing.wait_all_tasks_blocked(0.01)
        return await waiting() == 0

    await eventually(has_been_let_go)


async def _is_settled(server: RunningServer) -> bool:
    """Nothing is being written or read, and what follows from the last write has been done."""
    await trio.testing.wait_all_tasks_blocked(0.01)
    writer, readers = await server.snapshot("storage/writer"), await server.snapshot("storage/readers")
    return (writer["waiting"], writer["writing"], readers["running"]) == (0, 0, 0)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"a" * 20_000 + b"\r\n\r\n", b"431"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 5000 + b"\r\n", b"431"),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", b"414"),
    ],
    ids=["long header", "many headers", "long address"],
)
async def test_a_head_over_its_limit_is_refused(engineless_server: RunningServer, head: bytes, status: bytes) -> None:
    async with await connect(engineless_server) as stream:
        with trio.fail_after(60):
            # What the server does not read any more may reset the connection under our last bytes.
            with contextlib.suppress(trio.BrokenResourceError):
                await stream.send_all(head)
            assert (await read_to_end(stream)).startswith(b"HTTP/1.1 " + status)


async def test_http_2_is_refused_and_an_offer_of_it_left_unanswered(engineless_server: RunningServer) -> None:
    async with await connect(engineless_server) as stream:
        await stream.send_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        with trio.fail_after(60):
            assert (await read_to_end(stream)).startswith(b"HTTP/1.1 505 ")
    offer = b"Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAA\r\n\r\n"
    async with await connect(engineless_server) as stream:
        await stream.send_all(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n" + offer)
        with trio.fail_after(60):
            assert (await read_to_end(stream)).startswith(b"HTTP/1.1 200 ")


async def test_the_oldest_without_a_request_makes_room(
    engineless_server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_connections, "CONNECTIONS", 3)
    streams = [await connect(engineless_server) for _ in range(3)]
    try:
        for stream in streams:
            await stream.send_all(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            received = b""
            while b"live" not in received:
                received += await stream.receive_some()
        async with await connect(engineless_server) as one_more:
            await one_more.send_all(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            with trio.fail_after(60):
                assert (await one_more.receive_some()).startswith(b"HTTP/1.1 200 ")
                assert await read_to_end(streams[0]) == b""
        await streams[1].send_all(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with trio.fail_after(60):
            assert (await streams[1].receive_some()).startswith(b"HTTP/1.1 200 ")
    finally:
        for stream in streams:
            await stream.aclose()


async def test_those_who_are_being_answered_are_left_alone(
    engineless_server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_connections, "CONNECTIONS", 1)

    async def waiting() -> int:
        return int((await engineless_server.snapshot("inference/inference"))["waiting"])

    body = b'{"type":"message","content":"x"}'
    async with await connect(engineless_server) as stream:
        head = f"POST /ai/process HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        await stream.send_all(head.encode() + body)
        await eventually(waiting)
        async with await connect(engineless_server) as one_more:
            with trio.fail_after(60):
                assert await read_to_end(one_more) == b""
        assert await waiting() == 1
