"""A client that does not read is parted with, and nobody else notices."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from wsproto.events import CloseConnection

from actors import wiring
from actors.connections import connection, link
from actors.inference.engine import EngineSettings
from tests.connections.deaf_client import Deaf, deaf_client
from tests.connections.test_client_stream import TELL, event, numbers, tell
from tests.server_fixture import PATIENCE_SECONDS, count_to, eventually, running_server

pytestmark = [pytest.mark.websocket, pytest.mark.integration]


CROWD = 199
EVENTS = 30


async def read_to_the_close(deaf: Deaf) -> tuple[int, int]:
    """The code of the close frame, and the bytes that came up to it."""
    received_bytes = 0
    with trio.fail_after(PATIENCE_SECONDS):
        while True:
            data = await deaf.stream.receive_some(65_536)
            assert data, "closed without a close frame"
            received_bytes += len(data)
            deaf.frames.receive_data(data)
            for one in deaf.frames.events():
                if isinstance(one, CloseConnection):
                    return one.code, received_bytes


async def test_p7_one_stalled_reader_among_200_costs_the_others_no_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "WRITE_SECONDS", 60.0)
    # Those who came first wait in silence for the last, which on a busy machine takes longer than a ping leaves them.
    monkeypatch.setattr(connection, "SILENCE_SECONDS", 600.0)
    monkeypatch.setattr(wiring, "OPERATIONS", (*wiring.OPERATIONS, TELL))
    monkeypatch.setattr(EngineSettings, "command", lambda *_: ["sleep", "60"])
    told: list[list[int]] = []
    greeted: list[None] = []
    entering = trio.CapacityLimiter(32)
    all_are_there = trio.Event()

    async def one_of_the_crowd() -> None:
        async with entering:
            connecting = server.peer()
            peer = await connecting.__aenter__()
        try:
            greeted.append(None)
            await all_are_there.wait()
            told.append(await numbers(peer, EVENTS))
        finally:
            await connecting.__aexit__(None, None, None)

    async with (
        running_server(
            tmp_path, send_buffer_bytes=4096, wait=False, connections_per_client=CROWD + 1, command_burst=100
        ) as server,
        deaf_client(server, "tester") as deaf,
        trio.open_nursery() as nursery,
    ):
        for _ in range(CROWD):
            nursery.start_soon(one_of_the_crowd)
        await eventually(lambda: len(greeted) == CROWD, seconds=60)
        all_are_there.set()
        stalled = server.connections()[0]
        for number in range(EVENTS):
            await tell(server, event(number))
            # Its pongs fill what may wait for it, while events go to all.
            if number < EVENTS // 2:
                await deaf.say("ping", "x" * 60_000, str(number))
                await deaf.say("ping", "x" * 60_000, f"{number} again")

        async def is_given_up() -> bool:
            return (await server.snapshot(stalled))["outbox_events"] == 0

        await eventually(lambda: len(told) == CROWD, seconds=60)
        await eventually(is_given_up)
        code, _ = await read_to_the_close(deaf)
        assert code == 4008
        assert told == [list(range(EVENTS))] * CROWD
        assert server.incarnations() == dict.fromkeys(server.incarnations(), 1)


async def test_p7_a_reader_that_stops_in_mid_answer_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "WRITE_SECONDS", 0.3)
    async with (
        running_server(tmp_path, send_buffer_bytes=4096) as server,
        server.peer() as other,
        deaf_client(server) as deaf,
    ):
        await deaf.say("generate", {"prompt": "count to 100000", "max_tokens": 8000}, "g")
        await eventually(lambda: len(server.connections()) == 2)
        events = await other.generate("g", "count to 200", max_tokens=2000)
        assert "".join(one["data"]["text"] for one in events[:-1]) == count_to(200)
        await eventually(lambda: len(server.connections()) == 1, what="the deaf client dropped")
        await server.until_no_row_is_taken()
        assert (await other.ask("ping", "p", 1))["type"] == "pong"
        assert server.incarnations() == dict.fromkeys(server.incarnations(), 1)


async def test_p7_a_reader_that_lags_by_more_than_the_outbox_holds_is_dropped_with_4008(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "WRITE_SECONDS", 5.0)
    async with (
        running_server(tmp_path, send_buffer_bytes=4096) as server,
        server.peer() as other,
        deaf_client(server) as deaf,
    ):
        for number in range(25):
            # Each comes back as a pong of the same size, and 25 of them are more than a mebibyte.
            await deaf.say("ping", "x" * 60_000, str(number))
        path = server.connections()[-1]

        async def is_closing() -> bool:
            return (await server.snapshot(path))["outbox_events"] == 0

        await eventually(is_closing, what="what waited for a client that is too slow thrown away")
        # As soon as it reads again it is told why, instead of being sent a mebibyte first.
        code, received_bytes = await read_to_the_close(deaf)
        assert code == 4008
        assert received_bytes < 300_000
        assert (await other.ask("ping", "p", 1))["type"] == "pong"


async def test_p7_a_reader_that_is_only_slow_gets_the_whole_answer_in_larger_pieces(tmp_path: Path) -> None:
    async with running_server(tmp_path, send_buffer_bytes=4096) as server, server.peer(max_queue=1) as peer:
        await peer.send("generate", "g", {"prompt": "count to 500", "max_tokens": 4000})
        await server.until_engine_is("ready")

        async def is_over() -> bool:
            finished = (await server.snapshot("inference/inference"))["finished"]
            return bool(finished == {"stop": 1})

        await eventually(is_over)
        assert (await peer.receive())["type"] == "accepted"
        events = await peer.stream("g")
        assert "".join(one["data"]["text"] for one in events[:-1]) == count_to(500)
        assert events[-1]["type"] == "done"
        assert len(events) < len(count_to(500)) / 2
        expected = 0
        for event in events:
            assert event.get("first_seq", event["seq"]) == expected + 1
            expected = event["seq"]
