"""What the server answers about tasks: one attrs class per answer."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from protocol.task_model import Task, TaskStatus

__all__ = [
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
    "TaskPage",
    "TaskStatistics",
]


@frozen(kw_only=True)
class DeletedTask:
    """A task is no more."""

    task_id: str
    """Which one."""
    version: int
    """The version that it had."""


@frozen(kw_only=True)
class ChangedTask:
    """A task was changed or made; `task_get` tells the whole of it."""

    task_id: str
    """Which one."""
    version: int
    """The version that it has now."""


@frozen(kw_only=True)
class TaskPage:
    """Some tasks of a list."""

    tasks: list[Task]
    """In order."""
    next_cursor: str | None = None
    """Gets the page after this one; absent on the last."""


@frozen(kw_only=True)
class BoardColumn:
    """One column of a board."""

    status: TaskStatus
    """Which one."""
    tasks: list[Task]
    """In order, as many as fit."""
    count: int
    """How many there are in all."""
    limit: int | None = None
    """Most that may be here at once."""
    next_cursor: str | None = None
    """Gets the rest through `task_list` with this project, this status and `sort: position, order: ascending`."""


@frozen(kw_only=True)
class Board:
    """One project's columns, from left to right."""

    project: str
    """Which board."""
    columns: list[BoardColumn]
    """All five."""
    count: int
    """Tasks in all columns."""


@frozen(kw_only=True)
class HistoryEntry:
    """One change of a task."""

    number: int
    """Rises with every entry."""
    task_id: str
    """Of which task."""
    version: int
    """The version that the change made."""
    kind: str
    """`created` `updated` `moved` `decided` `deleted`."""
    time: str
    """RFC 3339 in UTC."""
    device_id: str
    """Which device asked for it."""
    changes: dict[str, Any]
    """By field: `{before, after}`."""


@frozen(kw_only=True)
class HistoryPage:
    """Some of a task's history, newest first."""

    entries: list[HistoryEntry]
    next_before: int | None = None
    """`before` of the next page; absent on the last."""


@frozen(kw_only=True)
class ColumnFigures:
    """How one column does. All times are measured from history; None where nothing happened yet."""

    status: TaskStatus
    """Which one."""
    count: int
    """Tasks in it now."""
    limit: int | None = None
    """Most that may be in it at once; of one board only."""
    use: float | None = None
    """count ÷ limit."""
    mean_stay_hours: float | None = None
    """Mean time of the stays that ended in the last 90 days."""
    stays: int
    """How many those were."""


@frozen(kw_only=True)
class TaskStatistics:
    """Figures from history, none of them estimated."""

    project: str | None = None
    """Of this board; of all where absent."""
    count: int
    """Tasks now."""
    by_status: dict[str, int]
    """Tasks in each column."""
    by_priority: dict[str, int]
    """Tasks of each priority."""
    blocked: int
    """Tasks with a dependency that is not done."""
    overdue: int
    """Tasks that are due and not done."""
    done_today: int
    """Moves to `done` since midnight UTC."""
    done_7_days: int
    """Moves to `done` in the last seven days."""
    done_per_day: float
    """Mean over the last 30 days, or over the board's life if that is shorter."""
    mean_cycle_hours: float | None = None
    """Mean time from the first `in_progress` to `done`, of the last 90 days."""
    cycles: int
    """How many those were."""
    columns: list[ColumnFigures]
    """From left to right."""
    bottleneck: TaskStatus | None = None
    """Of the columns between `backlog` and `done`, the one with the longest mean stay."""


@frozen(kw_only=True)
class BulkOutcome:
    """What became of one item: one of these."""

    task: Task | None = None
    """As it is now."""
    changed: ChangedTask | None = None
    """It was carried out, and this answer has no room for the whole task."""
    deleted: DeletedTask | None = None
    """It was deleted."""
    error: dict[str, Any] | None = None
    """Why it was not carried out, as `error` data."""


@frozen(kw_only=True)
class BulkResult:
    """What became of the items, in order."""

    items: list[BulkOutcome]
    failed: int
    """How many were not carried out."""


@frozen(kw_only=True)
class ImportedTasks:
    """What an import made."""

    count: int
    """Tasks made, or that would have been."""
    task_ids: list[str]
    """Their ids, in order; empty on a dry run."""
    dry_run: bool
    """Nothing was kept."""


@frozen(kw_only=True)
class CleanedTasks:
    """What a cleanup deleted."""

    count: int
    """Tasks deleted, or that would have been."""
    has_more: bool
    """There are more; ask again."""
    dry_run: bool
    """Nothing was deleted."""
