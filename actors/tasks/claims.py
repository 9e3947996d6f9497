"""Claims: an agent takes a task under a lease, renews it while it works, and loses the task when it dies.

Who moves a claimed task on, or edits it, is not asked for a lease: people overrule agents. A lease concerns the task only
while it is in progress; once it was moved elsewhere, nothing is left to give back.
"""

from __future__ import annotations

import uuid
from typing import Any

from attrs import evolve, frozen
from sqlalchemy import Connection, Row, bindparam, delete, func, insert, select, update

from actors.storage.messages import Outcome
from actors.tasks.change_recorder import ChangeRecorder
from actors.tasks.commands import save_task
from actors.tasks.context import CommandContext, conflict, existing_task
from actors.tasks.rows import StoredTask
from actors.tasks.tables import task_claims
from actors.tasks.wip_limits import Column, end_of_column
from protocol.codec import wire_time
from protocol.task_claims import TaskClaim, TaskLease, TaskRelease
from protocol.task_model import Task, TaskStatus

__all__ = [
    "EndedLeases",
    "EndedLeasesQuery",
    "claim_task",
    "find_ended_leases",
    "move_leases",
    "release_task",
    "return_tasks",
]

RETURNED_AT_ONCE = 100
# Of other columns somebody is at the task, or it is done.
CLAIMABLE = frozenset({TaskStatus.BACKLOG, TaskStatus.TODO})

_OF_TASK = task_claims.c.task_id == bindparam("of_task")
_FIND = select(task_claims).where(_OF_TASK)
_DELETE = delete(task_claims).where(_OF_TASK)
_INSERT = insert(task_claims)


@frozen
class EndedLeasesQuery:
    """Asks whose leases have ended by now."""

    now_ms: int


@frozen
class EndedLeases:
    """Clients with leases that have ended, and when the next one ends."""

    clients: list[str]
    next_ms: int | None
    """POSIX milliseconds; None where there is no other lease."""


def claim_task(connection: Connection, context: CommandContext[TaskClaim], recorder: ChangeRecorder) -> TaskLease:
    """Take a task, or renew its lease. Raises `not_found`; `conflict` where another holds it, or nobody can take it."""
    before = existing_task(connection, context)
    row = connection.execute(_FIND, {"of_task": before.task.id}).first()
    if context.data.lease is not None:
        return _renew(connection, context, before.task, row)
    if row is not None:
        if row.until_ms > context.now_ms and before.task.status is TaskStatus.IN_PROGRESS:
            raise conflict(
                context,
                "task_id",
                f"{row.holder} has claimed it until {wire_time(row.until_ms / 1000)}",
                before.task,
            )
        # Its holder is gone, and the task on its way back.
        _give_back(connection, context, recorder, before, row)
        before = existing_task(connection, context)
    if before.task.status not in CLAIMABLE:
        raise conflict(
            context, "task_id", f"a task in {before.task.status.value} cannot be claimed, only one in backlog or todo",
            before.task,
        )  # fmt: skip
    column = Column(context.client_id, before.task.project, TaskStatus.IN_PROGRESS)
    position = end_of_column(connection, context, column, force=False, current=before.task, moved=before.task.id)
    after = evolve(before.task, status=column.status, position=position, assignee=context.data.holder)
    task = save_task(connection, context, recorder, before, after, kind="moved")
    return _keep(connection, context, task, before.task.status.value, before.task.assignee, str(uuid.uuid4()))


def release_task(connection: Connection, context: CommandContext[TaskRelease], recorder: ChangeRecorder) -> Task:
    """Give a claimed task back. Raises `not_found`; `conflict` where the lease has ended."""
    before = existing_task(connection, context)
    row = connection.execute(_FIND, {"of_task": before.task.id}).first()
    if row is None or row.lease != context.data.lease:
        raise _ended(context, before.task)
    return _give_back(connection, context, recorder, before, row)


def find_ended_leases(connection: Connection, wanted: EndedLeasesQuery) -> EndedLeases:
    """Whose leases have ended, and when the next one will."""
    clients = connection.scalars(
        select(task_claims.c.client_id)
        .where(task_claims.c.until_ms <= wanted.now_ms)
        .distinct()
        .order_by(task_claims.c.client_id)
        .limit(RETURNED_AT_ONCE)
    )
    next_ms = connection.scalar(select(func.min(task_claims.c.until_ms)).where(task_claims.c.until_ms > wanted.now_ms))
    return EndedLeases(list(clients), next_ms)


def return_tasks(connection: Connection, context: CommandContext[None]) -> Outcome[int]:
    """Give back the tasks of one client whose leases have ended; how many leases those were."""
    recorder = ChangeRecorder()
    rows = connection.execute(
        select(task_claims)
        .where(task_claims.c.client_id == context.client_id, task_claims.c.until_ms <= context.now_ms)
        .order_by(task_claims.c.until_ms, task_claims.c.task_id)
        .limit(RETURNED_AT_ONCE)
    ).all()
    for row in rows:
        named = CommandContext(
            client_id=context.client_id,
            device_id=context.device_id,
            data=TaskRelease(task_id=row.task_id, lease=row.lease),
            now_ms=context.now_ms,
        )
        _give_back(connection, named, recorder, existing_task(connection, named), row)
    outcome: Outcome[int] = recorder.outcome(len(rows))
    return outcome


def move_leases(connection: Connection, context: CommandContext[int]) -> Outcome[int]:
    """Let all leases end as many milliseconds sooner as the clock was set back by; how many leases there are."""
    moved = connection.execute(update(task_claims).values(until_ms=task_claims.c.until_ms - context.data))
    return Outcome(value=moved.rowcount)


def _renew(connection: Connection, context: CommandContext[TaskClaim], task: Task, row: Row[Any] | None) -> TaskLease:
    # One that ended a moment ago and whose task is still there is as good: nobody else was given it.
    if row is None or row.lease != context.data.lease or task.status is not TaskStatus.IN_PROGRESS:
        raise _ended(context, task)
    return _keep(connection, context, task, row.from_status, row.from_assignee, row.lease)


def _keep(
    connection: Connection,
    context: CommandContext[TaskClaim],
    task: Task,
    from_status: str,
    from_assignee: str | None,
    lease: str,
) -> TaskLease:
    until_ms = context.now_ms + 1000 * context.data.lease_seconds
    connection.execute(_DELETE, {"of_task": task.id})
    connection.execute(
        _INSERT,
        {
            "task_id": task.id,
            "client_id": context.client_id,
            "lease": lease,
            "holder": context.data.holder,
            "until_ms": until_ms,
            "from_status": from_status,
            "from_assignee": from_assignee,
        },
    )
    return TaskLease(task=task, lease=lease, expires=wire_time(until_ms / 1000))


def _give_back(
    connection: Connection,
    context: CommandContext[Any],
    recorder: ChangeRecorder,
    before: StoredTask,
    row: Row[Any],
) -> Task:
    """End the lease; a task that is still in progress goes back, whatever its column's limit."""
    connection.execute(_DELETE, {"of_task": before.task.id})
    if before.task.status is not TaskStatus.IN_PROGRESS:
        return before.task
    column = Column(context.client_id, before.task.project, TaskStatus(row.from_status))
    position = end_of_column(connection, context, column, force=True, current=before.task, moved=before.task.id)
    # Whoever was given the task meanwhile keeps it.
    assignee = row.from_assignee if before.task.assignee == row.holder else before.task.assignee
    after = evolve(before.task, status=column.status, position=position, assignee=assignee)
    return save_task(connection, context, recorder, before, after, kind="moved")


def _ended(context: CommandContext[Any], task: Task) -> Exception:
    return conflict(
        context, "lease", "this lease has ended: the task was given back, moved on or taken by others", task
    )
