"""Board columns in the database: enforces WIP limits and assigns positions of tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import frozen
from sqlalchemy import Connection, Row, and_, bindparam, func, or_, select, update

from actors.tasks.change_recorder import ChangeRecorder
from actors.tasks.context import CommandContext, conflict
from actors.tasks.fractional_index import LONGEST, SHORT, key_between, keys_between
from actors.tasks.rows import find_task
from actors.tasks.rules import is_below_limit
from actors.tasks.tables import board_limits, tasks
from protocol.task_model import Task, TaskStatus

__all__ = ["Column", "check_wip_limit", "end_of_column", "last_position", "limits_of", "position_beside"]

WINDOW = 32

# Built once, with parameters: building a statement costs more than running it.
_HERE = and_(
    tasks.c.client_id == bindparam("client_id"),
    tasks.c.project == bindparam("project"),
    tasks.c.status == bindparam("status"),
)
_BUT = tasks.c.id != bindparam("but")
_place = tasks.c.position
_COUNT = select(func.count()).select_from(tasks).where(_HERE)
_LAST = select(_place).where(_HERE, _BUT).order_by(_place.desc()).limit(1)
_LIMITS = select(board_limits.c.status, board_limits.c.most).where(
    board_limits.c.client_id == bindparam("client_id"), board_limits.c.project == bindparam("project")
)
_LIMIT = select(board_limits.c.most).where(
    board_limits.c.client_id == bindparam("client_id"),
    board_limits.c.project == bindparam("project"),
    board_limits.c.status == bindparam("status"),
)
_LIMIT_AND_LAST = select(_LIMIT.scalar_subquery(), _LAST.scalar_subquery())
_ANCHOR = select(tasks.c.id, _place).where(_HERE, tasks.c.id == bindparam("anchor"))
_ABOVE = select(_place).where(_HERE, _BUT, _place < bindparam("position")).order_by(_place.desc()).limit(1)
_BELOW = select(_place).where(_HERE, _BUT, _place > bindparam("position")).order_by(_place).limit(1)
_MOVE_TO = update(tasks).where(tasks.c.id == bindparam("task_id")).values(position=bindparam("key"))


@frozen
class Column:
    """A column of a board."""

    client_id: str
    project: str
    status: TaskStatus

    def parameters(self, but: str = "", **more: str) -> dict[str, str]:
        """Parameters of the statements above; ``but`` is the id of a task to exclude."""
        return {
            "client_id": self.client_id,
            "project": self.project,
            "status": self.status.value,
            "but": but,
            **more,
        }


def limits_of(connection: Connection, client_id: str, project: str) -> dict[TaskStatus, int]:
    """Return the limits of a board's columns that have one."""
    rows = connection.execute(_LIMITS, {"client_id": client_id, "project": project})
    return {TaskStatus(row.status): row.most for row in rows}


def check_wip_limit(
    connection: Connection, context: CommandContext[Any], column: Column, *, force: bool, current: Task | None
) -> None:
    """Raise `conflict` if another task would exceed the column's limit."""
    if not force:
        most = connection.scalar(_LIMIT, column.parameters())
        _check_wip_limit(connection, context, column, most, current)


def end_of_column(
    connection: Connection,
    context: CommandContext[Any],
    column: Column,
    *,
    force: bool,
    current: Task | None,
    moved: str = "",
) -> str:
    """Combine `check_wip_limit` and `last_position` in one query."""
    most, last = connection.execute(_LIMIT_AND_LAST, column.parameters(moved)).one()
    if not force:
        _check_wip_limit(connection, context, column, most, current)
    return key_between(last, None)


def _check_wip_limit(
    connection: Connection, context: CommandContext[Any], column: Column, most: int | None, current: Task | None
) -> None:
    if most is None:
        return
    count = connection.execute(_COUNT, column.parameters()).scalar_one()
    if not is_below_limit(count, most):
        raise conflict(
            context,
            "status",
            f"the column {column.status.value} of {column.project!r} may have at most {most} tasks and has {count}; "
            "exceed the limit with `force`",
            current,
        )


def last_position(connection: Connection, column: Column, moved: str) -> str:
    """Return a key after the whole column, except the task that is moved."""
    return key_between(connection.scalar(_LAST, column.parameters(moved)), None)


def position_beside(
    connection: Connection,
    context: CommandContext[Any],
    column: Column,
    recorder: ChangeRecorder,
    moved: str,
    current: Task,
) -> str:
    """Return the key for a task before or after another, or last. Rebalances keys if one becomes too long."""
    before, after = context.data.before, context.data.after
    anchor_id = before or after
    if anchor_id is None:
        return last_position(connection, column, moved)
    name = "before" if before is not None else "after"
    for _ in range(2):
        anchor = connection.execute(_ANCHOR, column.parameters(anchor=anchor_id)).first()
        if anchor is None:
            raise conflict(context, name, f"this task is not in the column {column.status.value}", current)
        beyond = _ABOVE if before is not None else _BELOW
        neighbour = connection.scalar(beyond, column.parameters(moved, position=anchor.position))
        key = key_between(neighbour, anchor.position) if before else key_between(anchor.position, neighbour)
        if len(key) <= LONGEST:
            return key
        _rebalance(connection, column, anchor, recorder, moved)
    raise AssertionError("rebalanced keys have space between them")


def _rebalance(
    connection: Connection, column: Column, anchor: Row[Any, Any], recorder: ChangeRecorder, moved: str
) -> None:
    """Rebalance the keys of the tasks around the anchor, and publish the tasks. Versions do not change.

    The window grows until it reaches keys with enough space between them. Long keys nest, so a few dozen tasks
    suffice.
    """
    size = WINDOW
    while True:
        above, low = _side(connection, column, anchor, moved, size, is_above=True)
        below, high = _side(connection, column, anchor, moved, size, is_above=False)
        rows = [*reversed(above), anchor, *below]
        keys = keys_between(low, high, len(rows))
        if max(map(len, keys)) <= SHORT or (low is None and high is None):
            break
        size *= 2
    connection.execute(_MOVE_TO, [{"task_id": row.id, "key": key} for row, key in zip(rows, keys, strict=True)])
    for row in rows:
        stored = find_task(connection, column.client_id, row.id)
        assert stored is not None
        recorder.publish("task_moved", stored.task)


def _side(
    connection: Connection, column: Column, anchor: Row[Any, Any], moved: str, size: int, *, is_above: bool
) -> tuple[Sequence[Row[Any, Any]], str | None]:
    """Return up to ``size`` tasks next to the anchor, nearest first, and the position of the one after them."""
    beyond = (
        or_(_place < anchor.position, and_(_place == anchor.position, tasks.c.id < anchor.id))
        if is_above
        else or_(_place > anchor.position, and_(_place == anchor.position, tasks.c.id > anchor.id))
    )
    order = (_place.desc(), tasks.c.id.desc()) if is_above else (_place, tasks.c.id)
    rows = connection.execute(
        select(tasks.c.id, _place).where(_HERE, _BUT, beyond).order_by(*order).limit(size + 1), column.parameters(moved)
    ).all()
    bound: str | None = rows[size].position if len(rows) > size else None
    return rows[:size], bound
