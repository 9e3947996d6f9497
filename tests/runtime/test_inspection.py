"""Looking into a live tree: I1-I4."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from attrs import evolve
from trio.testing import wait_all_tasks_blocked

from runtime import ActorDead, AskDeadline, ChildSpec, DynamicSpec, HandlerFailed, SupervisorSpec, UnknownPath, reject
from runtime.errors import SupervisionFault
from runtime.inspection import TreeNode, actor_snapshot, readiness, restart, suspend, tree, tree_node
from runtime.testing import running
from tests.runtime.tree_kit import Call, Do, Note, Worker, boom, child, crash_and_settle, family


def by_path(node: TreeNode) -> dict[str, TreeNode]:
    found = {node.path: node}
    for one in node.children:
        found |= by_path(one)
    return found


async def hang(_: Worker) -> None:
    await trio.sleep_forever()


async def test_i1_the_tree_shows_everything_while_all_mailboxes_are_full(autojump_clock: Any) -> None:
    journal: list[Any] = []
    spec = SupervisorSpec(
        children=(
            child(journal, "a", mailbox=reject(2)),
            ChildSpec(id="inner", start=family(journal, "b")),
            ChildSpec(id="pool", start=DynamicSpec(max_children=2)),
        )
    )
    async with running(spec) as system, trio.open_nursery() as nursery:
        await crash_and_settle(system, "a")
        await trio.sleep(3)
        a = system.reference("a")
        await a.tell(Note("handled"))
        nursery.start_soon(ask_and_be_refused, a)
        await wait_all_tasks_blocked()
        await a.tell(Note("1"))
        await a.tell(Note("2"))
        await trio.sleep(4)
        nodes = by_path(tree(system, stacks=True))
        for path, whole in nodes.items():
            # One alone is as it stands in the tree, without what is below it.
            assert tree_node(system, path) == evolve(whole, children=())
        with pytest.raises(UnknownPath):
            tree_node(system, "nowhere")
        assert list(nodes) == ["root", "a", "inner", "inner/b", "pool"]
        assert [nodes[one].kind for one in nodes] == ["one_for_one", "actor", "one_for_one", "actor", "dynamic"]
        node = nodes["a"]
        assert (node.state, node.incarnation, node.restarts, node.handled) == ("busy", 2, 1, 1)
        assert node.mailbox is not None
        assert (node.mailbox.used, node.mailbox.capacity, node.mailbox.peak) == (2, 2, 2)
        assert node.mailbox.oldest_age_seconds == pytest.approx(4)
        assert node.current_message == "Call"
        assert node.current_age_seconds == pytest.approx(4)
        assert node.deadline_seconds == pytest.approx(56)
        assert node.uptime_seconds == pytest.approx(7)
        assert node.last_error == "Boom: a"
        assert any("hang" in line for line in node.stack)
        assert nodes["inner/b"].state == "idle"
        assert nodes["inner"].state == "running"
        assert (nodes["root"].restarts_in_window, nodes["root"].intensity) == (0, 3)
        assert all(one.stack == () for one in by_path(tree(system)).values())
        nursery.cancel_scope.cancel()


async def ask_and_be_refused(actor: Any) -> None:
    await actor.ask(Call(hang), timeout=60)


async def test_i1_restarts_in_the_window_are_shown(autojump_clock: Any) -> None:
    async with running(family([], "a")) as system:
        await crash_and_settle(system, "a")
        assert tree(system).restarts_in_window == 1
        await trio.sleep(6)
        assert tree(system).restarts_in_window == 0


async def test_i2_a_trace_shows_messages_in_and_out_and_stops_itself(autojump_clock: Any) -> None:
    async with running(family([], "ab")) as system:

        async def forward(_: Worker) -> None:
            await system.reference("b").tell(Note("from a"))

        trace_session = system.open_trace("a", rate_per_second=100, maximum=3)
        await system.reference("a").tell(Do(forward))
        await wait_all_tasks_blocked()
        with pytest.raises(HandlerFailed):
            await system.reference("a").ask(Call(boom), timeout=1)
        await system.reference("a").tell(Note("over the limit"))
        with trio.fail_after(60):
            records = [one async for one in trace_session.records]
        assert [(one.direction, one.other, one.message_type) for one in records] == [
            ("in", "", "Do"),
            ("out", "b", "Note"),
            ("ask", "", "Call"),
        ]
        assert "from a" not in repr(records), "payloads are shown only to those who ask for them"
        assert not trace_session.is_open
        await system.reference("b").tell(Note("one more"))
        assert not system.trace_sessions, "a closed session costs nothing"


async def test_i2_a_trace_keeps_to_its_rate(autojump_clock: Any) -> None:
    async with running(family([], "a")) as system:
        trace_session = system.open_trace("a", rate_per_second=5, maximum=1000)
        for second in range(3):
            for _ in range(10):
                await system.reference("a").tell(Note("x"))
            assert 1000 - trace_session.remaining == 5 * (second + 1)
            await trio.sleep(1)
        assert trace_session.skipped == 15
        other = system.open_trace("a", rate_per_second=5, maximum=1)
        assert not trace_session.is_open, "a new trace replaces the old one"
        other.records.close()
        await system.reference("a").tell(Note("x"))
        assert not other.is_open, "a trace ends when its reader has gone"
        with pytest.raises(UnknownPath):
            system.open_trace("nowhere", rate_per_second=1, maximum=1)


async def test_i3_a_snapshot_is_the_actors_own_and_a_busy_one_answers_not(autojump_clock: Any) -> None:
    class Bad(Worker):
        def snapshot(self) -> dict[str, object]:
            raise ValueError("no")

    bad = ChildSpec(id="bad", start=lambda: Bad([], "bad", None, reject(1)))
    async with running(SupervisorSpec(children=(child([], "a"), bad))) as system, trio.open_nursery() as nursery:
        assert await actor_snapshot(system, "a") == {"name": "a"}
        with pytest.raises(HandlerFailed):
            await actor_snapshot(system, "bad")
        nursery.start_soon(ask_and_be_refused, system.reference("a"))
        await wait_all_tasks_blocked()
        before = trio.current_time()
        with pytest.raises(AskDeadline):
            await actor_snapshot(system, "a", timeout=1)
        assert trio.current_time() - before == pytest.approx(1)
        with pytest.raises(UnknownPath):
            await actor_snapshot(system, "nowhere")
        nursery.cancel_scope.cancel()


async def test_i3_a_snapshot_of_one_that_crashes_fails_at_once(autojump_clock: Any) -> None:
    async with running(family([], "a")) as system, trio.open_nursery() as nursery:
        await system.reference("a").tell(Do(hang))
        failed: list[float] = []

        async def look() -> None:
            with pytest.raises(ActorDead):
                await actor_snapshot(system, "a", timeout=60)
            failed.append(trio.current_time())

        nursery.start_soon(look)
        await wait_all_tasks_blocked()
        await crash_and_settle(system, "a")
        assert failed == [trio.current_time()]


async def test_i3_suspend_and_resume(autojump_clock: Any) -> None:
    journal: list[Any] = []
    async with running(family(journal, "a")) as system:
        suspend(system, "a", suspended=True)
        await system.reference("a").tell(Note("waits"))
        await wait_all_tasks_blocked()
        assert journal == ["start a"]
        assert by_path(tree(system))["a"].state == "suspended"
        suspend(system, "a", suspended=False)
        await wait_all_tasks_blocked()
        assert journal == ["start a", "waits"]
        assert by_path(tree(system))["a"].state == "idle"


async def test_i3_a_restart_by_an_operator_and_what_it_refuses(autojump_clock: Any) -> None:
    journal: list[Any] = []
    async with running(SupervisorSpec(children=(ChildSpec(id="inner", start=family(journal, "ab")),))) as system:
        journal.clear()
        await restart(system, "inner")
        assert journal == ["stop b", "stop a", "start a", "start b"]
        with pytest.raises(UnknownPath):
            await restart(system, "nowhere")
        with pytest.raises(ActorDead):
            suspend(system, "inner", suspended=True)
    with pytest.raises(ActorDead, match="root"):
        await restart(system, "inner")


async def test_i4_ready_means_all_run_and_nobody_is_about_to_give_up(autojump_clock: Any) -> None:
    async def slow(_: Worker) -> None:
        await trio.sleep(3)

    spec = SupervisorSpec(children=(child([], "a", on_start=slow), child([], "b")), intensity=2, period_seconds=60)
    async with running(spec, drain_seconds=1) as system:
        assert readiness(system).is_ready
        await crash_and_settle(system, "a")
        assert readiness(system).reasons == ("a is starting",)
        await trio.sleep(10)
        assert readiness(system).is_ready
        await crash_and_settle(system, "b")
        assert readiness(system).reasons == ("root is one restart from giving up",)
        await trio.sleep(61)
        assert readiness(system).is_ready
        system.request_stop("test")
        assert readiness(system).reasons == ("stopping: test",), "false before the drain begins"


async def test_i4_a_stuck_child_makes_the_tree_not_ready(autojump_clock: Any) -> None:
    release = trio.Event()

    async def shielded(_: Worker) -> None:
        with trio.CancelScope(shield=True):
            await release.wait()

    journal: list[Any] = []
    async with running(SupervisorSpec(children=(child(journal, "a", drain_seconds=0, cancel_seconds=1),))) as system:
        await system.reference("a").tell(Do(shielded))
        await wait_all_tasks_blocked()
        with pytest.raises(SupervisionFault, match="STUCK"):
            await restart(system, "a")
        assert readiness(system).reasons == ("a is stuck",)
        release.set()
        await trio.sleep(1)
        assert readiness(system).is_ready, "when it ends at last, it is started again"
        assert journal.count("start a") == 2
