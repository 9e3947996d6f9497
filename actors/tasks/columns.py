"""Columns in the database: how full they are, and where in them a task can stand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import frozen
from sqlalchemy import Connection, Row, and_, func, or_, select, update

from actors.tasks.asked import Asked, conflict
from actors.tasks.journal import Journal
from actors.tasks.positions import LONGEST, SHORT, key_between, keys_between
from actors.tasks.rows import find_task
from actors.tasks.rules import has_room
from actors.tasks.tables import board_limits, tasks
from protocol.task_model import Task, TaskStatus

__all__ = ["Column", "check_room", "last_position", "limits_of", "position_beside"]

WINDOW = 32


@frozen
class Column:
    """One column of one board."""

    client_id: str
    project: str
    status: TaskStatus

    def condition(self, but: str | None = None) -> Any:
        """Its tasks, without the one of the id ``but``."""
        here = and_(
            tasks.c.client_id == self.client_id,
            tasks.c.project == self.project,
            tasks.c.status == self.status.value,
        )
        return here if but is None else and_(here, tasks.c.id != but)


def limits_of(connection: Connection, client_id: str, project: str) -> dict[TaskStatus, int]:
    """The limits of a board's columns, of those that have one."""
    rows = connection.execute(
        select(board_limits.c.status, board_limits.c.most).where(
            board_limits.c.client_id == client_id, board_limits.c.project == project
        )
    )
    return {TaskStatus(row.status): row.most for row in rows}


def check_room(connection: Connection, asked: Asked[Any], column: Column, *, force: bool, current: Task | None) -> None:
    """Refuse with `conflict` where one more task would be over the column's limit."""
    most = limits_of(connection, column.client_id, column.project).get(column.status)
    if force or most is None:
        return
    count = connection.execute(select(func.count()).select_from(tasks).where(column.condition())).scalar_one()
    if not has_room(count, most):
        raise conflict(
            asked,
            "status",
            f"the column {column.status.value} of {column.project!r} may have {most} tasks and has {count}; "
            "`force` goes over the limit",
            current,
        )


def last_position(connection: Connection, column: Column, but: str | None = None) -> str:
    """A key below all others of the column."""
    last = connection.scalar(
        select(tasks.c.position).where(column.condition(but)).order_by(tasks.c.position.desc()).limit(1)
    )
    return key_between(last, None)


def position_beside(
    connection: Connection, asked: Asked[Any], column: Column, journal: Journal, moved: str, current: Task
) -> str:
    """The key for a task that goes just before or after another, or last; deals keys out anew where one is too long."""
    before, after = asked.data.before, asked.data.after
    anchor_id = before or after
    if anchor_id is None:
        return last_position(connection, column, moved)
    name = "before" if before is not None else "after"
    for _ in range(2):
        anchor = connection.execute(
            select(tasks.c.id, tasks.c.position).where(column.condition(moved), tasks.c.id == anchor_id)
        ).first()
        if anchor is None:
            raise conflict(asked, name, f"this task is not in the column {column.status.value}", current)
        neighbour = _neighbour(connection, column, anchor, moved, above=before is not None)
        key = key_between(neighbour, anchor.position) if before else key_between(anchor.position, neighbour)
        if len(key) <= LONGEST:
            return key
        _deal_out(connection, column, anchor, journal, moved)
    raise AssertionError("keys that were dealt out anew leave room")


def _neighbour(connection: Connection, column: Column, anchor: Row[Any, Any], moved: str, *, above: bool) -> str | None:
    """Position of the task next to the anchor; None at the column's end."""
    place = tasks.c.position
    beyond = place < anchor.position if above else place > anchor.position
    neighbour: str | None = connection.scalar(
        select(place).where(column.condition(moved), beyond).order_by(place.desc() if above else place).limit(1)
    )
    return neighbour


def _deal_out(connection: Connection, column: Column, anchor: Row[Any, Any], journal: Journal, moved: str) -> None:
    """Give the tasks around the anchor short keys in their order, and tell of each; versions stay as they are.

    The window grows until it reaches keys that leave room; long ones nest, so a few dozen tasks are enough.
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
    for row, key in zip(rows, keys, strict=True):
        connection.execute(update(tasks).where(tasks.c.id == row.id).values(position=key))
    for row in rows:
        stored = find_task(connection, column.client_id, row.id)
        assert stored is not None
        journal.tell("task_moved", stored.task)


def _side(
    connection: Connection, column: Column, anchor: Row[Any, Any], moved: str, size: int, *, is_above: bool
) -> tuple[Sequence[Row[Any, Any]], str | None]:
    """Up to ``size`` tasks next to the anchor, nearest first, and the position of the one beyond them."""
    place = tasks.c.position
    beyond = (
        or_(place < anchor.position, and_(place == anchor.position, tasks.c.id < anchor.id))
        if is_above
        else or_(place > anchor.position, and_(place == anchor.position, tasks.c.id > anchor.id))
    )
    order = (place.desc(), tasks.c.id.desc()) if is_above else (place, tasks.c.id)
    rows = connection.execute(
        select(tasks.c.id, place).where(column.condition(moved), beyond).order_by(*order).limit(size + 1)
    ).all()
    bound: str | None = rows[size].position if len(rows) > size else None
    return rows[:size], bound
