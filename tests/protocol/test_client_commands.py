"""Commands of the Python client go out once or again with the same id, and end with the program that gave them."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from protocol.client import CommandFailed, Disconnected, OutcomeUnknown, connect, sleeping
from protocol.client.pending import PENDING_COMMANDS
from protocol.client.sleeping import ClockMarks
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


class Asleep:
    """Lets the machine sleep when a test says so: its marks move, Trio's clock does not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds = 0.0
        monkeypatch.setattr(sleeping, "read_marks", lambda: ClockMarks(boot=self.seconds, wall=0.0))


@pytest.mark.parametrize(
    ("memory", "slept", "is_repeated"),
    [(600, 500, True), (600, 660, False), (60, 90, False), (3600, 1800, True), (None, 660, False), ("x", 660, False)],
)
async def test_cl6_after_a_sleep_a_command_is_repeated_only_while_the_server_remembers_it(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, memory: object, slept: float, is_repeated: bool
) -> None:
    asleep = Asleep(monkeypatch)
    kinds: list[str] = []
    asked: list[dict[str, Any]] = []

    async def first(peer: Peer) -> None:
        await peer.welcome()
        asked.append(await peer.receive("task_create"))
        asleep.seconds += slept
        await peer.cut()

    async def second(peer: Peer) -> None:
        await peer.welcome(limits={} if memory is None else {"command_memory_seconds": memory})
        while True:
            message = await peer.receive()
            if message.get("only_if_known"):
                asked.append(message)
                data = {"code": "conflict", "message": "unknown", "temporary": False, "field": "only_if_known"}
                await peer.say(type="error", re=message["id"], data=data)
                continue
            if message["type"] != "ping":
                kinds.append(message["type"])
            await peer.say(type="result", re=message["id"], data={"made": 1})

    async with scripted(monkeypatch, first, second), connect(URL, client_id="me", reconnect=True) as client:
        if is_repeated:
            assert (await client.command("task_create", {"title": "t"}))["data"] == {"made": 1}
        else:
            with pytest.raises(OutcomeUnknown, match="task_create was sent and may have been carried out") as caught:
                await client.command("task_create", {"title": "t"})
            assert caught.value.kind == "task_create"
        assert (await client.command("task_get", {"task_id": "x"}))["data"] == {"made": 1}
    assert kinds == ["task_create"] * is_repeated + ["task_get"]
    # A server that does not say how long it remembers is not asked either.
    is_asked = not is_repeated and memory is not None
    assert asked[1:] == [{**asked[0], "only_if_known": True}] * is_asked


@pytest.mark.parametrize("answer", ["result", "error"])
async def test_cl6_a_server_that_remembers_a_command_of_long_ago_answers_as_it_did(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    """As if it had slept on the same machine, for instance."""
    asleep = Asleep(monkeypatch)

    async def first(peer: Peer) -> None:
        await peer.welcome()
        await peer.receive("task_create")
        asleep.seconds += 86_400
        await peer.cut()

    async def second(peer: Peer) -> None:
        await peer.welcome(limits={"command_memory_seconds": 600})
        message = await peer.receive("task_create")
        assert message["only_if_known"] is True
        refusal = {"code": "overloaded", "message": "not now", "temporary": True}
        await peer.say(type=answer, re=message["id"], data={"made": 1} if answer == "result" else refusal)
        await peer.linger()

    async with scripted(monkeypatch, first, second), connect(URL, client_id="me", reconnect=True) as client:
        if answer == "result":
            assert (await client.command("task_create", {"title": "t"}))["data"] == {"made": 1}
        else:
            with pytest.raises(OutcomeUnknown, match="not now"):
                await client.command("task_create", {"title": "t"})


@pytest.mark.parametrize(
    ("kind", "is_sent_again", "is_temporary", "is_unknown"),
    [
        ("task_create", True, True, True),
        ("task_create", True, False, False),
        ("task_create", False, True, False),
        ("task_list", True, True, False),
    ],
)
async def test_uo_a_command_that_is_put_off_when_it_comes_again_may_have_been_carried_out_before(
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    is_sent_again: bool,
    is_temporary: bool,
    is_unknown: bool,
) -> None:
    """A server whose disk is full cannot carry out the second sending; of the first it may say nothing."""

    async def cut(peer: Peer) -> None:
        await peer.welcome()
        await peer.receive(kind)
        await peer.cut()

    async def put_off(peer: Peer) -> None:
        await peer.welcome()
        message = await peer.receive(kind)
        data = {"code": "unavailable" if is_temporary else "conflict", "message": "no", "temporary": is_temporary}
        await peer.say(type="error", re=message["id"], data=data)
        await peer.linger()

    scripts = (cut, put_off) if is_sent_again else (put_off,)
    async with scripted(monkeypatch, *scripts), connect(URL, client_id="me", reconnect=True) as client:
        with pytest.raises(OutcomeUnknown if is_unknown else CommandFailed, match="no"):
            await client.command(kind, {"title": "t"})


@pytest.mark.parametrize("kind", ["task_list", "ping", "cancel"])
async def test_cl6_what_changes_nothing_is_repeated_after_any_sleep(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    asleep = Asleep(monkeypatch)

    async def first(peer: Peer) -> None:
        await peer.welcome()
        await peer.receive(kind)
        asleep.seconds += 86_400
        await peer.cut()

    async def second(peer: Peer) -> None:
        await peer.welcome()
        while True:
            message = await peer.receive()
            await peer.say(type="result", re=message["id"], data={"kind": message["type"]})

    async with scripted(monkeypatch, first, second), connect(URL, client_id="me", reconnect=True) as client:
        assert (await client.command(kind, {}))["data"] == {"kind": kind}


async def test_cl6_a_command_that_was_never_sent_is_sent_however_late(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    asleep = Asleep(monkeypatch)

    async def first(peer: Peer) -> None:
        await peer.welcome()
        await peer.close(1012)

    async def second(peer: Peer) -> None:
        await peer.welcome()
        command = await peer.receive("task_create")
        await peer.say(type="result", re=command["id"], data={"made": 1})
        await peer.linger()

    is_away = trio.Event()
    async with (
        scripted(monkeypatch, first, None, second) as server,
        connect(
            URL,
            client_id="me",
            reconnect=True,
            on_change=lambda one: is_away.set() if one.state == "disconnected" else None,
        ) as client,
    ):
        await is_away.wait()
        asleep.seconds += 86_400
        assert (await client.command("task_create", {"title": "t"}))["data"] == {"made": 1}
        assert len(server.attempts) == 3


@pytest.mark.parametrize(("kind", "is_unknown"), [("task_create", True), ("task_list", False), ("of_later", True)])
async def test_cl6_a_command_without_an_answer_says_that_it_may_have_been_carried_out(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, kind: str, is_unknown: bool
) -> None:
    async def cuts(peer: Peer) -> None:
        await peer.welcome()
        await peer.receive(kind)
        await peer.cut()

    async def is_deaf(peer: Peer) -> None:
        await peer.welcome()
        await trio.sleep_forever()

    for script in (cuts, is_deaf):
        async with scripted(monkeypatch, script), connect(URL, client_id="me") as client:
            with pytest.raises(Disconnected) as caught:
                await client.command(kind, {})
            assert isinstance(caught.value, OutcomeUnknown) is is_unknown


async def test_cl7_commands_that_wait_are_bounded(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    async def is_deaf(peer: Peer) -> None:
        await peer.welcome()
        await peer.linger()

    async with (
        scripted(monkeypatch, is_deaf),
        connect(URL, client_id="me", reconnect=True) as client,
        trio.open_nursery() as nursery,
    ):
        for _ in range(PENDING_COMMANDS):
            nursery.start_soon(client.command, "task_list", {})
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(CommandFailed, match="nothing was sent") as caught:
            await client.ping()
        assert (caught.value.code, caught.value.data["temporary"]) == ("overloaded", True)
        nursery.cancel_scope.cancel()
