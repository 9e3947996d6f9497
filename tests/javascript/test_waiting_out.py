"""The JavaScript client waits an outage out, and repeats nothing that may be done twice: in Node, scripted."""

from __future__ import annotations

from typing import Any

import pytest

from protocol.commands import COMMANDS
from tests.javascript.test_javascript_client import play
from tests.protocol.scripted_server import Peer, Script, echoes, scripted_listener

pytestmark = [pytest.mark.websocket, pytest.mark.integration]

TEN_MINUTES_MS = 660_000
WAITING = 4096


CHANGING = {"actor_restart", "actor_suspend", "actor_resume", "engine_kill", "token_create", "token_revoke"}
"""Of operators' commands, which are sent once: those that change something."""


async def sent_away_for_minutes(peer: Peer) -> None:
    await peer.welcome()
    await peer.say(type="going_away", data={"retry_after_ms": 250_000})
    await peer.close(1012)


async def test_cl3_a_machine_that_wakes_tries_at_once_and_tries_on() -> None:
    """The first attempt comes before the network does."""
    async with scripted_listener(sent_away_for_minutes, None, None, echoes) as (url, server):
        result = await play("node", "sleeps", url, TEN_MINUTES_MS)
    assert (result["made"], result["ping"], result["failed"]) == (7, 8, None)
    assert len(server.attempts) == 4
    assert result["waitedMs"] < 30_000


async def test_cl3_a_connection_that_died_during_a_sleep_is_left() -> None:
    async def falls_silent(peer: Peer) -> None:
        await peer.welcome()
        await peer.say(type="going_away", data={})
        await peer.linger()

    async with scripted_listener(falls_silent, echoes) as (url, server):
        result = await play("node", "sleeps", url, TEN_MINUTES_MS, {"at": "going_away"})
    assert (result["made"], len(server.attempts)) == (7, 2)


async def test_cl2_a_limit_ends_the_attempts_where_a_program_wants_one() -> None:
    async def first(peer: Peer) -> None:
        await peer.welcome()
        await peer.cut()

    async with scripted_listener(first, None) as (url, server):
        result = await play("node", "endsBy", url, {"giveUpMs": 1500})
    assert result["failed"]["name"] == "Disconnected"
    assert result["states"][-1] == "ended"
    assert len(server.attempts) > 2


@pytest.mark.parametrize(
    ("slept_ms", "is_repeated", "is_known"),
    [(300_000, True, False), (TEN_MINUTES_MS, False, False), (TEN_MINUTES_MS, False, True)],
)
async def test_cl6_after_a_sleep_a_command_is_repeated_only_while_the_server_remembers_it(
    slept_ms: int, is_repeated: bool, is_known: bool
) -> None:
    kinds: list[str] = []

    async def first(peer: Peer) -> None:
        await peer.welcome()
        await peer.receive("task_create")
        await peer.cut()

    async def second(peer: Peer) -> None:
        await peer.welcome(limits={"command_memory_seconds": 600})
        while True:
            message = await peer.receive()
            if message["type"] != "ping":
                kinds.append(message["type"] + " known" * ("only_if_known" in message))
            if "only_if_known" in message and not is_known:
                error = {"code": "conflict", "message": "unknown", "temporary": False, "field": "only_if_known"}
                await peer.say(type="error", re=message["id"], data=error)
                continue
            await peer.say(type="result", re=message["id"], data=message["data"])

    async with scripted_listener(first, second) as (url, _):
        options: dict[str, Any] = {"kind": "task_create", "data": {"title": "t"}}
        result = await play("node", "sleeps", url, slept_ms, options)
    assert result["ping"] == 8
    if is_repeated:
        assert (result["made"], kinds) == ({"title": "t"}, ["task_create"])
    elif is_known:
        assert (result["made"], kinds) == ({"title": "t"}, ["task_create known"])
    else:
        assert (result["failed"]["name"], kinds) == ("OutcomeUnknown", ["task_create known"])
        assert "may have been carried out" in result["failed"]["message"]


async def test_uo_a_command_that_is_put_off_when_it_comes_again_may_have_been_carried_out_before() -> None:
    async def cut(peer: Peer) -> None:
        await peer.welcome()
        await peer.receive("task_create")
        await peer.cut()

    async def put_off(peer: Peer) -> None:
        await peer.welcome()
        message = await peer.receive("task_create")
        error = {"code": "unavailable", "message": "the disk is full", "temporary": True}
        await peer.say(type="error", re=message["id"], data=error)
        message = await peer.receive("ping")
        await peer.say(type="pong", re=message["id"], data=message["data"])
        await peer.linger()

    async with scripted_listener(cut, put_off) as (url, _):
        options: dict[str, Any] = {"kind": "task_create", "data": {"title": "t"}}
        result = await play("node", "sleeps", url, 0, options)
    assert result["failed"]["name"] == "OutcomeUnknown"
    assert "the disk is full" in result["failed"]["message"]
    assert result["ping"] == 8


async def test_cl6_it_knows_which_commands_change_nothing() -> None:
    assert set(await play("node", "reads")) == {
        name for name, one in COMMANDS.items() if not one.writes and name not in CHANGING
    }


async def test_cl4_a_welcome_that_leads_nowhere_does_not_begin_the_back_off_again() -> None:
    async def cuts(peer: Peer) -> None:
        await peer.welcome()
        await peer.receive("task_bulk")
        await peer.close(4008)

    async with scripted_listener(cuts) as (url, server):
        result = await play("node", "endsBy", url, {"kind": "task_bulk", "giveUpMs": 4000})
    assert result["failed"]["name"] == "OutcomeUnknown"
    assert result["states"][-1] == "ended"
    assert len(server.attempts) < 25


def refuses(code: int, error: dict[str, Any] | None) -> Script:
    async def script(peer: Peer) -> None:
        hello = await peer.receive("hello")
        if error is not None:
            await peer.say(type="error", re=hello["id"], data=error)
        await peer.close(code)
        await peer.linger()

    return script


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (4401, {"code": "unauthorized", "message": "the token was revoked", "temporary": False}),
        (4403, {"code": "forbidden", "message": "no such client", "temporary": False}),
        (4400, None),
    ],
)
async def test_cl5_what_is_refused_for_good_ends_at_once_with_a_sentence(
    code: int, error: dict[str, Any] | None
) -> None:
    async def first(peer: Peer) -> None:
        await peer.welcome()
        await peer.cut()

    async with scripted_listener(first, refuses(code, error)) as (url, server):
        result = await play("node", "endsBy", url)
    assert result["failed"]["name"] == "Refused"
    assert f"refuses this client: {error['message'] if error else 'scripted'}" in result["failed"]["message"]
    assert len(server.attempts) == 2


async def test_cl7_what_waits_is_bounded_and_nothing_is_lost() -> None:
    resumed: list[int] = []
    head, pieces = WAITING + 500, [f"{number} " for number in range(WAITING + 300)]

    async def tell(peer: Peer, first: int) -> None:
        for seq in range(first, head + 1):
            await peer.say(type="noted", stream="client", seq=seq, data={"event_id": f"id-{seq}"})

    async def script(peer: Peer) -> None:
        await peer.welcome([{"stream": "client", "resumed": False, "head": 0, "snapshot": {"seq": 0}}])
        await peer.accept()
        await peer.tokens(*pieces)
        await peer.done(len(pieces) + 1)
        await tell(peer, 1)
        ping = await peer.receive("ping")
        await peer.say(type="pong", re=ping["id"], data=ping["data"])
        resume: dict[str, Any] = {}
        while resume.get("type") != "resume":
            resume = await peer.receive()
        resumed.append(resume["data"]["seq"])
        await peer.say(type="result", re=resume["id"], data={"resumed": True, "head": head})
        await tell(peer, resume["data"]["seq"] + 1)
        await peer.linger()

    async with scripted_listener(script) as (url, _):
        result = await play("node", "readsLate", url, head + 1)
    assert result["ping"] == 1
    # The snapshot of the beginning waits, too.
    assert resumed == [WAITING - 1]
    assert (result["text"], result["count"]) == ("".join(pieces), WAITING)
    assert result["seqs"] == list(range(head + 1))
    assert (result["refused"], result["others"]) == ("overloaded", "Disconnected")
