"""Pings after silence, and the end of peers that do not answer; with a mock clock."""

from __future__ import annotations

import pytest
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.server_fixture import RunningServer, eventually

pytestmark = [pytest.mark.websocket, pytest.mark.integration]


async def pass_seconds(clock: MockClock, seconds: int) -> None:
    """Advance the clock second by second, and let everything due run."""
    for _ in range(seconds):
        clock.jump(1)
        await wait_all_tasks_blocked(0.002)


async def test_the_server_pings_after_25_seconds_of_silence(mock_clock: MockClock, server: RunningServer) -> None:
    await server.until_engine_is("ready")
    async with server.peer() as peer:
        await pass_seconds(mock_clock, 20)
        await peer.ask("ping", "1")
        await pass_seconds(mock_clock, 24)
        await peer.send("ping", "2")
        assert (await peer.receive())["type"] == "pong"  # and no ping before it
        await pass_seconds(mock_clock, 27)
        ping = await peer.receive()
        assert (ping["type"], "re" in ping, "seq" in ping) == ("ping", False, False)
        assert ping["time"].endswith("Z")


async def test_any_frame_counts_as_a_pong(mock_clock: MockClock, server: RunningServer) -> None:
    await server.until_engine_is("ready")
    async with server.peer() as peer:
        for answer, seconds in (("pong", 27), ("ping", 21)):
            await pass_seconds(mock_clock, seconds)
            assert (await peer.receive())["type"] == "ping"
            await pass_seconds(mock_clock, 5)
            await peer.send(answer, "1")
            if answer == "ping":
                assert (await peer.receive())["type"] == "pong"
            await wait_all_tasks_blocked(0.01)
            await pass_seconds(mock_clock, 6)
        assert (await peer.ask("ping", "2"))["type"] == "pong"


async def test_no_pong_within_8_seconds_closes_with_4408(mock_clock: MockClock, server: RunningServer) -> None:
    await server.until_engine_is("ready")
    async with server.peer() as peer:
        await pass_seconds(mock_clock, 27)
        assert (await peer.receive())["type"] == "ping"
        await pass_seconds(mock_clock, 10)
        assert await peer.close_code() == 4408
    await eventually(lambda: not server.connections())


async def test_a_silent_client_is_pinged_though_its_answer_streams(
    mock_clock: MockClock, server: RunningServer
) -> None:
    """What the server sends is no sign of the client's life."""
    await server.until_engine_is("ready")
    async with server.peer() as peer:
        await pass_seconds(mock_clock, 20)
        await server.system.reference(server.connections()[0]).tell(_nothing())
        await pass_seconds(mock_clock, 7)
        assert (await peer.receive())["type"] == "ping"


def _nothing() -> object:
    from actors.inference.messages import GenerationCancelled

    return GenerationCancelled(stream="none", seq=1, reason="of nobody")
