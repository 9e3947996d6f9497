"""Conversion of tasks between rows and wire classes; reading and writing of single tasks."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from attrs import frozen
from sqlalchemy import Connection, Row, bindparam, delete, insert, select, update

from actors.tasks.rules import is_blocked, requires_approval
from actors.tasks.tables import task_dependencies, task_tags, tasks
from protocol.codec import encode, unstructure, wire_time
from protocol.task_model import (
    AgentDecision,
    AnalysisStatus,
    Approval,
    Attachment,
    Task,
    TaskPriority,
    TaskStatus,
    parse_moment_ms,
)
from protocol.validation import one_form

__all__ = [
    "StoredTask",
    "dependencies_of",
    "dependency_edges",
    "dependents_of",
    "find_task",
    "insert_task",
    "read_tasks",
    "replace_task",
    "search_text",
    "searchable",
]

PRIORITIES = tuple(TaskPriority)
_STATUS = {one.value: one for one in TaskStatus}
_ANALYSIS = {one.value: one for one in AnalysisStatus}
IDS_AT_ONCE = 500

# Built once: building a statement costs more than running it.
_FIND = select(tasks).where(tasks.c.id == bindparam("task_id"), tasks.c.client_id == bindparam("client_id"))
_DEPENDENCIES = (
    select(task_dependencies.c.task_id, task_dependencies.c.depends_on, tasks.c.status)
    .join(tasks, tasks.c.id == task_dependencies.c.depends_on)
    .where(task_dependencies.c.task_id.in_(bindparam("task_ids", expanding=True)))
    .order_by(task_dependencies.c.task_id, task_dependencies.c.place)
)
_DEPENDENTS = (
    select(task_dependencies.c.task_id)
    .where(task_dependencies.c.depends_on == bindparam("task_id"))
    .order_by(task_dependencies.c.task_id)
)
_INSERT = insert(tasks)
_REPLACE = update(tasks).where(tasks.c.id == bindparam("task_id"))
_INSERT_TAGS = insert(task_tags)
_DELETE_TAGS = delete(task_tags).where(task_tags.c.task_id == bindparam("of_task"))
_INSERT_DEPENDENCIES = insert(task_dependencies)
_DELETE_DEPENDENCIES = delete(task_dependencies).where(task_dependencies.c.task_id == bindparam("of_task"))


@frozen
class StoredTask:
    """A task with data internal to the service."""

    task: Task
    created_ms: int
    updated_ms: int
    entered_ms: int
    """Time at which it entered its column, POSIX milliseconds."""
    started_ms: int | None
    """Time at which work on it began."""


def find_task(connection: Connection, client_id: str, task_id: str) -> StoredTask | None:
    """Return one task of a client, or None."""
    row = connection.execute(_FIND, {"task_id": task_id, "client_id": client_id}).first()
    return None if row is None else _stored(row, dependencies_of(connection, [task_id]).get(task_id, {}))


def read_tasks(connection: Connection, rows: Sequence[Row[Any]]) -> list[Task]:
    """Convert complete rows to tasks, with their dependencies."""
    dependencies = dependencies_of(connection, [row.id for row in rows])
    return [_task(row, dependencies.get(row.id, {})) for row in rows]


def dependencies_of(connection: Connection, task_ids: Sequence[str]) -> dict[str, dict[str, TaskStatus]]:
    """Return the dependencies of each task in order, with their status."""
    found: dict[str, dict[str, TaskStatus]] = {}
    for start in range(0, len(task_ids), IDS_AT_ONCE):
        for row in connection.execute(_DEPENDENCIES, {"task_ids": task_ids[start : start + IDS_AT_ONCE]}):
            found.setdefault(row.task_id, {})[row.depends_on] = _STATUS[row.status]
    return found


def dependency_edges(connection: Connection, task_ids: Collection[str]) -> dict[str, list[str]]:
    """Return the ids that each task depends on."""
    return {one: list(on) for one, on in dependencies_of(connection, list(task_ids)).items()}


def dependents_of(connection: Connection, task_id: str) -> Sequence[str]:
    """Return the ids of the tasks that depend on one, in order."""
    found: Sequence[str] = connection.scalars(_DEPENDENTS, {"task_id": task_id}).all()
    return found


def insert_task(connection: Connection, stored: StoredTask) -> None:
    """Store a new task with its tags and dependencies."""
    connection.execute(_INSERT, {"id": stored.task.id, **_columns(stored)})
    _insert_tags(connection, stored.task)
    _insert_dependencies(connection, stored.task)


def replace_task(connection: Connection, before: Task, stored: StoredTask) -> None:
    """Store a changed task."""
    task = stored.task
    connection.execute(_REPLACE, {"task_id": task.id, **_columns(stored)})
    if before.tags != task.tags:
        connection.execute(_DELETE_TAGS, {"of_task": task.id})
        _insert_tags(connection, task)
    if before.dependencies != task.dependencies:
        connection.execute(_DELETE_DEPENDENCIES, {"of_task": task.id})
        _insert_dependencies(connection, task)


def search_text(title: str, description: str | None, tags: Iterable[str]) -> str:
    """The text that a search is applied to."""
    return searchable("\n".join((title, description or "", *tags)))


def searchable(text: str) -> str:
    """Normalize and case-fold a text, for both the searched text and the search term."""
    folded: str = one_form(one_form(text).casefold())
    return folded


def _insert_tags(connection: Connection, task: Task) -> None:
    if task.tags:
        connection.execute(_INSERT_TAGS, [{"task_id": task.id, "tag": tag} for tag in task.tags])


def _insert_dependencies(connection: Connection, task: Task) -> None:
    if task.dependencies:
        connection.execute(
            _INSERT_DEPENDENCIES,
            [{"task_id": task.id, "depends_on": one, "place": place} for place, one in enumerate(task.dependencies)],
        )


def _columns(stored: StoredTask) -> dict[str, Any]:
    task = stored.task
    return {
        "client_id": task.client_id,
        "project": task.project,
        "title": task.title,
        "description": task.description,
        "status": task.status.value,
        "priority": task.priority.rank,
        "position": task.position,
        "tags": _json(task.tags),
        "attachments": _json(unstructure(task.attachments)),
        "agent_decision": None if task.agent_decision is None else _json(unstructure(task.agent_decision)),
        "assignee": task.assignee,
        "estimate_hours": task.estimate_hours,
        "actual_hours": task.actual_hours,
        "due_ms": None if task.due is None else parse_moment_ms(task.due),
        "confidence": task.confidence,
        "ai_analysis": task.ai_analysis,
        "ai_analysis_status": task.ai_analysis_status.value,
        "ai_analysis_confidence": task.ai_analysis_confidence,
        "version": task.version,
        "created_ms": stored.created_ms,
        "updated_ms": stored.updated_ms,
        "entered_ms": stored.entered_ms,
        "started_ms": stored.started_ms,
        "search_text": search_text(task.title, task.description, task.tags),
    }


def _json(value: Any) -> str:
    return encode(value).decode()


def _stored(row: Row[Any], dependencies: Mapping[str, TaskStatus]) -> StoredTask:
    return StoredTask(_task(row, dependencies), row.created_ms, row.updated_ms, row.entered_ms, row.started_ms)


def _task(row: Row[Any], dependencies: Mapping[str, TaskStatus]) -> Task:
    decision = None if row.agent_decision is None else _decision(row.agent_decision)
    return Task(
        id=row.id,
        client_id=row.client_id,
        project=row.project,
        title=row.title,
        description=row.description,
        status=_STATUS[row.status],
        priority=PRIORITIES[row.priority],
        position=row.position,
        tags=msgspec.json.decode(row.tags),
        assignee=row.assignee,
        estimate_hours=row.estimate_hours,
        actual_hours=row.actual_hours,
        due=None if row.due_ms is None else wire_time(row.due_ms / 1000),
        dependencies=list(dependencies),
        attachments=[Attachment(**one) for one in msgspec.json.decode(row.attachments)],
        confidence=row.confidence,
        agent_decision=decision,
        ai_analysis=row.ai_analysis,
        ai_analysis_status=_ANALYSIS[row.ai_analysis_status],
        ai_analysis_confidence=row.ai_analysis_confidence,
        is_blocked=is_blocked(dependencies.values()),
        requires_approval=requires_approval(row.confidence, decision),
        version=row.version,
        created=wire_time(row.created_ms / 1000),
        updated=wire_time(row.updated_ms / 1000),
    )


def _decision(text: str) -> AgentDecision:
    fields = msgspec.json.decode(text)
    return AgentDecision(**{**fields, "approval": Approval(fields["approval"])})
