"""What the server sends: one attrs class per kind of data."""

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
    """How much an event matters, most first; `critical` is never delayed."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"
    DEBUG = "debug"

    @property
    def rank(self) -> int:
        """0 for `critical`, rising."""
        return _PRIORITY_RANK[self]


_PRIORITY_RANK = {priority: rank for rank, priority in enumerate(Priority)}


class FinishReason(enum.Enum):
    """Why an answer ended."""

    STOP = "stop"
    """The model said so, or a stop text came up."""
    LENGTH = "length"
    """`max_tokens` or the context was reached, or the answer repeated itself."""


@frozen(kw_only=True)
class Limits:
    """What this server enforces, told to every client."""

    frame_bytes: int
    commands_in_flight: int
    streams: int
    commands_per_second: int
    command_burst: int
    connections_per_client: int
    detach_seconds: int
    command_memory_seconds: int = 600
    """How long a command that changes something is answered the same when it comes again under its id, at least.
    A client that was away for longer cannot tell whether it would be carried out twice.
    """


@frozen(kw_only=True)
class AnswerDefaults:
    """How this server answers people who set nothing: what a command line, a chat or a page sends in their place."""

    temperature: float
    top_p: float
    repetition_penalty: float
    max_tokens: int


@frozen(kw_only=True)
class ResumeResult:
    """Whether one stream goes on where the client left it."""

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
    """For people. `generate` itself takes the likeliest token where nothing is set, which is what programs expect."""


@frozen
class Accepted:
    """A streaming command was taken; its events follow on `stream`."""

    stream: str
    epoch: str
    left_out: list[str] | None = None
    """Parts of `response_schema` that the answer will not have, since they cannot be followed: `response_schema/properties/a`. Left out
    where there are none, and where the same command was accepted before."""


@frozen
class Token:
    """Some text of an answer."""

    text: str
    index: int
    """Number of tokens emitted before this text's last one."""
    logprobs: list[dict[str, Any]] | None = None
    """Of each token: `token` (its text), `token_id`, `logprob`, its `bytes`, `offset` (characters before it) and `top`."""


@frozen(kw_only=True)
class Usage:
    """Tokens that a request cost."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    """Prompt tokens that were not computed again."""
    dropped_turns: int | None = None
    """Older turns of its conversation for which the context had no room; left out where there were none."""


@frozen(kw_only=True)
class Timings:
    """Measured times of one request, milliseconds."""

    queued_ms: float
    """From acceptance to its first step in the worker."""
    first_token_ms: float | None
    """From acceptance to the first token."""
    total_ms: float
    tokens_per_second: float | None
    """Of the tokens after the first; None with fewer than two."""


@frozen(kw_only=True)
class Done:
    """The answer is complete; last event of its stream.

    Of a turn of a conversation, and of `assist`, it is told as soon as the answer is whole: its row must not wait for a
    disk. `ai_response` says that the answer is stored. Whoever reads, continues or deletes the conversation after `done`
    waits for that. Only a server that is killed in between loses the answer: it keeps the question, and makes the answer
    again where it was detached.
    """

    finish_reason: FinishReason
    usage: Usage
    timings: Timings
    confidence: float | None
    """exp(mean log-probability of the emitted tokens); None when none was emitted, or with `repetition`."""
    seed: int
    """The seed that was used, given or drawn."""
    engine_restarts: int = 0
    """How often the engine was started again while this answer was made."""
    calibrated: float | None = None
    """Of `assist`: share of answers of this confidence that was right on a labelled set, where that was measured for this model."""
    repetition: bool | None = None
    """True where the answer said the same over and over until it was ended, with `finish_reason` `length`; it has no confidence."""


@frozen
class CancelledData:
    """The stream ended because it was cancelled; last event."""

    reason: str


class ProgressState(enum.Enum):
    """What a generation is doing."""

    WAITING = "waiting"
    """For a row, or for its model."""
    READING = "reading"
    """Its prompt."""
    ANSWERING = "answering"
    OVER = "over"
    """Or never was; of a client's own generations alone more is said."""


@frozen(kw_only=True)
class ProgressData:
    """Answers `generation_progress`: how far a generation has come."""

    state: ProgressState
    waiting: int
    """Requests of all clients that wait for a row, this one among them."""
    prompt_tokens: int
    read_tokens: int
    """Of the prompt, those that did not have to be computed among them."""


@frozen
class Result:
    """Answers a command that is done at once."""

    value: dict[str, Any]


@frozen(kw_only=True)
class ErrorData:
    """What went wrong, for programs and people. Also the data of `failed`."""

    code: ErrorCode
    message: str
    temporary: bool = attrs.field()
    retry_after_ms: int | None = None
    field: str | None = None
    current: dict[str, Any] | None = None
    """With `conflict`: the thing as it is stored now, or the command that is running."""
    carried_out: bool | None = None
    """True of a command that was carried out, and has no other answer than this; left out of those that were not."""

    @temporary.default
    def _temporary_by_code(self) -> bool:
        return self.code.is_temporary


@frozen
class GoingAway:
    """The server will close this connection."""

    retry_after_ms: int


@frozen
class EventsData:
    """What a subscription held back, in one frame: whole event envelopes of this stream, oldest first."""

    events: list[dict[str, Any]]
