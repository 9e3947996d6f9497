"""The server's messages about tasks: one attrs class per answer and per event."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from protocol.events import Priority
from protocol.task_model import Task, TaskStatus

__all__ = [
    "AIResponse",
    "Board",
    "BoardColumn",
    "BulkOutcome",
    "BulkResult",
    "ChangedTask",
    "CleanedTasks",
    "ColumnFigures",
    "DeletedTask",
    "HistoryEntry",
    "HistoryPage",
    "ImportedTasks",
    "TaskDeletedEvent",
    "TaskEvent",
    "TaskPage",
    "TaskStatistics",
]


@frozen(kw_only=True)
class DeletedTask:
    """A task was deleted."""

    task_id: str
    """Id of the task."""
    version: int
    """Its last version."""


@frozen(kw_only=True)
class ChangedTask:
    """A task was changed or created; `task_get` returns the whole task."""

    task_id: str
    """Id of the task."""
    version: int
    """Its current version."""


@frozen(kw_only=True)
class TaskPage:
    """One page of tasks."""

    tasks: list[Task]
    """In order."""
    next_cursor: str | None = None
    """Cursor of the next page; absent on the last."""


@frozen(kw_only=True)
class BoardColumn:
    """A column of a board."""

    status: TaskStatus
    """The column."""
    tasks: list[Task]
    """In order, as many as fit."""
    count: int
    """Number of tasks in total."""
    limit: int | None = None
    """Most tasks allowed in the column."""
    next_cursor: str | None = None
    """Cursor for the rest, through `task_list` with this project, this status and `sort: position, order: ascending`."""


@frozen(kw_only=True)
class Board:
    """The columns of one project, from left to right."""

    project: str
    """Name of the board."""
    columns: list[BoardColumn]
    """All five columns."""
    count: int
    """Tasks in all columns."""


@frozen(kw_only=True)
class HistoryEntry:
    """A change of a task."""

    number: int
    """Rises with every entry."""
    task_id: str
    """Id of the task."""
    version: int
    """Version after the change."""
    kind: str
    """`created` `updated` `moved` `decided` `deleted`."""
    time: str
    """RFC 3339 in UTC."""
    device_id: str
    """Device that requested it."""
    changes: dict[str, Any]
    """By field: `{before, after}`."""


@frozen(kw_only=True)
class HistoryPage:
    """One page of a task's history, newest first."""

    entries: list[HistoryEntry]
    next_before: int | None = None
    """`before` of the next page; absent on the last."""


@frozen(kw_only=True)
class ColumnFigures:
    """Figures of one column. All times are measured from history; None if nothing has happened yet."""

    status: TaskStatus
    """The column."""
    count: int
    """Tasks in it now."""
    limit: int | None = None
    """Most tasks allowed in it; only for a single board."""
    use: float | None = None
    """count ÷ limit."""
    mean_stay_hours: float | None = None
    """Mean duration of the stays that ended in the last 90 days."""
    stays: int
    """Number of those stays."""


@frozen(kw_only=True)
class TaskStatistics:
    """Figures from history, none of them estimated."""

    project: str | None = None
    """Name of the board; absent for all boards."""
    count: int
    """Tasks now."""
    by_status: dict[str, int]
    """Tasks in each column."""
    by_priority: dict[str, int]
    """Tasks of each priority."""
    blocked: int
    """Tasks with a dependency that is not done."""
    overdue: int
    """Overdue tasks that are not done."""
    done_today: int
    """Moves to `done` since midnight UTC."""
    done_7_days: int
    """Moves to `done` in the last seven days."""
    done_per_day: float
    """Mean over the last 30 days, or over the board's life if that is shorter."""
    mean_cycle_hours: float | None = None
    """Mean time from the first `in_progress` to `done`, over the last 90 days."""
    cycles: int
    """Number of tasks in that mean."""
    columns: list[ColumnFigures]
    """From left to right."""
    bottleneck: TaskStatus | None = None
    """The column between `backlog` and `done` with the longest mean stay."""


@frozen(kw_only=True)
class BulkOutcome:
    """Outcome of one item; exactly one field is set."""

    task: Task | None = None
    """The task after the change."""
    changed: ChangedTask | None = None
    """Set if it was carried out but the whole task does not fit in this answer."""
    deleted: DeletedTask | None = None
    """Set if it was deleted."""
    error: dict[str, Any] | None = None
    """The reason if it was not carried out, as `error` data."""


@frozen(kw_only=True)
class BulkResult:
    """Outcomes of the items, in order."""

    items: list[BulkOutcome]
    failed: int
    """Number of items not carried out."""


@frozen(kw_only=True)
class ImportedTasks:
    """Result of an import."""

    count: int
    """Tasks created, or that a dry run would create."""
    task_ids: list[str]
    """Their ids, in order; empty on a dry run."""
    dry_run: bool
    """True if nothing was stored."""


@frozen(kw_only=True)
class CleanedTasks:
    """Result of a cleanup."""

    count: int
    """Tasks deleted, or that a dry run would delete."""
    has_more: bool
    """True if there are more; repeat the command."""
    dry_run: bool
    """True if nothing was deleted."""


@frozen(kw_only=True)
class TaskEvent:
    """The state of a task after a change."""

    event_id: str
    """Identifies the event, even if it is delivered twice."""
    channel: str
    """`tasks`."""
    priority: Priority
    """Priority of the event."""
    task: Task
    """The whole task."""


@frozen(kw_only=True)
class TaskDeletedEvent:
    """A task was deleted."""

    event_id: str
    """Identifies the event, even if it is delivered twice."""
    channel: str
    """`tasks`."""
    priority: Priority
    """Priority of the event."""
    task_id: str
    """Id of the task."""


@frozen(kw_only=True)
class AIResponse:
    """An answer of the model, sent to every device including the asking one."""

    event_id: str
    """Identifies the event, even if it is delivered twice."""
    channel: str
    """`ai`."""
    priority: Priority
    """Priority of the event."""
    command: str
    """The command that requested it, such as `assist` or `task_create`."""
    analysis: str
    """Text of the answer; at most 16 KiB."""
    intent: str | None = None
    """Intent of an `assist`."""
    id: str | None = None
    """Id of the command that was answered; over REST the answer's own."""
    conversation: str | None = None
    """Conversation that it belongs to."""
    task_id: str | None = None
    """Task that it analyses."""
    truncated: bool | None = None
    """True if the answer was longer than the text here."""
