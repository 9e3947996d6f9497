"""Monitors and links: M9."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from runtime import ActorDead, ChildSpec, Down, DownReason, LinkedActorFailed, Restart, SupervisorSpec, reject
from runtime.testing import running
from tests.runtime.tree_kit import Boom, Call, Do, Worker, boom, child, crash_and_settle, family, incarnations


def downs(journal: list[Any]) -> list[Down]:
    return [one for one in journal if isinstance(one, Down)]


async def monitor(system: Any, watcher: str, *targets: str) -> None:
    async def work(actor: Worker) -> None:
        for target in targets:
            actor.context.monitor(system.reference(target))

    await system.reference(watcher).ask(Call(work), timeout=1)


@pytest.mark.parametrize("way", ["crash", "stop", "return"])
async def test_m9_a_monitor_yields_exactly_one_down(autojump_clock: Any, way: str) -> None:
    journal: list[Any] = []

    async def leave(actor: Worker) -> None:
        actor.context.stop()

    async with running(family(journal, "ab")) as system:
        await monitor(system, "a", "b", "b")
        if way == "crash":
            await crash_and_settle(system, "b")
        elif way == "return":
            await system.reference("b").tell(Do(leave))
        else:
            system.record("b").life.request_stop("test")
        await wait_all_tasks_blocked()
        reason = {"crash": DownReason.CRASHED, "stop": DownReason.STOPPED, "return": DownReason.RETURNED}[way]
        assert downs(journal) == [Down("b", 1, reason)]
        assert isinstance(downs(journal)[0].error, Boom) == (way == "crash")
        if way != "stop":
            await crash_and_settle(system, "b")
        assert len(downs(journal)) == 1, "a monitor is for one incarnation"
        assert not system.record("a").life._watching


async def test_m9_a_monitor_on_the_dead_answers_at_once(autojump_clock: Any) -> None:
    journal: list[Any] = []
    spec = SupervisorSpec(children=(child(journal, "a"), child(journal, "b", restart=Restart.TEMPORARY)))
    async with running(spec) as system:
        await crash_and_settle(system, "b")
        await monitor(system, "a", "b", "nowhere")
        await wait_all_tasks_blocked()
        assert downs(journal) == [Down("b", 1, DownReason.DEAD), Down("nowhere", 0, DownReason.DEAD)]


async def test_m9_demonitor_and_the_end_of_the_owner_remove_a_monitor(autojump_clock: Any) -> None:
    journal: list[Any] = []
    async with running(family(journal, "abc")) as system:

        async def demonitor(actor: Worker) -> None:
            actor.context.demonitor(system.reference("b"))

        await monitor(system, "a", "b")
        await system.reference("a").ask(Call(demonitor), timeout=1)
        await monitor(system, "c", "b")
        target = system.record("b").life
        assert len(target._watchers) == 1
        await crash_and_settle(system, "c")
        assert not target._watchers
        await crash_and_settle(system, "b")
        assert downs(journal) == []


async def link(system: Any, one: str, other: str) -> None:
    async def work(actor: Worker) -> None:
        actor.context.link(system.reference(other))

    await system.reference(one).ask(Call(work), timeout=1)


@pytest.mark.parametrize(("first", "second"), [("a", "b"), ("b", "a")])
async def test_m9_a_link_makes_failure_mutual(autojump_clock: Any, first: str, second: str) -> None:
    async with running(family([], "abc")) as system:
        await link(system, "a", "b")
        await crash_and_settle(system, first)
        assert incarnations(system, "a", "b", "c") == [2, 2, 1]
        error = system.record(second).last_exit.error
        assert isinstance(error, LinkedActorFailed)
        assert isinstance(error.__cause__, Boom)
        await crash_and_settle(system, second)
        assert incarnations(system, first) == [2], "the new incarnations are not linked"


async def test_m9_an_end_without_a_crash_breaks_the_link(autojump_clock: Any) -> None:
    async def leave(actor: Worker) -> None:
        actor.context.stop()

    async with running(family([], "ab")) as system:
        await link(system, "a", "b")
        await system.reference("b").tell(Do(leave))
        await wait_all_tasks_blocked()
        assert incarnations(system, "a", "b") == [1, 2]
        assert not system.record("a").life._links


async def test_m9_a_link_to_the_dead_raises_and_one_to_itself_does_nothing(autojump_clock: Any) -> None:
    async with running(family([], "a")) as system:

        async def link_nowhere(actor: Worker) -> None:
            with pytest.raises(ActorDead):
                actor.context.link(system.reference("nowhere"))

        await system.reference("a").ask(Call(link_nowhere), timeout=1)
        await link(system, "a", "a")
        await crash_and_settle(system, "a")
        assert incarnations(system, "a") == [2]


async def test_m9_unwatched_ends_are_nobodys_business(autojump_clock: Any) -> None:
    journal: list[Any] = []
    async with running(family(journal, "ab")) as system:
        await crash_and_settle(system, "b")
        assert downs(journal) == []
        assert incarnations(system, "a", "b") == [1, 2]


async def test_m9_a_down_that_raises_crashes_the_watcher(autojump_clock: Any) -> None:
    class Brittle(Worker):
        async def down(self, down: Any) -> None:
            await boom()

    journal: list[Any] = []
    spec = child(journal, "b")
    brittle = ChildSpec(id="a", start=lambda: Brittle(journal, "a", None, reject(4)))
    async with running(SupervisorSpec(children=(brittle, spec))) as system:
        await monitor(system, "a", "b")
        await crash_and_settle(system, "b")
        await trio.sleep(1)
        assert incarnations(system, "a", "b") == [2, 2]
