"""Stopping in order, within deadlines, whatever the children do: S10, S11."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from runtime import (
    Actor,
    ActorDead,
    ActorSystem,
    Backoff,
    ChildSpec,
    DownReason,
    DynamicSpec,
    StuckReport,
    SupervisorSpec,
    SystemStopping,
    reject,
)
from runtime.testing import crash, running
from tests.runtime.tree_kit import Boom, Call, Do, Note, Worker, boom, child, crash_and_settle, family, states, under

ROOT = Path(__file__).parents[2]


async def test_s10_children_stop_in_reverse_start_order_through_the_whole_tree(autojump_clock: Any) -> None:
    journal: list[Any] = []
    inner = ChildSpec(id="inner", start=family(journal, "bc"))
    async with running(SupervisorSpec(children=(child(journal, "a"), inner, child(journal, "d")))):
        journal.clear()
    assert journal == ["stop d", "stop c", "stop b", "stop a"]


async def test_s10_a_child_that_does_not_drain_is_cancelled_at_its_deadline(autojump_clock: Any) -> None:
    journal: list[Any] = []
    cancelled_at: list[float] = []

    async def hold(_: Worker) -> None:
        try:
            await trio.sleep_forever()
        finally:
            cancelled_at.append(trio.current_time())

    async with running(SupervisorSpec(children=(child(journal, "a", drain_seconds=2),))) as system:
        await system.reference("a").tell(Do(hold))
        await wait_all_tasks_blocked()
        stopped_at = trio.current_time()
    assert cancelled_at == [pytest.approx(stopped_at + 2)]
    assert system.record("a").last_exit.reason is DownReason.CANCELLED
    assert system.record("a").stop_seconds == pytest.approx(2)
    assert system.stuck == []


@pytest.mark.parametrize("depth", ["flat", "nested"])
async def test_s10_a_stuck_child_is_reported_with_its_stack_and_the_others_stop(
    autojump_clock: Any, depth: str
) -> None:
    journal: list[Any] = []
    release = trio.Event()

    async def cannot_be_cancelled(_: Worker) -> None:
        with trio.CancelScope(shield=True):
            await release.wait()

    stubborn = child(journal, "stubborn", drain_seconds=1, cancel_seconds=1)
    inner = SupervisorSpec(children=(stubborn,))
    last = stubborn if depth == "flat" else ChildSpec(id="inner", start=inner)
    path = "stubborn" if depth == "flat" else "inner/stubborn"
    async with running(SupervisorSpec(children=(child(journal, "a"), last))) as system:
        reported: list[tuple[float, StuckReport]] = []
        system.observers.append(
            lambda one: reported.append((trio.current_time(), one)) if isinstance(one, StuckReport) else None
        )
        await system.reference(path).tell(Do(cannot_be_cancelled))
        await wait_all_tasks_blocked()
        began = trio.current_time()
        system.request_stop("test")
        await trio.sleep(3)
        release.set()  # so that a failure below does not keep the tree from ending
        ((when, report),) = reported
        assert when - began == pytest.approx(2)
        assert report.path == path
        assert any("cannot_be_cancelled" in line for line in report.stack)
        assert states(system, path) == ["stuck"]
        assert "stop a" in journal, "an earlier sibling must not wait for what never ends"
        assert "cannot_be_cancelled" in system.stuck_report()


async def test_s10_a_stuck_child_task_is_named_by_its_own_stack(autojump_clock: Any) -> None:
    release = trio.Event()

    async def shielded() -> None:
        with trio.CancelScope(shield=True):
            await release.wait()

    async def spawn(actor: Worker) -> None:
        actor.context.spawn(shielded)

    async with running(SupervisorSpec(children=(child([], "a", drain_seconds=1, cancel_seconds=1),))) as system:
        await system.reference("a").tell(Do(spawn))
        await wait_all_tasks_blocked()
        system.request_stop("test")
        await trio.sleep(3)
        release.set()
        assert any("shielded" in line for line in system.stuck[0].stack)


async def test_s10_a_stop_during_a_start_ends_it_at_once_and_in_order(autojump_clock: Any) -> None:
    journal: list[Any] = []

    async def hang(_: Worker) -> None:
        await trio.sleep_forever()

    inner = SupervisorSpec(children=(child(journal, "b"), child(journal, "c", on_start=hang, start_seconds=60)))
    spec = SupervisorSpec(children=(child(journal, "a"), ChildSpec(id="inner", start=inner)))
    system = ActorSystem(watch_loop=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(system.run, spec)
        await wait_all_tasks_blocked()
        before = trio.current_time()
        system.request_stop("test")
    assert journal == ["start a", "start b", "start c", "stop b", "stop a"]
    assert trio.current_time() == before


async def test_s11_whoever_waits_for_a_start_that_is_stopped_hears_of_its_end(autojump_clock: Any) -> None:
    journal: list[Any] = []
    system = ActorSystem(watch_loop=False)

    async def stop(_: Worker) -> None:
        system.request_stop("test")
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        await nursery.start(
            system.run, SupervisorSpec(children=(child(journal, "a", on_start=stop, start_seconds=60),))
        )
        assert system.stopping_reason == "test"


async def test_s10_dynamic_children_stop_together(autojump_clock: Any) -> None:
    async def slow(_: Worker) -> None:
        await trio.sleep(1)

    async def hang(_: Worker) -> None:
        await trio.sleep_forever()

    spec = SupervisorSpec(children=(ChildSpec(id="pool", start=DynamicSpec(max_children=9)),))
    async with trio.open_nursery() as nursery:
        async with running(spec) as system:
            for name in "abc":
                actor = await system.dynamic("pool").start_child(name, lambda: Worker([], "x", None, reject(1)))
                await actor.tell(Do(slow))

            async def start_slowly() -> None:
                with pytest.raises(ActorDead):
                    await system.dynamic("pool").start_child("late", lambda: Worker([], "x", hang, reject(1)))

            nursery.start_soon(start_slowly)
            await wait_all_tasks_blocked()
            before = trio.current_time()
        assert trio.current_time() - before == pytest.approx(1)


async def test_s10_a_crash_of_a_supervisor_stops_its_children_in_order_first(autojump_clock: Any) -> None:
    journal: list[Any] = []
    async with running(under("inner", family(journal, "ab"))) as system:
        journal.clear()
        await crash_and_settle(system, "inner")
        assert journal == ["stop b", "stop a", "start a", "start b"]
        assert system.record("inner").incarnation == 2


async def test_s11_cancelling_the_run_is_an_orderly_stop(autojump_clock: Any) -> None:
    journal: list[Any] = []
    system = ActorSystem(watch_loop=False)
    events: list[Any] = []
    system.observers.append(events.append)

    async def finish_first(actor: Worker) -> None:
        await trio.sleep(1)
        actor.journal.append("finished")

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            await nursery.start(system.run, family(journal, "ab"))
            await system.reference("b").tell(Do(finish_first))
            await wait_all_tasks_blocked()
            scope.cancel()
    assert scope.cancelled_caught
    assert journal == ["start a", "start b", "finished", "stop b", "stop a"]
    assert SystemStopping("cancelled") in events


async def test_s11_all_drain_at_once_while_messages_are_still_handled(autojump_clock: Any) -> None:
    journal: list[Any] = []

    class Drains(Worker):
        async def draining(self) -> None:
            self.journal.append(f"drain {self.name}")
            await trio.sleep(1 if self.name == "a" else 60)

    def drains(name: str) -> ChildSpec:
        return ChildSpec(id=name, start=lambda: Drains(journal, name, None, reject(4)))

    async with running(SupervisorSpec(children=(drains("a"), drains("b"))), drain_seconds=3) as system:
        journal.clear()
        before = trio.current_time()
        system.request_stop("test")
        await wait_all_tasks_blocked()
        assert sorted(journal) == ["drain a", "drain b"]
        await system.reference("a").tell(Note("still here"))
        await wait_all_tasks_blocked()
        assert journal[-1] == "still here"
    assert trio.current_time() - before == pytest.approx(3)
    assert journal[-2:] == ["stop b", "stop a"]


async def test_s11_a_drain_ends_with_its_actor(autojump_clock: Any) -> None:
    class Drains(Worker):
        async def draining(self) -> None:
            await trio.sleep_forever()

    spec = SupervisorSpec(children=(ChildSpec(id="a", start=lambda: Drains([], "a", None, reject(4))),))
    async with running(spec, drain_seconds=50) as system:
        before = trio.current_time()
        system.request_stop("test")
        await wait_all_tasks_blocked()
        crash(system, "a", Boom())
    assert trio.current_time() == before


async def test_s11_the_total_deadline_calls_on_overdue_with_a_report() -> None:
    release = trio.Event()
    token = trio.lowlevel.current_trio_token()
    reports: list[str] = []

    def overdue(report: str) -> None:
        reports.append(report)
        trio.from_thread.run_sync(release.set, trio_token=token)

    async def shielded(_: Worker) -> None:
        with trio.CancelScope(shield=True):
            await release.wait()

    spec = SupervisorSpec(children=(child([], "a", drain_seconds=0, cancel_seconds=0),))
    async with running(spec, total_stop_seconds=0.05, on_overdue=overdue) as system:
        await system.reference("a").tell(Do(shielded))
        await wait_all_tasks_blocked()
    (report,) = reports
    assert "a (stuck)" in report
    assert "shielded" in report


@pytest.mark.parametrize("fault", ["none", "stall", "crash_loop", "backing_off", "starting", "full"])
async def test_s11_the_whole_shutdown_keeps_its_deadline(autojump_clock: Any, fault: str) -> None:
    """Drain 1 s, and then 2 s for each of the three children, is the sum of what the specs allow."""

    async def stall(_: Worker) -> None:
        await trio.sleep_forever()

    backoff = Backoff(base_seconds=500, maximum_seconds=500)
    spec = SupervisorSpec(
        children=tuple(child([], name, drain_seconds=1, cancel_seconds=1, backoff=backoff) for name in "abc"),
        intensity=None,
    )
    async with running(spec, drain_seconds=1) as system:
        for name in "abc":
            actor = system.reference(name)
            if fault in {"stall", "full"}:
                await actor.tell(Do(stall))
                await wait_all_tasks_blocked()
            for number in range(16 if fault == "full" else 0):
                await actor.tell(Note(str(number)))
            for _ in range({"crash_loop": 1, "backing_off": 2}.get(fault, 0)):
                await crash_and_settle(system, name)
        before = trio.current_time()
    allowed = {"stall": 3.0, "full": 3.0}.get(fault, 0.0)
    assert trio.current_time() - before == pytest.approx(allowed)


PROGRAM = """
    import sys, trio
    from runtime import Actor, ActorSystem, ChildSpec, SupervisorSpec

    class Child(Actor):
        def __init__(self, name):
            self.name = name
        async def started(self):
            self.context.spawn(self.ready)
        async def ready(self):
            if self.name == "b":
                print("ready", flush=True)
        async def draining(self):
            if "hang" in sys.argv:
                print("draining", flush=True)
                await trio.sleep_forever()
        async def stopping(self):
            print("stop", self.name, flush=True)

    spec = SupervisorSpec(children=tuple(ChildSpec(id=n, start=lambda n=n: Child(n)) for n in "ab"))
    trio.run(ActorSystem(handle_signals=True, drain_seconds=60, total_stop_seconds=60).run, spec)
    print("over", flush=True)
"""


def start_program(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_s11_a_signal_stops_the_tree_in_order(number: signal.Signals) -> None:
    with start_program() as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        program.send_signal(number)
        out, error = program.communicate(timeout=20)
    assert out.splitlines() == ["stop b", "stop a", "over"], error
    assert program.returncode == 0


def test_s11_a_second_signal_exits_at_once_with_a_report() -> None:
    with start_program("hang") as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        program.send_signal(signal.SIGTERM)
        assert program.stdout.readline() == "draining\n"
        program.send_signal(signal.SIGINT)
        # Of a minute to drain and another to stop.
        out, error = program.communicate(timeout=20)
    assert program.returncode == 70
    assert "second signal (SIGINT)" in error
    assert "stop" not in out


async def test_s11_a_request_in_flight_at_a_stop_is_answered_first(autojump_clock: Any) -> None:
    answers: list[Any] = []

    async def slow(_: Worker) -> str:
        await trio.sleep(1)
        return "done"

    async with trio.open_nursery() as nursery, running(family([], "a")) as system:

        async def ask() -> None:
            answers.append(await system.reference("a").ask(Call(slow), timeout=5))

        nursery.start_soon(ask)
        await wait_all_tasks_blocked()
    assert answers == ["done"]


async def test_s10_an_error_while_stopping_is_recorded_and_hinders_nobody(autojump_clock: Any) -> None:
    journal: list[Any] = []

    class BadEnd(Worker):
        async def stopping(self) -> None:
            await boom()

    bad = ChildSpec(id="bad", start=lambda: BadEnd(journal, "bad", None, reject(1)))
    async with running(SupervisorSpec(children=(child(journal, "a"), bad))) as system:
        pass
    assert journal[-1] == "stop a"
    assert isinstance(system.record("bad").last_exit.error, Boom)
    assert states(system, "bad") == ["stopped"]


async def test_s11_a_stop_asked_for_after_the_end_threatens_nobody() -> None:
    overdue: list[str] = []
    system = ActorSystem(total_stop_seconds=0.05, on_overdue=overdue.append, watch_loop=False)

    async def fail_to_start() -> None:
        raise ValueError("no")

    class Broken(Actor[Any]):
        async def started(self) -> None:
            await fail_to_start()

        async def handle(self, message: Any) -> None:
            raise AssertionError(message)

    with pytest.raises(ValueError, match="no"):
        await system.run(SupervisorSpec(children=[ChildSpec(id="a", start=Broken)]))
    before = set(threading.enumerate())
    system.request_stop("too late")
    assert set(threading.enumerate()) == before
    assert overdue == []
