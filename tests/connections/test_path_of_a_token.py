"""P8: a token takes three hops from the worker's frame to the socket, and none of them waits for a clock."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.server_fixture import Peer, RunningServer, count_to, eventually, running_server

pytestmark = [pytest.mark.websocket, pytest.mark.integration]

SHORT, LONG = 5, 60
UNLIMITED = 1_000_000
OF_THE_CLOCK = {"EngineIdle"}
"""A worker's metrics come once a second by its own clock, which no test stops, so either answer may include them."""


async def answer(peer: Peer, name: str, number: int) -> list[dict[str, Any]]:
    """Return the events of one answer, within seconds that a mock clock cannot stop."""
    events: list[dict[str, Any]] = []

    async def ask() -> None:
        events.extend(await peer.generate(name, f"count to {number}"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await eventually(lambda: events, what="the whole answer")
    assert "".join(one["data"]["text"] for one in events[:-1]) == count_to(number)
    return events


async def test_p8_a_whole_answer_comes_while_the_clock_stands_still(mock_clock: MockClock, tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, server.peer() as peer:
        began = trio.current_time()
        assert (await answer(peer, "g", LONG))[-1]["type"] == "done"
        assert trio.current_time() == began


async def messages_of(server: RunningServer, peer: Peer, name: str, number: int) -> Counter[tuple[str, str]]:
    """Count the messages by receiver and type in the course of one answer."""
    taps = {
        one.path: server.system.open_trace(one.path, rate_per_second=UNLIMITED, maximum=UNLIMITED)
        for one in server.system.records()
    }
    await answer(peer, name, number)
    found: Counter[tuple[str, str]] = Counter()
    for path, tap in taps.items():
        tap.close()
        assert tap.skipped == 0
        async for record in tap.records:
            if record.direction != "out" and record.message_type not in OF_THE_CLOCK:
                found[path, record.message_type] += 1
    return found


async def test_p8_a_token_passes_two_mailboxes_and_nothing_else_is_sent_for_it(
    mock_clock: MockClock, tmp_path: Path
) -> None:
    """From the pipe to the inference actor, and from there to the connection; the third hop leads to its socket."""
    async with running_server(tmp_path) as server, server.peer() as peer:
        (connection,) = server.connections()
        short = await messages_of(server, peer, "short", SHORT)
        long = await messages_of(server, peer, "long", LONG)
        more = {place: count - short[place] for place, count in long.items() if count > short[place]}
        tokens = len(count_to(LONG)) - len(count_to(SHORT))
        assert more == {("inference/inference", "EngineOutput"): tokens, (connection, "GenerationTokens"): tokens}
