"""Events of a generation, and what a subscriber keeps of them to resume it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from actors.tracing.trace_context import TraceContext
from protocol.errors import ErrorCode
from protocol.events import Done

__all__ = [
    "FirstTimes",
    "GenerationCancelled",
    "GenerationDone",
    "GenerationEnded",
    "GenerationEvent",
    "GenerationFailed",
    "GenerationTokens",
    "ResumeFrom",
]


@frozen(kw_only=True)
class GenerationTokens:
    """Text of an answer with the ids of its tokens."""

    stream: str
    seq: int
    text: str
    index: int
    token_ids: tuple[int, ...]
    """Ids since the previous event; kept by the subscriber, so that nothing is lost with the inference actor."""
    log_probability: float
    """Sum over these ids."""
    logprobs: list[dict[str, Any]] | None = None
    """If requested: text, id, log-probability, bytes and position of each token, with the likeliest alternatives."""
    first_times: FirstTimes | None = field(default=None, repr=False)
    """Kept by the subscriber, like the ids."""
    first_seq: int = field()
    """First of the events merged into this one."""

    @first_seq.default
    def _itself(self) -> int:
        return self.seq


@frozen(kw_only=True)
class GenerationDone:
    """The answer is complete."""

    stream: str
    seq: int
    done: Done
    fields: Mapping[str, Any] = field(factory=dict)
    """Fields made by `completion_fields`."""
    stop_text: str | None = None
    """The stop text that ended it; None if the model or the length did, or if the answer was read back from storage."""


@frozen(kw_only=True)
class GenerationCancelled:
    """The generation was cancelled."""

    stream: str
    seq: int
    reason: str


@frozen(kw_only=True)
class GenerationFailed:
    """The generation failed."""

    stream: str
    seq: int
    code: ErrorCode
    message: str


GenerationEvent = GenerationTokens | GenerationDone | GenerationCancelled | GenerationFailed


@frozen(kw_only=True)
class GenerationEnded:
    """Tells the observer that a generation has ended, in whatever way."""

    stream: str
    client_id: str
    text: str = field(repr=False)
    """The whole text, or as much as there was."""
    done: Done | None
    """Set for a complete answer."""
    code: ErrorCode | None
    """Set for a failed answer; a cancelled or abandoned one has neither this nor `done`."""
    message: str | None
    trace: TraceContext | None = None
    """As in `StartGeneration`."""


@frozen(kw_only=True)
class FirstTimes:
    """Measurements of an answer up to its first token, on Trio's clock; sent with its tokens so that a restart does not
    lose them."""

    accepted_at: float
    admitted_at: float | None
    first_token_at: float | None
    cached_tokens: int | None


@frozen(kw_only=True)
class ResumeFrom:
    """A subscriber's position when the inference actor was lost, sufficient to continue the same answer."""

    seq: int
    """Last sequence number it received."""
    token_ids: tuple[int, ...]
    """Ids of all tokens behind the received text."""
    log_probability: float
    """Sum over these tokens."""
    seed: int
    model: str | None = None
    """Model that began the answer, from `GenerationStarted`; another model's ids would mean other text."""
    first_times: FirstTimes | None = None
    """None if no token was received."""
