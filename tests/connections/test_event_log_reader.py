"""The durable stream `client` over real sockets and a real database: live, resumed, filtered, paced, acknowledged."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import trio
from sqlalchemy import Connection, text

from actors import application
from actors.connections.store import READ_ACKNOWLEDGED, Device
from actors.storage.messages import LogEvent, Operation, Outcome, Storage
from protocol.events import Priority
from runtime.testing import crash
from tests.server_fixture import Peer, RunningServer, count_to, eventually, running_server

pytestmark = [pytest.mark.websocket, pytest.mark.integration]


def _tell(_: Connection, events: tuple[LogEvent, ...]) -> Outcome[int]:
    return Outcome(value=len(events), events=events)


SEND: Operation[tuple[LogEvent, ...], int] = Operation("tell", _tell, int)


def _forget(connection: Connection, seq: int) -> Outcome[int]:
    """Delete events as the pruner does beyond the log's limit."""
    connection.execute(text("DELETE FROM events WHERE client_id = 'tester' AND seq <= :seq"), {"seq": seq})
    return Outcome(value=seq)


FORGET: Operation[int, int] = Operation("forget", _forget, int)


def event(number: int, channel: str = "tasks", priority: Priority = Priority.MEDIUM) -> LogEvent:
    return LogEvent(type="task_updated", channel=channel, priority=priority, data={"number": number})


@pytest.fixture(autouse=True)
def _with_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(application, "OPERATIONS", (*application.OPERATIONS, SEND, FORGET))


@pytest.fixture
def server(engineless_server: RunningServer) -> RunningServer:
    return engineless_server


async def tell(server: RunningServer, *events: LogEvent, client_id: str = "tester") -> None:
    storage = Storage(server.system.reference("storage/writer"), server.system.reference("storage/readers"))
    await storage.transact(SEND, events, client_id=client_id)


async def forget_to(server: RunningServer, seq: int) -> None:
    storage = Storage(server.system.reference("storage/writer"), server.system.reference("storage/readers"))
    await storage.transact(FORGET, seq, client_id="tester")


async def numbers(peer: Peer, count: int) -> list[int]:
    """Return the numbers of the next ``count`` events in any framing. Asserts that the frames leave no gap."""
    found: list[int] = []
    while len(found) < count:
        frame = await peer.receive()
        assert frame["stream"] == "client", frame
        events = frame["data"]["events"] if frame["type"] == "events" else [frame]
        found += [one["data"]["number"] for one in events]
    return found


async def snapshot(peer: Peer) -> dict[str, Any]:
    """Return the stream's snapshot for a client without a position."""
    await peer.send("resume", "snapshot", {"stream": "client", "epoch": "another", "seq": 0})
    while (answer := await peer.receive()).get("re") != "snapshot":
        pass
    found: dict[str, Any] = answer["data"]["snapshot"]
    return found


async def test_every_device_gets_every_event_and_another_client_none(server: RunningServer) -> None:
    async with (
        server.peer() as one,
        server.peer(hello=False) as two,
        server.peer(client_id="else") as other,
    ):
        await two.hello(device_id="phone")
        await tell(server, event(1), event(2))
        for peer in (one, two):
            first, second = await peer.receive(), await peer.receive()
            assert [(frame["seq"], frame["data"]["number"]) for frame in (first, second)] == [(1, 1), (2, 2)]
            assert (first["type"], first["data"]["channel"], first["data"]["priority"]) == (
                "task_updated",
                "tasks",
                "medium",
            )
            assert first["data"]["event_id"] != second["data"]["event_id"]
        assert (await other.ask("ping", "p"))["type"] == "pong"


@pytest.mark.parametrize("missed", [0, 1, 150, 320])
async def test_p4_a_client_that_comes_back_gets_exactly_what_it_missed(server: RunningServer, missed: int) -> None:
    async with server.peer(hello=False) as peer:
        epoch = (await peer.hello())["epoch"]
        await tell(server, event(1), event(2))
        assert await numbers(peer, 2) == [1, 2]
    if missed:
        await tell(server, *(event(number) for number in range(3, 3 + missed)))
    async with server.peer(hello=False) as peer:
        welcome = await peer.hello(resume=[{"stream": "client", "epoch": epoch, "seq": 2}])
        assert welcome["resumed"] == [{"stream": "client", "resumed": True, "head": 2 + missed}]
        await tell(server, event(999))
        assert await numbers(peer, missed + 1) == [*range(3, 3 + missed), 999]


@pytest.mark.parametrize(("epoch", "seq"), [("old", 1), (None, 99)])
async def test_p4_what_cannot_be_resumed_gets_a_snapshot_and_goes_on_after_it(
    server: RunningServer, epoch: str | None, seq: int
) -> None:
    async with server.peer(hello=False) as peer:
        known = (await peer.hello())["epoch"]
        await tell(server, event(1), event(2))
        assert await numbers(peer, 2) == [1, 2]
        answer = await peer.ask("resume", "r", {"stream": "client", "epoch": epoch or known, "seq": seq})
        assert answer["data"] == {
            "stream": "client",
            "resumed": False,
            "head": 2,
            "snapshot": {"epoch": known, "seq": 2, "unread": 0, "task_count": 0},
        }
        await tell(server, event(3))
        assert await numbers(peer, 1) == [3]


async def test_a_snapshot_counts_the_clients_own_tasks_and_unread_notifications(server: RunningServer) -> None:
    async with server.peer(client_id="else", hello=False) as other:
        await other.hello(client_id="else")
        await other.ask("task_create", "t", {"title": "not theirs"})
    async with server.peer(hello=False) as peer:
        await peer.hello()
        for number in ("1", "2"):
            await peer.send("task_create", number, {"title": f"task {number}"})
            while (await peer.receive()).get("re") != number:
                pass
        counted = await snapshot(peer)
        # The client's own actions are no news to any of its devices.
        assert (counted["task_count"], counted["unread"]) == (2, 0)
        # Items that await the client's decision are, whoever asked for them.
        await peer.send("task_create", "a", {"title": "unsure", "confidence": 0.1})
        while (await peer.receive()).get("re") != "a":
            pass
        unread = (await snapshot(peer))["unread"]
        await peer.send("notification_read_all", "read")
        while (await peer.receive()).get("re") != "read":
            pass
        assert unread > 0
        assert (await snapshot(peer))["unread"] == 0


async def test_p4_resume_on_the_same_connection_tells_again_from_there(server: RunningServer) -> None:
    async with server.peer(hello=False) as peer:
        epoch = (await peer.hello())["epoch"]
        await tell(server, *(event(number) for number in range(1, 6)))
        assert await numbers(peer, 5) == [1, 2, 3, 4, 5]
        answer = await peer.ask("resume", "r", {"stream": "client", "epoch": epoch, "seq": 2})
        assert (answer["data"]["resumed"], answer["data"]["head"]) == (True, 5)
        assert await numbers(peer, 3) == [3, 4, 5]
        await tell(server, event(6))
        assert await numbers(peer, 1) == [6]


async def test_p4_events_told_while_the_directory_is_lost_come_all_the_same(server: RunningServer) -> None:
    async with server.peer() as peer:
        await tell(server, event(1))
        assert await numbers(peer, 1) == [1]
        crash(server.system, "connections/registry", RuntimeError("lost on purpose"))
        await tell(server, event(2), event(3))
        assert await numbers(peer, 2) == [2, 3]
        await tell(server, event(4))
        assert await numbers(peer, 1) == [4]


async def test_p6_acknowledgements_are_cumulative_and_never_beyond_what_was_sent(server: RunningServer) -> None:
    storage = Storage(server.system.reference("storage/writer"), server.system.reference("storage/readers"))
    device = Device(client_id="tester", device_id="default")
    async with server.peer() as peer:
        await tell(server, *(event(number) for number in range(1, 8)))
        await numbers(peer, 7)
        for seq in (5, 3, 4):
            await peer.send("ack", data={"stream": "client", "seq": seq})

        async def acknowledged() -> int | None:
            return await storage.read(READ_ACKNOWLEDGED, device)

        async def is_five() -> bool:
            return await acknowledged() == 5

        await eventually(is_five, what="the acknowledgement stored")
        await peer.send("ack", data={"stream": "client", "seq": 10_000})

        async def is_seven() -> bool:
            return await acknowledged() == 7

        await eventually(is_seven, what="the acknowledgement of what was sent stored")


async def test_a_subscription_leaves_out_and_the_next_frame_covers_it(server: RunningServer) -> None:
    async with server.peer() as peer:
        wanted = {"channels": ["tasks"], "min_priority": "medium"}
        assert (await peer.ask("subscribe", "s", wanted))["data"] == {**wanted, "batch_ms": 0}
        await tell(
            server,
            event(1),
            event(2, channel="ai"),
            event(3, priority=Priority.LOW),
            event(4, priority=Priority.CRITICAL),
        )
        frames = [await peer.receive(), await peer.receive()]
        assert [(frame.get("first_seq", frame["seq"]), frame["seq"]) for frame in frames] == [(1, 1), (2, 4)]
    # Stored per device: a new connection of it has it, another device does not.
    async with server.peer() as peer, server.peer(hello=False) as other:
        await other.hello(device_id="phone")
        await tell(server, event(5, channel="ai"), event(6))
        frame = await peer.receive()
        assert (frame["first_seq"], frame["seq"]) == (5, 6)
        assert await numbers(other, 2) == [5, 6]


async def test_a_pace_delays_and_drops_nothing_and_critical_never_waits(server: RunningServer) -> None:
    async with server.peer() as peer:
        await peer.ask("subscribe", "s", {"batch_ms": 60_000})
        await tell(server, event(1), event(2))
        await tell(server, event(3))
        assert (await peer.ask("ping", "p"))["type"] == "pong"  # and no event before it
        await tell(server, event(4, priority=Priority.CRITICAL))
        frame = await peer.receive()
        assert (frame["type"], frame["first_seq"], frame["seq"]) == ("events", 1, 4)
        assert [(one["type"], one["seq"], one["data"]["number"]) for one in frame["data"]["events"]] == [
            ("task_updated", number, number) for number in (1, 2, 3, 4)
        ]
        # Held events come when the device stops asking for a delay.
        await tell(server, event(5))
        await peer.send("subscribe", "s2", {})
        messages = [await peer.receive(), await peer.receive()]
        assert {one["type"] for one in messages} == {"result", "task_updated"}


@pytest.mark.parametrize("pace", [{}, {"batch_ms": 1}])
async def test_fr8_a_client_whose_next_event_the_log_has_forgotten_gets_the_rest_and_sees_the_gap(
    server: RunningServer, pace: dict[str, Any]
) -> None:
    """A client far behind is not cut: the frames show the gap, and a resume tells what to load."""
    async with server.peer() as peer:
        await tell(server, event(1))
        assert await numbers(peer, 1) == [1]
        await peer.ask("subscribe", "s", {"batch_ms": 60_000})
        await tell(server, *(event(number) for number in range(2, 7)))
        await forget_to(server, 4)
        await peer.send("subscribe", "s2", pace)
        frames: list[dict[str, Any]] = []
        while not {6, "s2"} <= {one.get("seq", one.get("re")) for one in frames}:
            frames.append(await peer.receive())
        first = next(one for one in frames if one.get("stream") == "client")
        assert first.get("first_seq", first["seq"]) == 5
        told = first["data"]["events"][0] if first["type"] == "events" else first
        assert told["data"]["number"] == 5
        # As a client does that noticed the gap.
        epoch = (await snapshot(peer))["epoch"]
        answer = await peer.ask("resume", "r", {"stream": "client", "epoch": epoch, "seq": 1})
        assert (answer["data"]["resumed"], answer["data"]["snapshot"]["seq"]) == (False, 6)
        await tell(server, event(7))
        assert await numbers(peer, 1) == [7]


async def test_presence_tells_every_connection_who_is_there(server: RunningServer) -> None:
    async with server.peer(hello=False) as one:
        welcome = await one.hello(device_id="desk")
        assert welcome["state"]["devices"] == {"devices": [{"device_id": "desk", "connections": 1}]}
        async with server.peer(hello=False) as two:
            both = [{"device_id": "desk", "connections": 1}, {"device_id": "phone", "connections": 1}]
            assert (await two.hello(device_id="phone"))["state"]["devices"] == {"devices": both}

            async def heard(devices: list[dict[str, Any]]) -> bool:
                await one.ask("ping", "p")
                states = [frame["data"] for frame in one.states if frame["type"] == "devices"]
                return bool(states) and states[-1] == {"devices": devices}

            await eventually(lambda: heard(both), what="both devices told")
        await eventually(lambda: heard(both[:1]), what="the one that left told")
        expected = 0
        for frame in one.states:
            assert frame.get("first_seq", frame["seq"]) == expected + 1
            expected = frame["seq"]


async def test_p10_a_17th_connection_of_one_client_is_refused_with_4429(tmp_path: Path) -> None:
    """If each of the others is the only one of its device."""
    async with running_server(tmp_path, wait=False, connections_per_client=2) as server:
        async with (
            server.peer(hello=False) as first,
            server.peer(hello=False) as second,
            server.peer(client_id="else"),
            server.peer(hello=False) as third,
        ):
            await first.hello(device_id="one")
            await second.hello(device_id="two")
            answer = await third.ask("hello", "h", {"client_id": "tester", "device_id": "three"})
            assert (answer["type"], answer["data"]["code"]) == ("error", "rate_limited")
            assert answer["data"]["retry_after_ms"] > 0
            assert await third.close_code() == 4429
            assert (await first.ask("ping", "p"))["type"] == (await second.ask("ping", "p"))["type"] == "pong"
        await eventually(lambda: not server.connections())
        async with server.peer():
            await trio.lowlevel.checkpoint()


async def test_fr7_the_newest_connection_of_a_device_takes_the_place_of_its_oldest(tmp_path: Path) -> None:
    """A phone whose network was cut reconnects, though its old connections look alive to the server."""
    async with running_server(tmp_path, wait=False, connections_per_client=3) as server, AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(server.peer(hello=False)) for _ in range(7)]
        await peers[0].hello(device_id="desk")
        for peer in peers[1:6]:
            await peer.hello(device_id="phone")
        codes = [await peer.close_code() for peer in peers[1:4]]
        assert codes == [4409, 4409, 4409], "the oldest of the phone, one after the other"
        for peer in (peers[0], peers[4], peers[5]):
            assert (await peer.ask("ping", "p"))["type"] == "pong"
        welcome = await peers[6].hello(device_id="watch")
        devices = [{"device_id": name, "connections": 1} for name in ("desk", "phone", "watch")]
        assert welcome["state"]["devices"] == {"devices": devices}, "a new device takes one from whoever has most"
        assert await peers[4].close_code() == 4409


async def test_fr7_an_answer_of_a_connection_that_was_displaced_goes_on(tmp_path: Path) -> None:
    async with running_server(tmp_path, connections_per_client=1, mock_step_seconds=0.002) as server:
        async with server.peer() as old, server.peer(hello=False) as new:
            question = {"prompt": "count to 200", "max_tokens": 2000}
            assert (await old.ask("generate", "g", question))["type"] == "accepted"
            await new.hello()
            assert await old.close_code() == 4409
            assert (await new.ask("generate", "g", question))["type"] == "accepted"
            events = await new.stream("g")
        assert events[-1]["type"] == "done"
        assert "".join(one["data"]["text"] for one in events[:-1]) == count_to(200)


async def test_a_subscription_set_over_rest_holds_at_once_and_is_read_back(server: RunningServer) -> None:
    async with server.peer(client_id="local") as peer, server.http() as http:
        answer = await http.put("/subscriptions/default", json={"channels": ["ai"]})
        assert (answer.status_code, answer.json()) == (
            200,
            {"channels": ["ai"], "min_priority": "debug", "batch_ms": 0},
        )
        assert (await http.get("/subscriptions/default")).json() == answer.json()
        assert (await http.get("/subscriptions/phone")).json() == {"min_priority": "debug", "batch_ms": 0}
        await tell(server, event(1), event(2, channel="ai"), client_id="local")
        frame = await peer.receive()
        assert (frame["first_seq"], frame["seq"]) == (1, 2)
        wrong = await http.put("/subscriptions/default", json={"channels": ["weather"]})
        assert (wrong.status_code, wrong.json()["field"]) == (422, "body.channels[0]")
        assert (await http.get("/subscriptions/-bad")).json()["field"] == "path.device_id"
