"""Asks: one answer each, deadlines that travel, cycles, cancellation that reaches the work: M6-M8, M10."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from runtime import ActorDead, ActorRef, AskCycle, AskDeadline, HandlerFailed, Refused, SupervisorSpec, block
from runtime.inspection import suspend
from runtime.testing import assert_no_dead_letters, running
from tests.runtime.tree_kit import Boom, Call, Do, Note, Worker, boom, child, crash_and_settle, family, incarnations


async def seven(_: Worker) -> int:
    return 7


async def hang(_: Worker) -> None:
    await trio.sleep_forever()


def outcome_of(nursery: trio.Nursery, actor: ActorRef[Any], work: Any, timeout: float = 60) -> list[Any]:
    """Ask in the background; the list gets the time and the answer or error."""
    outcome: list[Any] = []

    async def ask() -> None:
        try:
            outcome.append(await actor.ask(Call(work), timeout=timeout))
        except Exception as error:
            outcome.append(error)
        outcome.append(trio.current_time())

    nursery.start_soon(ask)
    return outcome


async def test_m7_an_ask_is_answered(autojump_clock: Any) -> None:
    async with running(family([], "a")) as system:
        assert await system.reference("a").ask(Call(seven), timeout=1) == 7
        with pytest.raises(TypeError):
            await system.reference("a").ask(Call(seven))  # type: ignore[call-arg]
        assert_no_dead_letters(system)


async def test_m7_an_exception_is_the_askers_answer_and_the_actor_lives(autojump_clock: Any, caplog: Any) -> None:
    class Full(Refused):
        pass

    async def refuse(_: Worker) -> None:
        raise Full("no room")

    async with running(family([], "a")) as system:
        actor = system.reference("a")
        with pytest.raises(Full):
            await actor.ask(Call(refuse), timeout=1)
        assert system.record("a").handler_failures is None, "a refusal is an answer, no failure"
        with pytest.raises(HandlerFailed) as caught:
            await actor.ask(Call(boom), timeout=1)
        assert isinstance(caught.value.__cause__, Boom)
        assert "Boom" in caplog.text
        assert incarnations(system, "a") == [1]
        assert await actor.ask(Call(seven), timeout=1) == 7


async def test_m6_an_ask_that_a_dead_actor_was_handling_is_told_from_one_that_waited(autojump_clock: Any) -> None:
    """A request that was begun may have been carried out, unlike one that only waited; the caller can tell them apart."""

    async def defer(actor: Worker) -> None:
        actor.context.defer()

    async def later(actor: Worker) -> None:
        actor.context.answer_later(trio.sleep_forever)

    async with running(family([], "a")) as system, trio.open_nursery() as nursery:
        outcomes = []
        for work in (defer, later, hang, seven):
            outcomes.append(outcome_of(nursery, system.reference("a"), work))
            await wait_all_tasks_blocked()
        await crash_and_settle(system, "a")
        dead = [one[0] for one in outcomes]
        assert all(isinstance(one, ActorDead) for one in dead)
        assert [one.has_begun for one in dead] == [True, True, True, False]
        assert "ended while it handled this request" in str(dead[0])
        assert "is not running" in str(dead[3])


async def test_m6_queued_current_and_deferred_asks_fail_at_once_when_the_actor_crashes(autojump_clock: Any) -> None:
    async def defer(actor: Worker) -> None:
        actor.context.defer()

    async def later(actor: Worker) -> None:
        actor.context.answer_later(trio.sleep_forever)

    async with running(family([], "a")) as system, trio.open_nursery() as nursery:
        outcomes = []
        for work in (defer, later, hang, seven):
            outcomes.append(outcome_of(nursery, system.reference("a"), work))
            await wait_all_tasks_blocked()
        await crash_and_settle(system, "a")
        errors = [one[0] for one in outcomes]
        assert [type(one) for one in errors] == [ActorDead] * 4
        assert len({id(one) for one in errors}) == 4, "tasks do not share one exception object"
        assert {one[1] for one in outcomes} == {trio.current_time()}
        assert errors[0].incarnation == 1


async def test_m6_a_blocked_ask_fails_at_once_too(autojump_clock: Any) -> None:
    spec = SupervisorSpec(children=(child([], "a", mailbox=block(1)),))
    async with running(spec) as system, trio.open_nursery() as nursery:
        outcomes = []
        for work in (hang, seven, seven):
            outcomes.append(outcome_of(nursery, system.reference("a"), work))
            await wait_all_tasks_blocked()
        await crash_and_settle(system, "a")
        assert [type(one[0]) for one in outcomes] == [ActorDead] * 3


async def test_m7_at_the_deadline_the_ask_fails_and_a_late_reply_is_a_dead_letter(autojump_clock: Any) -> None:
    async def slow(_: Worker) -> str:
        await trio.sleep(2)
        return "late"

    async with running(family([], "a")) as system:
        before = trio.current_time()
        with pytest.raises(AskDeadline) as caught:
            await system.reference("a").ask(Call(slow), timeout=1)
        assert trio.current_time() - before == pytest.approx(1)
        assert (caught.value.path, caught.value.request, caught.value.seconds) == ("a", Call, 1)
        await trio.sleep(2)
        assert [(one.reason, one.message) for one in system.dead_letters.last] == [("late_reply", "late")]
        assert incarnations(system, "a") == [1], "a deadline does not cancel the work"


async def test_m7_a_request_that_waited_past_its_deadline_is_skipped(autojump_clock: Any) -> None:
    async def slow(_: Worker) -> None:
        await trio.sleep(2)

    ran: list[int] = []

    async def work(_: Worker) -> None:
        ran.append(1)

    async with running(family([], "a")) as system:
        await system.reference("a").tell(Do(slow))
        with pytest.raises(AskDeadline):
            await system.reference("a").ask(Call(work), timeout=1)
        await trio.sleep(2)
        assert ran == []
        assert system.dead_letters.counts == {"expired": 1}


@pytest.mark.parametrize("way", ["handler", "child task"])
async def test_m7_a_nested_ask_has_only_the_remaining_time(autojump_clock: Any, way: str) -> None:
    times: list[float] = []

    async def nested(_: Worker = None) -> None:  # type: ignore[assignment]
        await trio.sleep(1)
        try:
            await b.ask(Call(hang), timeout=60)
        finally:
            times.append(trio.current_time())

    async def outer(actor: Worker) -> None:
        if way == "handler":
            await nested()
        else:
            actor.context.answer_later(nested)

    async with running(family([], "ab")) as system:
        a, b = system.reference("a"), system.reference("b")
        before = trio.current_time()
        with pytest.raises(AskDeadline):
            await a.ask(Call(outer), timeout=3)
        await wait_all_tasks_blocked()
        assert [one - before for one in times] == [pytest.approx(3)]


async def test_m7_a_deadline_does_not_outlive_its_request(autojump_clock: Any) -> None:
    answers: list[Any] = []

    async def slow(_: Worker) -> int:
        await trio.sleep(5)
        return 5

    async def ask_b(_: Worker = None) -> None:  # type: ignore[assignment]
        answers.append(await b.ask(Call(slow), timeout=60))

    async def start_task(actor: Worker) -> None:
        actor.context.spawn(ask_b)

    async with running(family([], "ab")) as system:
        a, b = system.reference("a"), system.reference("b")
        await a.ask(Call(start_task), timeout=1)
        await a.tell(Do(ask_b))
        await trio.sleep(20)
        assert answers == [5, 5]


@pytest.mark.parametrize("chain", ["a", "ab", "abc"])
async def test_m8_a_cycle_of_asks_is_refused_at_once(autojump_clock: Any, chain: str) -> None:
    async with running(family([], "abc")) as system:
        hops = [system.reference(name) for name in chain] + [system.reference("a")]

        async def ask_next(_: Worker, left: list[ActorRef[Any]]) -> Any:
            rest = left[1:]
            return await left[0].ask(Call(lambda actor: ask_next(actor, rest)), timeout=60)

        before = trio.current_time()
        with pytest.raises(HandlerFailed) as caught:
            await hops[0].ask(Call(lambda actor: ask_next(actor, hops[1:])), timeout=60)
        cause: BaseException | None = caught.value
        while isinstance(cause, HandlerFailed):
            cause = cause.__cause__
        assert isinstance(cause, AskCycle)
        assert cause.cycle == (chain[-1], *chain)
        assert trio.current_time() == before


async def test_m8_a_child_task_may_ask_its_own_actor(autojump_clock: Any) -> None:
    async with running(family([], "ab")) as system:
        a, b = system.reference("a"), system.reference("b")

        async def ask_back() -> Any:
            return await a.ask(Call(seven), timeout=1)

        async def later(actor: Worker) -> None:
            actor.context.answer_later(ask_back)

        async def through_b(_: Worker) -> Any:
            return await b.ask(Call(later), timeout=2)

        assert await a.ask(Call(later), timeout=5) == 7

        async def outer(actor: Worker) -> None:
            actor.context.answer_later(through_b, actor)

        assert await a.ask(Call(outer), timeout=5) == 7


async def test_m8_an_ask_after_an_ask_is_no_cycle(autojump_clock: Any) -> None:
    async with running(family([], "ab")) as system:
        a, b = system.reference("a"), system.reference("b")

        async def ask_b(_: Worker) -> Any:
            return await b.ask(Call(seven), timeout=1)

        async def ask_a(_: Worker) -> Any:
            return await a.ask(Call(seven), timeout=1)

        assert await a.ask(Call(ask_b), timeout=1) == 7
        assert await b.ask(Call(ask_a), timeout=1) == 7


async def test_m10_a_cancelled_ask_cancels_the_handler(autojump_clock: Any) -> None:
    ended: list[str] = []

    async def work(_: Worker) -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append("cancelled")

    async with running(family([], "a")) as system:
        with trio.move_on_after(1) as scope:
            await system.reference("a").ask(Call(work), timeout=60)
        assert scope.cancelled_caught
        await wait_all_tasks_blocked()
        assert ended == ["cancelled"]
        assert await system.reference("a").ask(Call(seven), timeout=1) == 7
        assert incarnations(system, "a") == [1]


async def test_m10_a_cancelled_ask_cancels_the_child_task_that_answers_it(autojump_clock: Any) -> None:
    ended: list[str] = []

    async def generate() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append("cancelled")

    async def later(actor: Worker) -> None:
        actor.context.answer_later(generate)

    async with running(family([], "a")) as system:
        with trio.move_on_after(1):
            await system.reference("a").ask(Call(later), timeout=60)
        await wait_all_tasks_blocked()
        assert ended == ["cancelled"]
        assert not system.record("a").life.deferred
        assert incarnations(system, "a") == [1]


async def test_m10_a_cancelled_ask_travels_along_nested_asks(autojump_clock: Any) -> None:
    ended: list[str] = []

    async def work(_: Worker) -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append("b")

    async with running(family([], "ab")) as system:

        async def ask_b(_: Worker) -> None:
            await system.reference("b").ask(Call(work), timeout=60)

        with trio.move_on_after(1):
            await system.reference("a").ask(Call(ask_b), timeout=60)
        await wait_all_tasks_blocked()
        assert ended == ["b"]


async def test_m10_a_cancelled_ask_that_still_waits_is_never_handled(autojump_clock: Any) -> None:
    ran: list[int] = []

    async def work(_: Worker) -> None:
        ran.append(1)

    async with running(family([], "a")) as system:
        suspend(system, "a", suspended=True)
        with trio.move_on_after(1):
            await system.reference("a").ask(Call(work), timeout=60)
        suspend(system, "a", suspended=False)
        await wait_all_tasks_blocked()
        assert ran == []
        assert system.dead_letters.counts == {"expired": 1}


async def test_m7_a_deferred_answer_comes_from_wherever_the_port_went(autojump_clock: Any) -> None:
    ports: list[Any] = []

    async def defer(actor: Worker) -> str:
        ports.append(actor.context.defer())
        return "not this"

    async with running(family([], "a")) as system, trio.open_nursery() as nursery:
        first = outcome_of(nursery, system.reference("a"), defer)
        await wait_all_tasks_blocked()
        second = outcome_of(nursery, system.reference("a"), defer)
        await wait_all_tasks_blocked()
        assert first == second == []
        assert await system.reference("a").ask(Call(seven), timeout=1) == 7
        ports[1].reply("second")
        ports[0].fail(Boom())
        await wait_all_tasks_blocked()
        assert isinstance(first[0], Boom)
        assert second[0] == "second"
        ports[1].reply("again")
        assert system.dead_letters.counts == {"late_reply": 1}
        assert not system.record("a").life.deferred


async def test_m7_defer_is_for_requests_only(autojump_clock: Any) -> None:
    async def defer(actor: Worker) -> None:
        actor.context.defer()

    async with running(family([], "a")) as system:
        await system.reference("a").tell(Do(defer))
        await wait_all_tasks_blocked()
        assert isinstance(system.record("a").last_exit.error, RuntimeError)


async def test_m7_an_idle_actor_is_stopped_by_its_child_task(autojump_clock: Any) -> None:
    journal: list[Any] = []

    async def spawn(actor: Worker) -> None:
        async def leave() -> None:
            await trio.sleep(1)
            actor.context.stop()

        actor.context.spawn(leave)

    async with running(family(journal, "a")) as system:
        await system.reference("a").tell(Do(spawn))
        await trio.sleep(2)
        assert journal == ["start a", "stop a", "start a"]
        await system.reference("a").tell(Note("new life"))
        await wait_all_tasks_blocked()
        assert journal[-1] == "new life"


async def test_m7_a_child_task_that_raises_crashes_its_actor(autojump_clock: Any) -> None:
    ended: list[str] = []

    async def sibling() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append("sibling")

    async def spawn(actor: Worker) -> None:
        actor.context.spawn(sibling)
        actor.context.spawn(boom)

    async with running(family([], "a")) as system:
        await system.reference("a").tell(Do(spawn))
        await wait_all_tasks_blocked()
        assert incarnations(system, "a") == [2]
        assert isinstance(system.record("a").last_exit.error, Boom)
        assert ended == ["sibling"]
