"""Due dates in the near future, announced once for each date of a task."""

from __future__ import annotations

from attrs import frozen
from sqlalchemy import ColumnElement, Connection, and_, or_, select, update

from actors.storage.messages import Outcome
from actors.tasks.change_recorder import ChangeRecorder
from actors.tasks.context import CommandContext
from actors.tasks.rows import find_task
from actors.tasks.tables import tasks
from protocol.task_model import TaskStatus

__all__ = ["TOLD_AT_ONCE", "DueTasksQuery", "announce_due", "find_clients_with_due"]

SOON_MS = 24 * 3_600_000
"""A due date is announced this long before it."""
TOO_EARLY_MS = 3_600_000
"""An announcement earlier than this was made by a clock that was ahead."""
TOLD_AT_ONCE = 100


@frozen(kw_only=True)
class DueTasksQuery:
    """Selects the clients with tasks that are due soon."""

    now_ms: int
    with_told_ahead: bool = False
    """Include tasks that were announced too early by a clock that was ahead."""


def find_clients_with_due(connection: Connection, wanted: DueTasksQuery) -> list[str]:
    """Return the ids of clients with tasks that are due soon and were not announced."""
    rows = connection.scalars(
        select(tasks.c.client_id)
        .where(
            or_(_is_due(wanted.now_ms), _was_told_ahead(wanted.now_ms))
            if wanted.with_told_ahead
            else _is_due(wanted.now_ms)
        )
        .distinct()
        .order_by(tasks.c.client_id)
        .limit(TOLD_AT_ONCE)
    )
    return list(rows)


def announce_due(connection: Connection, context: CommandContext[None]) -> Outcome[int]:
    """Trigger `due_soon` for these tasks of one client. Returns their number.

    Tasks that were announced too early are announced again in time.
    """
    recorder = ChangeRecorder()
    connection.execute(
        update(tasks)
        .where(tasks.c.client_id == context.client_id, _was_told_ahead(context.now_ms))
        .values(due_told_ms=None)
    )
    rows = connection.execute(
        select(tasks.c.id, tasks.c.due_ms)
        .where(tasks.c.client_id == context.client_id, _is_due(context.now_ms))
        .order_by(tasks.c.due_ms, tasks.c.id)
        .limit(TOLD_AT_ONCE)
    ).all()
    for row in rows:
        connection.execute(update(tasks).where(tasks.c.id == row.id).values(due_told_ms=row.due_ms))
        stored = find_task(connection, context.client_id, row.id)
        assert stored is not None
        recorder.trigger("due_soon", stored.task)
    outcome: Outcome[int] = recorder.outcome(len(rows))
    return outcome


def _was_told_ahead(now_ms: int) -> ColumnElement[bool]:
    return and_(tasks.c.due_ms > now_ms + SOON_MS + TOO_EARLY_MS, tasks.c.due_told_ms == tasks.c.due_ms)


def _is_due(now_ms: int) -> ColumnElement[bool]:
    return and_(
        tasks.c.due_ms <= now_ms + SOON_MS,
        or_(tasks.c.due_told_ms.is_(None), tasks.c.due_told_ms != tasks.c.due_ms),
        tasks.c.status != TaskStatus.DONE.value,
    )
