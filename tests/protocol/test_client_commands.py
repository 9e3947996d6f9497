"""Commands of the Python client go out once or again with the same id, and end with the program that gave them."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from protocol.client import connect
from protocol.commands import Assist, Cancel, Generate, Intent
from tests.protocol.scripted_server import Peer, cut_after, scripted

URL = "ws://scripted/ws"


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
    async with scripted(monkeypatch, cut_after("a"), None), connect(URL, client_id="me", reconnect=True) as client:
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
