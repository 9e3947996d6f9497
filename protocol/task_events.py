"""What a client's stream carries about tasks and about the model's answers to them."""

from __future__ import annotations

from attrs import frozen

from protocol.events import Priority
from protocol.task_model import Task

__all__ = ["AIResponse", "TaskDeletedEvent", "TaskEvent"]


@frozen(kw_only=True)
class TaskEvent:
    """A task as it is after a change."""

    event_id: str
    """The same for an event that comes twice."""
    channel: str
    """`tasks`."""
    priority: Priority
    """How much it matters."""
    task: Task
    """The whole task."""


@frozen(kw_only=True)
class TaskDeletedEvent:
    """A task is no more."""

    event_id: str
    """The same for an event that comes twice."""
    channel: str
    """`tasks`."""
    priority: Priority
    """How much it matters."""
    task_id: str
    """Which one it was."""


@frozen(kw_only=True)
class AIResponse:
    """An answer of the model, told to every device, the asking one too."""

    event_id: str
    """The same for an event that comes twice."""
    channel: str
    """`ai`."""
    priority: Priority
    """How much it matters."""
    command: str
    """What asked for it, as `assist` or `task_create`."""
    analysis: str
    """What the model said; at most 16 KiB of it."""
    intent: str | None = None
    """Of an `assist`."""
    id: str | None = None
    """Id of the command that was answered; over REST the answer's own."""
    conversation: str | None = None
    """Of a turn of a conversation."""
    task_id: str | None = None
    """Of the analysis of a task."""
    truncated: bool | None = None
    """True where the answer was longer than what is told here."""
