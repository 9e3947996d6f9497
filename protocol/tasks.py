"""What crosses the wire about tasks: one attrs class per command and per answer.

**Changing a field and emptying it.** In `task_update` a field that is absent, or null, stays as it is; `clear` names the
fields that shall become empty. A `PATCH` over REST is a JSON merge patch (RFC 7396): its null fields become names in
`clear`. So one class says everything that both doors can.

**Versions.** Each write to an existing task names the version that its client has seen. A stale one is refused with
`conflict` and the task as it is now.
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
    """Make a task, last in its column. Answered by the task."""

    title: str = field(validator=TITLE)
    """At most 255 characters."""
    description: str | None = field(default=None, validator=DESCRIPTION)
    """What is to be done."""
    project: str = field(default=DEFAULT_PROJECT, validator=NAME, converter=one_form)
    """Which board it is on; a board begins with its first task."""
    status: TaskStatus = TaskStatus.TODO
    """Its column."""
    priority: TaskPriority = TaskPriority.MEDIUM
    """How much it matters."""
    tags: list[str] = field(factory=list, validator=TAGS, converter=one_form)
    """Words to find it by."""
    assignee: str | None = field(default=None, validator=NAME, converter=one_form)
    """Who does it."""
    estimate_hours: float | None = field(default=None, validator=HOURS)
    """How long it may take."""
    actual_hours: float | None = field(default=None, validator=HOURS)
    """How long it took."""
    due: str | None = field(default=None, validator=MOMENT)
    """RFC 3339, with its offset."""
    dependencies: list[str] = field(factory=list, validator=DEPENDENCIES)
    """Ids of tasks that must be done before it."""
    attachments: list[Attachment] = field(factory=list, validator=ATTACHMENTS)
    """What belongs to it and is kept elsewhere."""
    confidence: float | None = field(default=None, validator=between(0, 1))
    """How sure its maker is of it."""
    agent_decision: Proposal | None = None
    """What an agent proposes."""
    force: bool = False
    """Go over the column's limit."""
    analyze_with_ai: bool = False
    """Let the model analyse it."""
    ai_timeout_seconds: float = field(default=10.0, validator=between(0, 60))
    """Wait this long for the analysis; a later one is told by an event."""


@frozen(kw_only=True)
class TaskUpdate:
    """Change fields of a task. Absent and null fields stay; `clear` empties. Answered by the task."""

    task_id: str = field(validator=uuid_text)
    """Which one."""
    version: int = field(validator=VERSION)
    """The version that the client has seen."""
    title: str | None = field(default=None, validator=TITLE)
    """At most 255 characters."""
    description: str | None = field(default=None, validator=DESCRIPTION)
    """What is to be done."""
    project: str | None = field(default=None, validator=NAME, converter=one_form)
    """Move to another board, last in its column."""
    status: TaskStatus | None = None
    """Move to another column, last there; `task_move` says where."""
    priority: TaskPriority | None = None
    """How much it matters."""
    tags: list[str] | None = field(default=None, validator=TAGS, converter=one_form)
    """Words to find it by; all of them."""
    assignee: str | None = field(default=None, validator=NAME, converter=one_form)
    """Who does it."""
    estimate_hours: float | None = field(default=None, validator=HOURS)
    """How long it may take."""
    actual_hours: float | None = field(default=None, validator=HOURS)
    """How long it took."""
    due: str | None = field(default=None, validator=MOMENT)
    """RFC 3339, with its offset."""
    dependencies: list[str] | None = field(default=None, validator=DEPENDENCIES)
    """Ids of tasks that must be done before it; all of them."""
    attachments: list[Attachment] | None = field(default=None, validator=ATTACHMENTS)
    """What belongs to it; all of them."""
    confidence: float | None = field(default=None, validator=between(0, 1))
    """How sure its maker is of it."""
    agent_decision: Proposal | None = None
    """A new proposal, which waits for a person again."""
    clear: list[str] = field(
        factory=list, validator=[length(0, len(CLEARABLE), "entries"), each(_clearable, enum=list(CLEARABLE))]
    )
    """Names of fields to empty; none that is given too."""
    force: bool = False
    """Go over the column's limit."""

    def __attrs_post_init__(self) -> None:
        for index, name in enumerate(self.clear):
            if getattr(self, name) is not None:
                raise FieldFault(f"clear[{index}]", f"names {name}, which is given too")


@frozen(kw_only=True)
class TaskMove:
    """Move a task within its column or to another one. Answered by the task."""

    task_id: str = field(validator=uuid_text)
    """Which one."""
    version: int = field(validator=VERSION)
    """The version that the client has seen."""
    status: TaskStatus
    """The column it goes to, perhaps its own."""
    before: str | None = field(default=None, validator=uuid_text)
    """The task of that column that it shall stand just above."""
    after: str | None = field(default=None, validator=uuid_text)
    """The task of that column that it shall stand just below; without either it goes last."""
    force: bool = False
    """Go over the column's limit."""

    def __attrs_post_init__(self) -> None:
        if self.before is not None and self.after is not None:
            raise FieldFault("before", "and after cannot both be given")
        for name in ("before", "after"):
            if getattr(self, name) == self.task_id:
                raise FieldFault(name, "must be another task")


@frozen(kw_only=True)
class TaskDelete:
    """Delete a task; its history stays. Answered by `DeletedTask`."""

    task_id: str = field(validator=uuid_text)
    """Which one."""
    version: int = field(validator=VERSION)
    """The version that the client has seen."""
    force: bool = False
    """Also when others depend on it; they lose the dependency."""


@frozen(kw_only=True)
class TaskDecide:
    """Say what a person decided about the agent's proposal. Answered by the task."""

    task_id: str = field(validator=uuid_text)
    """Which one."""
    version: int = field(validator=VERSION)
    """The version that the client has seen."""
    decision: str = field(validator=one_of("approved", "rejected", "modified"))
    """`approved`, `rejected` or `modified`."""
    feedback: str | None = field(default=None, validator=[length(1, 4000, "characters"), plain_text])
    """In the person's own words."""

    @property
    def approval(self) -> Approval:
        """The decision as a task keeps it."""
        return Approval(self.decision)


@frozen(kw_only=True)
class BulkItem:
    """One change of many; exactly one of these."""

    create: TaskCreate | None = None
    update: TaskUpdate | None = None
    move: TaskMove | None = None
    delete: TaskDelete | None = None
    decide: TaskDecide | None = None

    def __attrs_post_init__(self) -> None:
        if len([one for one in self.changes() if one is not None]) != 1:
            raise FieldFault("create", "or update, move, delete or decide must be given, and only one of them")

    def changes(self) -> tuple[TaskCreate | TaskUpdate | TaskMove | TaskDelete | TaskDecide | None, ...]:
        """All five, one of which is not None."""
        return (self.create, self.update, self.move, self.delete, self.decide)


@frozen(kw_only=True)
class TaskBulk:
    """Carry out several changes in order. Answered by `BulkResult`."""

    items: list[BulkItem] = field(validator=length(1, BULK_ITEMS, "entries"))
    """The changes."""
    all_or_nothing: bool = True
    """Otherwise each one succeeds or fails alone."""


@frozen(kw_only=True)
class ColumnLimits:
    """Most tasks that may be in each column of a board at once; None is no limit."""

    backlog: int | None = field(default=None, validator=between(1, 1_000_000))
    todo: int | None = field(default=None, validator=between(1, 1_000_000))
    in_progress: int | None = field(default=None, validator=between(1, 1_000_000))
    testing: int | None = field(default=None, validator=between(1, 1_000_000))
    done: int | None = field(default=None, validator=between(1, 1_000_000))


@frozen(kw_only=True)
class TaskLimits:
    """Set all limits of a board's columns. Tasks that are there already stay. Answered by `ColumnLimits`."""

    project: str = field(default=DEFAULT_PROJECT, validator=NAME, converter=one_form)
    """Which board."""
    limits: ColumnLimits
    """The limits from now on; what is left out has none."""


@frozen(kw_only=True)
class ImportedTask:
    """One task of an import, as an export wrote it."""

    id: str | None = field(default=None, validator=[length(1, 64, "characters"), printed_text])
    """What tasks of the same import call it in their dependencies; the task gets a new id."""
    position: str | None = field(default=None, validator=[length(1, 64, "characters"), printed_text])
    """Tasks are put into their columns in the order of this; those without it first."""
    title: str = field(validator=TITLE)
    """At most 255 characters."""
    description: str | None = field(default=None, validator=DESCRIPTION)
    """What is to be done."""
    project: str = field(default=DEFAULT_PROJECT, validator=NAME, converter=one_form)
    """Which board it is on."""
    status: TaskStatus = TaskStatus.TODO
    """Its column."""
    priority: TaskPriority = TaskPriority.MEDIUM
    """How much it matters."""
    tags: list[str] = field(factory=list, validator=TAGS, converter=one_form)
    """Words to find it by."""
    assignee: str | None = field(default=None, validator=NAME, converter=one_form)
    """Who does it."""
    estimate_hours: float | None = field(default=None, validator=HOURS)
    """How long it may take."""
    actual_hours: float | None = field(default=None, validator=HOURS)
    """How long it took."""
    due: str | None = field(default=None, validator=MOMENT)
    """RFC 3339, with its offset."""
    dependencies: list[str] = field(factory=list, validator=NAMES)
    """Ids of tasks of this import, or of tasks that are there."""
    attachments: list[Attachment] = field(factory=list, validator=ATTACHMENTS)
    """What belongs to it and is kept elsewhere."""
    confidence: float | None = field(default=None, validator=between(0, 1))
    """How sure its maker is of it."""
    agent_decision: Proposal | None = None
    """What an agent proposes; nobody decided about it here yet."""

    def as_create(self, dependencies: list[str], *, force: bool) -> TaskCreate:
        """The command that makes it, with its dependencies by their ids here. Raises `FieldFault`."""
        given = {
            one.name: getattr(self, one.name) for one in fields(ImportedTask) if one.name not in ("id", "position")
        }
        return TaskCreate(**{**given, "dependencies": dependencies, "force": force})


@frozen(kw_only=True)
class TaskImport:
    """Bring in tasks, all or none; over REST alone. Answered by `ImportedTasks`."""

    tasks: list[ImportedTask] = field(validator=length(1, IMPORTED_TASKS, "entries"))
    """The tasks; each is put last in its column."""
    force: bool = False
    """Go over the columns' limits."""
    dry_run: bool = False
    """Check everything and keep nothing."""


@frozen(kw_only=True)
class TaskCleanup:
    """Delete tasks that were done long ago, 500 at once; over REST alone. Answered by `CleanedTasks`."""

    older_than_days: float = field(default=30.0, validator=between(0, 36_500))
    """Done for at least this long."""
    project: str | None = field(default=None, validator=NAME, converter=one_form)
    """Of this board; of all by default."""
    dry_run: bool = False
    """Count and keep everything."""


# --- commands that read -------------------------------------------------------------------------------


@frozen(kw_only=True)
class TaskGet:
    """One task. Answered by the task."""

    task_id: str = field(validator=uuid_text)
    """Which one."""


@frozen(kw_only=True)
class TaskFilter:
    """Which tasks are meant; every condition that is given must hold."""

    project: str | None = field(default=None, validator=NAME, converter=one_form)
    """On this board."""
    status: list[TaskStatus] | None = field(default=None, validator=length(1, 5, "entries"))
    """In any of these columns."""
    priority: list[TaskPriority] | None = field(default=None, validator=length(1, 4, "entries"))
    """Of any of these priorities."""
    assignee: str | None = field(default=None, validator=NAME, converter=one_form)
    """Done by this one."""
    tags: list[str] | None = field(default=None, validator=[length(1, 32, "entries"), EACH_NAME], converter=one_form)
    """With any of these tags."""
    is_blocked: bool | None = None
    """With, or without, a dependency that is not done."""
    due_before: str | None = field(default=None, validator=MOMENT)
    """Due earlier than this."""
    due_after: str | None = field(default=None, validator=MOMENT)
    """Due at this moment or later."""
    created_before: str | None = field(default=None, validator=MOMENT)
    """Made earlier than this."""
    created_after: str | None = field(default=None, validator=MOMENT)
    """Made at this moment or later."""
    updated_before: str | None = field(default=None, validator=MOMENT)
    """Last changed earlier than this."""
    updated_after: str | None = field(default=None, validator=MOMENT)
    """Last changed at this moment or later."""
    search: str | None = field(default=None, validator=[length(1, 200, "characters"), plain_text])
    """This text, in any case of letters, in title, description or a tag."""


@frozen(kw_only=True)
class TaskList(TaskFilter):
    """A page of tasks. Answered by `TaskPage`."""

    sort: str = field(default="created", validator=one_of("created", "updated", "due", "priority", "position"))
    """What orders them; tasks without a due date come last."""
    order: str = field(default="descending", validator=one_of("ascending", "descending"))
    """Which way."""
    limit: int = field(default=50, validator=between(1, BULK_ITEMS))
    """Most tasks on the page."""
    cursor: str | None = field(default=None, validator=length(1, 1024, "characters"))
    """Where the page before ended; filters, sort and order must be the same."""


@frozen(kw_only=True)
class TaskExport(TaskFilter):
    """All these tasks as they would be imported again; over REST alone."""

    format: str = field(default="json", validator=one_of("json", "csv"))
    """`json` or `csv`."""


@frozen(kw_only=True)
class TaskBoard:
    """A board with all its columns. Answered by `Board`."""

    project: str = field(default=DEFAULT_PROJECT, validator=NAME, converter=one_form)
    """Which board."""
    limit: int = field(default=50, validator=between(1, BULK_ITEMS))
    """Most tasks of each column; its `next_cursor` goes on."""


@frozen(kw_only=True)
class TaskHistory:
    """What happened to a task, newest first, also after it was deleted. Answered by `HistoryPage`."""

    task_id: str = field(validator=uuid_text)
    """Which one."""
    limit: int = field(default=50, validator=between(1, BULK_ITEMS))
    """Most entries on the page."""
    before: int | None = field(default=None, validator=VERSION)
    """Only entries with a smaller number."""


@frozen(kw_only=True)
class TaskStats:
    """Figures of a board or of all. Answered by `TaskStatistics`."""

    project: str | None = field(default=None, validator=NAME, converter=one_form)
    """Of this board; of all by default."""


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
