"""Several changes in one transaction: bulk, import, cleanup, and column limits."""

from __future__ import annotations

from sqlalchemy import Connection, delete, func, insert, select

from actors.errors import CommandError
from actors.storage.messages import Outcome
from actors.tasks.change_recorder import ChangeRecorder
from actors.tasks.commands import change_task, create_task, decide_task, delete_task, move_task
from actors.tasks.context import CommandContext, conflict, invalid
from actors.tasks.queries import PAGE_BYTES
from actors.tasks.tables import board_limits, tasks
from protocol.codec import encode, unstructure
from protocol.errors import ErrorCode
from protocol.events import ErrorData
from protocol.task_answers import BulkOutcome, BulkResult, ChangedTask, CleanedTasks, ImportedTasks
from protocol.task_model import TaskStatus
from protocol.tasks import (
    BulkItem,
    ColumnLimits,
    ImportedTask,
    TaskBulk,
    TaskCleanup,
    TaskCreate,
    TaskDelete,
    TaskImport,
    TaskLimits,
    TaskUpdate,
)
from protocol.validation import FieldFault

__all__ = ["change_in_bulk", "clean_up", "import_tasks", "set_limits"]

CLEANED_AT_ONCE = 500
MAXIMUM_LIMITED_BOARDS = 1000
"""Boards of one client that have column limits."""
DAY_MS = 86_400_000


def change_in_bulk(connection: Connection, context: CommandContext[TaskBulk]) -> Outcome[BulkResult]:
    """Apply the items in order: all or none, or each independently."""
    recorder = ChangeRecorder()
    outcomes: list[BulkOutcome] = []
    for index, item in enumerate(context.data.items):
        if context.data.all_or_nothing:
            outcomes.append(_change(connection, context, index, item, recorder))
            continue
        own = ChangeRecorder()
        try:
            with connection.begin_nested():
                outcomes.append(_change(connection, context, index, item, own))
        except CommandError as refusal:
            outcomes.append(BulkOutcome(error=_error(refusal)))
        else:
            recorder.events += own.events
            recorder.triggers += own.triggers
    failed = sum(1 for one in outcomes if one.error is not None)
    result: Outcome[BulkResult] = recorder.outcome(BulkResult(items=_fitting(outcomes), failed=failed))
    return result


def import_tasks(connection: Connection, context: CommandContext[TaskImport]) -> Outcome[ImportedTasks]:
    """Create all tasks or none. A dependency may be the `id` of another task in the same import."""
    named = [one.id for one in context.data.tasks if one.id is not None]
    if len(named) != len(set(named)):
        raise invalid(context, "tasks", "ids must be unique")
    recorder = ChangeRecorder()
    with connection.begin_nested() as savepoint:
        ids = _import_in_order(connection, context, frozenset(named), recorder)
        if context.data.dry_run:
            savepoint.rollback()
            return Outcome(value=ImportedTasks(count=len(ids), task_ids=[], dry_run=True))
    result: Outcome[ImportedTasks] = recorder.outcome(ImportedTasks(count=len(ids), task_ids=ids, dry_run=False))
    return result


def _import_in_order(
    connection: Connection, context: CommandContext[TaskImport], named: frozenset[str], recorder: ChangeRecorder
) -> list[str]:
    """Create the tasks in order of position. Dependencies on later tasks are added at the end."""
    data = context.data
    made: dict[str, str] = {}
    ids: dict[int, str] = {}
    later: list[int] = []
    for index in sorted(range(len(data.tasks)), key=lambda index: data.tasks[index].position or ""):
        one = data.tasks[index]
        part = context.part(one, f"tasks[{index}]")
        is_ready = all(name in made or name not in named for name in one.dependencies)
        wanted = _creation(part, made if is_ready else None, force=data.force)
        ids[index] = create_task(connection, part.part(wanted, ""), recorder).id
        if one.id is not None:
            made[one.id] = ids[index]
        if not is_ready:
            later.append(index)
    for index in later:
        part = context.part(data.tasks[index], f"tasks[{index}]")
        dependencies = _creation(part, made, force=True).dependencies
        update = TaskUpdate(task_id=ids[index], version=1, dependencies=dependencies)
        change_task(connection, part.part(update, ""), recorder)
    return [ids[index] for index in range(len(ids))]


def _creation(context: CommandContext[ImportedTask], made: dict[str, str] | None, *, force: bool) -> TaskCreate:
    """Build the command for one imported task, with its dependencies resolved through ``made``, or without any."""
    names = [] if made is None else [made.get(name, name) for name in context.data.dependencies]
    try:
        return context.data.as_create(names, force=force)
    except FieldFault as fault:
        # Everything else was checked before, so it is a dependency that names no task.
        raise conflict(context, fault.path, f"no such task: {fault.problem}") from None


def clean_up(connection: Connection, context: CommandContext[TaskCleanup]) -> Outcome[CleanedTasks]:
    """Delete tasks that were done long ago, oldest first."""
    data = context.data
    recorder = ChangeRecorder()
    condition = [
        tasks.c.client_id == context.client_id,
        tasks.c.status == TaskStatus.DONE.value,
        tasks.c.entered_ms <= context.now_ms - round(data.older_than_days * DAY_MS),
    ]
    if data.project is not None:
        condition.append(tasks.c.project == data.project)
    if data.dry_run:
        count = connection.execute(select(func.count()).select_from(tasks).where(*condition)).scalar_one()
        return Outcome(value=CleanedTasks(count=count, has_more=False, dry_run=True))
    rows = connection.execute(
        select(tasks.c.id).where(*condition).order_by(tasks.c.entered_ms, tasks.c.id).limit(CLEANED_AT_ONCE + 1)
    ).all()
    chosen = rows[:CLEANED_AT_ONCE]
    for row in chosen:
        # Read at this point: deleting the previous task may have incremented it.
        version = connection.execute(select(tasks.c.version).where(tasks.c.id == row.id)).scalar_one()
        delete_task(connection, context.part(TaskDelete(task_id=row.id, version=version, force=True), ""), recorder)
    cleaned = CleanedTasks(count=len(chosen), has_more=len(rows) > len(chosen), dry_run=False)
    result: Outcome[CleanedTasks] = recorder.outcome(cleaned)
    return result


def set_limits(connection: Connection, context: CommandContext[TaskLimits]) -> Outcome[ColumnLimits]:
    """Replace the limits of a board's columns."""
    project, limits = context.data.project, context.data.limits
    connection.execute(
        delete(board_limits).where(board_limits.c.client_id == context.client_id, board_limits.c.project == project)
    )
    rows = [
        {"client_id": context.client_id, "project": project, "status": status, "most": most}
        for status, most in unstructure(limits).items()
    ]
    if rows:
        others = select(func.count(board_limits.c.project.distinct())).where(
            board_limits.c.client_id == context.client_id
        )
        if connection.execute(others).scalar_one() >= MAXIMUM_LIMITED_BOARDS:
            raise CommandError(
                ErrorCode.CONFLICT,
                f"{MAXIMUM_LIMITED_BOARDS} boards have limits already; remove those of one first",
                field="data.project",
            )
        connection.execute(insert(board_limits), rows)
    return Outcome(value=limits, keeps_nothing=not rows)


def _change(
    connection: Connection, context: CommandContext[TaskBulk], index: int, item: BulkItem, recorder: ChangeRecorder
) -> BulkOutcome:
    where = f"items[{index}]"
    if item.create is not None:
        return BulkOutcome(task=create_task(connection, context.part(item.create, f"{where}.create"), recorder))
    if item.update is not None:
        return BulkOutcome(task=change_task(connection, context.part(item.update, f"{where}.update"), recorder))
    if item.move is not None:
        return BulkOutcome(task=move_task(connection, context.part(item.move, f"{where}.move"), recorder))
    if item.decide is not None:
        return BulkOutcome(task=decide_task(connection, context.part(item.decide, f"{where}.decide"), recorder))
    assert item.delete is not None, "an item holds exactly one change"
    return BulkOutcome(deleted=delete_task(connection, context.part(item.delete, f"{where}.delete"), recorder))


def _fitting(outcomes: list[BulkOutcome]) -> list[BulkOutcome]:
    """Return as many complete tasks as fit into an answer, and only the new versions of the others."""
    left_bytes = PAGE_BYTES
    found: list[BulkOutcome] = []
    for one in outcomes:
        size = len(encode(unstructure(one)))
        if size > left_bytes:
            found.append(_shortened(one))
        else:
            found.append(one)
            left_bytes -= size
    return found


def _shortened(outcome: BulkOutcome) -> BulkOutcome:
    if outcome.task is not None:
        return BulkOutcome(changed=ChangedTask(task_id=outcome.task.id, version=outcome.task.version))
    if outcome.error is not None:
        return BulkOutcome(error={name: one for name, one in outcome.error.items() if name != "current"})
    return outcome


def _error(refusal: CommandError) -> dict[str, object]:
    data: dict[str, object] = unstructure(
        ErrorData(
            code=refusal.code,
            message=refusal.message,
            field=refusal.field,
            retry_after_ms=refusal.retry_after_ms,
            current=refusal.current,
        )
    )
    return data
