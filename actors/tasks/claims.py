"""Claims: an agent takes a task under a lease, renews it while it works, and loses the task if it dies.

Moving or editing a claimed task requires no lease: people overrule agents. A lease matters only while its task is in
progress; once the task was moved elsewhere, there is nothing to return.
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
# Tasks in other columns are being worked on, or done.
CLAIMABLE = frozenset({TaskStatus.BACKLOG, TaskStatus.TODO})

_OF_TASK = task_claims.c.task_id == bindparam("of_task")
_FIND = select(task_claims).where(_OF_TASK)
_DELETE = delete(task_claims).where(_OF_TASK)
_INSERT = insert(task_claims)


@frozen
class EndedLeasesQuery:
    """Selects the clients whose leases have expired."""

    now_ms: int


@frozen
class EndedLeases:
    """Clients with expired leases, and the time at which the next lease expires."""

    clients: list[str]
    next_ms: int | None
    """POSIX milliseconds; None if there is no other lease."""


def claim_task(connection: Connection, context: CommandContext[TaskClaim], recorder: ChangeRecorder) -> TaskLease:
    """Claim a task or renew its lease. Raises `not_found`; `conflict` if it is claimed by another or cannot be
    claimed.
    """
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
        # The holder is gone, and the task is about to be returned.
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
    """Return a claimed task. Raises `not_found`; `conflict` if the lease has expired."""
    before = existing_task(connection, context)
    row = connection.execute(_FIND, {"of_task": before.task.id}).first()
    if row is None or row.lease != context.data.lease:
        raise _ended(context, before.task)
    return _give_back(connection, context, recorder, before, row)


def find_ended_leases(connection: Connection, wanted: EndedLeasesQuery) -> EndedLeases:
    """Return the clients with expired leases, and the time of the next expiry."""
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
    """Return the tasks of one client whose leases have expired. Returns the number of leases."""
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
    """Move the end of all leases back by the milliseconds that the clock was set back. Returns the number of leases."""
    moved = connection.execute(update(task_claims).values(until_ms=task_claims.c.until_ms - context.data))
    return Outcome(value=moved.rowcount)


def _renew(connection: Connection, context: CommandContext[TaskClaim], task: Task, row: Row[Any] | None) -> TaskLease:
    # A lease that expired a moment ago is still valid if its task was not returned yet.
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
    """End the lease, and return the task if it is still in progress, even over the column's limit."""
    connection.execute(_DELETE, {"of_task": before.task.id})
    if before.task.status is not TaskStatus.IN_PROGRESS:
        return before.task
    column = Column(context.client_id, before.task.project, TaskStatus(row.from_status))
    position = end_of_column(connection, context, column, force=True, current=before.task, moved=before.task.id)
    # An assignee set in the meantime stays.
    assignee = row.from_assignee if before.task.assignee == row.holder else before.task.assignee
    after = evolve(before.task, status=column.status, position=position, assignee=assignee)
    return save_task(connection, context, recorder, before, after, kind="moved")


def _ended(context: CommandContext[Any], task: Task) -> Exception:
    return conflict(
        context, "lease", "this lease has expired: the task was returned, moved or claimed by another", task
    )
