"""Due dates that are near: told once for each date that a task has."""

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
"""A due date is near from a day before it."""
TOO_EARLY_MS = 3_600_000
"""A due date that was told so long before it was near was told by a clock that ran ahead."""
TOLD_AT_ONCE = 100


@frozen(kw_only=True)
class DueTasksQuery:
    """Asks whose tasks are due soon."""

    now_ms: int
    with_told_ahead: bool = False
    """Whether to look for those as well that a clock ahead of now told too early."""


def find_clients_with_due(connection: Connection, wanted: DueTasksQuery) -> list[str]:
    """Client ids with tasks that are due soon and were not told of."""
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
    """Trigger `due_soon` for such tasks of one client; returns how many.

    What a clock ahead of now told too early is told again in its time.
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
