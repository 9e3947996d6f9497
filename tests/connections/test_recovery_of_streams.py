"""Each actor of the server dies while a client streams: the socket stays open and no token is lost.

Services that streams do not use (access, rest, the listener, inspection) are included, because only their place in the
tree keeps their death from mattering.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from actors.inference.health import SelfReport
from actors.inference.messages import DescribeEngine
from protocol.client import connect
from protocol.commands import Generate
from runtime import HandlerFailed
from runtime.testing import crash
from tests.server_fixture import Peer, RunningServer, count_to, eventually, running_server

pytestmark = [pytest.mark.websocket, pytest.mark.integration]

SERVICES = [
    "access",
    "connections/registry",
    "storage/writer",
    "storage/readers",
    "storage/relay",
    "inference/inference",
    "inference/engines/1",
    "connections/listener",
    "rest",
    "inspection",
]


class Killed(Exception):
    """Kills actors in these tests."""


async def streaming(peer: Peer, events: list[dict[str, Any]], number: int) -> None:
    """Start counting to ``number`` and take the first 20 events."""
    await peer.send("generate", "g", {"prompt": f"count to {number}", "max_tokens": 4000})
    assert (await peer.receive())["type"] == "accepted"
    while len(events) < 20:
        events.append(await peer.receive())


async def take_the_rest(peer: Peer, events: list[dict[str, Any]]) -> None:
    while events[-1]["type"] not in ("done", "failed", "cancelled"):
        events.append(await peer.receive())


def assert_whole(events: list[dict[str, Any]], number: int) -> None:
    """Assert that the events are one unbroken stream of the right text."""
    assert {one["type"] for one in events[:-1]} == {"token"}
    expected = 0
    for event in events:
        assert event.get("first_seq", event["seq"]) == expected + 1
        expected = event["seq"]
    assert "".join(one["data"]["text"] for one in events[:-1]) == count_to(number)
    assert events[-1]["type"] == "done", events[-1]
    assert events[-1]["data"]["finish_reason"] == "stop"
    assert events[-1]["data"]["usage"]["completion_tokens"] == len(count_to(number))


async def until_started_again(server: RunningServer, path: str, incarnation: int = 2) -> None:
    def is_back() -> bool:
        place = server.system.record(path)
        return place.incarnation >= incarnation and place.life is not None and place.life.is_ready

    await eventually(is_back, what=f"{path} started again")


@pytest.mark.parametrize("path", SERVICES)
async def test_an_actor_dies_while_a_client_streams(tmp_path: Path, path: str) -> None:
    async with running_server(tmp_path, mock_step_seconds=0.0005) as server, server.peer() as peer:
        events: list[dict[str, Any]] = []
        await streaming(peer, events, 150)
        crash(server.system, path, Killed(path))
        await take_the_rest(peer, events)
        assert_whole(events, 150)
        await until_started_again(server, path)
        assert {one: number for one, number in server.incarnations().items() if number > 1} == {path: 2}
        # Everything works again, over the same socket and over a new one.
        again = await peer.generate("again", "count to 9")
        assert again[-1]["type"] == "done"
        async with server.peer() as newcomer:
            assert (await newcomer.generate("newcomer", "count to 9"))[-1]["type"] == "done"
        async with server.http() as http:
            assert (await http.get("/health/ready")).status_code == 200
        assert (await server.inspect({"command": "state", "path": "access"}))[0]["path"] == "access"
        await server.until_no_row_is_taken()


async def test_every_actor_dies_in_turn_under_one_stream(tmp_path: Path) -> None:
    async with running_server(tmp_path, mock_step_seconds=0.001) as server, server.peer() as peer:
        events: list[dict[str, Any]] = []
        await streaming(peer, events, 300)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take_the_rest, peer, events)
            for path in SERVICES:
                crash(server.system, path, Killed(path))
                await until_started_again(server, path)
                now = len(events)
                await eventually(partial(_is_longer, events, now), what=f"text after {path} died")
        assert_whole(events, 300)


def _is_longer(events: list[dict[str, Any]], than: int) -> bool:
    return len(events) > than


async def test_the_inference_actor_dies_again_and_again(tmp_path: Path) -> None:
    async with running_server(tmp_path, mock_step_seconds=0.001) as server, server.peer() as peer:
        events: list[dict[str, Any]] = []
        await streaming(peer, events, 200)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take_the_rest, peer, events)
            for life in (2, 3, 4):
                crash(server.system, "inference/inference", Killed("again"))
                await until_started_again(server, "inference/inference", life)
        assert_whole(events, 200)


async def test_streams_of_several_clients_survive_together(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, mock_step_seconds=0.0005) as server,
        server.peer(client_id="a") as one,
        server.peer(client_id="b") as two,
    ):
        first: list[dict[str, Any]] = []
        second: list[dict[str, Any]] = []
        await streaming(one, first, 150)
        await streaming(two, second, 140)
        crash(server.system, "inference/inference", Killed("x"))
        crash(server.system, "inference/engines/1", Killed("x"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take_the_rest, one, first)
            nursery.start_soon(take_the_rest, two, second)
        assert_whole(first, 150)
        assert_whole(second, 140)


async def test_our_own_client_sees_nothing_of_it(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, mock_step_seconds=0.0005) as server,
        connect(server.about.websocket_url, client_id="me") as client,
        client.generate(Generate(prompt="count to 150")) as answer,
    ):
        pieces: list[str] = []
        async for piece in answer:
            pieces.append(piece)
            if len(pieces) in (10, 30):
                crash(server.system, "inference/inference", Killed("x"))
                await until_started_again(server, "inference/inference", 2 if len(pieces) == 10 else 3)
        assert "".join(pieces) == count_to(150)


async def test_a_command_while_the_inference_actor_is_away_is_answered(server: RunningServer) -> None:
    """It waits for the next incarnation; same seed, same answer."""
    await server.until_engine_is("ready")
    async with server.peer() as peer:
        crash(server.system, "inference/inference", Killed("x"))
        await peer.send("generate", "g", {"prompt": "count to 20"})
        assert (await peer.receive())["type"] == "accepted"
        assert "".join(one["data"]["text"] for one in await peer.stream("g") if one["type"] == "token") == count_to(20)


async def test_a_connection_that_dies_takes_only_its_own_client(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, mock_step_seconds=0.001) as server,
        server.peer(client_id="a") as one,
        server.peer(client_id="b") as two,
    ):
        events: list[dict[str, Any]] = []
        lost: list[dict[str, Any]] = []
        await streaming(one, lost, 100)
        await streaming(two, events, 100)
        crash(server.system, server.connections()[0], Killed("x"))
        await take_the_rest(two, events)
        assert_whole(events, 100)
        assert await one.close_code() in (1006, 1011)
        await server.until_no_row_is_taken()
        assert len(server.connections()) == 1
        assert server.incarnations() == dict.fromkeys(server.incarnations(), 1)


async def test_a_thousand_requests_whose_handler_raises_raise_no_incarnation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("the handler is broken")

    async with running_server(tmp_path, mock_step_seconds=0.0005) as server, server.peer() as peer:
        events: list[dict[str, Any]] = []
        await streaming(peer, events, 300)
        monkeypatch.setattr(SelfReport, "answer", broken)
        reference = server.system.reference("inference/inference")
        failures = 0

        async def ask() -> None:
            nonlocal failures
            for _ in range(100):
                with pytest.raises(HandlerFailed) as caught:
                    await reference.ask(DescribeEngine(), timeout=60)
                assert isinstance(caught.value.__cause__, ZeroDivisionError)
                failures += 1

        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(ask)
        assert failures == 1000
        print(f"1,000 failed requests in {trio.current_time() - began:.2f} s")
        async with server.http() as http:
            answer = await http.get("/health/mlx")
        # The engine's state is unknown; health reports that instead of failing.
        assert (answer.status_code, answer.json()["status"]) == (503, "degraded")
        assert answer.json()["problem"]
        assert "ZeroDivisionError" not in answer.text
        await take_the_rest(peer, events)
        assert_whole(events, 300)
        assert server.incarnations() == dict.fromkeys(server.incarnations(), 1)
        # The registry polls the engine as well, and its asks fail like all others.
        failed = server.system.record("inference/inference").handler_failures
        assert set(failed) == {"ZeroDivisionError"}
        assert failed["ZeroDivisionError"] >= 1001
