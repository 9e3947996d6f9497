"""Restart groups, start order, escalation: S1-S4, S6, S8, S9, S12, S14, S15."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from runtime import (
    ActorDead,
    AutoShutdown,
    Backoff,
    ChildRestarting,
    ChildSpec,
    DownReason,
    HandlerFailed,
    Restart,
    RestartIntensityExceeded,
    StartDeadlineExceeded,
    Strategy,
    SupervisorSpec,
)
from runtime.inspection import restart
from runtime.testing import crash, running
from tests.runtime.tree_kit import (
    Boom,
    Call,
    Do,
    Worker,
    boom,
    child,
    crash_and_settle,
    dynamic_tree,
    family,
    incarnations,
    states,
    under,
    worker,
)


async def test_s1_one_for_one_restarts_only_the_child_that_crashed(autojump_clock: Any) -> None:
    journal: list[Any] = []
    async with running(family(journal)) as system:
        journal.clear()
        await crash_and_settle(system, "b")
        assert incarnations(system, "a", "b", "c") == [1, 2, 1]
        assert journal == ["start b"]


async def test_s2_one_for_all_stops_in_reverse_and_starts_in_order(autojump_clock: Any) -> None:
    journal: list[Any] = []
    async with running(family(journal, strategy=Strategy.ONE_FOR_ALL)) as system:
        journal.clear()
        await crash_and_settle(system, "b")
        assert journal == ["stop c", "stop a", "start a", "start b", "start c"]
        assert incarnations(system, "a", "b", "c") == [2, 2, 2]


async def test_s3_rest_for_one_restarts_the_later_children(autojump_clock: Any) -> None:
    journal: list[Any] = []
    async with running(family(journal, strategy=Strategy.REST_FOR_ONE)) as system:
        journal.clear()
        await crash_and_settle(system, "b")
        assert journal == ["stop c", "start b", "start c"]
        assert incarnations(system, "a", "b", "c") == [1, 2, 2]


@pytest.mark.parametrize(
    ("kind", "after_return", "after_crash", "after_cancel"),
    [(Restart.PERMANENT, 2, 2, 2), (Restart.TRANSIENT, 1, 2, 1), (Restart.TEMPORARY, 1, 1, 1)],
)
async def test_s4_restart_types(
    autojump_clock: Any, kind: Restart, after_return: int, after_crash: int, after_cancel: int
) -> None:
    journal: list[Any] = []
    spec = SupervisorSpec(children=tuple(child(journal, name, restart=kind) for name in ("r", "k", "x")))
    async with running(spec) as system:

        async def leave(actor: Worker) -> None:
            actor.context.stop()

        await system.reference("r").tell(Do(leave))
        crash(system, "k", Boom())
        system.record("x").life.scope.cancel()
        await wait_all_tasks_blocked()
        assert incarnations(system, "r", "k", "x") == [after_return, after_crash, after_cancel]


@pytest.mark.parametrize("strategy", [Strategy.ONE_FOR_ALL, Strategy.REST_FOR_ONE])
async def test_s4_a_group_restart_takes_transient_siblings_and_never_temporary_ones(
    autojump_clock: Any, strategy: Strategy
) -> None:
    journal: list[Any] = []
    children = (
        child(journal, "a"),
        child(journal, "transient", restart=Restart.TRANSIENT),
        child(journal, "temporary", restart=Restart.TEMPORARY),
        child(journal, "z"),
    )
    async with running(SupervisorSpec(children=children, strategy=strategy)) as system:
        await crash_and_settle(system, "a")
        assert incarnations(system, "a", "transient", "temporary", "z") == [2, 2, 1, 2]
        assert states(system, "temporary") == ["stopped"]
        with pytest.raises(ActorDead):
            await system.reference("temporary").ask(Call(boom), timeout=1)


async def test_s4_a_second_crash_during_a_group_back_off_widens_the_group(autojump_clock: Any) -> None:
    journal: list[Any] = []
    slow = Backoff(base_seconds=2, jitter=0)
    children = tuple(child(journal, name, backoff=slow) for name in "abc")
    async with running(SupervisorSpec(children=children, strategy=Strategy.REST_FOR_ONE, intensity=9)) as system:
        await crash_and_settle(system, "b")
        await crash_and_settle(system, "b")
        assert states(system, "a", "b", "c") == ["running", "backing_off", "backing_off"]
        journal.clear()
        before = trio.current_time()
        await crash_and_settle(system, "a")
        assert states(system, "a", "b", "c") == ["backing_off"] * 3
        await trio.sleep(2.1)
        assert journal == ["start a", "start b", "start c"], "nobody starts before the longest back-off is over"
        assert incarnations(system, "a", "b", "c") == [2, 3, 3]
        assert trio.current_time() - before < 2.2


async def test_s4_a_start_that_fails_during_a_group_restart_is_one_more_failure(autojump_clock: Any) -> None:
    journal: list[Any] = []
    starts = 0

    async def fail_once(_: Worker) -> None:
        nonlocal starts
        starts += 1
        if starts == 2:
            raise Boom("second start")

    children = (child(journal, "a"), child(journal, "b", on_start=fail_once), child(journal, "c"))
    async with running(SupervisorSpec(children=children, strategy=Strategy.ONE_FOR_ALL)) as system:
        journal.clear()
        await crash_and_settle(system, "c")
        first, second = ["stop b", "stop a", "start a", "start b", "stop a"], ["start a", "start b", "start c"]
        assert journal == first + second
        assert system.root.life.window.count(trio.current_time()) == 2
        assert states(system, "a", "b", "c") == ["running"] * 3


async def test_s6_giving_up_is_one_failure_of_the_parent(autojump_clock: Any) -> None:
    journal: list[Any] = []
    spec = under("inner", family(journal, "ab", intensity=1))
    async with running(spec) as system:
        events: list[Any] = []
        system.observers.append(events.append)
        await crash_and_settle(system, "inner/a")
        journal.clear()
        await crash_and_settle(system, "inner/a")
        await trio.sleep(1)
        assert incarnations(system, "inner", "inner/a", "inner/b") == [2, 3, 2]
        assert journal == ["stop b", "start a", "start b"]
        failures = [one for one in events if isinstance(one, ChildRestarting) and one.path == "inner"]
        assert len(failures) == 1
        assert isinstance(failures[0].error, RestartIntensityExceeded)
        assert failures[0].attempt == 1


async def test_s6_at_the_root_giving_up_ends_the_run_with_the_causes(autojump_clock: Any) -> None:
    journal: list[Any] = []

    async def crash_it() -> None:
        async with running(under("inner", family(journal, "a", intensity=0), intensity=0)) as system:
            crash(system, "inner/a", Boom("why"))
            await trio.sleep(1000)

    with pytest.raises(RestartIntensityExceeded) as caught:
        await crash_it()
    (inner,) = caught.value.causes.exceptions
    assert isinstance(inner, RestartIntensityExceeded)
    assert [str(one) for one in inner.causes.exceptions] == ["why"]


async def test_s8_a_child_starts_only_after_the_one_before_is_ready(autojump_clock: Any) -> None:
    journal: list[Any] = []

    async def slow(actor: Worker) -> None:
        await trio.sleep(1)
        journal.append(f"ready {actor.name}")

    spec = SupervisorSpec(children=tuple(child(journal, name, on_start=slow) for name in "ab"))
    async with running(spec):
        assert journal == ["start a", "ready a", "start b", "ready b"]


async def test_s8_a_failed_start_stops_the_earlier_ones_in_reverse_and_surfaces_as_it_was(autojump_clock: Any) -> None:
    journal: list[Any] = []
    original = Boom("original")

    async def fail(_: Worker) -> None:
        raise original

    children = (child(journal, "a"), child(journal, "b"), child(journal, "c", on_start=fail), child(journal, "d"))
    with pytest.raises(Boom) as caught:
        async with running(under("inner", SupervisorSpec(children=children))):
            raise AssertionError("the block must not run")
    assert caught.value is original
    assert "while starting inner/c" in caught.value.__notes__
    assert journal == ["start a", "start b", "start c", "stop b", "stop a"]


async def test_s8_a_factory_that_raises_is_a_failed_start(autojump_clock: Any) -> None:
    journal: list[Any] = []

    def factory() -> Any:
        raise Boom("factory")

    with pytest.raises(Boom, match="factory"):
        async with running(SupervisorSpec(children=(child(journal, "a"), ChildSpec(id="b", start=factory)))):
            raise AssertionError("the block must not run")
    assert journal == ["start a", "stop a"]


async def test_s9_a_start_has_a_deadline(autojump_clock: Any) -> None:
    journal: list[Any] = []

    async def hang(_: Worker) -> None:
        await trio.sleep_forever()

    spec = SupervisorSpec(children=(child(journal, "a"), child(journal, "b", on_start=hang, start_seconds=3)))
    before = trio.current_time()
    with pytest.raises(StartDeadlineExceeded) as caught:
        async with running(spec):
            raise AssertionError("the block must not run")
    assert (caught.value.path, caught.value.seconds) == ("b", 3)
    assert trio.current_time() - before == pytest.approx(3)
    assert journal[-1] == "stop a"


async def test_s9_a_start_that_cannot_be_cancelled_is_stuck_and_not_started_twice(autojump_clock: Any) -> None:
    release = trio.Event()
    starts = 0

    async def shielded_at_the_second(_: Worker) -> None:
        nonlocal starts
        starts += 1
        if starts == 2:
            with trio.CancelScope(shield=True):
                await release.wait()
            await trio.lowlevel.checkpoint()

    stubborn = child([], "a", on_start=shielded_at_the_second, start_seconds=1, cancel_seconds=1)
    async with running(SupervisorSpec(children=(stubborn, child([], "b")))) as system:
        try:
            await crash_and_settle(system, "a")
            await trio.sleep(60)
            assert (states(system, "a"), starts) == (["stuck"], 2)
            assert [report.path for report in system.stuck] == ["a"]
            await crash_and_settle(system, "b")
            assert incarnations(system, "b") == [2], "its supervisor goes on"
        finally:
            release.set()
        await trio.sleep(1)
        assert (states(system, "a"), incarnations(system, "a")) == (["running"], [3])


async def test_s12_any_significant_child_that_ends_ends_its_supervisor(autojump_clock: Any) -> None:
    journal: list[Any] = []
    inner = SupervisorSpec(
        children=(child(journal, "a"), child(journal, "s", restart=Restart.TRANSIENT, is_significant=True)),
        auto_shutdown=AutoShutdown.ANY_SIGNIFICANT,
    )
    spec = SupervisorSpec(children=(ChildSpec(id="unit", start=inner, restart=Restart.TRANSIENT),))
    async with running(spec) as system:

        async def leave(actor: Worker) -> None:
            actor.context.stop()

        await system.reference("unit/s").tell(Do(leave))
        await wait_all_tasks_blocked()
        assert journal == ["start a", "start s", "stop s", "stop a"]
        assert states(system, "unit") == ["stopped"]
        assert system.record("unit").last_exit.reason is DownReason.RETURNED


async def test_s12_all_significant_children_must_end(autojump_clock: Any) -> None:
    journal: list[Any] = []
    significant = {"restart": Restart.TEMPORARY, "is_significant": True}
    inner = SupervisorSpec(
        children=(child(journal, "a"), child(journal, "s", **significant), child(journal, "t", **significant)),
        auto_shutdown=AutoShutdown.ALL_SIGNIFICANT,
    )
    async with running(
        SupervisorSpec(children=(ChildSpec(id="unit", start=inner, restart=Restart.TEMPORARY),))
    ) as system:
        await crash_and_settle(system, "unit/s")
        assert states(system, "unit", "unit/a") == ["running", "running"]
        await crash_and_settle(system, "unit/t")
        assert states(system, "unit", "unit/a") == ["stopped", "stopped"]


def test_s12_a_significant_child_that_could_never_end_is_refused() -> None:
    with pytest.raises(ValueError, match="permanent"):
        SupervisorSpec(children=(child([], "a", is_significant=True),), auto_shutdown=AutoShutdown.ANY_SIGNIFICANT)
    with pytest.raises(ValueError, match="auto_shutdown"):
        SupervisorSpec(children=(child([], "a", is_significant=True, restart=Restart.TEMPORARY),))


async def test_s14_a_thousand_requests_that_raise_start_no_new_incarnation(autojump_clock: Any) -> None:
    async with running(family([], "a")) as system:
        actor = system.reference("a")
        for _ in range(1000):
            with pytest.raises(HandlerFailed) as caught:
                await actor.ask(Call(boom), timeout=1)
            assert isinstance(caught.value.__cause__, Boom)
        assert incarnations(system, "a") == [1]
        assert system.record("a").restarts == 0
        assert system.record("a").handler_failures == {"Boom": 1000}


async def test_s15_each_restart_is_one_event(autojump_clock: Any) -> None:
    backoff = Backoff(base_seconds=1, jitter=0)
    async with running(SupervisorSpec(children=(child([], "a", backoff=backoff),))) as system:
        events: list[Any] = []
        system.observers.append(lambda one: events.append(one) if isinstance(one, ChildRestarting) else None)
        await trio.sleep(2)
        first, second = Boom("one"), Boom("two")
        second.__cause__ = ValueError("deeper")
        await crash_and_settle(system, "a", first)
        await crash_and_settle(system, "a", second)
        assert [(one.path, one.incarnation, one.reason, one.error) for one in events] == [
            ("a", 1, DownReason.CRASHED, first),
            ("a", 2, DownReason.CRASHED, second),
        ]
        assert [(one.attempt, one.delay_seconds) for one in events] == [(1, 0.0), (2, 1.0)]
        assert events[0].uptime_seconds == pytest.approx(2)
        assert isinstance(events[1].error.__cause__, ValueError)


async def test_s15_an_operators_restart_is_no_failure_and_survives_its_caller(autojump_clock: Any) -> None:
    journal: list[Any] = []

    async def slow_start(_: Worker) -> None:
        await trio.sleep(1)

    spec = SupervisorSpec(children=(child(journal, "a", on_start=slow_start), *dynamic_tree().children))
    async with running(spec) as system:
        await restart(system, "a")
        assert incarnations(system, "a") == [2]
        assert system.root.life.window.count(trio.current_time()) == 0
        with trio.move_on_after(0.5) as scope:
            await restart(system, "a")
        assert scope.cancelled_caught
        await trio.sleep(1)
        assert incarnations(system, "a") == [3]
        assert system.reference("a").is_running
        # A temporary child too comes back, and is still stopped with the tree (or this test hangs).
        await system.dynamic("pool").start_child("d", worker(journal, "d"))
        await restart(system, "pool/d")
        assert incarnations(system, "pool/d") == [2]
        assert system.dynamic("pool").child_count == 1
    assert journal[-2:] == ["stop d", "stop a"]


async def test_s15_an_operators_restart_during_a_back_off_runs_the_child_once(autojump_clock: Any) -> None:
    journal: list[Any] = []
    async with running(family(journal, "a")) as system:
        await crash_and_settle(system, "a")
        await crash_and_settle(system, "a")
        assert states(system, "a") == ["backing_off"]
        await restart(system, "a")
        await trio.sleep(30)
        assert journal.count("start a") == 3
        assert incarnations(system, "a") == [3]
