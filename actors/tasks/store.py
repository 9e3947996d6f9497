"""The service's operations and queries by name, as storage runs them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection

from actors.storage.messages import Operation, Outcome, Query
from actors.tasks.analysis import find_pending, record_analysis
from actors.tasks.bulk import change_in_bulk, clean_up, import_tasks, set_limits
from actors.tasks.change_recorder import ChangeRecorder
from actors.tasks.claims import claim_task, find_ended_leases, move_leases, release_task, return_tasks
from actors.tasks.commands import change_task, create_task, decide_task, delete_task, move_task
from actors.tasks.context import CommandContext
from actors.tasks.due import announce_due, find_clients_with_due
from actors.tasks.messages import (
    ChangeInBulk,
    ClaimTask,
    CleanUpTasks,
    CreateTask,
    DecideTask,
    DeleteTask,
    GetTask,
    ImportTasks,
    ListTasks,
    MoveTask,
    ReadBoard,
    ReadHistory,
    ReadStatistics,
    ReleaseTask,
    SetLimits,
    TaskRequest,
    UpdateTask,
)
from actors.tasks.queries import count_tasks, get_task, list_tasks, read_board, read_history
from actors.tasks.statistics import read_statistics
from protocol.task_answers import BulkResult, CleanedTasks, DeletedTask, ImportedTasks
from protocol.task_claims import TaskLease
from protocol.task_model import Task
from protocol.tasks import ColumnLimits

__all__ = [
    "ANNOUNCE_DUE",
    "CLIENTS_WITH_DUE",
    "COUNT_TASKS",
    "ENDED_LEASES",
    "MOVE_LEASES",
    "OPERATIONS",
    "PENDING_ANALYSES",
    "QUERIES",
    "READS",
    "RECORD_ANALYSIS",
    "RETURN_TASKS",
    "WRITES",
]


def _single(
    change: Callable[[Connection, CommandContext[Any], ChangeRecorder], Any],
) -> Callable[[Connection, CommandContext[Any]], Any]:
    """Turn a single change into an operation."""

    def operation(connection: Connection, context: CommandContext[Any]) -> Outcome[Any]:
        recorder = ChangeRecorder()
        return recorder.outcome(change(connection, context, recorder))

    return operation


WRITES: dict[type[TaskRequest[Any]], Operation[CommandContext[Any], Any]] = {
    CreateTask: Operation("tasks.create", _single(create_task), Task),
    UpdateTask: Operation("tasks.update", _single(change_task), Task),
    MoveTask: Operation("tasks.move", _single(move_task), Task),
    DeleteTask: Operation("tasks.delete", _single(delete_task), DeletedTask),
    DecideTask: Operation("tasks.decide", _single(decide_task), Task),
    ChangeInBulk: Operation("tasks.bulk", change_in_bulk, BulkResult),
    SetLimits: Operation("tasks.limits", set_limits, ColumnLimits, begins_client=True),
    ImportTasks: Operation("tasks.import", import_tasks, ImportedTasks),
    CleanUpTasks: Operation("tasks.clean_up", clean_up, CleanedTasks),
    ClaimTask: Operation("tasks.claim", _single(claim_task), TaskLease),
    ReleaseTask: Operation("tasks.release", _single(release_task), Task),
}
"""Operations by request."""

READS: dict[type[TaskRequest[Any]], Query[CommandContext[Any], Any]] = {
    GetTask: Query("tasks.get", get_task),
    ListTasks: Query("tasks.list", list_tasks),
    ReadBoard: Query("tasks.board", read_board),
    ReadHistory: Query("tasks.history", read_history),
    ReadStatistics: Query("tasks.statistics", read_statistics),
}
"""Queries by request."""

RECORD_ANALYSIS = Operation("tasks.record_analysis", record_analysis, Task | None)
ANNOUNCE_DUE = Operation("tasks.announce_due", announce_due, int)
RETURN_TASKS = Operation("tasks.return", return_tasks, int)
MOVE_LEASES = Operation("tasks.move_leases", move_leases, int)
PENDING_ANALYSES = Query("tasks.pending_analyses", find_pending)
CLIENTS_WITH_DUE = Query("tasks.clients_with_due", find_clients_with_due)
ENDED_LEASES = Query("tasks.ended_leases", find_ended_leases)
COUNT_TASKS = Query("tasks.count", count_tasks)

OPERATIONS: tuple[Operation[Any, Any], ...] = (
    *WRITES.values(),
    RECORD_ANALYSIS,
    ANNOUNCE_DUE,
    RETURN_TASKS,
    MOVE_LEASES,
)
QUERIES: tuple[Query[Any, Any], ...] = (
    *READS.values(),
    PENDING_ANALYSES,
    CLIENTS_WITH_DUE,
    ENDED_LEASES,
    COUNT_TASKS,
)
