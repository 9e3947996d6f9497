"""Queries: a single task, pages of tasks, boards, and the history of a task."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec
from attrs import evolve, frozen
from sqlalchemy import ColumnElement, Connection, exists, func, select, tuple_

from actors.errors import CommandError
from actors.tasks.context import CommandContext, existing_task, not_found
from actors.tasks.rows import read_tasks, searchable
from actors.tasks.tables import history, task_dependencies, task_tags, tasks
from actors.tasks.wip_limits import limits_of
from protocol.codec import encode, unstructure, wire_time
from protocol.errors import ErrorCode
from protocol.task_answers import Board, BoardColumn, HistoryEntry, HistoryPage, TaskPage
from protocol.task_model import Task, TaskStatus, parse_moment_ms
from protocol.tasks import TaskBoard, TaskFilter, TaskGet, TaskHistory, TaskList

__all__ = [
    "Cursor",
    "blocked",
    "filters",
    "get_task",
    "list_tasks",
    "read_board",
    "read_cursor",
    "read_history",
    "write_cursor",
]

PAGE_BYTES = 768 * 1024
"""Size of the tasks in one answer as JSON, well within a frame."""
NO_DUE_MS = 2**61
"""Sorts tasks without a due date after all others."""


@frozen
class _Order:
    """A sort order of listings."""

    key: ColumnElement[Any]
    kind: type[int] | type[str]


ORDERS = {
    "created": _Order(tasks.c.created_ms, int),
    "updated": _Order(tasks.c.updated_ms, int),
    "priority": _Order(tasks.c.priority, int),
    "position": _Order(tasks.c.position, str),
}


def get_task(connection: Connection, context: CommandContext[TaskGet]) -> Task:
    """Return one task."""
    return existing_task(connection, context).task


def list_tasks(connection: Connection, context: CommandContext[TaskList]) -> TaskPage:
    """Return a page of tasks, paginated by key and id, so that concurrent changes do not shift pages."""
    data = context.data
    is_ascending = data.order == "ascending"
    if data.sort == "due":
        # Tasks without a date come last in either direction.
        order = _Order(func.coalesce(tasks.c.due_ms, NO_DUE_MS if is_ascending else -1), int)
    else:
        order = ORDERS[data.sort]
    listing = unstructure(evolve(data, cursor=None, limit=1))
    conditions = [tasks.c.client_id == context.client_id, *filters(data)]
    place = tuple_(order.key, tasks.c.id)
    if data.cursor is not None:
        cursor = read_cursor(data.cursor, listing, order.kind)
        if cursor is None:
            # Treated like an unknown id, because only the server creates cursors.
            raise CommandError(
                ErrorCode.NOT_FOUND, "the cursor does not belong to this listing", field=f"{context.path}.cursor"
            )
        reached = tuple_(cursor.value, cursor.task_id)
        conditions.append(place > reached if is_ascending else place < reached)
    ordered = (order.key, tasks.c.id) if is_ascending else (order.key.desc(), tasks.c.id.desc())
    rows = connection.execute(
        select(tasks, order.key.label("sort_key")).where(*conditions).order_by(*ordered).limit(data.limit + 1)
    ).all()
    found = fitting(read_tasks(connection, rows[: data.limit]), PAGE_BYTES)
    next_cursor = None
    if len(rows) > len(found):
        last = rows[len(found) - 1]
        next_cursor = write_cursor(Cursor(last.sort_key, last.id), listing)
    return TaskPage(tasks=found, next_cursor=next_cursor)


def filters(data: TaskFilter) -> list[ColumnElement[bool]]:
    """Return the conditions of a filter."""
    found: list[ColumnElement[bool]] = []
    if data.project is not None:
        found.append(tasks.c.project == data.project)
    if data.status is not None:
        found.append(tasks.c.status.in_([one.value for one in data.status]))
    if data.priority is not None:
        found.append(tasks.c.priority.in_([one.rank for one in data.priority]))
    if data.assignee is not None:
        found.append(tasks.c.assignee == data.assignee)
    if data.tags is not None:
        found.append(exists().where(task_tags.c.task_id == tasks.c.id, task_tags.c.tag.in_(data.tags)))
    if data.is_blocked is not None:
        found.append(blocked() if data.is_blocked else ~blocked())
    if data.search is not None:
        found.append(tasks.c.search_text.contains(searchable(data.search), autoescape=True))
    for name, column in (("due", tasks.c.due_ms), ("created", tasks.c.created_ms), ("updated", tasks.c.updated_ms)):
        before, after = getattr(data, f"{name}_before"), getattr(data, f"{name}_after")
        if before is not None:
            found.append(column < parse_moment_ms(before))
        if after is not None:
            found.append(column >= parse_moment_ms(after))
    return found


def blocked() -> ColumnElement[bool]:
    """Condition: a dependency is not done."""
    other = tasks.alias("other")
    return exists().where(
        task_dependencies.c.task_id == tasks.c.id,
        other.c.id == task_dependencies.c.depends_on,
        other.c.status != TaskStatus.DONE.value,
    )


def fitting(found: list[Task], most_bytes: int) -> list[Task]:
    """Return as many tasks as fit, at least one."""
    # JSON takes at most six bytes for a character, so most pages need not be measured.
    if 6 * sum(_characters(one) for one in found) <= most_bytes:
        return found
    size = 0
    for count, one in enumerate(found):
        size += len(encode(unstructure(one)))
        if size > most_bytes and count:
            return found[:count]
    return found


def _characters(task: Task) -> int:
    texts = 500 + len(task.title) + len(task.description or "") + len(task.ai_analysis or "")
    extras = sum(len(one.name) + len(one.reference) + 100 for one in task.attachments)
    decision = task.agent_decision
    spoken = (
        0 if decision is None else 200 + len(decision.recommendation + decision.reasoning + (decision.feedback or ""))
    )
    return texts + extras + spoken + sum(map(len, task.tags)) + 40 * len(task.dependencies)


def read_board(connection: Connection, context: CommandContext[TaskBoard]) -> Board:
    """Return all columns of a project, each with as many tasks as fit."""
    data = context.data
    limits = limits_of(connection, context.client_id, data.project)
    counts = counts_by_status(connection, context.client_id, data.project)
    columns: list[BoardColumn] = []
    for status in TaskStatus:
        count = counts.get(status, 0)
        page = TaskPage(tasks=[])
        if count:
            wanted = TaskList(
                project=data.project, status=[status], sort="position", order="ascending", limit=data.limit
            )
            page = list_tasks(connection, context.part(wanted, ""))
            page = _shortened(page, PAGE_BYTES // len(TaskStatus), wanted)
        columns.append(
            BoardColumn(
                status=status, tasks=page.tasks, count=count, limit=limits.get(status), next_cursor=page.next_cursor
            )
        )
    return Board(project=data.project, columns=columns, count=sum(counts.values()))


def _shortened(page: TaskPage, most_bytes: int, listing: TaskList) -> TaskPage:
    found = fitting(page.tasks, most_bytes)
    if len(found) == len(page.tasks):
        return page
    cursor = write_cursor(Cursor(found[-1].position, found[-1].id), unstructure(evolve(listing, cursor=None, limit=1)))
    return TaskPage(tasks=found, next_cursor=cursor)


def counts_by_status(connection: Connection, client_id: str, project: str | None) -> dict[TaskStatus, int]:
    """Count the tasks in each column, of one project or of all."""
    conditions = [tasks.c.client_id == client_id]
    if project is not None:
        conditions.append(tasks.c.project == project)
    rows = connection.execute(
        select(tasks.c.status, func.count().label("found")).where(*conditions).group_by(tasks.c.status)
    )
    return {TaskStatus(row.status): row.found for row in rows}


def read_history(connection: Connection, context: CommandContext[TaskHistory]) -> HistoryPage:
    """Return the history of a task, newest first, even if it was deleted."""
    data = context.data
    conditions = [history.c.client_id == context.client_id, history.c.task_id == data.task_id]
    if data.before is not None:
        conditions.append(history.c.number < data.before)
    rows = connection.execute(
        select(history).where(*conditions).order_by(history.c.number.desc()).limit(data.limit + 1)
    ).all()
    if not rows and data.before is None:
        raise not_found(context)
    entries = [
        HistoryEntry(
            number=row.number,
            task_id=row.task_id,
            version=row.version,
            kind=row.kind,
            time=wire_time(row.time_ms / 1000),
            device_id=row.device_id,
            changes=msgspec.json.decode(row.changes),
        )
        for row in rows[: data.limit]
    ]
    entries = _fitting_entries(entries)
    return HistoryPage(entries=entries, next_before=entries[-1].number if len(rows) > len(entries) else None)


def _fitting_entries(entries: Sequence[HistoryEntry]) -> list[HistoryEntry]:
    size = 0
    for count, one in enumerate(entries):
        size += len(encode(unstructure(one)))
        if size > PAGE_BYTES and count:
            return list(entries[:count])
    return list(entries)


def count_tasks(connection: Connection, client_id: str) -> int:
    """Count the tasks of a client on all its boards."""
    return sum(counts_by_status(connection, client_id, None).values())


@frozen
class Cursor:
    """The last task of a page."""

    value: int | str
    """The sort key's value."""
    task_id: str


def write_cursor(cursor: Cursor, listing: Any) -> str:
    """Encode a cursor for the next page of the same ``listing`` (JSON values: filters, sort and order)."""
    return base64.urlsafe_b64encode(encode([_digest(listing), cursor.value, cursor.task_id])).decode().rstrip("=")


def read_cursor(text: str, listing: Any, kind: type[int] | type[str]) -> Cursor | None:
    """Decode a cursor; None if it is invalid or belongs to another listing."""
    try:
        parts = msgspec.json.decode(base64.b64decode(text + "=" * (-len(text) % 4), altchars="-_", validate=True))
    except (binascii.Error, msgspec.DecodeError, ValueError):
        return None
    match parts:
        case [str(digest), value, str(task_id)] if (
            digest == _digest(listing)
            and type(value) is kind
            and "\0" not in f"{value}{task_id}"
            and (kind is str or abs(int(value)) < 2**62)
        ):
            return Cursor(value, task_id)
    return None


def _digest(listing: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(listing, order="deterministic")).hexdigest()[:16]
