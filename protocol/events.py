"""Messages of the server: one attrs class per kind of data."""

from __future__ import annotations

import enum
from typing import Any

import attrs
from attrs import frozen

from protocol.errors import ErrorCode

__all__ = [
    "Accepted",
    "CancelledData",
    "Done",
    "ErrorData",
    "EventsData",
    "FinishReason",
    "GoingAway",
    "Limits",
    "Priority",
    "ProgressData",
    "ProgressState",
    "Result",
    "ResumeResult",
    "Timings",
    "Token",
    "Usage",
    "Welcome",
]


class Priority(enum.Enum):
    """Importance of an event, highest first; `critical` is never delayed."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"
    DEBUG = "debug"

    @property
    def rank(self) -> int:
        """0 for `critical`, ascending."""
        return _PRIORITY_RANK[self]


_PRIORITY_RANK = {priority: rank for rank, priority in enumerate(Priority)}


class FinishReason(enum.Enum):
    """The reason why an answer ended."""

    STOP = "stop"
    """The model ended it, or a stop text occurred."""
    LENGTH = "length"
    """`max_tokens` or the end of the context was reached, or the answer repeated itself."""


@frozen(kw_only=True)
class Limits:
    """Limits that this server enforces, sent to every client."""

    frame_bytes: int
    commands_in_flight: int
    streams: int
    commands_per_second: int
    command_burst: int
    connections_per_client: int
    detach_seconds: int
    command_memory_seconds: int = 600
    """Minimum time for which a repeated command that changes something gets the same answer under its id.
    A client that was away for longer cannot know if it would be carried out twice.
    """


@frozen(kw_only=True)
class AnswerDefaults:
    """This server's defaults for interactive use: sent by a command line, a chat or a page whose user has set nothing."""

    temperature: float
    top_p: float
    repetition_penalty: float
    max_tokens: int


@frozen(kw_only=True)
class ResumeResult:
    """Result of resuming one stream."""

    stream: str
    resumed: bool
    head: int
    snapshot: dict[str, Any] | None = None


@frozen(kw_only=True)
class Welcome:
    """Answers `hello`."""

    connection_id: str
    client_id: str
    device_id: str
    epoch: str
    server: str
    limits: Limits
    model: str
    state: dict[str, Any]
    resumed: list[ResumeResult]
    answer_defaults: AnswerDefaults | None = None
    """For interactive programs. `generate` itself takes the likeliest token by default, as other programs expect."""


@frozen
class Accepted:
    """A streaming command was accepted; its events follow on `stream`."""

    stream: str
    epoch: str
    left_out: list[str] | None = None
    """Parts of `response_schema` that cannot be enforced, such as `response_schema/properties/a`. Absent if there are none, and
    if the same command was accepted before."""


@frozen
class Token:
    """A piece of an answer's text."""

    text: str
    index: int
    """Number of tokens emitted before the last token of this text."""
    logprobs: list[dict[str, Any]] | None = None
    """For each token: `token` (its text), `token_id`, `logprob`, its `bytes`, `offset` (characters before it) and `top`."""


@frozen(kw_only=True)
class Usage:
    """Token counts of a request."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    """Prompt tokens taken from a cache."""
    dropped_turns: int | None = None
    """Number of older turns omitted because the context was full; absent if none."""


@frozen(kw_only=True)
class Timings:
    """Measured times of a request, milliseconds."""

    queued_ms: float
    """From acceptance to its first step in the worker."""
    first_token_ms: float | None
    """From acceptance to the first token."""
    total_ms: float
    tokens_per_second: float | None
    """Rate after the first token; None with fewer than two."""


@frozen(kw_only=True)
class Done:
    """The answer is complete; last event of its stream.

    For a turn of a conversation, and for `assist`, it is sent as soon as the answer is complete, without waiting for the
    disk. `ai_response` confirms that the answer is stored. Reading, continuing or deleting the conversation after `done`
    waits for that. Only a server that is killed in between loses the answer: it keeps the question, and generates the answer
    again if it was detached.
    """

    finish_reason: FinishReason
    usage: Usage
    timings: Timings
    confidence: float | None
    """exp(mean log-probability of the emitted tokens); None if none was emitted, or with `repetition`."""
    seed: int
    """Seed used, given or drawn."""
    engine_restarts: int = 0
    """Number of engine restarts during this answer."""
    calibrated: float | None = None
    """For `assist`: share of correct answers at this confidence on a labelled set, if it was measured for this model."""
    repetition: bool | None = None
    """True if the answer repeated itself and was ended, with `finish_reason` `length`; it then has no confidence."""


@frozen
class CancelledData:
    """The stream was cancelled; last event."""

    reason: str


class ProgressState(enum.Enum):
    """State of a generation."""

    WAITING = "waiting"
    """Waiting for a place in the batch, or for its model."""
    READING = "reading"
    """Reading its prompt."""
    ANSWERING = "answering"
    OVER = "over"
    """Ended or unknown; details are given only for a client's own generations."""


@frozen(kw_only=True)
class ProgressData:
    """Answers `generation_progress`: the progress of a generation."""

    state: ProgressState
    waiting: int
    """Requests of all clients waiting for a place in the batch, including this one."""
    prompt_tokens: int
    read_tokens: int
    """Prompt tokens read so far, including those taken from a cache."""


@frozen
class Result:
    """Answers a command that is done at once."""

    value: dict[str, Any]


@frozen(kw_only=True)
class ErrorData:
    """Describes an error, for programs and people. Also the data of `failed`."""

    code: ErrorCode
    message: str
    temporary: bool = attrs.field()
    retry_after_ms: int | None = None
    field: str | None = None
    current: dict[str, Any] | None = None
    """With `conflict`: the object as stored now, or the running command."""
    carried_out: bool | None = None
    """True for a command that was carried out although its own answer is not available; absent otherwise."""

    @temporary.default
    def _temporary_by_code(self) -> bool:
        return self.code.is_temporary


@frozen
class GoingAway:
    """The server is about to close this connection."""

    retry_after_ms: int


@frozen
class EventsData:
    """Events held back by a subscription, in one frame: complete event envelopes of this stream, oldest first."""

    events: list[dict[str, Any]]
