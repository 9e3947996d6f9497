"""Events of a client's stream about tasks and the model's answers to them."""

from __future__ import annotations

from attrs import frozen

from protocol.events import Priority
from protocol.task_model import Task

__all__ = ["AIResponse", "TaskDeletedEvent", "TaskEvent"]


@frozen(kw_only=True)
class TaskEvent:
    """The state of a task after a change."""

    event_id: str
    """Identifies the event, even if it is delivered twice."""
    channel: str
    """`tasks`."""
    priority: Priority
    """Priority of the event."""
    task: Task
    """The whole task."""


@frozen(kw_only=True)
class TaskDeletedEvent:
    """A task was deleted."""

    event_id: str
    """Identifies the event, even if it is delivered twice."""
    channel: str
    """`tasks`."""
    priority: Priority
    """Priority of the event."""
    task_id: str
    """Id of the task."""


@frozen(kw_only=True)
class AIResponse:
    """An answer of the model, sent to every device including the asking one."""

    event_id: str
    """Identifies the event, even if it is delivered twice."""
    channel: str
    """`ai`."""
    priority: Priority
    """Priority of the event."""
    command: str
    """The command that requested it, such as `assist` or `task_create`."""
    analysis: str
    """Text of the answer; at most 16 KiB."""
    intent: str | None = None
    """Intent of an `assist`."""
    id: str | None = None
    """Id of the command that was answered; over REST the answer's own."""
    conversation: str | None = None
    """Conversation that it belongs to."""
    task_id: str | None = None
    """Task that it analyses."""
    truncated: bool | None = None
    """True if the answer was longer than the text here."""
