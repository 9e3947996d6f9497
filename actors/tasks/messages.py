"""What the tasks room takes and tells. Other rooms import this file and nothing else of the room."""

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
    """What every request of this room says. All are refused with `CommandRefused`."""

    client_id: str
    """Whose tasks are meant."""
    device_id: str
    """Who asks, for history."""
    data: Any
    """The wire class that the request carries."""
    key: IdempotencyKey | None = None
    """For writes; the same one again gets the same answer."""


@frozen(kw_only=True)
class CreateTask(TaskRequest[Task]):
    """Make a task; with an analysis wanted, the answer waits for it as long as the command says."""

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
    """Several changes."""

    data: TaskBulk


@frozen(kw_only=True)
class SetLimits(TaskRequest[ColumnLimits]):
    """Limits of a board's columns."""

    data: TaskLimits


@frozen(kw_only=True)
class ImportTasks(TaskRequest[ImportedTasks]):
    """Bring in tasks."""

    data: TaskImport


@frozen(kw_only=True)
class CleanUpTasks(TaskRequest[CleanedTasks]):
    """Delete what was done long ago."""

    data: TaskCleanup


@frozen(kw_only=True)
class ClaimTask(TaskRequest[TaskLease]):
    """Take a task under a lease, or renew that."""

    data: TaskClaim


@frozen(kw_only=True)
class ReleaseTask(TaskRequest[Task]):
    """Give a claimed task back."""

    data: TaskRelease


@frozen(kw_only=True)
class GetTask(TaskRequest[Task]):
    """One task."""

    data: TaskGet


@frozen(kw_only=True)
class ListTasks(TaskRequest[TaskPage]):
    """A page of tasks."""

    data: TaskList


@frozen(kw_only=True)
class ReadBoard(TaskRequest[Board]):
    """A board."""

    data: TaskBoard


@frozen(kw_only=True)
class ReadHistory(TaskRequest[HistoryPage]):
    """A task's history."""

    data: TaskHistory


@frozen(kw_only=True)
class ReadStatistics(TaskRequest[TaskStatistics]):
    """Figures."""

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
"""Commands of the wire, by class, and the request that carries each."""
