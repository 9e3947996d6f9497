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
from protocol.task_answers import AIResponse, TaskDeletedEvent, TaskEvent

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
    "error": ServerMessageType(ErrorData, MessageKind.ANSWER, "A command failed. Without `re` if no id could be read."),
    "accepted": ServerMessageType(Accepted, MessageKind.ANSWER, "A streaming command was accepted."),
    "token": ServerMessageType(Token, MessageKind.STREAM, "Some text of an answer."),
    "done": ServerMessageType(Done, MessageKind.STREAM, "The answer is complete; last event of its stream."),
    "cancelled": ServerMessageType(CancelledData, MessageKind.STREAM, "The answer was cancelled; last event."),
    "failed": ServerMessageType(ErrorData, MessageKind.STREAM, "The answer failed; last event of its stream."),
    "events": ServerMessageType(EventsData, MessageKind.STREAM, "Events held back by a subscription, in one frame."),
    "task_created": ServerMessageType(TaskEvent, MessageKind.STREAM, "A task was created."),
    "task_updated": ServerMessageType(TaskEvent, MessageKind.STREAM, "A task was changed in place."),
    "task_moved": ServerMessageType(
        TaskEvent, MessageKind.STREAM, "A task was moved, within its column or to another."
    ),
    "task_blocked": ServerMessageType(TaskEvent, MessageKind.STREAM, "A task now waits for another."),
    "task_unblocked": ServerMessageType(TaskEvent, MessageKind.STREAM, "A task no longer waits for another."),
    "task_deleted": ServerMessageType(TaskDeletedEvent, MessageKind.STREAM, "A task was deleted."),
    "notification": ServerMessageType(NotificationEvent, MessageKind.STREAM, "A notification for a person."),
    "ai_response": ServerMessageType(AIResponse, MessageKind.STREAM, "An answer of the model, sent to every device."),
    "conversation_changed": ServerMessageType(
        ConversationChanged, MessageKind.STREAM, "A conversation has changed; answers are reported by `ai_response`."
    ),
    "ping": ServerMessageType(None, MessageKind.UNASKED, "Checks that the client is alive. Answered by `pong`."),
    "tree_changed": ServerMessageType(
        TreeChanged, MessageKind.UNASKED, "For watchers of `tree`: the supervision tree, or the changes in it."
    ),
    "metrics_changed": ServerMessageType(
        MetricsChanged, MessageKind.UNASKED, "For watchers of `metrics`: measured figures over time."
    ),
    "requests_changed": ServerMessageType(
        RequestsChanged, MessageKind.UNASKED, "For watchers of `requests`: live requests and the last that ended."
    ),
    "models_changed": ServerMessageType(
        ModelsChanged, MessageKind.UNASKED, "For watchers of `models`: all models and the engine in use."
    ),
    "dead_letters_changed": ServerMessageType(
        DeadLettersChanged, MessageKind.UNASKED, "For watchers of `dead_letters`: messages that were not handled."
    ),
    "clients_changed": ServerMessageType(
        ClientsChanged, MessageKind.UNASKED, "For watchers of `clients`: the connected devices."
    ),
    "trace_records": ServerMessageType(
        TraceRecords, MessageKind.UNASKED, "For tracers of an actor: its messages, by class."
    ),
    "going_away": ServerMessageType(GoingAway, MessageKind.UNASKED, "The server will close this connection."),
}
"""Every message of the server by wire name. Clients ignore others."""

TERMINAL_TYPES = frozenset({"done", "cancelled", "failed"})
"""Exactly one of these ends the stream of a command."""
