"""What the room's operations and queries are given, and how they refuse."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from attrs import frozen
from sqlalchemy import Connection

from actors.refusals import CommandRefused
from actors.tasks.rows import StoredTask, find_task
from protocol.codec import unstructure
from protocol.errors import ErrorCode
from protocol.task_model import Task

__all__ = ["CommandContext", "conflict", "existing_task", "invalid", "not_found", "task_of_version"]

Data = TypeVar("Data")
NewData = TypeVar("NewData")


@frozen(kw_only=True)
class CommandContext(Generic[Data]):
    """One command with who asked it and when."""

    client_id: str
    device_id: str
    data: Data
    """The wire class."""
    now_ms: int
    """POSIX milliseconds."""
    path: str = "data"
    """Where the data stand in what the client sent, for refusals."""

    def part(self, data: NewData, path: str) -> CommandContext[NewData]:
        """The same with one part of the data."""
        return CommandContext(
            client_id=self.client_id,
            device_id=self.device_id,
            data=data,
            now_ms=self.now_ms,
            path=f"{self.path}.{path}" if path else self.path,
        )


def invalid(context: CommandContext[Any], field: str, problem: str) -> CommandRefused:
    """A field that is well formed and cannot be taken here."""
    path = f"{context.path}.{field}"
    return CommandRefused(ErrorCode.INVALID_FIELD, f"{path}: {problem}", field=path)


def not_found(context: CommandContext[Any], field: str = "task_id") -> CommandRefused:
    """No such task, or another client's."""
    return CommandRefused(ErrorCode.NOT_FOUND, "there is no such task", field=f"{context.path}.{field}")


def conflict(context: CommandContext[Any], field: str, problem: str, current: Task | None = None) -> CommandRefused:
    """What is stored now is against it."""
    return CommandRefused(
        ErrorCode.CONFLICT,
        problem,
        field=f"{context.path}.{field}",
        current=None if current is None else unstructure(current),
    )


def existing_task(connection: Connection, context: CommandContext[Any]) -> StoredTask:
    """The task that the data name. Raises `not_found`."""
    stored = find_task(connection, context.client_id, context.data.task_id)
    if stored is None:
        raise not_found(context)
    return stored


def task_of_version(connection: Connection, context: CommandContext[Any]) -> StoredTask:
    """The task that the data name, in the version that they name. Raises `not_found`, `conflict`."""
    stored = existing_task(connection, context)
    if stored.task.version != context.data.version:
        raise conflict(
            context,
            "version",
            f"the task has version {stored.task.version} now, not {context.data.version}",
            stored.task,
        )
    return stored
