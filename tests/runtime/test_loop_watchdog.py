"""The watch on the loop: M11, and its part of I4. Real time: what is watched is a thread that really computes."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import trio

from runtime import SupervisorSpec, reject
from runtime.inspection import readiness
from runtime.loop_watchdog import REMEMBERED_SECONDS, LoopWatchdog, SlowStep
from runtime.testing import running
from tests.runtime.tree_kit import Do, Note, Worker, child, family


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Hold the calling thread (the loop's) until another thread has made the condition true."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True


async def test_m11_a_handler_that_holds_the_loop_is_reported_while_it_still_does(caplog: Any) -> None:
    caplog.set_level(logging.DEBUG, "runtime.loop")
    async with running(family([], "a"), watch_loop=True) as system:
        watch = system.loop_watchdog
        done = trio.Event()
        seen: list[bool] = []

        def mine() -> list[SlowStep]:
            # On a busy machine other steps may be slow too.
            return [one for one in tuple(watch.slow_steps) if "compute_for_long" in one.stack]

        async def compute_for_long(_: Worker) -> None:
            seen.append(wait_until(lambda: bool(mine())))
            seen.append(wait_until(lambda: watch.age_seconds >= 0.05))
            done.set()

        await system.reference("a").tell(Do(compute_for_long))
        await done.wait()
        assert seen == [True, True], "the report came while the loop was still held"
        (slow,) = mine()
        assert slow.path == "a"
        assert slow.seconds >= 0.050
    told = [(one.levelname, one.getMessage()) for one in caplog.records if one.name == "runtime.loop"]
    (line,) = [(level, text) for level, text in told if text.startswith("a has held the loop for")]
    assert line[0] == "INFO"
    assert "\n" not in line[1], "one line for people"
    assert "(slow step " in line[1], "with a count"
    assert [level for level, text in told if "compute_for_long" in text] == ["DEBUG"]


async def test_m11_past_the_second_bound_the_actor_is_unresponsive(caplog: Any) -> None:
    async with running(family([], "a"), watch_loop=True) as system:
        watch = system.loop_watchdog
        assert watch.unresponsive_seconds == 1.0
        watch.unresponsive_seconds = 0.1
        done = trio.Event()
        answers: list[Any] = []

        def look_from_outside() -> None:
            wait_until(lambda: watch.unresponsive() is not None)
            wait_until(lambda: "a has held the loop" in caplog.text)
            answers.append(watch.unresponsive())

        async def compute_for_long(_: Worker) -> None:
            outsider = threading.Thread(target=look_from_outside)
            outsider.start()
            outsider.join()
            answers.append(readiness(system).reasons)
            done.set()

        await system.reference("a").tell(Do(compute_for_long))
        await done.wait()
        assert answers == ["a", ("a is unresponsive",)]
        watch.unresponsive_seconds = 1.0
        assert watch.unresponsive() is None
        # Nobody could ask while it was held, so health goes on to name it for a while.
        assert readiness(system).reasons == ("a is unresponsive",)
    warnings = [one.getMessage() for one in caplog.records if one.name == "runtime.loop"]
    assert [one.partition(" for ")[0] for one in warnings] == ["a has held the loop"], "warned of, once"


async def test_m11_an_actor_with_a_full_mailbox_lets_others_run(autojump_clock: Any) -> None:
    journal: list[Any] = []
    seen: list[int] = []
    async with running(SupervisorSpec(children=(child(journal, "a", mailbox=reject(200)),))) as system:
        for number in range(200):
            system.reference("a").tell_nowait(Note(str(number)))
        while len(journal) < 200:
            await trio.lowlevel.checkpoint()
            seen.append(len(journal))
    assert max(later - earlier for earlier, later in itertools.pairwise([1, *seen])) <= 2 * 16


async def test_m11_many_short_steps_are_no_slow_step() -> None:
    """On a clock of its own: on a busy machine any real step may be slow."""
    now = 0.0
    watch = LoopWatchdog(clock=lambda: now)
    task = trio.lowlevel.current_task()
    for _ in range(100):
        watch.before_task_step(task)
        now += 0.04
        assert 0.039 < watch.age_seconds < watch.slow_seconds
        watch.after_task_step(task)
        assert watch.age_seconds == 0.0


def test_m11_the_watch_ends_with_its_tree() -> None:
    watches: list[LoopWatchdog] = []

    async def main() -> None:
        async with running(family([], "a"), watch_loop=True) as system:
            watches.append(system.loop_watchdog)

    trio.run(main)
    watches[0]._thread.join(timeout=10)
    assert not watches[0]._thread.is_alive()


async def test_m11_health_names_who_held_the_loop_once_it_can_be_asked_again() -> None:
    clock = [0.0]
    watch = LoopWatchdog(slow_seconds=0.02, unresponsive_seconds=0.1, clock=lambda: clock[0])
    watch.start()
    await trio.lowlevel.checkpoint()
    try:
        # The step of this very task is as old as we say, and the thread sees it without our leaving the step.
        clock[0] = 0.5
        wait_until(lambda: watch._last_held is not None)
        assert watch._thread is not None
    finally:
        watch.stop()
    watch._thread.join()
    assert watch.unresponsive() is None
    assert watch.recently_unresponsive() == trio.lowlevel.current_task().name
    clock[0] += REMEMBERED_SECONDS
    assert watch.recently_unresponsive() is None
