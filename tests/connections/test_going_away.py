"""Closing of connections by a stopping server."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from actors.connections import transport
from actors.inference.actor import Inference
from tests.connections.deaf_client import deaf_client
from tests.server_fixture import RunningServer, count_to, eventually, running_server

pytestmark = [pytest.mark.websocket, pytest.mark.integration]


async def test_p16_clients_hear_that_the_server_goes_and_when_to_come_back(engineless_server: RunningServer) -> None:
    async with engineless_server.peer() as peer:
        engineless_server.system.request_stop("test")
        message = await peer.receive()
        assert message["type"] == "going_away"
        assert 500 <= message["data"]["retry_after_ms"] <= 1500
        assert "re" not in message
        assert await peer.close_code() == 1012
    assert engineless_server.system.stuck == []


async def test_p16_a_running_answer_is_finished_within_the_drain(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, mock_step_seconds=0.001, drain_seconds=5.0) as server,
        server.peer() as peer,
        server.peer() as other,
    ):
        await peer.send("generate", "g", {"prompt": "count to 60"})
        assert (await peer.receive())["type"] == "accepted"
        server.system.request_stop("test")
        assert (await other.receive())["type"] == "going_away"
        refused = await other.ask("generate", "late", {"prompt": "x"})
        assert (refused["type"], refused["data"]["code"]) == ("error", "shutting_down")
        assert refused["data"]["temporary"] is True
        events = await peer.stream("g")
        assert "".join(one["data"]["text"] for one in events[:-1]) == count_to(60)
        assert events[-1]["type"] == "done"
        assert await peer.close_code() == 1012


async def test_p16_an_answer_longer_than_the_drain_does_not_hold_up_the_stop(tmp_path: Path) -> None:
    began = trio.current_time()
    async with running_server(tmp_path, mock_step_seconds=0.005, drain_seconds=0.1) as server, server.peer() as peer:
        await peer.send("generate", "g", {"prompt": "count to 900"})
        assert (await peer.receive())["type"] == "accepted"
        server.system.request_stop("test")
        *texts, last = await peer.stream("g")
        assert (last["type"], last["data"]["code"], last["data"]["temporary"]) == ("failed", "shutting_down", True)
        assert [one["seq"] for one in texts] == sorted({one["seq"] for one in texts})
        assert last["seq"] == 1 + max((one["seq"] for one in texts), default=0)
        assert await peer.close_code() == 1012
    assert trio.current_time() - began < 5
    assert server.system.stuck == []


async def test_p16_an_answer_is_told_to_be_unfinished_also_when_its_service_is_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(_: Inference) -> None:
        pass

    monkeypatch.setattr(Inference, "draining", nothing)
    async with running_server(tmp_path, mock_step_seconds=0.005, drain_seconds=0.1) as server, server.peer() as peer:
        await peer.send("generate", "g", {"prompt": "count to 900"})
        await peer.send("generate", "d", {"prompt": "count to 900", "on_disconnect": "detach"})
        await peer.receive()
        server.system.request_stop("test")
        last = (await peer.stream("g"))[-1]
        assert (last["type"], last["data"]["code"]) == ("failed", "shutting_down")
        assert await peer.close_code() == 1012, "the other goes on after the restart, and is not told to have ended"


async def test_a_peer_that_has_not_shaken_hands_holds_nothing_up(tmp_path: Path) -> None:
    async with running_server(tmp_path, wait=False) as server:
        port = int(server.about.websocket_url.rsplit(":", 1)[1].split("/")[0])
        async with await trio.open_tcp_stream("127.0.0.1", port):
            await eventually(server.connections)
            began = trio.current_time()
            server.system.request_stop("test")
            await eventually(lambda: server.system.root is not None and server.system.root.life is None, seconds=8)
    assert trio.current_time() - began < 2
    assert server.system.stuck == []


async def test_a_peer_that_never_answers_the_close_frame_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "CLOSE_SECONDS", 0.2)
    monkeypatch.setattr(transport, "LINGER_SECONDS", 0.1)
    async with running_server(tmp_path, wait=False) as server, deaf_client(server) as deaf:
        path = server.connections()[0]

        async def is_greeted() -> bool:
            return bool((await server.snapshot(path))["client_id"])

        await eventually(is_greeted)
        server.system.request_stop("test")
        await eventually(lambda: server.system.root is not None and server.system.root.life is None, seconds=4)
        received = b""
        while data := await deaf.stream.receive_some():
            received += data
        assert b"going_away" in received
    assert server.system.stuck == []


async def test_no_new_client_is_taken_while_stopping(tmp_path: Path) -> None:
    async with running_server(tmp_path, mock_step_seconds=0.001, drain_seconds=2.0) as server, server.peer() as peer:
        await peer.send("generate", "g", {"prompt": "count to 60"})
        assert (await peer.receive())["type"] == "accepted"
        server.system.request_stop("test")
        port = int(server.about.websocket_url.rsplit(":", 1)[1].split("/")[0])
        async with await trio.open_tcp_stream("127.0.0.1", port) as late:
            await late.send_all(b"GET /ws HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await peer.stream("g"))[-1]["type"] == "done"
            assert len(server.connections()) == 1
