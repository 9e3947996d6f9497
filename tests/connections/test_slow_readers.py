"""Slow readers lose nothing, those that read nothing are cut, and others do not notice."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from wsproto.events import TextMessage

from actors import application, write_pace
from actors.connections import keepalive as life_signs
from actors.connections import transport
from actors.connections.send_queue import SendQueue
from actors.inference.worker_config import WorkerConfig
from actors.storage.messages import LogEvent
from protocol.commands import MAXIMUM_FRAME_BYTES
from runtime.testing import crash
from tests.connections.deaf_client import Deaf, deaf_client
from tests.connections.test_event_log_reader import SEND, event, numbers, tell
from tests.server_fixture import PATIENCE_SECONDS, count_to, eventually, running_server

pytestmark = [pytest.mark.websocket, pytest.mark.integration]


CROWD = 199
EVENTS = 30


def large_event(number: int) -> LogEvent:
    return attrs.evolve(event(number), data={"number": number, "filling": "x" * 30_000})


async def read_messages(deaf: Deaf, is_last: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    """Return all messages up to one, and those received with it; the connection must not be closed before."""
    found: list[dict[str, Any]] = []
    text = ""
    is_over = False
    deaf.read_on()
    with trio.fail_after(PATIENCE_SECONDS):
        while not is_over:
            data = await deaf.stream.receive_some(65_536)
            assert data, "closed"
            deaf.frames.receive_data(data)
            for one in deaf.frames.events():
                assert isinstance(one, TextMessage), one
                text += one.data
                if one.message_finished:
                    assert len(text.encode()) <= MAXIMUM_FRAME_BYTES
                    found.append(json.loads(text))
                    is_over = is_over or is_last(found[-1])
                    text = ""
    return found


def numbers_in(messages: list[dict[str, Any]]) -> list[int]:
    """Return the numbers of durable events, which must have no gap."""
    frames = [one for one in messages if one.get("stream") == "client"]
    for earlier, later in itertools.pairwise(frames):
        assert later.get("first_seq", later["seq"]) == earlier["seq"] + 1
    return [one["data"]["number"] for one in frames]


@pytest.mark.alone
async def test_p7_one_stalled_reader_among_200_costs_the_others_no_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_pace, "WINDOW_SECONDS", 600.0)
    # The first clients wait in silence for the last, which on a busy machine takes longer than a ping allows.
    monkeypatch.setattr(life_signs, "PING_INTERVAL_SECONDS", 600.0)
    monkeypatch.setattr(application, "OPERATIONS", (*application.OPERATIONS, SEND))
    monkeypatch.setattr(WorkerConfig, "command", lambda *_: ["sleep", "60"])
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
        for number in range(EVENTS):
            await tell(server, attrs.evolve(event(number), data={"number": number, "filling": "x" * 2000}))
        await eventually(lambda: len(told) == CROWD, seconds=60)
        # It was not cut: what did not fit into its send queue is read from the log once it reads.
        messages = await read_messages(deaf, lambda one: one.get("data", {}).get("number") == EVENTS - 1)
        assert numbers_in(messages) == list(range(EVENTS))
        assert told == [list(range(EVENTS))] * CROWD
        assert server.incarnations() == dict.fromkeys(server.incarnations(), 1)


async def test_p7_a_reader_that_stops_in_mid_answer_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_pace, "WINDOW_SECONDS", 0.3)
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


async def test_fr3_one_commit_larger_than_an_outbox_cuts_no_reader_and_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(application, "OPERATIONS", (*application.OPERATIONS, SEND))
    async with (
        running_server(tmp_path, send_buffer_bytes=4096, mock_step_seconds=0.002) as server,
        deaf_client(server, "tester") as deaf,
    ):
        await deaf.say("generate", {"prompt": "count to 300", "max_tokens": 2000}, "g")

        async def is_running() -> bool:
            return bool((await server.snapshot("inference/inference"))["running"])

        await eventually(is_running)
        # More bytes than a send queue holds, then more events.
        await tell(server, *(large_event(number) for number in range(60)))
        await tell(server, *(event(number) for number in range(60, 900)))
        await server.until_no_row_is_taken()
        messages = await read_messages(deaf, lambda one: one.get("data", {}).get("number") == 899)
        assert numbers_in(messages) == list(range(900))
        if messages[-1]["type"] != "done" and not any(one["type"] == "done" for one in messages):
            messages += await read_messages(deaf, lambda one: one["type"] == "done")
        answer = [one for one in messages if one.get("re") == "g" and "stream" in one]
        assert "".join(one["data"]["text"] for one in answer[:-1]) == count_to(300)
        assert answer[-1]["type"] == "done"
        for earlier, later in itertools.pairwise(answer):
            assert later.get("first_seq", later["seq"]) == earlier["seq"] + 1


async def test_fr3_an_answer_that_does_not_fit_is_fetched_from_where_it_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is larger than the send queue; live tokens and pages must leave no gap."""
    monkeypatch.setattr(transport, "SendQueue", functools.partial(SendQueue, maximum_bytes=20_000))
    async with running_server(tmp_path, send_buffer_bytes=4096) as server, deaf_client(server) as deaf:
        await deaf.say("generate", {"prompt": "count to 200", "max_tokens": 4000, "logprobs": 3}, "g")
        await eventually(lambda: len(server.connections()) == 1)

        async def is_over() -> bool:
            return bool((await server.snapshot("inference/inference"))["finished"] == {"stop": 1})

        await eventually(is_over)
        waiting = (await server.snapshot(server.connections()[0]))["send_queue_bytes"]
        assert waiting <= 20_000, "what waits is bounded"
        answer = [
            one
            for one in await read_messages(deaf, lambda one: one["type"] == "done")
            if one.get("re") == "g" and "stream" in one
        ]
        assert "".join(one["data"]["text"] for one in answer[:-1]) == count_to(200)
        assert (
            sum(len(one["data"]["logprobs"]) for one in answer[:-1]) == answer[-1]["data"]["usage"]["completion_tokens"]
        )
        for earlier, later in itertools.pairwise(answer):
            assert later.get("first_seq", later["seq"]) == earlier["seq"] + 1


async def test_fr2_whoever_asks_faster_than_it_reads_is_answered_all_the_same(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, send_buffer_bytes=4096, wait=False) as server,
        server.peer() as other,
        deaf_client(server) as deaf,
        trio.open_nursery() as nursery,
    ):

        async def ask() -> None:
            for number in range(25):
                # Each is answered by a pong of the same size, and 25 of them exceed the send queue.
                await deaf.say("ping", "x" * 60_000, str(number))

        nursery.start_soon(ask)

        async def is_held_back() -> bool:
            found = (await server.snapshot(server.connections()[-1]))["send_queue_reply_bytes"]
            return bool(found > 240_000)

        await eventually(is_held_back)
        await trio.testing.wait_all_tasks_blocked(0.1)
        held = (await server.snapshot(server.connections()[-1]))["send_queue_reply_bytes"]
        assert held < 400_000, "what waits is bounded"
        assert (await other.ask("ping", "p", 1))["type"] == "pong"
        messages = await read_messages(deaf, lambda one: one.get("re") == "24")
        assert [one["re"] for one in messages if one["type"] == "pong"] == [str(number) for number in range(25)]


async def test_fr4_a_reader_that_is_given_up_loses_its_connection_and_not_its_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_pace, "WINDOW_SECONDS", 0.3)
    async with running_server(tmp_path, send_buffer_bytes=4096, mock_step_seconds=0.002) as server:
        async with deaf_client(server, "tester") as deaf:
            await deaf.say("generate", {"prompt": "count to 300", "max_tokens": 2000}, "g")
            await deaf.say("ping", "x" * 30_000, "p")
            await eventually(lambda: not server.connections(), what="the reader that takes nothing given up")
        async with server.peer() as peer:
            # The same command again: it was accepted, and continues.
            accepted = await peer.ask("generate", "g", {"prompt": "count to 300", "max_tokens": 2000})
            assert accepted["type"] == "accepted", accepted
            events = await peer.stream("g")
        assert events[-1]["type"] == "done"
        assert "".join(one["data"]["text"] for one in events[:-1]) == count_to(300)


async def test_fr4_a_connection_that_crashes_loses_no_answer(tmp_path: Path) -> None:
    async with running_server(tmp_path, mock_step_seconds=0.002) as server:
        async with server.peer() as peer:
            question = {"prompt": "count to 300", "max_tokens": 2000}
            assert (await peer.ask("generate", "g", question))["type"] == "accepted"
            crash(server.system, server.connections()[0], RuntimeError("on purpose"))
            await eventually(lambda: not server.connections())
        async with server.peer() as peer:
            assert (await peer.ask("generate", "g", question))["type"] == "accepted"
            events = await peer.stream("g")
        assert events[-1]["type"] == "done"
        assert "".join(one["data"]["text"] for one in events[:-1]) == count_to(300)


async def test_fr4_a_client_that_leaves_by_itself_still_ends_what_it_alone_followed(tmp_path: Path) -> None:
    async with running_server(tmp_path, mock_step_seconds=0.002) as server:
        async with server.peer() as peer:
            question = {"prompt": "count to 1000", "max_tokens": 4000}
            assert (await peer.ask("generate", "g", question))["type"] == "accepted"
        await server.until_no_row_is_taken()
        assert (await server.snapshot("inference/inference"))["finished"] == {"abandoned": 1}


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
