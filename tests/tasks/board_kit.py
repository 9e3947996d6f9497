"""Commands as a client would send them, carried out on a store without actors."""

from __future__ import annotations

import itertools
from typing import Any

from attrs import define, field
from sqlalchemy import Connection, select

from actors.errors import CommandError
from actors.storage.messages import LogEvent, Outcome, Trigger
from actors.tasks.context import CommandContext
from actors.tasks.messages import TASK_REQUESTS, CleanUpTasks, ImportTasks
from actors.tasks.store import READS, WRITES
from actors.tasks.tables import history, task_dependencies, task_tags, tasks
from protocol.codec import structure, unstructure
from protocol.errors import ErrorCode
from protocol.task_model import Task, TaskStatus
from protocol.tasks import TASK_COMMANDS, TaskBoard, TaskCleanup, TaskImport

__all__ = ["DAY_MS", "HOUR_MS", "NOBODY", "START_MS", "BoardStore", "everything", "refusal_of", "refuse"]

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
START_MS = 1_790_000_000_000
NOBODY = "00000000-0000-4000-8000-000000000000"
"""A task id that no task has."""
REQUESTS = {**TASK_REQUESTS, TaskImport: ImportTasks, TaskCleanup: CleanUpTasks}
COMMANDS = {name: one.data for name, one in TASK_COMMANDS.items()} | {
    "task_import": TaskImport,
    "task_cleanup": TaskCleanup,
}


@define
class BoardStore:
    """The tasks service's store on a connection, with a clock that tests advance."""

    connection: Connection
    client_id: str = "me"
    now_ms: int = START_MS
    events: list[LogEvent] = field(factory=list)
    """Of all commands so far, in the order of the client's log."""
    triggers: list[Trigger] = field(factory=list)
    numbers: Any = field(factory=lambda: itertools.count(1))

    def do(self, kind: str, **data: Any) -> Any:
        """Carry out a command; what it refuses leaves nothing behind."""
        wanted = COMMANDS[kind]
        asked: CommandContext[Any] = CommandContext(
            client_id=self.client_id, device_id="desk", data=structure(data, wanted), now_ms=self.now_ms
        )
        request = REQUESTS[wanted]
        if request in READS:
            return READS[request].function(self.connection, asked)
        savepoint = self.connection.begin_nested()
        try:
            outcome: Outcome[Any] = WRITES[request].function(self.connection, asked)
        except BaseException:
            savepoint.rollback()
            raise
        savepoint.commit()
        self.events += outcome.events
        self.triggers += outcome.triggers
        # What storage keeps for a repeated command must be what the operation answered.
        assert structure(unstructure(outcome.value), WRITES[request].result) == outcome.value
        return outcome.value

    def create(self, title: str | None = None, **data: Any) -> Task:
        """Make a task; a title is made up."""
        task: Task = self.do("task_create", title=title or f"task {next(self.numbers)}", **data)
        return task

    def move(self, task: Task, status: str | None = None, **data: Any) -> Task:
        """Move a task in its newest version."""
        wanted = status or task.status.value
        moved: Task = self.do("task_move", task_id=task.id, version=self.get(task).version, status=wanted, **data)
        return moved

    def update(self, task: Task, **data: Any) -> Task:
        """Change a task in its newest version."""
        changed: Task = self.do("task_update", task_id=task.id, version=self.get(task).version, **data)
        return changed

    def get(self, task: Task) -> Task:
        """The task as it is now."""
        found: Task = self.do("task_get", task_id=task.id)
        return found

    def column(self, status: TaskStatus | str, project: str = "default") -> list[str]:
        """Titles of a column in order."""
        board = READS[REQUESTS[TaskBoard]].function(
            self.connection,
            CommandContext(
                client_id=self.client_id,
                device_id="desk",
                data=TaskBoard(project=project, limit=100),
                now_ms=self.now_ms,
            ),
        )
        wanted = TaskStatus(status)
        return [task.title for column in board.columns if column.status is wanted for task in column.tasks]

    def told(self) -> list[str]:
        """Types of the events since the last call."""
        types = [one.type for one in self.events]
        self.events.clear()
        return types


def refusal_of(store: BoardStore, kind: str, **data: Any) -> CommandError:
    """What refuses the command; fails where nothing does."""
    try:
        store.do(kind, **data)
    except CommandError as refusal:
        return refusal
    raise AssertionError(f"{kind} was carried out")


def everything(board: BoardStore) -> list[object]:
    """All rows of the tasks service, to check that a refusal left none."""
    return [
        board.connection.execute(select(table).order_by(*table.primary_key)).all()
        for table in (tasks, task_tags, task_dependencies, history)
    ]


def refuse(board: BoardStore, code: ErrorCode, field: str, kind: str, **data: object) -> CommandError:
    """The command is refused so, and changes nothing."""
    before = everything(board)
    refusal = refusal_of(board, kind, **data)
    assert (refusal.code, refusal.field) == (code, field)
    assert everything(board) == before
    return refusal
