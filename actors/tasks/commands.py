"""Changes of a single task: create, update, move, delete, decide. Each runs within a write transaction of storage."""

from __future__ import annotations

import uuid
from typing import Any

from attrs import evolve
from sqlalchemy import Connection, bindparam, delete, literal, select

from actors.errors import CommandError
from actors.tasks.change_recorder import ChangeRecorder
from actors.tasks.context import CommandContext, conflict, invalid, task_of_version
from actors.tasks.rows import StoredTask, dependency_edges, dependents_of, find_task, insert_task, replace_task
from actors.tasks.rules import (
    DECISIONS,
    find_cycle,
    is_blocked,
    requires_approval,
    started_at,
    transition_problem,
)
from actors.tasks.tables import tasks
from actors.tasks.wip_limits import Column, check_wip_limit, end_of_column, position_beside
from protocol.codec import encode, wire_time
from protocol.errors import ErrorCode
from protocol.task_answers import DeletedTask
from protocol.task_model import AgentDecision, AnalysisStatus, Approval, Proposal, Task, TaskStatus, parse_moment_ms
from protocol.tasks import TaskCreate, TaskDecide, TaskDelete, TaskMove, TaskUpdate

__all__ = ["change_task", "create_task", "decide_task", "delete_task", "move_task", "save_task"]

TASK_BYTES = 15 * 1024
"""Maximum size of a task as JSON without its analysis; with the longest one, an event stays within 32 KiB."""
# Built once: building a statement costs more than running it.
_STATES = select(tasks.c.id, tasks.c.status).where(
    tasks.c.client_id == bindparam("client_id"), tasks.c.id.in_(bindparam("wanted", expanding=True))
)
MAXIMUM_TASKS = 100_000
"""Tasks of one client."""
# Walks over index entries up to the limit, so that few tasks cost little and no counter has to be maintained.
_IS_FULL = select(literal(1)).where(tasks.c.client_id == bindparam("client_id")).limit(1).offset(bindparam("others"))
_DELETE = delete(tasks).where(tasks.c.id == bindparam("task_id"))
LISTS = frozenset({"tags", "dependencies", "attachments"})
PLAIN_FIELDS = (
    "title", "description", "project", "status", "priority", "tags", "assignee", "estimate_hours", "actual_hours",
    "dependencies", "attachments", "confidence",
)  # fmt: skip


def create_task(connection: Connection, context: CommandContext[TaskCreate], recorder: ChangeRecorder) -> Task:
    """Create a task at the end of its column."""
    data = context.data
    if connection.scalar(_IS_FULL, {"client_id": context.client_id, "others": MAXIMUM_TASKS - 1}) is not None:
        raise CommandError(ErrorCode.CONFLICT, f"{MAXIMUM_TASKS} tasks exist already; delete some first")
    column = Column(context.client_id, data.project, data.status)
    states = _known_dependencies(connection, context, data.dependencies)
    position = end_of_column(connection, context, column, force=data.force, current=None)
    decision = None if data.agent_decision is None else _open_decision(data.agent_decision)
    now = wire_time(context.now_ms / 1000)
    task = Task(
        id=str(uuid.uuid4()),
        client_id=context.client_id,
        project=data.project,
        title=data.title,
        description=data.description,
        status=data.status,
        priority=data.priority,
        position=position,
        tags=data.tags,
        assignee=data.assignee,
        estimate_hours=data.estimate_hours,
        actual_hours=data.actual_hours,
        due=_canonical(data.due),
        dependencies=data.dependencies,
        attachments=data.attachments,
        confidence=data.confidence,
        agent_decision=decision,
        ai_analysis_status=AnalysisStatus.PENDING if data.analyze_with_ai else AnalysisStatus.NONE,
        is_blocked=is_blocked(states),
        requires_approval=requires_approval(data.confidence, decision),
        version=1,
        created=now,
        updated=now,
    )
    _check_size(context, task, recorder)
    stored = StoredTask(
        task=task,
        created_ms=context.now_ms,
        updated_ms=context.now_ms,
        entered_ms=context.now_ms,
        started_ms=started_at(None, task.status, None, context.now_ms),
    )
    insert_task(connection, stored)
    recorder.write_history(connection, context, "created", None, stored)
    recorder.publish("task_created", task)
    recorder.trigger("task_created", task, is_own_action=True)
    recorder.record_change(None, task)
    return task


def change_task(connection: Connection, context: CommandContext[TaskUpdate], recorder: ChangeRecorder) -> Task:
    """Change fields of a task. A new column or project moves it to the end of that column."""
    data = context.data
    before = task_of_version(connection, context)
    changed: dict[str, Any] = {name: getattr(data, name) for name in PLAIN_FIELDS if getattr(data, name) is not None}
    if data.due is not None:
        changed["due"] = _canonical(data.due)
    if data.agent_decision is not None:
        changed["agent_decision"] = _open_decision(data.agent_decision)
    changed |= {name: [] if name in LISTS else None for name in data.clear}
    after = evolve(before.task, **changed)
    if after.dependencies != before.task.dependencies:
        states = _known_dependencies(connection, context, after.dependencies)
        cycle = find_cycle(after.id, after.dependencies, lambda some: dependency_edges(connection, some))
        if cycle is not None:
            raise conflict(context, "dependencies", f"they form a cycle: {' → '.join(cycle)}", before.task)
        after = evolve(after, is_blocked=is_blocked(states))
    if after == before.task:
        return before.task
    has_moved = (after.status, after.project) != (before.task.status, before.task.project)
    if has_moved:
        column = Column(context.client_id, after.project, after.status)
        _check_transition(context, before.task, column)
        position = end_of_column(
            connection, context, column, force=data.force, current=before.task, moved=before.task.id
        )
        after = evolve(after, position=position)
    return save_task(connection, context, recorder, before, after, kind="moved" if has_moved else "updated")


def move_task(connection: Connection, context: CommandContext[TaskMove], recorder: ChangeRecorder) -> Task:
    """Move a task to a position in a column."""
    before = task_of_version(connection, context)
    column = Column(context.client_id, before.task.project, context.data.status)
    if column.status is not before.task.status:
        _check_transition(context, before.task, column)
        check_wip_limit(connection, context, column, force=context.data.force, current=before.task)
    position = position_beside(connection, context, column, recorder, before.task.id, before.task)
    after = evolve(before.task, status=column.status, position=position)
    return save_task(connection, context, recorder, before, after, kind="moved")


def decide_task(connection: Connection, context: CommandContext[TaskDecide], recorder: ChangeRecorder) -> Task:
    """Record a person's decision."""
    before = task_of_version(connection, context)
    decision = before.task.agent_decision
    if decision is None:
        if not before.task.requires_approval:
            raise conflict(context, "decision", "this task needs no decision", before.task)
        assert before.task.confidence is not None
        decision = AgentDecision(
            recommendation="",
            reasoning="",
            confidence=before.task.confidence,
            requires_approval=True,
            approval=Approval.PENDING,
        )
    wanted = context.data.approval
    if wanted not in DECISIONS[decision.approval]:
        raise conflict(context, "decision", f"this was already {decision.approval.value}", before.task)
    decided = evolve(decision, approval=wanted, feedback=context.data.feedback or decision.feedback)
    return save_task(connection, context, recorder, before, evolve(before.task, agent_decision=decided), kind="decided")


def delete_task(connection: Connection, context: CommandContext[TaskDelete], recorder: ChangeRecorder) -> DeletedTask:
    """Delete a task. If others depend on it this fails, or removes the dependency if forced."""
    stored = task_of_version(connection, context)
    dependents = dependents_of(connection, stored.task.id)
    if dependents and not context.data.force:
        named = ", ".join(dependents[:5]) + (" …" if len(dependents) > 5 else "")
        count = "1 task depends" if len(dependents) == 1 else f"{len(dependents)} tasks depend"
        raise conflict(
            context,
            "task_id",
            f"{count} on it ({named}); delete it anyway with `force`",
            stored.task,
        )
    for one in dependents:
        before = find_task(connection, context.client_id, one)
        assert before is not None, "a dependency belongs to a task of the same client"
        left = [other for other in before.task.dependencies if other != stored.task.id]
        states = _known_dependencies(connection, context, left)
        after = evolve(before.task, dependencies=left, is_blocked=is_blocked(states))
        save_task(connection, context, recorder, before, after, kind="updated")
    recorder.write_history(connection, context, "deleted", stored, stored)
    connection.execute(_DELETE, {"task_id": stored.task.id})
    recorder.deleted(stored.task)
    return DeletedTask(task_id=stored.task.id, version=stored.task.version)


def save_task(
    connection: Connection,
    context: CommandContext[Any],
    recorder: ChangeRecorder,
    before: StoredTask,
    after: Task,
    *,
    kind: str,
) -> Task:
    """Store a changed task as a new version, with history, events and triggers."""
    status = after.status
    task = evolve(
        after,
        version=before.task.version + 1,
        updated=wire_time(context.now_ms / 1000),
        requires_approval=requires_approval(after.confidence, after.agent_decision),
    )
    _check_size(context, task, recorder)
    has_left = status is not before.task.status
    stored = evolve(
        before,
        task=task,
        updated_ms=context.now_ms,
        entered_ms=context.now_ms if has_left else before.entered_ms,
        started_ms=started_at(before.task.status, status, before.started_ms, context.now_ms)
        if has_left
        else before.started_ms,
    )
    replace_task(connection, before.task, stored)
    recorder.write_history(connection, context, kind, before, stored)
    recorder.publish("task_moved" if kind == "moved" else "task_updated", task)
    if has_left:
        statuses = {"from_status": before.task.status.value, "to_status": status.value}
        recorder.trigger("task_moved", task, is_own_action=True, **statuses)
    recorder.record_change(before.task, task)
    recorder.dependents(connection, before.task, task)
    return task


def _check_transition(context: CommandContext[Any], task: Task, column: Column) -> None:
    problem = transition_problem(task.status, column.status)
    if problem is not None:
        raise invalid(context, "status", problem)


def _known_dependencies(connection: Connection, context: CommandContext[Any], wanted: list[str]) -> list[TaskStatus]:
    """Return the status of each dependency. Raises `CommandError` if one is not a task of this client."""
    if not wanted:
        return []
    rows = connection.execute(_STATES, {"client_id": context.client_id, "wanted": wanted})
    states = {row.id: TaskStatus(row.status) for row in rows}
    for index, one in enumerate(wanted):
        if one not in states:
            raise conflict(context, f"dependencies[{index}]", f"task {one} does not exist")
    return [states[one] for one in wanted]


def _open_decision(proposal: Proposal) -> AgentDecision:
    return AgentDecision(
        recommendation=proposal.recommendation,
        reasoning=proposal.reasoning,
        confidence=proposal.confidence,
        requires_approval=proposal.requires_approval,
        approval=Approval.PENDING,
    )


def _canonical(due: str | None) -> str | None:
    """Convert a validated time to UTC in the wire format."""
    milliseconds = None if due is None else parse_moment_ms(due)
    return None if milliseconds is None else wire_time(milliseconds / 1000)


def _check_size(context: CommandContext[Any], task: Task, recorder: ChangeRecorder) -> None:
    plain = recorder.plain(task)
    size = len(encode({name: value for name, value in plain.items() if name != "ai_analysis"}))
    if size > TASK_BYTES:
        raise CommandError(
            ErrorCode.TOO_LARGE,
            f"a task may have at most {TASK_BYTES} bytes as JSON, this one has {size}",
            field=context.path,
        )
