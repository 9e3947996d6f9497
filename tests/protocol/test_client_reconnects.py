"""The Python client reconnects under the right conditions, with the right delays, and not indefinitely: in virtual time."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from protocol.client import Backoff, Change, CommandFailed, Disconnected, OutcomeUnknown, Refused, connect, sleeping
from protocol.client.reconnecting import Retries, comes_back
from protocol.client.sleeping import ClockMarks, read_marks, slept_seconds
from protocol.commands import Generate
from protocol.errors import CLOSE_CODES
from tests.protocol.scripted_server import Peer, echoes, goes_on_from, scripted

URL = "ws://scripted/ws"


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


async def cut_in_an_answer(peer: Peer) -> None:
    await peer.welcome()
    await peer.accept()
    await peer.cut()


async def test_cl1_a_server_that_is_away_for_a_day_is_tried_until_it_is_back(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: list[Change] = []
    goes_on = goes_on_from({"seq": 0, "text": "", "state": "running"}, "whole")
    never = [None] * 9000
    async with (
        scripted(monkeypatch, cut_in_an_answer, *never, goes_on) as server,
        connect(URL, client_id="me", reconnect=True, on_change=changes.append) as client,
        client.generate(Generate(prompt="x")) as answer,
    ):
        assert await answer.text() == "whole"
    waits = [later - earlier for earlier, later in zip(server.attempts[1:], server.attempts[2:], strict=False)]
    assert server.attempts[-1] > 30_000
    assert max(waits) <= 10
    told = [one.delay_seconds for one in changes if one.state == "disconnected"]
    assert len(told) == len(never) + 1
    assert None not in told
    assert [one.state for one in changes if one.state != "disconnected"] == ["connected", "connected", "ended"]


async def test_cl2_a_limit_ends_the_attempts_where_a_program_wants_one(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        scripted(monkeypatch, cut_in_an_answer, None) as server,
        connect(URL, client_id="me", reconnect=True, give_up_seconds=120) as client,
    ):
        async with client.generate(Generate(prompt="x")) as answer:
            with pytest.raises(Disconnected, match="nobody listens"):
                await answer.text()
            with pytest.raises(Disconnected):
                await client.ping()
        assert 100 < server.attempts[-1] <= 120


class Sleep:
    """A machine that sleeps when a test says so: its marks move, Trio's clock does not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.slept = 0.0
        monkeypatch.setattr(sleeping, "read_marks", lambda: ClockMarks(boot=self.slept, wall=0.0))


async def test_cl3_a_machine_that_wakes_tries_at_once(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleep = Sleep(monkeypatch)

    async def says_when(peer: Peer) -> None:
        await peer.welcome()
        await peer.say(type="going_away", data={"retry_after_ms": 250_000})
        await peer.close(1012)

    async with (
        scripted(monkeypatch, says_when, echoes) as server,
        connect(URL, client_id="me", reconnect=True, give_up_seconds=300) as client,
    ):
        await trio.sleep(100)
        assert server.attempts == [0.0]
        sleep.slept += 3600
        await client.until_connected()
        assert 100 <= server.attempts[1] <= 102
        assert await client.ping(1) == 1


async def test_cl3_a_connection_that_died_during_a_sleep_is_noticed_in_seconds(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def falls_silent(peer: Peer) -> None:
        await peer.welcome()
        await trio.sleep_forever()

    sleep = Sleep(monkeypatch)
    changes: list[Change] = []
    async with (
        scripted(monkeypatch, falls_silent, echoes) as server,
        connect(URL, client_id="me", reconnect=True, on_change=changes.append) as client,
    ):
        await trio.sleep(3)
        sleep.slept += 3600
        assert await client.ping(1) == 1
        assert server.attempts[1] < 10
    assert "nothing heard since this machine woke" in str(changes[1].cause)


async def test_cl3_a_connection_that_is_sound_outlives_a_sleep(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleep = Sleep(monkeypatch)
    async with scripted(monkeypatch, echoes) as server, connect(URL, client_id="me", reconnect=True) as client:
        sleep.slept += 3600
        await trio.sleep(30)
        assert await client.ping(1) == 1
        assert len(server.attempts) == 1


def test_cl3_sleep_is_seen_by_either_clock_that_runs_on_and_small_steps_are_not() -> None:
    begin = ClockMarks(boot=5.0, wall=100.0)
    assert slept_seconds(begin, ClockMarks(boot=605.0, wall=100.0)) == 600
    assert slept_seconds(begin, ClockMarks(boot=5.0, wall=760.0)) == 660
    assert slept_seconds(begin, ClockMarks(boot=6.0, wall=101.0)) == 0
    assert slept_seconds(begin, ClockMarks(boot=5.0, wall=-9000.0)) == 0
    assert slept_seconds(read_marks(), read_marks()) == 0


async def test_cl4_a_welcome_that_leads_nowhere_does_not_begin_the_back_off_again(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command whose answer cannot be sent: carried out, then cut as too slow, each time."""

    async def cuts(peer: Peer) -> None:
        await peer.welcome()
        await peer.receive("task_bulk")
        await peer.close(4008)

    async with (
        scripted(monkeypatch, cuts) as server,
        connect(URL, client_id="me", reconnect=True) as client,
    ):
        with pytest.raises(OutcomeUnknown, match="may have been carried out"):
            await client.command("task_bulk", {})
        assert len(server.attempts) < 40


async def test_cl4_a_connection_that_was_of_use_begins_the_back_off_again(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answers_one(peer: Peer) -> None:
        await peer.welcome()
        ping = await peer.receive("ping")
        await peer.say(type="pong", re=ping["id"], data=1)
        await peer.cut()

    async with scripted(monkeypatch, answers_one) as server, connect(URL, client_id="me", reconnect=True) as client:
        for _ in range(40):
            await client.ping()
        waits = [later - earlier for earlier, later in zip(server.attempts, server.attempts[1:], strict=False)]
        assert max(waits) <= 0.25


def test_cl4_a_connection_that_lived_was_of_use_though_nothing_was_asked() -> None:
    retries = Retries(backoff=Backoff(), failing_since=0.0)
    highest = partial(retries.delay_seconds, uniform=lambda low, high: high)
    assert [highest(0.0) for _ in range(4)] == [0.25, 0.5, 1, 2]
    retries.welcomed(1.0)
    assert highest(2.0) == 4
    retries.welcomed(10.0)
    assert highest(20.0) == 0.25


@pytest.mark.parametrize(
    ("data", "code", "said"),
    [
        ({"code": "unauthorized", "message": "the token was revoked", "temporary": False}, 4401, "the token was revok"),
        ({"code": "forbidden", "message": "no such client", "temporary": False}, 4403, "no such client"),
        ({"code": "invalid_field", "message": "no version 9", "temporary": False}, None, "no version 9"),
        (None, 4401, "scripted"),
        (None, 4403, "scripted"),
        (None, 4400, "scripted"),
    ],
)
async def test_cl5_what_is_refused_for_good_ends_at_once_with_a_sentence(
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    data: dict[str, Any] | None,
    code: int | None,
    said: str,
) -> None:
    async def first(peer: Peer) -> None:
        await peer.welcome()
        await peer.cut()

    async def second(peer: Peer) -> None:
        hello = await peer.receive("hello")
        if data is not None:
            await peer.say(type="error", re=hello["id"], data=data)
        if code is not None:
            await peer.close(code)
        await peer.linger()

    async with scripted(monkeypatch, first, second) as server, connect(URL, client_id="me", reconnect=True) as client:
        with pytest.raises(Refused, match=f"the server refuses this client: {said}"):
            await client.ping()
        assert len(server.attempts) == 2


@pytest.mark.parametrize(("status", "is_for_good"), [(401, True), (403, True), (426, True), (404, False), (503, False)])
async def test_cl5_a_handshake_that_is_refused_for_good_ends_at_once(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, status: int, is_for_good: bool
) -> None:
    async def first(peer: Peer) -> None:
        await peer.welcome()
        await peer.cut()

    async with (
        scripted(monkeypatch, first, status, echoes) as server,
        connect(URL, client_id="me", reconnect=True) as client,
    ):
        if is_for_good:
            with pytest.raises(Refused, match=str(status)):
                await client.ping()
        else:
            assert await client.ping(1) == 1
        assert len(server.attempts) == 3 - is_for_good


@pytest.mark.parametrize("code", [1013, 1014])
def test_what_a_proxy_says_while_the_server_is_away_is_no_end(code: int) -> None:
    assert comes_back(code)


def test_a_hint_is_believed_up_to_five_minutes() -> None:
    assert Backoff().delay_seconds(0, hint_ms=1e300) == 300
    assert Backoff().delay_seconds(0, hint_ms=float("inf")) == 300
    assert Backoff().delay_seconds(0, hint_ms=-5) == 0


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
        assert str(changes[1].cause) == "the connection ended: nothing heard for 45 seconds"


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
