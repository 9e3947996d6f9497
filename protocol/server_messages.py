"""Messages of the server by wire name: the counterpart of `COMMANDS`, read by clients and by the schemas."""

from __future__ import annotations

import enum

from attrs import frozen

from protocol.conversations import ConversationChanged
from protocol.events import (
    Accepted,
    CancelledData,
    Done,
    ErrorData,
    EventsData,
    GoingAway,
    Token,
    Welcome,
)
from protocol.notifications import NotificationEvent
from protocol.operator_topics import (
    ClientsChanged,
    DeadLettersChanged,
    MetricsChanged,
    ModelsChanged,
    RequestsChanged,
    TraceRecords,
    TreeChanged,
)
from protocol.task_events import AIResponse, TaskDeletedEvent, TaskEvent

__all__ = ["SERVER_MESSAGES", "TERMINAL_TYPES", "MessageKind", "ServerMessageType"]


class MessageKind(enum.Enum):
    """Envelope of a message."""

    ANSWER = "answer"
    """Carries `re`, the id of the command that it answers."""
    STREAM = "stream"
    """Carries `stream` and `seq`, and `re` on a stream that answers a command."""
    UNASKED = "unasked"
    """Carries neither."""


@frozen
class ServerMessageType:
    """A client's knowledge of a message before it reads the data."""

    data: type | None
    """The attrs class of `data`; None for any JSON."""
    kind: MessageKind
    description: str


SERVER_MESSAGES: dict[str, ServerMessageType] = {
    "welcome": ServerMessageType(Welcome, MessageKind.ANSWER, "Answers `hello`."),
    "pong": ServerMessageType(None, MessageKind.ANSWER, "Answers `ping` with the same data."),
    "result": ServerMessageType(None, MessageKind.ANSWER, "Answers a command that is done at once."),
    "error": ServerMessageType(
        ErrorData, MessageKind.ANSWER, "A command failed. Without `re` where no id could be read."
    ),
    "accepted": ServerMessageType(Accepted, MessageKind.ANSWER, "A streaming command was taken."),
    "token": ServerMessageType(Token, MessageKind.STREAM, "Some text of an answer."),
    "done": ServerMessageType(Done, MessageKind.STREAM, "The answer is complete; last event of its stream."),
    "cancelled": ServerMessageType(CancelledData, MessageKind.STREAM, "The answer was cancelled; last event."),
    "failed": ServerMessageType(ErrorData, MessageKind.STREAM, "The answer failed; last event of its stream."),
    "events": ServerMessageType(EventsData, MessageKind.STREAM, "What a subscription held back, in one frame."),
    "task_created": ServerMessageType(TaskEvent, MessageKind.STREAM, "A task was made."),
    "task_updated": ServerMessageType(TaskEvent, MessageKind.STREAM, "A task was changed where it stands."),
    "task_moved": ServerMessageType(
        TaskEvent, MessageKind.STREAM, "A task stands elsewhere, in its column or another."
    ),
    "task_blocked": ServerMessageType(TaskEvent, MessageKind.STREAM, "A task waits for another now."),
    "task_unblocked": ServerMessageType(TaskEvent, MessageKind.STREAM, "A task waits for no other any more."),
    "task_deleted": ServerMessageType(TaskDeletedEvent, MessageKind.STREAM, "A task is no more."),
    "notification": ServerMessageType(NotificationEvent, MessageKind.STREAM, "Something that a person shall know."),
    "ai_response": ServerMessageType(AIResponse, MessageKind.STREAM, "An answer of the model, told to every device."),
    "conversation_changed": ServerMessageType(
        ConversationChanged, MessageKind.STREAM, "A conversation is not as it was; answers are told by `ai_response`."
    ),
    "ping": ServerMessageType(None, MessageKind.UNASKED, "Is the client there? Answered by `pong`."),
    "tree_changed": ServerMessageType(
        TreeChanged, MessageKind.UNASKED, "To whom watches `tree`: the supervision tree, or what changed of it."
    ),
    "metrics_changed": ServerMessageType(
        MetricsChanged, MessageKind.UNASKED, "To whom watches `metrics`: measured figures over time."
    ),
    "requests_changed": ServerMessageType(
        RequestsChanged, MessageKind.UNASKED, "To whom watches `requests`: live ones and the last that ended."
    ),
    "models_changed": ServerMessageType(
        ModelsChanged, MessageKind.UNASKED, "To whom watches `models`: all models and the engine in use."
    ),
    "dead_letters_changed": ServerMessageType(
        DeadLettersChanged, MessageKind.UNASKED, "To whom watches `dead_letters`: messages that were not handled."
    ),
    "clients_changed": ServerMessageType(
        ClientsChanged, MessageKind.UNASKED, "To whom watches `clients`: the devices that are connected."
    ),
    "trace_records": ServerMessageType(
        TraceRecords, MessageKind.UNASKED, "To whom traces an actor: its messages, by class."
    ),
    "going_away": ServerMessageType(GoingAway, MessageKind.UNASKED, "The server will close this connection."),
}
"""Every message of the server by wire name. Clients ignore others."""

TERMINAL_TYPES = frozenset({"done", "cancelled", "failed"})
"""Exactly one of these ends the stream of a command."""
