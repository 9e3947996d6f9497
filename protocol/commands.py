"""Commands of clients: one attrs class per command, and the table of all."""

from __future__ import annotations

import enum
from typing import Any

from attrs import field, frozen

from protocol.command_type import KIBIBYTE, MAXIMUM_FRAME_BYTES, CommandType
from protocol.conversations import CONVERSATION_COMMANDS
from protocol.events import Priority, ProgressData
from protocol.generation import ChatMessage, Generate, OnDisconnect, Role, check_place
from protocol.notifications import NOTIFICATION_COMMANDS
from protocol.operators import OPERATOR_COMMANDS
from protocol.programming_languages import known_language
from protocol.tasks import TASK_COMMANDS
from protocol.validation import FieldFault, between, client_name, each, length, plain_text, readable_text

__all__ = [
    "CHANNELS",
    "COMMANDS",
    "KIBIBYTE",
    "MAXIMUM_FRAME_BYTES",
    "Ack",
    "Assist",
    "Cancel",
    "ChatMessage",
    "CommandType",
    "Generate",
    "GetProgress",
    "Hello",
    "Intent",
    "OnDisconnect",
    "Ping",
    "Pong",
    "Resume",
    "ResumePoint",
    "Role",
    "Subscribe",
]

CHANNELS = ("tasks", "ai", "notifications", "system")
"""Channels of a client's durable stream, by subject."""


@frozen
class ResumePoint:
    """A client's position in a stream."""

    stream: str
    epoch: str
    seq: int = field(validator=between(0, 2**53))


@frozen(kw_only=True)
class Hello:
    """Opens the session; first command of a connection."""

    client_id: str = field(validator=client_name)
    """The owner of tasks, conversations and notifications."""
    device_id: str = field(default="default", validator=client_name)
    """One of the client's devices."""
    token: str | None = field(default=None, validator=length(1, 512, "characters"), repr=False)
    """Required if the server has tokens configured."""
    agent: str | None = field(default=None, validator=length(0, 256, "characters"))
    """Program name and version, for operators who inspect connections."""
    resume: list[ResumePoint] = field(factory=list, validator=length(0, 128, "entries"))
    """Streams to resume."""


@frozen
class Ping:
    """Answered by `pong` with the same data."""

    payload: Any = None


@frozen
class Pong:
    """Answers the server's `ping`; has no answer."""

    payload: Any = None


def _known_channel(one: Any) -> str | None:
    return None if one in CHANNELS else f"must be one of {', '.join(CHANNELS)}, not {str(one)[:40]!r}"


@frozen
class Cancel:
    """Ends a running command of this connection."""

    target: str = field(validator=length(1, 64, "characters"))
    """The id of the command to end."""


class Intent(enum.Enum):
    """Task of the assistant."""

    SUGGEST = "suggest"
    EXPLAIN = "explain"
    REFACTOR = "refactor"
    DEBUG = "debug"
    OPTIMIZE = "optimize"
    ASK = "ask"


@frozen(kw_only=True)
class Assist:
    """Requests help with code. Answered by `accepted` and a stream like `generate`'s."""

    intent: Intent
    content: str = field(validator=[length(1, MAXIMUM_FRAME_BYTES, "characters"), readable_text], repr=False)
    """The code, or the question for `ask`."""
    file_path: str | None = field(default=None, validator=[length(1, 1024, "characters"), plain_text])
    """File name shown to the model; the server never opens the file."""
    language: str | None = field(default=None, validator=known_language)
    """Language of the code; by default derived from the file name."""
    cursor: int | None = field(default=None, validator=between(0, MAXIMUM_FRAME_BYTES))
    """Offset in `content`, characters."""
    conversation: str | None = field(default=None, validator=client_name)
    """Continues a stored conversation, or begins one with this name."""
    parent: int | None = field(default=None, validator=between(0, 2**53))
    """Like `generate`'s."""
    answers: int | None = field(default=None, validator=between(1, 2**53))
    """Answers that user turn again; `content` must repeat it."""
    on_disconnect: OnDisconnect = OnDisconnect.CANCEL

    def __attrs_post_init__(self) -> None:
        check_place(self.conversation, self.parent, self.answers)
        if self.cursor is not None and self.cursor > len(self.content):
            raise FieldFault(
                "cursor", f"must lie in the content's {len(self.content)} characters, not at {self.cursor}"
            )


@frozen
class GetProgress:
    """Requests the progress of a generation that has no token yet; clients poll it to show progress."""

    stream: str = field(validator=length(1, 256, "characters"))
    """Stream name, from `accepted`."""


@frozen(kw_only=True)
class Resume:
    """Resumes a stream after the client's last event."""

    stream: str = field(validator=length(1, 256, "characters"))
    epoch: str = field(validator=length(1, 64, "characters"))
    seq: int = field(validator=between(0, 2**53))
    """Number of the client's last event."""


@frozen(kw_only=True)
class Ack:
    """Acknowledges all events of a stream up to `seq` for this device. Has no answer."""

    stream: str = field(validator=length(1, 256, "characters"))
    seq: int = field(validator=between(0, 2**53))


@frozen(kw_only=True)
class Subscribe:
    """Selects the durable events that this device receives, and their rate; stored per client id and device."""

    channels: list[str] | None = field(default=None, validator=[length(0, 16, "entries"), each(_known_channel)])
    """Only events of these channels; all by default."""
    min_priority: Priority = Priority.DEBUG
    """Only events of at least this priority."""
    max_events_per_second: float | None = field(default=None, validator=between(0.01, 10_000))
    """Further events wait and arrive together in one `events` frame."""
    batch_ms: int = field(default=0, validator=between(0, 60_000))
    """Waits this long for more events before sending."""

    def wants(self, channel: str, priority: Priority) -> bool:
        """True if it admits such an event; `critical` events of a selected channel always pass."""
        return (self.channels is None or channel in self.channels) and priority.rank <= self.min_priority.rank


COMMANDS: dict[str, CommandType] = {
    "hello": CommandType(Hello),
    "ping": CommandType(Ping),
    "pong": CommandType(Pong, needs_id=False),
    "generate": CommandType(Generate, maximum_bytes=MAXIMUM_FRAME_BYTES, writes=True),
    "assist": CommandType(Assist, maximum_bytes=MAXIMUM_FRAME_BYTES, writes=True),
    "cancel": CommandType(Cancel),
    "generation_progress": CommandType(GetProgress, result=ProgressData),
    "resume": CommandType(Resume),
    "ack": CommandType(Ack, needs_id=False),
    "subscribe": CommandType(Subscribe),
    **TASK_COMMANDS,
    **NOTIFICATION_COMMANDS,
    **CONVERSATION_COMMANDS,
    **OPERATOR_COMMANDS,
}
"""Every command by its wire name."""
