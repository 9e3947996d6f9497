"""A client that does not read is parted with, and nobody else notices."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from actors.connections import link
from tests.connections.deaf_client import deaf_client
from tests.server_fixture import count_to, eventually, running_server

pytestmark = [pytest.mark.websocket, pytest.mark.integration]


async def test_a_reader_that_stops_in_mid_answer_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


async def test_a_reader_that_lags_by_more_than_the_outbox_holds_is_dropped_with_4008(
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
        closed: list[int] = []
        received = 0
        with trio.fail_after(5):
            while not closed:
                data = await deaf.stream.receive_some(65_536)
                assert data, "closed without a close frame"
                received += len(data)
                deaf.frames.receive_data(data)
                closed = [event.code for event in deaf.frames.events() if hasattr(event, "code")]
        assert closed == [4008]
        assert received < 300_000
        assert (await other.ask("ping", "p", 1))["type"] == "pong"


async def test_a_reader_that_is_only_slow_gets_the_whole_answer_in_larger_pieces(tmp_path: Path) -> None:
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
