"""Connections without a completed handshake or hello: limited in number and in time."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from actors.connections.listener import HandshakeBacklog
from actors.inference.worker_config import WorkerConfig
from tests.server_fixture import RunningServer, eventually, running_server

pytestmark = pytest.mark.websocket


def test_the_oldest_is_turned_away_where_there_are_too_many() -> None:
    evicted: list[str] = []
    backlog = HandshakeBacklog(2)
    for name in ("a", "b", "c"):
        backlog.add(name, lambda name=name: evicted.append(name))  # type: ignore[misc]
    assert evicted == ["a"]
    backlog.remove("b")
    backlog.remove("b")
    assert backlog.add("d", lambda: None) is None
    assert len(backlog) == 2


def port_of(server: RunningServer) -> int:
    return int(server.about.websocket_url.rsplit(":", 1)[1].split("/")[0])


async def test_strangers_who_say_nothing_keep_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WorkerConfig, "command", lambda *_: ["sleep", "60"])
    async with (
        running_server(tmp_path, wait=False, max_entering=2) as server,
        server.peer(client_id="inside") as inside,
    ):
        silent = [await trio.open_tcp_stream("127.0.0.1", port_of(server)) for _ in range(5)]
        async with server.peer(client_id="late") as late:
            assert (await late.ask("ping", "1", 1))["type"] == "pong"
            assert (await inside.ask("ping", "1", 1))["type"] == "pong"
            await eventually(lambda: len(server.connections()) <= 4, what="the oldest are gone")
            with trio.fail_after(60):
                assert await silent[0].receive_some() == b""
            assert (await server.snapshot("connections/listener"))["entering"] <= 2
        for stream in silent:
            await stream.aclose()
        await eventually(lambda: len(server.connections()) == 1)
        assert (await server.snapshot("connections/listener"))["entering"] == 0
    assert server.system.stuck == []


async def test_a_handshake_that_drips_is_cut_after_ten_seconds(
    mock_clock: MockClock, engineless_server: RunningServer
) -> None:
    """Slow loris: each byte comes in time, but the head never ends."""
    ended = trio.Event()

    async def read(stream: trio.SocketStream) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            while await stream.receive_some():
                pass
        ended.set()

    head = b"GET /ws HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"a" * 100
    async with (
        await trio.open_tcp_stream("127.0.0.1", port_of(engineless_server)) as stream,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(read, stream)
        await eventually(engineless_server.connections)
        began = trio.current_time()
        for byte in head:
            try:
                await stream.send_all(bytes([byte]))
            except trio.BrokenResourceError:
                break
            await trio.testing.wait_all_tasks_blocked(0.01)
            if not engineless_server.connections():
                break
            mock_clock.jump(1.5)
            await trio.testing.wait_all_tasks_blocked(0.01)
        assert 10 <= trio.current_time() - began <= 13
        await eventually(ended.is_set)


@pytest.mark.parametrize("length", [20_000, 200_000])
async def test_a_head_over_its_limit_is_refused(engineless_server: RunningServer, length: int) -> None:
    head = b"GET /ws HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"a" * length
    async with await trio.open_tcp_stream("127.0.0.1", port_of(engineless_server)) as stream:
        with trio.fail_after(60):
            with contextlib.suppress(trio.BrokenResourceError):
                await stream.send_all(head)
                while await stream.receive_some():
                    pass
    await eventually(lambda: not engineless_server.connections())
