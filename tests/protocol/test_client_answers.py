"""An answer resumes after a cut at its position, or its loss is reported: in virtual time, against a scripted server."""

from __future__ import annotations

from typing import Any

import pytest
from trio.testing import MockClock

from protocol.client import Disconnected, connect
from protocol.client.streams import WAITING
from protocol.commands import Generate
from tests.protocol.scripted_server import Peer, cut_after, goes_on_from, scripted

URL = "ws://scripted/ws"


async def test_p4_an_answer_goes_on_where_it_was_cut(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def second(peer: Peer) -> None:
        hello = await peer.welcome()
        assert hello["resume"] == [{"stream": "g-1", "epoch": "e-1", "seq": 2}]
        await peer.say(type="token", stream="g-1", first_seq=3, seq=5, data={"text": "cde", "index": 4})
        await peer.done(6)
        await peer.linger()

    async with (
        scripted(monkeypatch, cut_after("a", "b"), second) as server,
        connect(URL, client_id="me", reconnect=True) as client,
        client.generate(Generate(prompt="x")) as answer,
    ):
        assert await answer.text() == "abcde"
        assert answer.done == {"finish_reason": "stop"}
        assert len(server.attempts) == 2


async def test_p4_an_answer_whose_events_are_gone_goes_on_from_the_snapshot(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        scripted(monkeypatch, cut_after("a", "b"), goes_on_from({"seq": 7, "text": "abcd", "state": "running"}, "e")),
        connect(URL, client_id="me", reconnect=True) as client,
        client.generate(Generate(prompt="x")) as answer,
    ):
        assert await answer.text() == "abcde"


async def test_p4_an_answer_that_a_restarted_server_makes_again_is_not_told_twice(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        scripted(
            monkeypatch, cut_after("ab", "cd"), goes_on_from({"seq": 1, "text": "a", "state": "running"}, "b", "cde")
        ),
        connect(URL, client_id="me", reconnect=True) as client,
        client.generate(Generate(prompt="x")) as answer,
    ):
        assert [piece async for piece in answer] == ["ab", "cd", "e"]


async def test_p4_an_answer_that_a_restarted_server_makes_differently_is_lost(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def second(peer: Peer) -> None:
        await peer.welcome([{"stream": "g-1", "resumed": False, "head": 0, "snapshot": {"seq": 0, "text": ""}}])
        await peer.tokens("a")
        await peer.done(2)
        await peer.linger()

    async with (
        scripted(monkeypatch, cut_after("ab"), second),
        connect(URL, client_id="me", reconnect=True) as client,
        client.generate(Generate(prompt="x")) as answer,
    ):
        assert await anext(answer) == "ab"
        with pytest.raises(Disconnected, match="has lost this answer"):
            await anext(answer)


@pytest.mark.parametrize("snapshot", [None, {"seq": 7, "text": "other", "state": "running"}, {"seq": 7}])
async def test_p4_an_answer_that_the_server_has_lost_says_so(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, snapshot: dict[str, Any] | None
) -> None:
    async def second(peer: Peer) -> None:
        told = {"stream": "g-1", "resumed": False, "head": 0}
        await peer.welcome([told if snapshot is None else {**told, "snapshot": snapshot}])
        await peer.linger()

    async with (
        scripted(monkeypatch, cut_after("a", "b"), second),
        connect(URL, client_id="me", reconnect=True) as client,
        client.generate(Generate(prompt="x")) as answer,
    ):
        assert [await anext(answer), await anext(answer)] == ["a", "b"]
        with pytest.raises(Disconnected, match="has lost this answer"):
            await anext(answer)


async def test_p4_a_gap_is_filled_by_a_resume_and_what_comes_before_its_answer_does_not_count(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.accept()
        await peer.tokens("a")
        await peer.tokens("c", after=2)
        await peer.tokens("d", after=3)
        resume = await peer.receive("resume")
        assert resume["data"] == {"stream": "g-1", "epoch": "e-1", "seq": 1}
        await peer.tokens("wrong", after=1)
        await peer.say(type="result", re=resume["id"], data={"resumed": True, "head": 4})
        await peer.tokens("b", "c", "d", after=1)
        await peer.done(5)
        await peer.linger()

    async with (
        scripted(monkeypatch, script),
        connect(URL, client_id="me", reconnect=True) as client,
        client.generate(Generate(prompt="x")) as answer,
    ):
        assert await answer.text() == "abcd"


async def test_p4_a_resume_that_is_refused_ends_the_answer_and_not_the_session(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.accept()
        await peer.tokens("a")
        await peer.tokens("c", after=2)
        resume = await peer.receive("resume")
        error = {"code": "unavailable", "message": "not now", "temporary": True}
        await peer.say(type="error", re=resume["id"], data=error)
        await peer.receive("cancel")
        while True:
            ping = await peer.receive()
            await peer.say(type="pong", re=ping["id"], data=1)

    async with scripted(monkeypatch, script), connect(URL, client_id="me", reconnect=True) as client:
        async with client.generate(Generate(prompt="x")) as answer:
            assert await anext(answer) == "a"
            with pytest.raises(Disconnected, match="events are lost: unavailable: not now"):
                await anext(answer)
        assert await client.ping() == 1


async def test_p4_an_answer_is_whole_wherever_its_first_connection_breaks(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After so many bytes from the server, between frames and in the middle of one."""
    pieces = [f"piece {number} " for number in range(8)]

    async def serve(peer: Peer) -> None:
        hello = await peer.welcome()
        points = hello["resume"]
        if not points:
            await peer.accept()
        stands_at = points[0]["seq"] if points else 0
        await peer.tokens(*pieces[stands_at:], after=stands_at)
        await peer.done(len(pieces) + 1)
        await peer.linger()

    breaks = 0
    for budget in range(400, 1900, 31):
        async with (
            scripted(monkeypatch, serve, budget_bytes=budget) as server,
            connect(URL, client_id="me", reconnect=True) as client,
        ):
            async with client.generate(Generate(prompt="x")) as answer:
                assert await answer.text() == "".join(pieces), f"cut after {budget} bytes"
            breaks += len(server.attempts) > 1
    assert breaks > 15


async def test_cl7_pieces_that_a_program_does_not_read_become_longer_and_none_is_lost(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = [f"{number} " for number in range(WAITING + 300)]

    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.accept()
        await peer.tokens(*pieces)
        await peer.done(len(pieces) + 1)
        ping = await peer.receive("ping")
        await peer.say(type="pong", re=ping["id"], data=1)
        await peer.linger()

    async with (
        scripted(monkeypatch, script),
        connect(URL, client_id="me") as client,
        client.generate(Generate(prompt="x")) as answer,
    ):
        assert await client.ping() == 1
        read = [piece async for piece in answer]
    assert len(read) == WAITING
    assert "".join(read) == "".join(pieces)
