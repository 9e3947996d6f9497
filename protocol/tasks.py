"""Tasks on the wire: one attrs class per command.

**Changing and clearing a field.** In `task_update` a field that is absent or null stays unchanged; `clear` names the
fields to clear. A `PATCH` over REST is a JSON merge patch (RFC 7396), whose null fields become names in
`clear`. So one class covers both transports.

**Versions.** Each write to an existing task names the version that its client has seen. A stale version is rejected with
`conflict` and the current task.
"""

from __future__ import annotations

from attrs import field, fields, frozen

from protocol.command_type import CommandType
from protocol.task_answers import Board, BulkResult, DeletedTask, HistoryPage, TaskPage, TaskStatistics
from protocol.task_model import (
    ATTACHMENTS,
    DEPENDENCIES,
    EACH_NAME,
    MOMENT,
    NAMES,
    TAGS,
    Approval,
    Attachment,
    Proposal,
    Task,
    TaskPriority,
    TaskStatus,
    printed_text,
    uuid_text,
)
from protocol.validation import FieldFault, between, each, length, one_form, one_of, plain_text

__all__ = [
    "BULK_ITEMS",
    "CLEARABLE",
    "TASK_COMMANDS",
    "BulkItem",
    "ColumnLimits",
    "ImportedTask",
    "TaskBoard",
    "TaskBulk",
    "TaskCleanup",
    "TaskCreate",
    "TaskDecide",
    "TaskDelete",
    "TaskExport",
    "TaskFilter",
    "TaskGet",
    "TaskHistory",
    "TaskImport",
    "TaskLimits",
    "TaskList",
    "TaskMove",
    "TaskStats",
    "TaskUpdate",
]

BULK_ITEMS = 100
"""Most changes in one `task_bulk`, and most tasks on one page."""
IMPORTED_TASKS = 1000
DEFAULT_PROJECT = "default"
CLEARABLE = (
    "description", "assignee", "estimate_hours", "actual_hours", "due", "tags", "dependencies", "attachments",
    "confidence", "agent_decision",
)  # fmt: skip
"""Fields of a task that may be empty."""

VERSION = between(1, 2**53)
HOURS = between(0, 100_000)
TITLE = [length(1, 255, "characters"), printed_text]
DESCRIPTION = [length(0, 10_000, "characters"), plain_text]
NAME = [length(1, 128, "characters"), printed_text]


def _clearable(value: str) -> str | None:
    return None if value in CLEARABLE else f"must be one of {', '.join(CLEARABLE)}, not {value[:40]!r}"


# --- commands that write ------------------------------------------------------------------------------


@frozen(kw_only=True)
class TaskCreate:
    """Creates a task, last in its column. Answered by the task."""

    title: str = field(validator=TITLE)
    """At most 255 characters."""
    description: str | None = field(default=None, validator=DESCRIPTION)
    """Work to be done."""
    project: str = field(default=DEFAULT_PROJECT, validator=NAME, converter=one_form)
    """Board of the task; a board begins with its first task."""
    status: TaskStatus = TaskStatus.TODO
    """Column of the task."""
    priority: TaskPriority = TaskPriority.MEDIUM
    """Importance."""
    tags: list[str] = field(factory=list, validator=TAGS, converter=one_form)
    """Words to find it by."""
    assignee: str | None = field(default=None, validator=NAME, converter=one_form)
    """Person or agent responsible for it."""
    estimate_hours: float | None = field(default=None, validator=HOURS)
    """Estimated effort."""
    actual_hours: float | None = field(default=None, validator=HOURS)
    """Actual effort."""
    due: str | None = field(default=None, validator=MOMENT)
    """RFC 3339, with offset."""
    dependencies: list[str] = field(factory=list, validator=DEPENDENCIES)
    """Ids of tasks that must be done before it."""
    attachments: list[Attachment] = field(factory=list, validator=ATTACHMENTS)
    """External objects that belong to it."""
    confidence: float | None = field(default=None, validator=between(0, 1))
    """Creator's confidence in the task."""
    agent_decision: Proposal | None = None
    """An agent's proposal."""
    force: bool = False
    """Exceeds the column's limit if necessary."""
    analyze_with_ai: bool = False
    """Requests an analysis by the model."""
    ai_timeout_seconds: float = field(default=10.0, validator=between(0, 60))
    """Time to wait for the analysis; a later one arrives as an event."""


@frozen(kw_only=True)
class TaskUpdate:
    """Changes fields of a task. Absent and null fields stay; `clear` clears. Answered by the task."""

    task_id: str = field(validator=uuid_text)
    """Id of the task."""
    version: int = field(validator=VERSION)
    """The version that the client has seen."""
    title: str | None = field(default=None, validator=TITLE)
    """At most 255 characters."""
    description: str | None = field(default=None, validator=DESCRIPTION)
    """Work to be done."""
    project: str | None = field(default=None, validator=NAME, converter=one_form)
    """Moves it to another board, last in its column."""
    status: TaskStatus | None = None
    """Moves it to another column, last there; `task_move` allows other positions."""
    priority: TaskPriority | None = None
    """Importance."""
    tags: list[str] | None = field(default=None, validator=TAGS, converter=one_form)
    """Words to find it by; replaces all."""
    assignee: str | None = field(default=None, validator=NAME, converter=one_form)
    """Person or agent responsible for it."""
    estimate_hours: float | None = field(default=None, validator=HOURS)
    """Estimated effort."""
    actual_hours: float | None = field(default=None, validator=HOURS)
    """Actual effort."""
    due: str | None = field(default=None, validator=MOMENT)
    """RFC 3339, with offset."""
    dependencies: list[str] | None = field(default=None, validator=DEPENDENCIES)
    """Ids of tasks that must be done before it; replaces all."""
    attachments: list[Attachment] | None = field(default=None, validator=ATTACHMENTS)
    """External objects that belong to it; replaces all."""
    confidence: float | None = field(default=None, validator=between(0, 1))
    """Creator's confidence in the task."""
    agent_decision: Proposal | None = None
    """A new proposal, which needs a new decision."""
    clear: list[str] = field(
        factory=list, validator=[length(0, len(CLEARABLE), "entries"), each(_clearable, enum=list(CLEARABLE))]
    )
    """Names of fields to clear; none that is also given."""
    force: bool = False
    """Exceeds the column's limit if necessary."""

    def __attrs_post_init__(self) -> None:
        for index, name in enumerate(self.clear):
            if getattr(self, name) is not None:
                raise FieldFault(f"clear[{index}]", f"names {name}, which is also given")


@frozen(kw_only=True)
class TaskMove:
    """Moves a task within its column or to another one. Answered by the task."""

    task_id: str = field(validator=uuid_text)
    """Id of the task."""
    version: int = field(validator=VERSION)
    """The version that the client has seen."""
    status: TaskStatus
    """Destination column, possibly its own."""
    before: str | None = field(default=None, validator=uuid_text)
    """Id of the task in that column directly below its new place."""
    after: str | None = field(default=None, validator=uuid_text)
    """Id of the task in that column directly above its new place; without either it goes last."""
    force: bool = False
    """Exceeds the column's limit if necessary."""

    def __attrs_post_init__(self) -> None:
        if self.before is not None and self.after is not None:
            raise FieldFault("before", "and after cannot both be given")
        for name in ("before", "after"):
            if getattr(self, name) == self.task_id:
                raise FieldFault(name, "must be another task")


@frozen(kw_only=True)
class TaskDelete:
    """Deletes a task; its history is kept. Answered by `DeletedTask`."""

    task_id: str = field(validator=uuid_text)
    """Id of the task."""
    version: int = field(validator=VERSION)
    """The version that the client has seen."""
    force: bool = False
    """Deletes it even if others depend on it; they lose the dependency."""


@frozen(kw_only=True)
class TaskDecide:
    """Records a person's decision on the agent's proposal. Answered by the task."""

    task_id: str = field(validator=uuid_text)
    """Id of the task."""
    version: int = field(validator=VERSION)
    """The version that the client has seen."""
    decision: str = field(validator=one_of("approved", "rejected", "modified"))
    """`approved`, `rejected` or `modified`."""
    feedback: str | None = field(default=None, validator=[length(1, 4000, "characters"), plain_text])
    """In the person's own words."""

    @property
    def approval(self) -> Approval:
        """The decision as stored in a task."""
        return Approval(self.decision)


@frozen(kw_only=True)
class BulkItem:
    """One of several changes; exactly one field is set."""

    create: TaskCreate | None = None
    update: TaskUpdate | None = None
    move: TaskMove | None = None
    delete: TaskDelete | None = None
    decide: TaskDecide | None = None

    def __attrs_post_init__(self) -> None:
        if len([one for one in self.changes() if one is not None]) != 1:
            raise FieldFault("create", "or update, move, delete or decide must be given, and only one of them")

    def changes(self) -> tuple[TaskCreate | TaskUpdate | TaskMove | TaskDelete | TaskDecide | None, ...]:
        """The five fields, one of them not None."""
        return (self.create, self.update, self.move, self.delete, self.decide)


@frozen(kw_only=True)
class TaskBulk:
    """Carries out several changes in order. Answered by `BulkResult`."""

    items: list[BulkItem] = field(validator=length(1, BULK_ITEMS, "entries"))
    """The changes."""
    all_or_nothing: bool = True
    """False lets each one succeed or fail separately."""


@frozen(kw_only=True)
class ColumnLimits:
    """Most tasks allowed in each column of a board; None means no limit."""

    backlog: int | None = field(default=None, validator=between(1, 1_000_000))
    todo: int | None = field(default=None, validator=between(1, 1_000_000))
    in_progress: int | None = field(default=None, validator=between(1, 1_000_000))
    testing: int | None = field(default=None, validator=between(1, 1_000_000))
    done: int | None = field(default=None, validator=between(1, 1_000_000))


@frozen(kw_only=True)
class TaskLimits:
    """Sets all limits of a board's columns. Existing tasks stay. Answered by `ColumnLimits`."""

    project: str = field(default=DEFAULT_PROJECT, validator=NAME, converter=one_form)
    """Name of the board."""
    limits: ColumnLimits
    """The new limits; an absent one removes the limit."""


@frozen(kw_only=True)
class ImportedTask:
    """A task of an import, in the format of an export."""

    id: str | None = field(default=None, validator=[length(1, 64, "characters"), printed_text])
    """Id by which other tasks of the same import refer to it; the task gets a new id."""
    position: str | None = field(default=None, validator=[length(1, 64, "characters"), printed_text])
    """Tasks are added to their columns in the order of this; those without it come first."""
    title: str = field(validator=TITLE)
    """At most 255 characters."""
    description: str | None = field(default=None, validator=DESCRIPTION)
    """Work to be done."""
    project: str = field(default=DEFAULT_PROJECT, validator=NAME, converter=one_form)
    """Board of the task."""
    status: TaskStatus = TaskStatus.TODO
    """Column of the task."""
    priority: TaskPriority = TaskPriority.MEDIUM
    """Importance."""
    tags: list[str] = field(factory=list, validator=TAGS, converter=one_form)
    """Words to find it by."""
    assignee: str | None = field(default=None, validator=NAME, converter=one_form)
    """Person or agent responsible for it."""
    estimate_hours: float | None = field(default=None, validator=HOURS)
    """Estimated effort."""
    actual_hours: float | None = field(default=None, validator=HOURS)
    """Actual effort."""
    due: str | None = field(default=None, validator=MOMENT)
    """RFC 3339, with offset."""
    dependencies: list[str] = field(factory=list, validator=NAMES)
    """Ids of tasks of this import, or of existing tasks."""
    attachments: list[Attachment] = field(factory=list, validator=ATTACHMENTS)
    """External objects that belong to it."""
    confidence: float | None = field(default=None, validator=between(0, 1))
    """Creator's confidence in the task."""
    agent_decision: Proposal | None = None
    """An agent's proposal, still undecided."""

    def as_create(self, dependencies: list[str], *, force: bool) -> TaskCreate:
        """The command that creates it, with its dependencies by their new ids. Raises `FieldFault`."""
        given = {
            one.name: getattr(self, one.name) for one in fields(ImportedTask) if one.name not in ("id", "position")
        }
        return TaskCreate(**{**given, "dependencies": dependencies, "force": force})


@frozen(kw_only=True)
class TaskImport:
    """Imports tasks, all or none; over REST only. Answered by `ImportedTasks`."""

    tasks: list[ImportedTask] = field(validator=length(1, IMPORTED_TASKS, "entries"))
    """The tasks; each is added last in its column."""
    force: bool = False
    """Exceeds the columns' limits if necessary."""
    dry_run: bool = False
    """Checks everything and stores nothing."""


@frozen(kw_only=True)
class TaskCleanup:
    """Deletes tasks done long ago, 500 at a time; over REST only. Answered by `CleanedTasks`."""

    older_than_days: float = field(default=30.0, validator=between(0, 36_500))
    """Minimum age since they were done."""
    project: str | None = field(default=None, validator=NAME, converter=one_form)
    """Name of the board; all boards by default."""
    dry_run: bool = False
    """Counts without deleting."""


# --- commands that read -------------------------------------------------------------------------------


@frozen(kw_only=True)
class TaskGet:
    """Gets one task. Answered by the task."""

    task_id: str = field(validator=uuid_text)
    """Id of the task."""


@frozen(kw_only=True)
class TaskFilter:
    """A filter for tasks; every given condition must hold."""

    project: str | None = field(default=None, validator=NAME, converter=one_form)
    """Name of the board."""
    status: list[TaskStatus] | None = field(default=None, validator=length(1, 5, "entries"))
    """Any of these columns."""
    priority: list[TaskPriority] | None = field(default=None, validator=length(1, 4, "entries"))
    """Any of these priorities."""
    assignee: str | None = field(default=None, validator=NAME, converter=one_form)
    """Person or agent responsible for it."""
    tags: list[str] | None = field(default=None, validator=[length(1, 32, "entries"), EACH_NAME], converter=one_form)
    """Any of these tags."""
    is_blocked: bool | None = None
    """True for tasks with a dependency that is not done, false for the others."""
    due_before: str | None = field(default=None, validator=MOMENT)
    """Due earlier than this."""
    due_after: str | None = field(default=None, validator=MOMENT)
    """Due at this moment or later."""
    created_before: str | None = field(default=None, validator=MOMENT)
    """Created earlier than this."""
    created_after: str | None = field(default=None, validator=MOMENT)
    """Created at this moment or later."""
    updated_before: str | None = field(default=None, validator=MOMENT)
    """Last changed earlier than this."""
    updated_after: str | None = field(default=None, validator=MOMENT)
    """Last changed at this moment or later."""
    search: str | None = field(default=None, validator=[length(1, 200, "characters"), plain_text])
    """Text in the title, the description or a tag, in any case of letters."""


@frozen(kw_only=True)
class TaskList(TaskFilter):
    """Lists one page of tasks. Answered by `TaskPage`."""

    sort: str = field(default="created", validator=one_of("created", "updated", "due", "priority", "position"))
    """Sort key; tasks without a due date come last."""
    order: str = field(default="descending", validator=one_of("ascending", "descending"))
    """Sort direction."""
    limit: int = field(default=50, validator=between(1, BULK_ITEMS))
    """Most tasks on the page."""
    cursor: str | None = field(default=None, validator=length(1, 1024, "characters"))
    """Cursor from the previous page; filters, sort and order must be the same."""


@frozen(kw_only=True)
class TaskExport(TaskFilter):
    """Exports matching tasks in the format of an import; over REST only."""

    format: str = field(default="json", validator=one_of("json", "csv"))
    """`json` or `csv`."""


@frozen(kw_only=True)
class TaskBoard:
    """Gets a board with all its columns. Answered by `Board`."""

    project: str = field(default=DEFAULT_PROJECT, validator=NAME, converter=one_form)
    """Name of the board."""
    limit: int = field(default=50, validator=between(1, BULK_ITEMS))
    """Most tasks per column; its `next_cursor` continues."""


@frozen(kw_only=True)
class TaskHistory:
    """Gets the history of a task, newest first, even after it was deleted. Answered by `HistoryPage`."""

    task_id: str = field(validator=uuid_text)
    """Id of the task."""
    limit: int = field(default=50, validator=between(1, BULK_ITEMS))
    """Most entries on the page."""
    before: int | None = field(default=None, validator=VERSION)
    """Only entries with a smaller number."""


@frozen(kw_only=True)
class TaskStats:
    """Gets the figures of a board or of all boards. Answered by `TaskStatistics`."""

    project: str | None = field(default=None, validator=NAME, converter=one_form)
    """Name of the board; all boards by default."""


TASK_COMMANDS: dict[str, CommandType] = {
    "task_create": CommandType(TaskCreate, writes=True, result=Task),
    "task_update": CommandType(TaskUpdate, writes=True, result=Task),
    "task_move": CommandType(TaskMove, writes=True, result=Task),
    "task_delete": CommandType(TaskDelete, writes=True, result=DeletedTask),
    "task_decide": CommandType(TaskDecide, writes=True, result=Task),
    "task_bulk": CommandType(TaskBulk, writes=True, result=BulkResult),
    "task_limits": CommandType(TaskLimits, writes=True, result=ColumnLimits),
    "task_get": CommandType(TaskGet, result=Task),
    "task_list": CommandType(TaskList, result=TaskPage),
    "task_board": CommandType(TaskBoard, result=Board),
    "task_history": CommandType(TaskHistory, result=HistoryPage),
    "task_stats": CommandType(TaskStats, result=TaskStatistics),
}
"""Commands about tasks by their wire names."""
