"""The test kit itself, and the example in the README: I6."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import frozen
from trio.testing import wait_all_tasks_blocked

from runtime import Actor, ActorDead, ActorRef, ChildSpec, DownReason, HandlerFailed, Request, SupervisorSpec, reject
from runtime.testing import (
    CancelHere,
    FaultPlan,
    Probe,
    RaiseHere,
    RecordingRef,
    Sent,
    StallHere,
    assert_no_dead_letters,
    crash,
    faulty,
    run_handler,
    running,
)
from tests.runtime.tree_kit import Boom, Call, Do, Note, Worker, boom, child, family, incarnations

ROOT = Path(__file__).parents[2]


@frozen
class Price(Request[int]):
    item: str


@frozen
class Sold:
    item: str


class Shop(Actor[Price | Sold]):
    def __init__(self, store: ActorRef[Any], log: ActorRef[Any]) -> None:
        self.store = store
        self.log = log

    async def handle(self, message: Price | Sold) -> int | None:
        match message:
            case Price("free"):
                raise Boom("nothing is free")
            case Price("later"):
                self.context.answer_later(self.look_up, "later")
                return None
            case Price(item):
                return await self.look_up(item)
            case Sold(item):
                await self.log.tell(f"sold {item}")
                self.context.after(5, Sold("again"))
                self.context.spawn(trio.sleep, 1, name="nap")
                self.context.monitor(self.store)
                self.context.link(self.log)
                self.context.stop()
        return None

    async def look_up(self, item: str) -> int:
        price = await self.store.ask(Price(item), timeout=2)
        return int(price) + 1


def shop(answer: object = 10) -> Shop:
    return Shop(RecordingRef("store", {Price: answer}), RecordingRef("log"))


async def test_i6_a_handlers_effects_are_data(autojump_clock: Any) -> None:
    effects = await run_handler(shop(), Sold("pen"))
    assert effects.told == [Sent("log", "sold pen")]
    assert [(one.seconds, one.message, one.is_periodic) for one in effects.timers] == [(5, Sold("again"), False)]
    assert [(one.function, one.args, one.name) for one in effects.spawned] == [(trio.sleep, (1,), "nap")]
    assert (effects.monitored, effects.linked, effects.is_stopping) == (["store"], ["log"], True)
    assert (effects.reply, effects.error) == (None, None)


async def test_i6_a_reply_an_error_and_scripted_answers(autojump_clock: Any) -> None:
    effects = await run_handler(shop(), Price("pen"))
    assert (effects.reply, effects.asked) == (11, [Sent("store", Price("pen"), 2)])
    assert (await run_handler(shop(lambda request: len(request.item)), Price("pen"))).reply == 4
    assert isinstance((await run_handler(shop(), Price("free"))).error, Boom)
    dead = ActorDead("store", 1, "test")
    assert (await run_handler(shop(dead), Price("pen"))).error is dead
    assert isinstance(
        (await run_handler(Shop(RecordingRef("s"), RecordingRef("l")), Price("pen"))).error, AssertionError
    )


async def test_i6_a_deferred_answer_waits_for_its_child_task(autojump_clock: Any) -> None:
    effects = await run_handler(shop(), Price("later"))
    assert effects.is_deferred
    assert effects.asked == []
    effects = await run_handler(shop(), Price("later"), run_spawned=True)
    assert (effects.reply, effects.is_deferred) == (11, False)


async def test_i6_a_probe_collects_what_it_is_told(autojump_clock: Any) -> None:
    probe = Probe({Price: 3})
    async with running(SupervisorSpec(children=(ChildSpec(id="p", start=probe.start),))) as system:
        reference = system.reference("p")
        await reference.tell(Note("1"))
        await reference.tell(Sold("pen"))
        assert await probe.expect(Sold) == Sold("pen")
        assert await probe.expect(Note) == Note("1")
        await probe.expect_nothing()
        with pytest.raises(AssertionError, match="no Sold within 1 s"):
            await probe.expect(Sold)
        assert await reference.ask(Price("pen"), timeout=1) == 3
        with pytest.raises(AssertionError, match="expected nothing"):
            await probe.expect_nothing()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(probe.expect, Sold)
            await wait_all_tasks_blocked()
            await reference.tell(Sold("late"))
        crash(system, "p", Boom())
        await wait_all_tasks_blocked()
        await reference.tell(Note("2"))
        await probe.expect(Price)
        assert await probe.expect(Note) == Note("2")
        with pytest.raises(HandlerFailed):
            await reference.ask(Call(boom), timeout=1)


async def test_i6_a_fault_plan_raises_stalls_and_cancels_at_its_steps(autojump_clock: Any) -> None:
    journal: list[Any] = []
    plan = FaultPlan({2: RaiseHere(Boom("planned")), 3: StallHere(5), 5: CancelHere()})
    spec = SupervisorSpec(
        children=(ChildSpec(id="a", start=faulty(lambda: Worker(journal, "a", None, reject(9)), plan)),)
    )
    async with running(spec) as system:
        actor = system.reference("a")
        for text in ("1", "2"):
            await actor.tell(Note(text))
            await wait_all_tasks_blocked()
        assert journal == ["start a", "1", "start a"]
        assert str(system.record("a").last_exit.error) == "planned"
        before = trio.current_time()
        await actor.ask(Call(Worker.started), timeout=10)
        assert trio.current_time() - before == pytest.approx(5)
        await actor.tell(Note("4"))
        await actor.tell(Note("5"))
        await wait_all_tasks_blocked()
        assert system.record("a").last_exit.reason is DownReason.CANCELLED
        assert "5" not in journal
        with pytest.raises(TypeError, match="does not accept"):
            await actor.tell("declared messages are still checked")


async def test_i6_crash_names_what_is_not_there(autojump_clock: Any) -> None:
    async with running(family([], "a")) as system:
        pass
    with pytest.raises(ActorDead):
        crash(system, "a", Boom())


async def test_i6_running_raises_what_the_block_raised_and_stops_in_order(autojump_clock: Any) -> None:
    journal: list[Any] = []
    with pytest.raises(Boom, match="block"):
        async with running(family(journal, "ab")):
            raise Boom("block")
    assert journal[-2:] == ["stop b", "stop a"]
    with trio.move_on_after(1) as scope:
        async with running(family(journal, "ab")):
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert journal[-2:] == ["stop b", "stop a"]


async def test_i6_assert_no_dead_letters(autojump_clock: Any) -> None:
    async with running(family([], "a")) as system:
        await system.reference("a").tell(Do(Worker.started))
        assert_no_dead_letters(system)
        await system.reference("nowhere").tell(Note("x"))
        with pytest.raises(AssertionError, match="Note for nowhere: not_running"):
            assert_no_dead_letters(system)


def test_i6_the_examples_of_the_readme_run() -> None:
    text = (ROOT / "runtime" / "README.md").read_text()
    examples = re.findall(r"```python\n(.*?)```\s*(?:prints\s*```\n(.*?)```)?", text, re.DOTALL)
    assert examples
    for source, expected in examples:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", source],
            check=False,
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout == expected, done.stdout


async def test_i6_child_specs_may_be_shared_between_systems(autojump_clock: Any) -> None:
    spec = SupervisorSpec(children=(child([], "a"),))
    async with running(spec) as one, running(spec) as other:
        crash(one, "a", Boom())
        await wait_all_tasks_blocked()
        assert (incarnations(one, "a"), incarnations(other, "a")) == ([2], [1])
        assert one.reference("a") != other.reference("a")
        assert one.reference("a") == one.reference("a")
