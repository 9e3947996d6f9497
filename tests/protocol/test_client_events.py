"""Durable events reach a program of the Python client once, in order, and over cuts."""

from __future__ import annotations

from typing import Any

import pytest
from trio.testing import MockClock

from protocol.client import ClientEvent, Snapshot, connect
from protocol.client.streams import WAITING
from tests.protocol.scripted_server import Peer, echoes, scripted

URL = "ws://scripted/ws"
CHANNEL = {"channel": "tasks", "priority": "low"}


async def send_event(peer: Peer, seq: int, event_id: str | None = None, **envelope: Any) -> None:
    data = {**CHANNEL, "event_id": event_id or f"id-{seq}", "task_id": f"t-{seq}"}
    await peer.say(type="task_deleted", stream="client", seq=seq, data=data, **envelope)


def begin(head: int = 4) -> list[dict[str, Any]]:
    snapshot = {"seq": head, "unread": 1, "task_count": 2}
    return [{"stream": "client", "resumed": False, "head": head, "snapshot": snapshot}]


async def test_p4_p6_events_come_once_in_order_and_are_acknowledged(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    acknowledged: list[dict[str, Any]] = []

    async def first(peer: Peer) -> None:
        hello = await peer.welcome(begin())
        assert hello["resume"] == [{"stream": "client", "epoch": "none", "seq": 0}]
        await send_event(peer, 5)
        await send_event(peer, 5)
        await send_event(peer, 6, event_id="id-5")
        batch = [{"type": "notification", "seq": seq, "data": {"event_id": f"id-{seq}"}} for seq in (7, 8)]
        await peer.say(type="events", stream="client", first_seq=7, seq=9, data={"events": batch})
        acknowledged.append((await peer.receive("ack"))["data"])
        await peer.cut()

    async def second(peer: Peer) -> None:
        hello = await peer.welcome()
        assert hello["resume"] == [{"stream": "client", "epoch": "e-client", "seq": 9}]
        await send_event(peer, 10)
        await peer.linger()

    async with (
        scripted(monkeypatch, first, second),
        connect(URL, client_id="me", reconnect=True, events=True) as client,
        client.events() as events,
    ):
        assert await anext(events) == Snapshot(seq=4, data={"seq": 4, "unread": 1, "task_count": 2})
        received = [await anext(events) for _ in range(4)]
        assert [(one.type, one.seq) for one in received if isinstance(one, ClientEvent)] == [
            ("task_deleted", 5),
            ("notification", 7),
            ("notification", 8),
            ("task_deleted", 10),
        ]
    assert acknowledged == [{"stream": "client", "seq": 8}]


async def test_p4_events_that_the_server_no_longer_has_come_as_a_snapshot(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def first(peer: Peer) -> None:
        await peer.welcome(begin(4))
        await send_event(peer, 5)
        await peer.cut()

    async def second(peer: Peer) -> None:
        await peer.welcome(begin(2000), epoch="e-new")
        await send_event(peer, 2001)
        await peer.cut()

    async def third(peer: Peer) -> None:
        hello = await peer.welcome()
        assert hello["resume"] == [{"stream": "client", "epoch": "e-new", "seq": 2001}]
        await send_event(peer, 2002)
        await peer.linger()

    async with (
        scripted(monkeypatch, first, second, third),
        connect(URL, client_id="me", reconnect=True, events=True) as client,
        client.events() as events,
    ):
        received = [await anext(events) for _ in range(5)]
        assert [type(one).__name__ for one in received] == [
            "Snapshot", "ClientEvent", "Snapshot", "ClientEvent", "ClientEvent",
        ]  # fmt: skip
        assert [one.seq for one in received] == [4, 5, 2000, 2001, 2002]


async def test_events_have_to_be_asked_for(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    async with scripted(monkeypatch, echoes), connect(URL, client_id="me") as client:
        with pytest.raises(RuntimeError, match="events=True"):
            async with client.events():
                raise AssertionError("unreachable")


async def test_cl7_events_that_a_program_does_not_read_are_left_to_the_log_and_fetched_later(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And an answer gets past them: a program that asks in the middle of its loop does not wait for itself."""
    head = WAITING + 500

    async def script(peer: Peer) -> None:
        await peer.welcome(begin(0))
        for seq in range(1, head + 1):
            await send_event(peer, seq)
        ping = await peer.receive("ping")
        await peer.say(type="pong", re=ping["id"], data=ping["data"])
        resume = await peer.receive("resume")
        # The snapshot of the beginning waits, too.
        assert resume["data"] == {"stream": "client", "epoch": "e-client", "seq": WAITING - 1}
        await peer.say(type="result", re=resume["id"], data={"resumed": True, "head": head})
        for seq in range(WAITING, head + 1):
            await send_event(peer, seq)
        await peer.linger()

    async with (
        scripted(monkeypatch, script),
        connect(URL, client_id="me", reconnect=True, events=True) as client,
        client.events() as events,
    ):
        assert await client.ping(1) == 1
        assert len(events._queue.items) == WAITING
        assert isinstance(await anext(events), Snapshot)
        assert [(await anext(events)).seq for _ in range(head)] == list(range(1, head + 1))
