"""Children started and stopped at run time: S13, and S14 for them."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from runtime import (
    ActorDead,
    CapacityExceeded,
    ChildSpec,
    DynamicSpec,
    Restart,
    SupervisorSpec,
)
from runtime.testing import running
from tests.runtime.tree_kit import (
    Boom,
    Call,
    Do,
    Worker,
    boom,
    child,
    crash_and_settle,
    dynamic_tree,
    incarnations,
    states,
    worker,
)


async def test_s13_one_child_too_many_is_refused_and_not_queued(autojump_clock: Any) -> None:
    journal: list[Any] = []
    async with running(dynamic_tree(2)) as system:
        pool = system.dynamic("pool")
        await pool.start_child("a", worker(journal, "a"))
        await pool.start_child("b", worker(journal, "b"))
        with pytest.raises(CapacityExceeded) as caught:
            await pool.start_child("c", worker(journal, "c"))
        assert caught.value.max_children == 2
        await pool.stop_child("a")
        await wait_all_tasks_blocked()
        assert "start c" not in journal
        await pool.start_child("c", worker(journal, "c"))
        assert pool.child_count == 2


async def test_s13_a_hundred_children_start_at_once(autojump_clock: Any) -> None:
    async def slow(_: Worker) -> None:
        await trio.sleep(1)

    async with running(dynamic_tree(100)) as system, trio.open_nursery() as nursery:
        before = trio.current_time()
        for number in range(100):
            nursery.start_soon(system.dynamic("pool").start_child, f"n{number}", worker([], on_start=slow))
        await wait_all_tasks_blocked()
        await trio.sleep(1)
        await wait_all_tasks_blocked()
        assert system.dynamic("pool").child_count == 100
        assert all(system.reference(f"pool/n{number}").is_running for number in range(100))
        assert trio.current_time() - before == pytest.approx(1)


async def test_s13_a_child_that_ended_leaves_the_tree_and_its_name_is_free(autojump_clock: Any) -> None:
    async with running(dynamic_tree(1)) as system:
        pool = system.dynamic("pool")
        first = await pool.start_child("a", worker([]))
        await crash_and_settle(system, "pool/a")
        assert system.find("pool/a") is None
        second = await pool.start_child("a", worker([]))
        assert second.incarnation == 1
        assert first.is_running, "a reference finds the new child of the same name"


async def test_s13_a_cancelled_start_leaves_nothing(autojump_clock: Any) -> None:
    async def slow(_: Worker) -> None:
        await trio.sleep(10)

    async with running(dynamic_tree()) as system:
        for on_start in (slow, None):
            with trio.CancelScope() as scope:
                if on_start is None:
                    scope.cancel()
                else:
                    scope.deadline = trio.current_time() + 1
                await system.dynamic("pool").start_child("a", worker([], "a", on_start), restart=Restart.PERMANENT)
            assert scope.cancelled_caught
            await wait_all_tasks_blocked()
            assert system.find("pool/a") is None
            assert system.dynamic("pool").child_count == 0


async def test_s13_a_start_that_failed_leaves_nothing(autojump_clock: Any) -> None:
    def factory() -> Any:
        raise Boom("factory")

    async with running(dynamic_tree(1)) as system:
        for start in (factory, worker([], "a", boom)):
            with pytest.raises(Boom):
                await system.dynamic("pool").start_child("a", start, restart=Restart.PERMANENT)
            assert system.find("pool/a") is None
            assert system.dynamic("pool").child_count == 0


async def test_s13_a_child_stopped_during_its_back_off_does_not_come_back(autojump_clock: Any) -> None:
    async with running(dynamic_tree()) as system:
        pool = system.dynamic("pool")
        await pool.start_child("a", worker([]), restart=Restart.PERMANENT)
        await crash_and_settle(system, "pool/a")
        await crash_and_settle(system, "pool/a")
        assert states(system, "pool/a") == ["backing_off"]
        await pool.stop_child("a")
        assert system.find("pool/a") is None
        await trio.sleep(10)
        assert pool.child_count == 0


async def test_s13_nothing_starts_in_a_pool_that_gave_up(autojump_clock: Any) -> None:
    async def slow_stop(_: Worker) -> None:
        await trio.sleep(2)

    journal: list[Any] = []
    spec = SupervisorSpec(children=(ChildSpec(id="pool", start=DynamicSpec(max_children=5, intensity=0)),))
    async with running(spec) as system:
        pool = system.dynamic("pool")
        busy = await pool.start_child("busy", worker(journal, "busy"))
        await busy.tell(Do(slow_stop))
        await pool.start_child("a", worker(journal, "a"), restart=Restart.PERMANENT)
        await crash_and_settle(system, "pool/a")
        with pytest.raises(ActorDead):
            await pool.start_child("late", worker(journal, "late"))
        await trio.sleep(3)
        assert incarnations(system, "pool") == [2]
        assert "start late" not in journal


async def test_s13_a_child_started_by_a_request_does_not_inherit_its_deadline(autojump_clock: Any) -> None:
    answers: list[Any] = []

    async def answer(_: Worker) -> int:
        await trio.sleep(1)
        return 7

    async def ask_other(actor: Worker) -> None:
        answers.append(await other.ask(Call(answer), timeout=5))

    async def start_one(_: Worker) -> None:
        await system.dynamic("pool").start_child("a", worker([]))

    spec = SupervisorSpec(children=(child([], "w"), child([], "o"), *dynamic_tree().children))
    async with running(spec) as system:
        other = system.reference("o")
        await system.reference("w").ask(Call(start_one), timeout=1)
        await trio.sleep(10)
        await system.reference("pool/a").tell(Do(ask_other))
        await trio.sleep(2)
        assert answers == [7]


async def test_s14_a_crash_in_one_child_touches_no_other(autojump_clock: Any) -> None:
    async with running(dynamic_tree(20)) as system:
        for number in range(20):
            await system.dynamic("pool").start_child(f"n{number}", worker([]))
        await system.reference("pool/n7").tell(Do(boom))
        await wait_all_tasks_blocked()
        assert system.dynamic("pool").child_count == 19
        assert all(system.reference(f"pool/n{number}").is_running for number in range(20) if number != 7)
        assert incarnations(system, "pool") == [1]
