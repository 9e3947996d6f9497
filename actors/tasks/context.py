"""The argument of the service's operations and queries, and the errors that they raise."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from attrs import frozen
from sqlalchemy import Connection

from actors.errors import CommandError
from actors.tasks.rows import StoredTask, find_task
from protocol.codec import unstructure
from protocol.errors import ErrorCode
from protocol.task_model import Task

__all__ = ["CommandContext", "conflict", "existing_task", "invalid", "not_found", "task_of_version"]

Data = TypeVar("Data")
NewData = TypeVar("NewData")


@frozen(kw_only=True)
class CommandContext(Generic[Data]):
    """A command with its client and time."""

    client_id: str
    device_id: str
    data: Data
    """The wire class."""
    now_ms: int
    """POSIX milliseconds."""
    path: str = "data"
    """Path of the data in the client's message, for errors."""

    def part(self, data: NewData, path: str) -> CommandContext[NewData]:
        """Derive the context of a part of the data."""
        return CommandContext(
            client_id=self.client_id,
            device_id=self.device_id,
            data=data,
            now_ms=self.now_ms,
            path=f"{self.path}.{path}" if path else self.path,
        )


def invalid(context: CommandContext[Any], field: str, problem: str) -> CommandError:
    """Build the error for a field that is well-formed but not acceptable here."""
    path = f"{context.path}.{field}"
    return CommandError(ErrorCode.INVALID_FIELD, f"{path}: {problem}", field=path)


def not_found(context: CommandContext[Any], field: str = "task_id") -> CommandError:
    """Build the error for a task that does not exist or belongs to another client."""
    return CommandError(ErrorCode.NOT_FOUND, "task not found", field=f"{context.path}.{field}")


def conflict(context: CommandContext[Any], field: str, problem: str, current: Task | None = None) -> CommandError:
    """Build the error for a command that conflicts with the stored state."""
    return CommandError(
        ErrorCode.CONFLICT,
        problem,
        field=f"{context.path}.{field}",
        current=None if current is None else unstructure(current),
    )


def existing_task(connection: Connection, context: CommandContext[Any]) -> StoredTask:
    """Return the task that the data name. Raises `not_found`."""
    stored = find_task(connection, context.client_id, context.data.task_id)
    if stored is None:
        raise not_found(context)
    return stored


def task_of_version(connection: Connection, context: CommandContext[Any]) -> StoredTask:
    """Return the task that the data name, in the version that they name. Raises `not_found`, `conflict`."""
    stored = existing_task(connection, context)
    if stored.task.version != context.data.version:
        raise conflict(
            context,
            "version",
            f"the task is at version {stored.task.version}, not {context.data.version}",
            stored.task,
        )
    return stored
