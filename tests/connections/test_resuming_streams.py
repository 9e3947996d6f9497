"""A generation's stream outlives its connection: it can be resumed, joined and shared, but only by its own client."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from actors.connections import generation_streams as streams_followed
from tests.server_fixture import Peer, count_to, running_server

pytestmark = [pytest.mark.websocket, pytest.mark.integration]


async def begin(peer: Peer, number: int, *, events: int, **data: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Start counting and take some events. Returns the data of `accepted`, and the events."""
    await peer.send("generate", "g", {"prompt": f"count to {number}", "max_tokens": 4000, **data})
    accepted = await peer.receive()
    assert accepted["type"] == "accepted", accepted
    return accepted["data"], [await peer.receive() for _ in range(events)]


def assert_whole(events: list[dict[str, Any]], number: int, *, after: int = 0, before: str = "") -> None:
    for event in events:
        assert event.get("first_seq", event["seq"]) == after + 1
        after = event["seq"]
    assert before + "".join(one["data"]["text"] for one in events[:-1]) == count_to(number)
    assert events[-1]["type"] == "done"


async def test_p4_a_detached_stream_goes_on_on_another_connection(tmp_path: Path) -> None:
    async with running_server(tmp_path, mock_step_seconds=0.002) as server:
        async with server.peer() as peer:
            accepted, events = await begin(peer, 60, events=5, on_disconnect="detach")
            await trio.aclose_forcefully(peer.websocket.stream)
        async with server.peer(hello=False) as peer:
            welcome = await peer.hello(resume=[{**accepted, "seq": events[-1]["seq"]}])
            (answer,) = welcome["resumed"]
            assert (answer["stream"], answer["resumed"]) == (accepted["stream"], True)
            # `re` names the command of this device that the stream answers.
            assert_whole(events + await peer.stream("g"), 60)
        async with server.peer() as peer:
            answer = await peer.ask("resume", "r", {**accepted, "seq": 0})
            assert answer["data"]["resumed"] is True
            assert_whole(await peer.stream("g"), 60)
            # A client that has all of it gets nothing more.
            answer = await peer.ask("resume", "r2", {**accepted, "seq": answer["data"]["head"]})
            assert answer["data"]["resumed"] is True
            assert (await peer.ask("ping", "p"))["type"] == "pong"


async def test_a_resume_that_fails_leaves_a_stream_that_is_followed_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: the connection forgot the stream, and the client received no more of it."""
    async with running_server(tmp_path, mock_step_seconds=0.005) as server, server.peer() as peer:
        accepted, events = await begin(peer, 60, events=3)
        monkeypatch.setattr(streams_followed, "FOLLOW_SECONDS", 0.0)
        await peer.send("resume", "r", {**accepted, "seq": events[-1]["seq"]})
        answers = []
        while events[-1]["type"] != "done":
            message = await peer.receive()
            (events if "stream" in message else answers).append(message)
        assert [one["data"]["code"] for one in answers] == ["deadline_exceeded"]
        assert_whole(events, 60)


async def test_without_detach_the_row_is_freed_when_the_last_follower_leaves(tmp_path: Path) -> None:
    async with running_server(tmp_path, mock_step_seconds=0.002) as server, server.peer() as two:
        async with server.peer() as one:
            accepted, _ = await begin(one, 900, events=2)
            assert (await two.ask("resume", "r", {**accepted, "seq": 0}))["data"]["resumed"] is True
            assert (await two.receive())["type"] == "token"
        # One of two subscribers has left, and the stream continues.
        assert (await server.snapshot("inference/inference"))["running"] == 1
        assert (await two.receive())["type"] == "token"
        await trio.aclose_forcefully(two.websocket.stream)
        await server.until_no_row_is_taken()


async def test_a_stream_of_another_client_is_as_if_it_did_not_exist(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, mock_step_seconds=0.002) as server,
        server.peer() as mine,
        server.peer(client_id="else") as other,
    ):
        accepted, _ = await begin(mine, 100, events=2)
        theirs = await other.ask("resume", "r", {**accepted, "seq": 0})
        nobodys = await other.ask("resume", "r", {"stream": "s-0", "epoch": "e", "seq": 0})
        assert {**theirs["data"], "stream": ""} == {**nobodys["data"], "stream": ""}
        assert theirs["data"]["resumed"] is False
        assert (await other.ask("ping", "p"))["type"] == "pong"


async def test_p4_a_detached_stream_goes_on_after_the_server_was_restarted(tmp_path: Path) -> None:
    async with running_server(tmp_path, mock_step_seconds=0.01, drain_seconds=0.0) as server, server.peer() as peer:
        accepted, events = await begin(peer, 60, events=4, on_disconnect="detach", temperature=0.5)
    async with running_server(tmp_path, mock_step_seconds=0.001) as server, server.peer(hello=False) as peer:
        welcome = await peer.hello(resume=[{**accepted, "seq": events[-1]["seq"]}])
        (answer,) = welcome["resumed"]
        assert answer["resumed"] is False
        snapshot = answer["snapshot"]
        assert snapshot["epoch"] != accepted["epoch"]
        assert_whole(await peer.stream("g"), 60, after=snapshot["seq"], before=snapshot["text"])
