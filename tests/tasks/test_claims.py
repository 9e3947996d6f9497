"""Claims: one holder at a time, under a lease that ends with whoever holds it."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy.engine import URL

from actors.errors import CommandError
from actors.tasks.actor import CheckLeases
from actors.tasks.claims import EndedLeasesQuery, find_ended_leases, return_tasks
from actors.tasks.context import CommandContext
from actors.tasks.messages import ClaimTask, CreateTask, GetTask, ReleaseTask
from actors.tasks.store import WRITES
from protocol.codec import wire_time
from protocol.errors import ErrorCode
from protocol.task_claims import TaskClaim, TaskLease, TaskRelease
from protocol.task_model import Task, TaskStatus
from protocol.tasks import ColumnLimits, TaskCreate, TaskGet
from tests.server_fixture import eventually
from tests.tasks.board_kit import NOBODY, START_MS, BoardStore
from tests.tasks.test_tasks_service import ask, said, tasks_service

SECOND_MS = 1000


def _carry_out(board: BoardStore, request: type, data: Any) -> Any:
    asked: CommandContext[Any] = CommandContext(
        client_id=board.client_id, device_id="desk", data=data, now_ms=board.now_ms
    )
    outcome = WRITES[request].function(board.connection, asked)
    board.events += outcome.events
    return outcome.value


def claim(board: BoardStore, task: Task, holder: str = "ann's agent", **data: Any) -> TaskLease:
    lease: TaskLease = _carry_out(board, ClaimTask, TaskClaim(task_id=task.id, holder=holder, **data))
    return lease


def sweep(board: BoardStore) -> int:
    """What the actor does when a lease may have ended."""
    found = find_ended_leases(board.connection, EndedLeasesQuery(board.now_ms))
    count = 0
    for client_id in found.clients:
        asked: CommandContext[None] = CommandContext(client_id=client_id, device_id="", data=None, now_ms=board.now_ms)
        outcome = return_tasks(board.connection, asked)
        board.events += outcome.events
        count += outcome.value
    return count


def refused(board: BoardStore, request: type, data: Any) -> CommandError:
    with pytest.raises(CommandError) as refusal:
        _carry_out(board, request, data)
    return refusal.value


def test_mc1_a_task_goes_back_to_where_it_was_when_its_lease_ends(board: BoardStore) -> None:
    task = board.create(status="backlog", assignee="ann")
    board.told()
    lease = claim(board, task, lease_seconds=60)
    assert (lease.task.status, lease.task.assignee) == (TaskStatus.IN_PROGRESS, "ann's agent")
    assert lease.expires == "2026-09-21T14:14:20.000Z"
    assert board.told() == ["task_moved"]
    board.now_ms += 59 * SECOND_MS
    assert (sweep(board), board.get(task).status) == (0, TaskStatus.IN_PROGRESS)
    assert find_ended_leases(board.connection, EndedLeasesQuery(board.now_ms)).next_ms == START_MS + 60 * SECOND_MS
    board.now_ms += SECOND_MS
    assert sweep(board) == 1
    back = board.get(task)
    assert (back.status, back.assignee) == (TaskStatus.BACKLOG, "ann")
    assert board.told() == ["task_moved"]
    assert sweep(board) == 0
    assert find_ended_leases(board.connection, EndedLeasesQuery(board.now_ms)).next_ms is None


def test_mc2_a_claimed_task_has_one_holder_until_the_lease_ends(board: BoardStore) -> None:
    task = board.create()
    first = claim(board, task, lease_seconds=60)
    refusal = refused(board, ClaimTask, TaskClaim(task_id=task.id, holder="bob's agent"))
    assert (refusal.code, refusal.field) == (ErrorCode.CONFLICT, "data.task_id")
    assert "ann's agent has claimed it until" in refusal.message
    # Also by the same name: names are nobody's secret, the lease is.
    assert refused(board, ClaimTask, TaskClaim(task_id=task.id, holder="ann's agent")).code is ErrorCode.CONFLICT
    board.now_ms += 60 * SECOND_MS
    second = claim(board, task, "bob's agent")
    assert second.task.assignee == "bob's agent"
    assert second.lease != first.lease
    late = refused(board, ClaimTask, TaskClaim(task_id=task.id, holder="ann's agent", lease=first.lease))
    assert (late.code, late.field) == (ErrorCode.CONFLICT, "data.lease")
    assert refused(board, ReleaseTask, TaskRelease(task_id=task.id, lease=first.lease)).field == "data.lease"
    _carry_out(board, ReleaseTask, TaskRelease(task_id=task.id, lease=second.lease))
    assert (board.get(task).status, board.get(task).assignee) == (TaskStatus.TODO, None)


def test_mc3_a_renewed_lease_lasts_from_its_renewal(board: BoardStore) -> None:
    task = board.create()
    lease = claim(board, task, lease_seconds=60)
    board.now_ms += 50 * SECOND_MS
    renewed = claim(board, task, lease=lease.lease, lease_seconds=30)
    assert (renewed.lease, renewed.expires) == (lease.lease, "2026-09-21T14:14:40.000Z")
    assert renewed.task.version == lease.task.version
    board.now_ms += 29 * SECOND_MS
    assert sweep(board) == 0
    board.now_ms += SECOND_MS
    assert sweep(board) == 1
    assert board.get(task).status is TaskStatus.TODO


def test_mc4_a_task_that_was_moved_on_is_not_given_back(board: BoardStore) -> None:
    task = board.create()
    lease = claim(board, task, lease_seconds=60)
    board.move(task, "done")
    late = refused(board, ClaimTask, TaskClaim(task_id=task.id, holder="ann's agent", lease=lease.lease))
    assert late.field == "data.lease"
    board.now_ms += 60 * SECOND_MS
    assert sweep(board) == 1
    assert board.get(task).status is TaskStatus.DONE


def test_what_a_person_changed_meanwhile_stays(board: BoardStore) -> None:
    task = board.create()
    claim(board, task, lease_seconds=60)
    board.update(task, assignee="carl", title="another title")
    board.now_ms += 60 * SECOND_MS
    sweep(board)
    back = board.get(task)
    assert (back.status, back.assignee, back.title) == (TaskStatus.TODO, "carl", "another title")


def test_a_deleted_task_has_no_lease(board: BoardStore) -> None:
    task = board.create()
    claim(board, task, lease_seconds=60)
    board.do("task_delete", task_id=task.id, version=board.get(task).version)
    board.now_ms += 60 * SECOND_MS
    assert sweep(board) == 0


def test_what_cannot_be_claimed_is_refused_and_changes_nothing(board: BoardStore) -> None:
    assert refused(board, ClaimTask, TaskClaim(task_id=NOBODY, holder="a")).code is ErrorCode.NOT_FOUND
    for status in ("in_progress", "testing", "done"):
        task = board.create(status=status)
        refusal = refused(board, ClaimTask, TaskClaim(task_id=task.id, holder="a"))
        assert (refusal.code, refusal.field) == (ErrorCode.CONFLICT, "data.task_id")
    board.do("task_limits", project="default", limits={"in_progress": 1})
    task = board.create()
    full = refused(board, ClaimTask, TaskClaim(task_id=task.id, holder="a"))
    assert (full.code, full.field) == (ErrorCode.CONFLICT, "data.status")
    assert board.get(task) == task


def test_the_limit_of_a_column_does_not_keep_a_task_from_going_back(board: BoardStore) -> None:
    task = board.create()
    claim(board, task, lease_seconds=60)
    board.create()
    board.do("task_limits", project="default", limits={"todo": 1})
    assert board.do("task_board").columns[1].limit == ColumnLimits(todo=1).todo
    board.now_ms += 60 * SECOND_MS
    assert sweep(board) == 1
    assert board.get(task).status is TaskStatus.TODO


async def test_mc5_a_lease_that_ended_while_no_server_ran_is_ended_at_its_start(database: URL) -> None:
    now = [START_MS / 1000]
    async with tasks_service(database, [], clock=lambda: now[0]) as room:
        task: Task = await ask(room, CreateTask(**said(data=TaskCreate(title="t"))))
        await ask(room, ClaimTask(**said(data=TaskClaim(task_id=task.id, holder="a", lease_seconds=60))))
    now[0] += 60
    async with tasks_service(database, [], clock=lambda: now[0]) as room:

        async def is_back() -> bool:
            found: Task = await ask(room, GetTask(**said(data=TaskGet(task_id=task.id))))
            return found.status is TaskStatus.TODO

        await eventually(is_back, what="the task went back")


async def test_a_lease_that_ends_while_the_server_runs_is_ended_then(database: URL) -> None:
    now = [START_MS / 1000]
    async with tasks_service(database, [], clock=lambda: now[0]) as room:
        task: Task = await ask(room, CreateTask(**said(data=TaskCreate(title="t"))))
        # Ten seconds of the loop's time, in which this one's clock goes on by as much.
        await ask(room, ClaimTask(**said(data=TaskClaim(task_id=task.id, holder="a", lease_seconds=10))))
        now[0] += 10

        async def is_back() -> bool:
            found: Task = await ask(room, GetTask(**said(data=TaskGet(task_id=task.id))))
            return found.status is TaskStatus.TODO

        await eventually(is_back, what="the task went back")


async def test_mc14_a_lease_lasts_no_longer_for_a_clock_that_is_set_back_by_an_hour(database: URL) -> None:
    """Its holder may have died, and the task would be nobody's for that hour."""
    now, steady = [START_MS / 1000], [100.0]

    def pass_time(seconds: float, setting: float = 0.0) -> None:
        steady[0] += seconds
        now[0] += seconds + setting

    async with tasks_service(database, [], clock=lambda: now[0], steady=lambda: steady[0]) as room:

        async def made(title: str) -> Task:
            task: Task = await ask(room, CreateTask(**said(data=TaskCreate(title=title))))
            return task

        async def status(task: Task) -> TaskStatus:
            room.system.reference("tasks").tell_nowait(CheckLeases())
            found: Task = await ask(room, GetTask(**said(data=TaskGet(task_id=task.id))))
            return found.status

        async def is_back(task: Task) -> bool:
            return await status(task) is TaskStatus.TODO

        before, after = await made("before"), await made("after")
        await ask(room, ClaimTask(**said(data=TaskClaim(task_id=before.id, holder="a", lease_seconds=600))))
        pass_time(300, setting=-3600)
        lease: TaskLease = await ask(
            room, ClaimTask(**said(data=TaskClaim(task_id=after.id, holder="b", lease_seconds=600)))
        )
        assert lease.expires == wire_time(now[0] + 600), "by the clock as it is now"
        assert not await is_back(before)
        pass_time(300)
        await eventually(lambda: is_back(before), what="it went back after its ten minutes")
        assert not await is_back(after)
        renewed: TaskLease = await ask(
            room,
            ClaimTask(**said(data=TaskClaim(task_id=after.id, holder="b", lease_seconds=600, lease=lease.lease))),
        )
        assert renewed.expires == wire_time(now[0] + 600)
        pass_time(600)
        await eventually(lambda: is_back(after))
