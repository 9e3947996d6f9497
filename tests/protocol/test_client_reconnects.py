"""The Python client comes back when it should, after how long, and not for ever: in virtual time."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from protocol.client import Backoff, Change, CommandFailed, Disconnected, connect
from protocol.client.reconnecting import comes_back
from protocol.commands import Generate
from protocol.errors import CLOSE_CODES
from tests.protocol.scripted_server import Peer, echoes, scripted

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
