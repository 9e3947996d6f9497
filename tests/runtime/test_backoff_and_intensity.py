"""The times of restarts, and the point at which a supervisor gives up: S5, S6 (the check), S7, I7."""

from __future__ import annotations

import time
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from runtime import (
    ActorSystem,
    Backoff,
    ChildSpec,
    DynamicSpec,
    RestartIntensityExceeded,
    SupervisorSpec,
    UnsafeIntensity,
)
from runtime.restart_policy import RestartWindow
from runtime.specs import check_intensities
from runtime.testing import crash, running
from tests.runtime.tree_kit import Boom, Do, Worker, boom, child, crash_and_settle, family, incarnations, states, under

AT_ONCE = Backoff(stable_after_seconds=0)


def eager(journal: list[Any], names: str, **spec: Any) -> SupervisorSpec:
    """A family whose every restart is immediate."""
    return SupervisorSpec(children=tuple(child(journal, name, backoff=AT_ONCE) for name in names), **spec)


async def test_s5_the_fourth_crash_in_the_window_stops_all_in_reverse_and_raises(autojump_clock: Any) -> None:
    journal: list[Any] = []

    async def crash_four_times() -> None:
        async with running(eager(journal, "abc", intensity=3, period_seconds=5)) as system:
            for number in range(3):
                await crash_and_settle(system, "b", Boom(str(number)))
                await trio.sleep(1)
            assert incarnations(system, "a", "b", "c") == [1, 4, 1]
            journal.clear()
            crash(system, "b", Boom("3"))
            await trio.sleep(1000)

    with pytest.raises(RestartIntensityExceeded) as caught:
        await crash_four_times()
    assert journal == ["stop c", "stop a"]
    assert (caught.value.intensity, caught.value.period_seconds) == (3, 5)
    assert [str(one) for one in caught.value.causes.exceptions] == ["0", "1", "2", "3"]


async def test_s5_the_window_slides(autojump_clock: Any) -> None:
    async with running(eager([], "a", intensity=3, period_seconds=5)) as system:
        for _ in range(20):
            await trio.sleep(1.7)  # any three of these gaps are more than five seconds
            await crash_and_settle(system, "a")
        assert incarnations(system, "a") == [21]


async def test_s5_crashes_of_all_children_count_together(autojump_clock: Any) -> None:
    async def crash_all() -> None:
        async with running(eager([], "abc", intensity=2)) as system:
            for name in "abc":
                crash(system, name, Boom())
            await trio.sleep(1000)

    with pytest.raises(RestartIntensityExceeded):
        await crash_all()


async def test_s5_an_intensity_of_none_never_gives_up(autojump_clock: Any) -> None:
    async with running(eager([], "a", intensity=None)) as system:
        for _ in range(300):
            await crash_and_settle(system, "a")
        assert incarnations(system, "a") == [301]
        assert system.root.life.window.count(trio.current_time()) == 100, "but it does not remember for ever"


@given(st.integers(0, 5), st.lists(st.floats(0, 20), max_size=40))
def test_s5_the_window_allows_exactly_its_intensity(intensity: int, gaps: list[float]) -> None:
    window, now, times = RestartWindow(intensity, 5.0), 0.0, []
    for gap in gaps:
        now += gap
        times.append(now)
        recent = [one for one in times if one > now - 5.0]
        assert window.add(now) == (len(recent) <= intensity)
        if len(recent) > intensity:
            break  # a supervisor gives up here, so the window ends too


def test_s6_intensities_that_multiply_past_the_bound_are_refused() -> None:
    risky = under("one", under("two", family([], "a", intensity=11), intensity=10), intensity=10)
    with pytest.raises(UnsafeIntensity) as caught:
        check_intensities(risky)
    assert (caught.value.path, caught.value.product) == ("one/two", 1100)
    check_intensities(under("one", under("two", family([], "a", intensity=None), intensity=99), intensity=10))
    pool = SupervisorSpec(children=(ChildSpec(id="pool", start=DynamicSpec(max_children=1, intensity=2000)),))
    with pytest.raises(UnsafeIntensity):
        check_intensities(pool)


async def test_s6_an_unsafe_tree_starts_nothing(autojump_clock: Any) -> None:
    journal: list[Any] = []
    spec = SupervisorSpec(children=(child(journal, "a"), ChildSpec(id="b", start=family(journal, "c", intensity=400))))
    with pytest.raises(UnsafeIntensity):
        await ActorSystem(watch_loop=False).run(spec)
    assert journal == []


def test_s7_the_delay_is_a_capped_exponential_and_the_first_restart_is_immediate() -> None:
    rule = Backoff(base_seconds=1, maximum_seconds=10, jitter=0.5)
    assert [rule.delay_seconds(n, uniform=0.5) for n in range(1, 8)] == [0, 1, 2, 4, 8, 10, 10]
    assert rule.delay_seconds(10**6, uniform=0.5) == 10
    assert rule.delay_seconds(2, uniform=0.0) == 0.5
    with pytest.raises(ValueError, match="at least 1"):
        rule.delay_seconds(0)


@given(st.integers(1, 2000), st.floats(0, 0.99), st.floats(0.001, 100), st.floats(0.001, 1000))
def test_s7_jitter_keeps_within_its_share(failures: int, jitter: float, base: float, maximum: float) -> None:
    rule = Backoff(base_seconds=base, maximum_seconds=maximum, jitter=jitter)
    delay = rule.delay_seconds(failures)
    if failures == 1:
        assert delay == 0
    else:
        plain = min(maximum, base * 2.0 ** min(failures - 2, 63))
        assert plain * (1 - jitter) * 0.999999 <= delay <= plain * (1 + jitter) * 1.000001


async def test_s7_restarts_wait_longer_and_longer_until_a_stable_life(autojump_clock: Any) -> None:
    backoff = Backoff(base_seconds=1, jitter=0, stable_after_seconds=30)
    spec = SupervisorSpec(children=(child([], "a", backoff=backoff),), intensity=None)
    async with running(spec) as system:

        async def recovery() -> float:
            await crash_and_settle(system, "a")
            await trio.sleep(20)
            assert states(system, "a") == ["running"]
            return round(system.record("a").recovery_seconds, 3)

        assert [await recovery() for _ in range(4)] == [0, 1, 2, 4]
        await trio.sleep(30)
        assert [await recovery() for _ in range(2)] == [0, 1]


async def test_s7_a_start_that_times_out_is_no_stable_life(autojump_clock: Any) -> None:
    starts: list[float] = []

    async def hang_after_the_first(_: Worker) -> None:
        starts.append(trio.current_time())
        if len(starts) > 1:
            await trio.sleep_forever()

    backoff = Backoff(base_seconds=100, maximum_seconds=100, jitter=0, stable_after_seconds=5)
    spec = child([], "a", on_start=hang_after_the_first, start_seconds=6, backoff=backoff)
    async with running(SupervisorSpec(children=(spec,))) as system:
        await trio.sleep(10)
        await crash_and_settle(system, "a")
        await trio.sleep(50)
        assert len(starts) == 2
        assert states(system, "a") == ["backing_off"]


async def test_s7_a_stop_during_a_back_off_takes_effect_at_once(autojump_clock: Any) -> None:
    journal: list[Any] = []
    backoff = Backoff(base_seconds=1000, maximum_seconds=1000)
    spec = SupervisorSpec(children=(child(journal, "a"), child(journal, "b", backoff=backoff)))
    async with running(spec) as system:
        for _ in range(2):
            await crash_and_settle(system, "b")
        assert states(system, "b") == ["backing_off"]
        before = trio.current_time()
    assert trio.current_time() == before
    assert journal[-1] == "stop a"


async def test_i7_durations_are_recorded(autojump_clock: Any) -> None:
    async def slow(_: Worker) -> None:
        await trio.sleep(2)

    async with running(SupervisorSpec(children=(child([], "a", on_start=slow),))) as system:
        record = system.record("a")
        assert record.ready_seconds == pytest.approx(2)
        await crash_and_settle(system, "a")
        assert record.recovery_seconds is None
        await trio.sleep(3)
        assert record.recovery_seconds == pytest.approx(2)
        await system.reference("a").tell(Do(slow))
        await wait_all_tasks_blocked()
    assert record.stop_seconds == pytest.approx(2)


async def test_i7_a_crashed_actor_with_an_empty_start_is_back_within_50_ms() -> None:
    """In processor time of this thread, so that a busy machine does not matter; it takes about 0.2 ms."""
    times: list[float] = []
    async with running(eager([], "a", intensity=None)) as system:
        actor = system.reference("a")
        for number in range(200):
            began = time.thread_time()
            await actor.tell(Do(boom))
            while actor.incarnation < number + 2 or not actor.is_running:
                await trio.lowlevel.checkpoint()
            times.append(time.thread_time() - began)
    assert sorted(times)[int(len(times) * 0.99)] < 0.050
