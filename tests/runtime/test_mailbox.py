"""Mailboxes: bounds, policies, lanes, order, declared and frozen messages, dead letters: M1-M6, M12."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
from attrs import frozen
from trio.testing import wait_all_tasks_blocked

from runtime import (
    ActorDead,
    MailboxFull,
    MailboxSpec,
    Overflow,
    SupervisorSpec,
    WrongMessage,
    block,
    conflate,
    drop_newest,
    drop_oldest,
    reject,
)
from runtime.dead_letters import KEPT
from runtime.inspection import actor_snapshot, suspend
from runtime.testing import assert_frozen, assert_no_dead_letters, running
from tests.runtime.tree_kit import Boom, Call, Do, Note, Worker, boom, child, crash_and_settle, family, incarnations


def one(journal: list[Any], mailbox: MailboxSpec, **spec: Any) -> SupervisorSpec:
    return SupervisorSpec(children=(child(journal, "a", mailbox=mailbox, **spec),))


async def suspended(system: Any) -> Any:
    """A reference to the actor `a`, which takes nothing until told to go on."""
    suspend(system, "a", suspended=True)
    await wait_all_tasks_blocked()
    return system.reference("a")


async def resume(system: Any) -> None:
    suspend(system, "a", suspended=False)
    await wait_all_tasks_blocked()


@pytest.mark.parametrize("capacity", [0, -1, 10**9, float("inf"), None])
def test_m1_an_unbounded_mailbox_cannot_be_written(capacity: Any) -> None:
    for make in (block, reject, drop_oldest, drop_newest, lambda n: conflate(n, key=id)):
        with pytest.raises((ValueError, TypeError)):
            make(capacity)
    with pytest.raises(TypeError):
        MailboxSpec(overflow=Overflow.BLOCK)  # type: ignore[call-arg]


async def test_m1_reject_raises_in_the_sender(autojump_clock: Any) -> None:
    async with running(one([], reject(2))) as system:
        actor = await suspended(system)
        await actor.tell(Note("1"))
        await actor.tell(Note("2"))
        for send in (actor.tell(Note("3")), actor.ask(Call(boom), timeout=1)):
            with pytest.raises(MailboxFull) as caught:
                await send
            assert (caught.value.path, caught.value.capacity) == ("a", 2)


async def test_m1_block_makes_senders_wait_and_lets_them_in_in_order(autojump_clock: Any) -> None:
    journal: list[Any] = []
    async with running(one(journal, block(1))) as system, trio.open_nursery() as nursery:
        actor = await suspended(system)
        await actor.tell(Note("0"))
        for number in range(1, 5):
            nursery.start_soon(actor.tell, Note(str(number)))
            await wait_all_tasks_blocked()
        assert system.record("a").life.mailbox.statistics(trio.current_time()).blocked_senders == 4
        with pytest.raises(MailboxFull):
            actor.tell_nowait(Note("x"))
        await resume(system)
        assert journal == ["start a", "0", "1", "2", "3", "4"]


async def test_m1_a_cancelled_blocked_sender_withdraws(autojump_clock: Any) -> None:
    journal: list[Any] = []
    async with running(one(journal, block(1))) as system:
        actor = await suspended(system)
        await actor.tell(Note("0"))
        with trio.move_on_after(1) as scope:
            await actor.tell(Note("withdrawn"))
        assert scope.cancelled_caught
        await resume(system)
        assert journal == ["start a", "0"]


async def test_m1_drop_oldest(autojump_clock: Any) -> None:
    journal: list[Any] = []
    async with running(one(journal, drop_oldest(2))) as system, trio.open_nursery() as nursery:
        actor = await suspended(system)
        outcome: list[Any] = []

        async def ask() -> None:
            with pytest.raises(MailboxFull):
                await actor.ask(Call(boom), timeout=60)
            outcome.append(trio.current_time())

        nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        for text in "12":
            await actor.tell(Note(text))
        await wait_all_tasks_blocked()
        assert outcome == [trio.current_time()], "a dropped ask fails at once"
        await actor.tell(Note("3"))
        await resume(system)
        assert journal == ["start a", "2", "3"]
        assert [letter.reason for letter in system.dead_letters.last] == ["dropped", "dropped"]


async def test_m1_drop_newest(autojump_clock: Any) -> None:
    journal: list[Any] = []
    async with running(one(journal, drop_newest(2))) as system:
        actor = await suspended(system)
        for text in "1234":
            await actor.tell(Note(text))
        with pytest.raises(MailboxFull):
            await actor.ask(Call(boom), timeout=60)
        await resume(system)
        assert journal == ["start a", "1", "2"]


async def test_m1_conflate_keeps_the_newest_of_each_key_at_the_first_ones_place(autojump_clock: Any) -> None:
    journal: list[Any] = []
    async with running(one(journal, conflate(2, key=lambda note: note.key))) as system:
        actor = await suspended(system)
        for text, key in (("1", "x"), ("2", "y"), ("3", "x"), ("4", "x")):
            await actor.tell(Note(text, key))
        with pytest.raises(MailboxFull):
            await actor.tell(Note("5", "z"))
        await resume(system)
        assert journal == ["start a", "4", "2"]
        assert system.dead_letters.total == 0, "what was superseded is not lost"


async def test_m2_a_full_mailbox_can_be_inspected_and_stopped(autojump_clock: Any) -> None:
    journal: list[Any] = []
    async with running(one(journal, reject(2))) as system:
        actor = await suspended(system)
        await actor.tell(Note("1"))
        await actor.tell(Note("2"))
        assert await actor_snapshot(system, "a") == {"name": "a"}
        before = trio.current_time()
    assert trio.current_time() == before, "the stop message did not queue behind the others"
    assert journal == ["start a", "stop a"]


async def test_m2_system_messages_overtake_waiting_ones(autojump_clock: Any) -> None:
    journal: list[Any] = []

    async def hold(_: Worker) -> None:
        await trio.sleep(1)

    async with running(one(journal, reject(9))) as system:
        actor = system.reference("a")
        await actor.tell(Do(hold))
        for text in "12":
            await actor.tell(Note(text))
        suspend(system, "a", suspended=True)
        await trio.sleep(2)
        assert journal == ["start a"]


@pytest.mark.parametrize("mailbox", [block(4), reject(400)])
async def test_m3_messages_of_one_sender_arrive_in_order(autojump_clock: Any, mailbox: MailboxSpec) -> None:
    journal: list[Any] = []
    async with running(one(journal, mailbox)) as system, trio.open_nursery() as nursery:
        actor = system.reference("a")

        async def send(name: str) -> None:
            for number in range(100):
                await actor.tell(Note(f"{name}{number}"))

        for name in "xyz":
            nursery.start_soon(send, name)
        await wait_all_tasks_blocked()
    for name in "xyz":
        assert [text for text in journal if text[0] == name] == [f"{name}{number}" for number in range(100)]


@pytest.mark.parametrize("mailbox", [drop_oldest(1), drop_newest(1), conflate(1, key=lambda note: note.key)])
async def test_m3_drops_are_counted_and_the_last_one_named(autojump_clock: Any, mailbox: MailboxSpec) -> None:
    async with running(one([], mailbox)) as system:
        actor = await suspended(system)
        for text in "1234":
            await actor.tell(Note(text))
        await trio.sleep(3)
        statistics = system.record("a").life.mailbox.statistics(trio.current_time())
        assert (statistics.dropped, statistics.last_dropped) == (3, "Note")
        assert (statistics.used, statistics.capacity, statistics.peak) == (1, 1, 1)
        assert statistics.oldest_age_seconds == pytest.approx(3)


async def test_m4_an_undeclared_message_fails_in_the_sender(autojump_clock: Any) -> None:
    async with running(family([], "a")) as system:
        actor = system.reference("a")
        with pytest.raises(WrongMessage, match=r"a does not accept str; it accepts Call, Do, Note") as caught:
            await actor.tell("text")
        assert caught.value.got is str
        with pytest.raises(WrongMessage):
            actor.tell_nowait(7)
        with pytest.raises(WrongMessage):
            await actor.ask(Unknown(), timeout=1)
        assert incarnations(system, "a") == [1]


@frozen
class Unknown:
    """Declared by nobody."""


@frozen
class Leaf:
    values: Any


@attrs.define
class Open:
    value: int = 0


async def test_m5_mutable_content_is_refused_by_the_kit(autojump_clock: Any) -> None:
    async with running(family([], "a"), message_check=assert_frozen) as system:
        actor = system.reference("a")
        await actor.tell(Note("fine"))
        with pytest.raises(AssertionError, match=r"Note.text is a list"):
            await actor.tell(Note(["mutable"]))  # type: ignore[arg-type]
        with pytest.raises(AssertionError, match="bytearray"):
            await actor.ask(Call(bytearray()), timeout=1)  # type: ignore[arg-type]


def test_m5_frozen_means_all_the_way_down() -> None:
    assert_frozen(Leaf((1, "x", frozenset({2.0}), None, Leaf(b"y"), Overflow.BLOCK)))
    for mutable in ([1], {"k": 1}, {1}, bytearray(b"x"), Open(), (1, (2, [3])), Leaf(Leaf({}))):
        with pytest.raises(AssertionError):
            assert_frozen(Leaf(mutable))


async def test_m6_what_is_left_in_a_mailbox_becomes_dead_letters(autojump_clock: Any) -> None:
    async with running(one([], block(2))) as system, trio.open_nursery() as nursery:
        actor = await suspended(system)
        for text in "123":  # the third waits for room
            nursery.start_soon(actor.tell, Note(text))
        await wait_all_tasks_blocked()
        await crash_and_settle(system, "a")
        assert sorted(letter.message.text for letter in system.dead_letters.last) == ["1", "2", "3"]
        assert system.dead_letters.counts == {"stopped": 3}
        with pytest.raises(AssertionError, match="Note for a: stopped"):
            assert_no_dead_letters(system)
        assert_no_dead_letters(system, ignoring={"stopped"})


async def test_m6_a_message_to_a_stopped_actor_is_a_dead_letter_and_an_ask_fails_at_once(autojump_clock: Any) -> None:
    async with running(family([], "a")) as system:
        pass
    for path in ("a", "nowhere"):
        before = trio.current_time()
        await system.reference(path).tell(Note("late"))
        system.reference(path).tell_nowait(Note("late"))
        with pytest.raises(ActorDead):
            await system.reference(path).ask(Call(boom), timeout=60)
        assert trio.current_time() == before
    assert system.dead_letters.counts == {"not_running": 4}


async def test_m6_only_the_newest_dead_letters_are_kept_and_their_log_is_bounded(
    autojump_clock: Any, caplog: Any
) -> None:
    caplog.set_level("INFO", logger="runtime.dead_letters")
    async with running(family([], "a")) as system:
        for number in range(KEPT + 50):
            await system.reference("nowhere").tell(Note(str(number)))
        assert system.dead_letters.total == KEPT + 50
        assert len(system.dead_letters.last) == KEPT == 256
        assert system.dead_letters.last[0].message == Note("50")
        assert len(caplog.records) == 1
        await trio.sleep(1)
        await system.reference("nowhere").tell(Note("one more"))
        assert f"{KEPT + 50} not_running" in caplog.records[-1].message


async def test_m6_a_mailbox_is_closed_before_child_tasks_have_wound_up(autojump_clock: Any) -> None:
    async def lingers() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(5)

    async def spawn(actor: Worker) -> None:
        actor.context.spawn(lingers)

    async with running(family([], "a")) as system, trio.open_nursery() as nursery:
        actor = await suspended(system)
        suspend(system, "a", suspended=False)
        await actor.tell(Do(spawn))
        await wait_all_tasks_blocked()
        await suspended(system)
        failed_at: list[float] = []

        async def ask() -> None:
            with pytest.raises(ActorDead):
                await actor.ask(Call(boom), timeout=60)
            failed_at.append(trio.current_time())

        nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        await crash_and_settle(system, "a")
        await actor.tell(Note("between two lives"))
        await ask()
        assert failed_at == [trio.current_time()] * 2
        assert system.dead_letters.counts == {"stopped": 1, "not_running": 1}
        await trio.sleep(6)
        assert incarnations(system, "a") == [2]


async def test_m12_timers_are_messages_and_die_with_the_incarnation(autojump_clock: Any) -> None:
    journal: list[Any] = []

    async def set_timers(actor: Worker) -> None:
        actor.context.after(1, Note("once"))
        actor.context.every(2, Note("again"))
        actor.context.after(1, Note("cancelled")).cancel()

    async with running(family(journal, "a")) as system:
        await system.reference("a").tell(Do(set_timers))
        await trio.sleep(5)
        assert journal == ["start a", "once", "again", "again"]
        assert len(system.record("a").life._timers) == 1, "timers that are over are forgotten"
        journal.clear()
        await crash_and_settle(system, "a")
        await trio.sleep(10)
        assert journal == ["start a"]
        assert system.dead_letters.total == 0, "it was cancelled, not sent in vain"


async def test_m12_a_timer_for_a_full_mailbox_is_a_dead_letter(autojump_clock: Any) -> None:
    async def set_timer(actor: Worker) -> None:
        actor.context.after(1, Note("tick"))

    async with running(one([], block(1))) as system:
        await system.reference("a").tell(Do(set_timer))
        await wait_all_tasks_blocked()
        actor = await suspended(system)
        await actor.tell(Note("full"))
        await trio.sleep(2)
        assert system.dead_letters.counts == {"timer_mailbox_full": 1}


async def test_m12_a_period_of_nothing_is_refused(autojump_clock: Any) -> None:
    async def set_timer(actor: Worker) -> None:
        actor.context.every(0, Note("never"))

    async with running(family([], "a")) as system:
        await system.reference("a").tell(Do(set_timer))
        await wait_all_tasks_blocked()
        assert isinstance(system.record("a").last_exit.error, ValueError)


async def test_m12_an_earlier_timer_is_not_held_up_by_a_later_one(autojump_clock: Any) -> None:
    journal: list[Any] = []

    async def set_timer(actor: Worker) -> None:
        actor.context.after(50, Note("late"))
        await trio.sleep(1)
        actor.context.after(1, Note("early"))

    async with running(family(journal, "a")) as system:
        await system.reference("a").tell(Do(set_timer))
        await trio.sleep(3)
        assert journal == ["start a", "early"]


async def test_m6_a_crash_by_a_told_message_loses_only_that_message(autojump_clock: Any) -> None:
    journal: list[Any] = []
    async with running(family(journal, "a")) as system:
        await system.reference("a").tell(Do(boom))
        await wait_all_tasks_blocked()
        assert isinstance(system.record("a").last_exit.error, Boom)
        await system.reference("a").tell(Note("next life"))
        await wait_all_tasks_blocked()
        assert journal == ["start a", "start a", "next life"]
