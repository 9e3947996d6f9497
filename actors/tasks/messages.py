"""Messages of the tasks service. Other services import nothing else of it."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from attrs import frozen

from actors.storage.messages import IdempotencyKey
from protocol.task_answers import (
    Board,
    BulkResult,
    CleanedTasks,
    DeletedTask,
    HistoryPage,
    ImportedTasks,
    TaskPage,
    TaskStatistics,
)
from protocol.task_claims import TaskClaim, TaskLease, TaskRelease
from protocol.task_model import Task
from protocol.tasks import (
    ColumnLimits,
    TaskBoard,
    TaskBulk,
    TaskCleanup,
    TaskCreate,
    TaskDecide,
    TaskDelete,
    TaskGet,
    TaskHistory,
    TaskImport,
    TaskLimits,
    TaskList,
    TaskMove,
    TaskStats,
    TaskUpdate,
)
from runtime import Request

__all__ = [
    "TASK_REQUESTS",
    "ChangeInBulk",
    "ClaimTask",
    "CleanUpTasks",
    "CreateTask",
    "DecideTask",
    "DeleteTask",
    "GetTask",
    "ImportTasks",
    "ListTasks",
    "MoveTask",
    "ReadBoard",
    "ReadHistory",
    "ReadStatistics",
    "ReleaseTask",
    "SetLimits",
    "TaskRequest",
    "UpdateTask",
]

Reply = TypeVar("Reply")


@frozen(kw_only=True)
class TaskRequest(Request[Reply], Generic[Reply]):
    """Base of all requests to this service. All may be refused with `CommandError`."""

    client_id: str
    """The owner of the tasks."""
    device_id: str
    """The device that asks, for the history."""
    data: Any
    """The wire class that the request carries."""
    key: IdempotencyKey | None = None
    """Makes a write idempotent: a repetition gets the same answer."""


@frozen(kw_only=True)
class CreateTask(TaskRequest[Task]):
    """Create a task. If an analysis is requested, the reply waits for it as long as the command says."""

    data: TaskCreate


@frozen(kw_only=True)
class UpdateTask(TaskRequest[Task]):
    """Change fields of a task."""

    data: TaskUpdate


@frozen(kw_only=True)
class MoveTask(TaskRequest[Task]):
    """Move a task."""

    data: TaskMove


@frozen(kw_only=True)
class DeleteTask(TaskRequest[DeletedTask]):
    """Delete a task."""

    data: TaskDelete


@frozen(kw_only=True)
class DecideTask(TaskRequest[Task]):
    """Decide about a proposal."""

    data: TaskDecide


@frozen(kw_only=True)
class ChangeInBulk(TaskRequest[BulkResult]):
    """Apply several changes."""

    data: TaskBulk


@frozen(kw_only=True)
class SetLimits(TaskRequest[ColumnLimits]):
    """Set the limits of a board's columns."""

    data: TaskLimits


@frozen(kw_only=True)
class ImportTasks(TaskRequest[ImportedTasks]):
    """Import tasks."""

    data: TaskImport


@frozen(kw_only=True)
class CleanUpTasks(TaskRequest[CleanedTasks]):
    """Delete tasks that were done long ago."""

    data: TaskCleanup


@frozen(kw_only=True)
class ClaimTask(TaskRequest[TaskLease]):
    """Claim a task under a lease, or renew the lease."""

    data: TaskClaim


@frozen(kw_only=True)
class ReleaseTask(TaskRequest[Task]):
    """Return a claimed task."""

    data: TaskRelease


@frozen(kw_only=True)
class GetTask(TaskRequest[Task]):
    """Read one task."""

    data: TaskGet


@frozen(kw_only=True)
class ListTasks(TaskRequest[TaskPage]):
    """Read a page of tasks."""

    data: TaskList


@frozen(kw_only=True)
class ReadBoard(TaskRequest[Board]):
    """Read a board."""

    data: TaskBoard


@frozen(kw_only=True)
class ReadHistory(TaskRequest[HistoryPage]):
    """Read a task's history."""

    data: TaskHistory


@frozen(kw_only=True)
class ReadStatistics(TaskRequest[TaskStatistics]):
    """Read the statistics."""

    data: TaskStats


TASK_REQUESTS: dict[type, type[TaskRequest[Any]]] = {
    TaskCreate: CreateTask,
    TaskUpdate: UpdateTask,
    TaskMove: MoveTask,
    TaskDelete: DeleteTask,
    TaskDecide: DecideTask,
    TaskBulk: ChangeInBulk,
    TaskLimits: SetLimits,
    TaskGet: GetTask,
    TaskList: ListTasks,
    TaskBoard: ReadBoard,
    TaskHistory: ReadHistory,
    TaskStats: ReadStatistics,
}
"""Request for each wire class."""
