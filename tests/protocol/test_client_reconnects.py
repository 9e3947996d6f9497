"""The Python client comes back and goes on: in virtual time, against a server that cuts, repeats, loses and closes."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from protocol.client import Backoff, Change, ClientEvent, CommandFailed, Disconnected, Snapshot, connect
from protocol.client.reconnecting import comes_back
from protocol.commands import Assist, Cancel, Generate, Intent
from protocol.errors import CLOSE_CODES
from protocol.server_messages import SERVER_MESSAGES
from tests.protocol.scripted_server import Peer, scripted

URL = "ws://scripted/ws"
CHANNEL = {"channel": "tasks", "priority": "low"}


async def echoes(peer: Peer) -> None:
    """A server that answers pings for ever."""
    await peer.welcome()
    while True:
        message = await peer.receive()
        await peer.say(type="pong", re=message["id"], data=message.get("data"))


# --- answers ------------------------------------------------------------------------------------------


async def test_p4_an_answer_goes_on_where_it_was_cut(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def first(peer: Peer) -> None:
        await peer.welcome()
        await peer.accept()
        await peer.tokens("a", "b")
        await peer.cut()

    async def second(peer: Peer) -> None:
        hello = await peer.welcome()
        assert hello["resume"] == [{"stream": "g-1", "epoch": "e-1", "seq": 2}]
        await peer.say(type="token", stream="g-1", first_seq=3, seq=5, data={"text": "cde", "index": 4})
        await peer.done(6)
        await peer.linger()

    async with (
        scripted(monkeypatch, first, second) as server,
        connect(URL, client_id="me", reconnect=True) as client,
        client.generate(Generate(prompt="x")) as answer,
    ):
        assert await answer.text() == "abcde"
        assert answer.done == {"finish_reason": "stop"}
        assert len(server.attempts) == 2


async def test_p4_an_answer_whose_events_are_gone_goes_on_from_the_snapshot(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def first(peer: Peer) -> None:
        await peer.welcome()
        await peer.accept()
        await peer.tokens("a", "b")
        await peer.cut()

    async def second(peer: Peer) -> None:
        snapshot = {"seq": 7, "text": "abcd", "state": "running"}
        await peer.welcome([{"stream": "g-1", "resumed": False, "head": 7, "snapshot": snapshot}])
        await peer.tokens("e", after=7)
        await peer.done(9)
        await peer.linger()

    async with (
        scripted(monkeypatch, first, second),
        connect(URL, client_id="me", reconnect=True) as client,
        client.generate(Generate(prompt="x")) as answer,
    ):
        assert await answer.text() == "abcde"


async def test_p4_an_answer_that_a_restarted_server_makes_again_is_not_told_twice(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def first(peer: Peer) -> None:
        await peer.welcome()
        await peer.accept()
        await peer.tokens("ab", "cd")
        await peer.cut()

    async def second(peer: Peer) -> None:
        snapshot = {"seq": 1, "text": "a", "state": "running"}
        await peer.welcome([{"stream": "g-1", "resumed": False, "head": 1, "snapshot": snapshot}])
        await peer.tokens("b", "cde", after=1)
        await peer.done(4)
        await peer.linger()

    async with (
        scripted(monkeypatch, first, second),
        connect(URL, client_id="me", reconnect=True) as client,
        client.generate(Generate(prompt="x")) as answer,
    ):
        assert [piece async for piece in answer] == ["ab", "cd", "e"]


async def test_p4_an_answer_that_a_restarted_server_makes_differently_is_lost(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def first(peer: Peer) -> None:
        await peer.welcome()
        await peer.accept()
        await peer.tokens("ab")
        await peer.cut()

    async def second(peer: Peer) -> None:
        await peer.welcome([{"stream": "g-1", "resumed": False, "head": 0, "snapshot": {"seq": 0, "text": ""}}])
        await peer.tokens("a")
        await peer.done(2)
        await peer.linger()

    async with (
        scripted(monkeypatch, first, second),
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
    async def first(peer: Peer) -> None:
        await peer.welcome()
        await peer.accept()
        await peer.tokens("a", "b")
        await peer.cut()

    async def second(peer: Peer) -> None:
        told = {"stream": "g-1", "resumed": False, "head": 0}
        await peer.welcome([told if snapshot is None else {**told, "snapshot": snapshot}])
        await peer.linger()

    async with (
        scripted(monkeypatch, first, second),
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


async def test_detach_is_asked_for_where_the_program_wants_it(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        for kind in ("generate", "assist"):
            command = await peer.accept(kind, stream=kind)
            assert command["data"]["on_disconnect"] == "detach"
            await peer.done(1, stream=kind)
        await peer.linger()

    async with scripted(monkeypatch, script), connect(URL, client_id="me", detach=True) as client:
        for command in (Generate(prompt="x"), Assist(intent=Intent.EXPLAIN, content="x")):
            async with client.generate(command) as answer:
                assert await answer.text() == ""


async def test_leaving_while_nothing_answers_takes_two_seconds_at_most(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def first(peer: Peer) -> None:
        await peer.welcome()
        await peer.accept()
        await peer.tokens("a")
        await peer.cut()

    async with scripted(monkeypatch, first, None), connect(URL, client_id="me", reconnect=True) as client:
        async with client.generate(Generate(prompt="x")) as answer:
            assert await anext(answer) == "a"
            left_at = trio.current_time()
        assert trio.current_time() - left_at <= 2.0


async def test_a_program_that_leaves_before_the_command_is_accepted_cancels_it(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancelled = trio.Event()

    async def script(peer: Peer) -> None:
        await peer.welcome()
        command = await peer.receive("generate")
        cancel = await peer.receive("cancel")
        assert cancel["data"] == {"target": command["id"]}
        cancelled.set()
        await peer.linger()

    async with scripted(monkeypatch, script), connect(URL, client_id="me") as client:
        with trio.move_on_after(1):
            async with client.generate(Generate(prompt="x")):
                raise AssertionError("it was never accepted")
        await cancelled.wait()


# --- commands -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["generate", "task_create"])
async def test_p2_a_command_whose_answer_was_lost_is_sent_again_with_its_id_and_data(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    received: list[dict[str, Any]] = []

    async def first(peer: Peer) -> None:
        await peer.welcome()
        received.append(await peer.receive(kind))
        await peer.cut()

    async def second(peer: Peer) -> None:
        await peer.welcome()
        if kind == "generate":
            received.append(await peer.accept())
            await peer.tokens("a")
            await peer.done(2)
        else:
            received.append(await peer.receive(kind))
            await peer.say(type="result", re=received[-1]["id"], data={"task": 1})
        await peer.linger()

    async with scripted(monkeypatch, first, second), connect(URL, client_id="me", reconnect=True) as client:
        if kind == "generate":
            async with client.generate(Generate(prompt="x")) as answer:
                assert await answer.text() == "a"
        else:
            assert (await client.command(kind, {"title": "t"}))["data"] == {"task": 1}
    assert len(received) == 2
    assert received[0] == received[1]


async def test_a_command_that_was_answered_is_not_sent_again(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def first(peer: Peer) -> None:
        await peer.welcome()
        ping = await peer.receive("ping")
        await peer.say(type="pong", re=ping["id"], data=1)
        await peer.cut()

    later: list[Any] = []

    async def second(peer: Peer) -> None:
        await peer.welcome()
        ping = await peer.receive()
        later.append(ping["data"])
        await peer.say(type="pong", re=ping["id"], data=ping["data"])
        await peer.linger()

    async with scripted(monkeypatch, first, second), connect(URL, client_id="me", reconnect=True) as client:
        assert await client.ping(1) == 1
        assert await client.ping(2) == 2
    assert later == [2]


async def test_ids_differ_between_two_runs_of_a_program(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids: list[str] = []

    async def script(peer: Peer) -> None:
        await peer.welcome()
        ping = await peer.receive("ping")
        ids.append(ping["id"])
        await peer.say(type="pong", re=ping["id"], data=None)
        await peer.linger()

    for _ in range(2):
        async with scripted(monkeypatch, script), connect(URL, client_id="me") as client:
            await client.ping()
    assert len(set(ids)) == 2


async def test_p14_commands_and_results_are_objects_for_those_who_like(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        command = await peer.receive("cancel")
        assert command["data"] == {"target": "7"}
        await peer.say(type="result", re=command["id"], data={"cancelled": True})
        await peer.linger()

    async with scripted(monkeypatch, script), connect(URL, client_id="me") as client:
        assert await client.ask(Cancel("7")) == {"cancelled": True}
        with pytest.raises(KeyError):
            await client.ask("cancel")


# --- coming back --------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [*map(int, CLOSE_CODES), 1000, 1002, 4999])
async def test_p12_every_close_code_says_whether_the_client_comes_back(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    async def first(peer: Peer) -> None:
        await peer.welcome()
        await peer.close(code)

    expected = code in {1001, 1012, 1011, 4008, 4408, 4429}
    assert comes_back(code) is expected
    async with scripted(monkeypatch, first, echoes) as server, connect(URL, client_id="me", reconnect=True) as client:
        if expected:
            assert await client.ping(1) == 1
        else:
            with pytest.raises(Disconnected) as caught:
                await client.ping(1)
            assert caught.value.code == code
        assert len(server.attempts) == 1 + expected


async def test_p16_the_servers_hint_wins_over_the_back_off(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def first(peer: Peer) -> None:
        await peer.welcome()
        await peer.say(type="going_away", data={"retry_after_ms": 3210})
        await peer.close(1012)

    changes: list[Change] = []
    async with (
        scripted(monkeypatch, first, echoes) as server,
        connect(URL, client_id="me", reconnect=True, on_change=changes.append) as client,
    ):
        assert await client.ping(1) == 1
        assert server.attempts == [0.0, pytest.approx(3.21)]
        assert client.going_away is None
    assert [one.state for one in changes] == ["connected", "going_away", "disconnected", "connected", "ended"]
    assert [one.delay_seconds for one in changes[1:3]] == [3.21, 3.21]


def test_the_back_off_has_full_jitter_doubles_and_is_capped() -> None:
    backoff = Backoff()
    highest = [backoff.delay_seconds(attempt, uniform=lambda low, high: high) for attempt in range(9)]
    assert highest == [0.25, 0.5, 1, 2, 4, 8, 10, 10, 10]
    assert [backoff.delay_seconds(attempt, uniform=lambda low, high: low) for attempt in range(9)] == [0] * 9
    assert backoff.delay_seconds(10_000) <= 10
    assert backoff.delay_seconds(5, hint_ms=0) == 0


async def test_a_server_that_never_comes_back_is_given_up_after_two_minutes(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def first(peer: Peer) -> None:
        await peer.welcome()
        await peer.accept()
        await peer.cut()

    async with scripted(monkeypatch, first, None) as server, connect(URL, client_id="me", reconnect=True) as client:
        async with client.generate(Generate(prompt="x")) as answer:
            with pytest.raises(Disconnected, match="nobody listens"):
                await answer.text()
            with pytest.raises(Disconnected):
                await client.ping()
        assert 100 < server.attempts[-1] <= 120
        waits = [later - earlier for earlier, later in zip(server.attempts[1:], server.attempts[2:], strict=False)]
        assert max(waits) <= 10


async def test_a_hello_that_is_refused_on_coming_back_ends_the_session(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def first(peer: Peer) -> None:
        await peer.welcome()
        await peer.cut()

    async def second(peer: Peer) -> None:
        hello = await peer.receive("hello")
        error = {"code": "unauthorized", "message": "the token was revoked", "temporary": False}
        await peer.say(type="error", re=hello["id"], data=error)
        await peer.close(4401)

    async with scripted(monkeypatch, first, second) as server, connect(URL, client_id="me", reconnect=True) as client:
        with pytest.raises(Disconnected, match="the token was revoked"):
            await client.ping()
        assert len(server.attempts) == 2


async def test_p11_a_server_that_falls_silent_is_left_after_45_seconds(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def first(peer: Peer) -> None:
        await peer.welcome()
        await trio.sleep_forever()

    changes: list[Change] = []
    has_left = trio.Event()

    def note(change: Change) -> None:
        changes.append(change)
        if change.state == "disconnected":
            has_left.set()

    async with (
        scripted(monkeypatch, first, echoes) as server,
        connect(URL, client_id="me", reconnect=True, on_change=note) as client,
    ):
        await has_left.wait()
        assert await client.ping(1) == 1
        assert 45 <= server.attempts[1] <= 46
        assert str(changes[1].cause) == "the connection ended (None: nothing heard for 45 seconds)"


@pytest.mark.parametrize("text", ["nonsense", "[]", '{"seq": 1}', '{"type": 5}'])
async def test_a_server_that_speaks_something_else_is_left(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.websocket.send_message(text)
        await peer.linger()

    async with scripted(monkeypatch, script), connect(URL, client_id="me") as client:
        with pytest.raises(Disconnected, match="no message of this protocol"):
            await client.ping()


KNOWN_TYPES = sorted(SERVER_MESSAGES)
JSON_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 9), st.text(max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2),
        st.dictionaries(
            st.sampled_from(["text", "stream", "events", "code", "retry_after_ms", "x"]), inner, max_size=3
        ),
    ),
    max_leaves=4,
)
ENVELOPES = st.fixed_dictionaries(
    {"type": st.sampled_from(KNOWN_TYPES)},
    optional={
        "re": st.one_of(st.just("RE"), JSON_VALUES),
        "stream": st.one_of(st.just("g-1"), st.just("client"), JSON_VALUES),
        "seq": st.integers(-1, 4) | JSON_VALUES,
        "first_seq": st.integers(-1, 4) | JSON_VALUES,
        "data": JSON_VALUES,
    },
)


@settings(max_examples=60, deadline=None)
@given(st.lists(ENVELOPES, max_size=5))
@example([{"type": "failed", "stream": "g-1", "seq": 1, "data": None}])
@example([{"type": "token", "stream": "g-1", "seq": 1, "data": {"text": 5}}])
@example([{"type": "done", "stream": "g-1", "seq": 1, "data": []}])
@example([{"type": "task_created", "stream": "client", "seq": 1, "data": 5}])
@example([{"type": "error", "re": "RE", "data": []}])
@example([{"type": "error"}])
@example([{"type": "going_away", "data": {"retry_after_ms": "soon"}}])
def test_nothing_that_a_server_sends_comes_out_as_anything_but_a_failure_of_the_connection(
    messages: list[dict[str, Any]],
) -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        command = await peer.accept()
        for message in messages:
            if message.get("re") == "RE":
                message["re"] = command["id"]
            await peer.say(**message)
        await peer.close(1011)

    async def main(monkeypatch: pytest.MonkeyPatch) -> None:
        async with scripted(monkeypatch, script), connect(URL, client_id="me", events=True) as client:
            with suppress(CommandFailed, Disconnected):
                async with client.generate(Generate(prompt="x")) as answer:
                    await answer.text()
            with suppress(Disconnected):
                for _ in range(100):
                    await client.ping()
                pytest.fail("the connection has not ended")

    with pytest.MonkeyPatch.context() as monkeypatch:
        trio.run(main, monkeypatch, clock=MockClock(autojump_threshold=0))


# --- durable events -----------------------------------------------------------------------------------


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


async def test_the_first_hello_is_not_retried(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(peer: Peer) -> None:
        hello = await peer.receive("hello")
        await peer.say(type="error", re=hello["id"], data={"code": "overloaded", "message": "no", "temporary": True})
        await peer.linger()

    async with scripted(monkeypatch, refuse) as server:
        with pytest.raises(CommandFailed):
            async with connect(URL, client_id="me", reconnect=True):
                raise AssertionError("unreachable")
        assert len(server.attempts) == 1
