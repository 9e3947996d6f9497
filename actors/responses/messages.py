"""Messages of the responses service. Other services import nothing else of it."""

from __future__ import annotations

from typing import Any

from attrs import field, frozen

from actors.inference.messages import (
    GenerationCancelled,
    GenerationDone,
    GenerationEvent,
    GenerationFailed,
    GenerationStarted,
)
from actors.storage.messages import IdempotencyKey
from protocol.commands import Generate
from protocol.errors import ErrorCode
from protocol.events import FinishReason
from runtime import Request

__all__ = [
    "CancelResponse",
    "DeleteResponse",
    "FindBegun",
    "FollowResponse",
    "NewResponse",
    "ReadChain",
    "ReadInput",
    "ReadResponse",
    "ResponseEnd",
    "ResponsePage",
    "ResponseSnapshot",
    "ResponsesRequest",
    "StartResponse",
    "end_of",
]


@frozen(kw_only=True)
class ResponseEnd:
    """The outcome of a response."""

    status: str
    """`completed`, `incomplete`, `failed` or `cancelled`."""
    ended_ms: int
    """POSIX milliseconds."""
    reason: str | None = None
    """Reason for being incomplete: `max_output_tokens`."""
    code: str | None = None
    """The protocol's error code, if it failed."""
    message: str | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    """The part of `completion_tokens` that was reasoning."""


def end_of(event: GenerationEvent, ended_ms: int) -> ResponseEnd:
    """Convert a generation's last event."""
    match event:
        case GenerationDone(done=done):
            is_cut = done.finish_reason is FinishReason.LENGTH
            return ResponseEnd(
                status="incomplete" if is_cut else "completed",
                reason="max_output_tokens" if is_cut else None,
                ended_ms=ended_ms,
                prompt_tokens=done.usage.prompt_tokens,
                cached_tokens=done.usage.cached_tokens,
                completion_tokens=done.usage.completion_tokens,
            )
        case GenerationFailed(code=code, message=message):
            return failed_end(code, message, ended_ms)
        case GenerationCancelled(reason=reason):
            return ResponseEnd(status="cancelled", message=reason, ended_ms=ended_ms)
    raise TypeError(f"{type(event).__name__} ends nothing")


def failed_end(code: ErrorCode, message: str, ended_ms: int) -> ResponseEnd:
    """Build the end of a response that cannot be completed."""
    return ResponseEnd(status="failed", code=code.value, message=message, ended_ms=ended_ms)


@frozen(kw_only=True)
class NewResponse:
    """The data stored of a response before its first token."""

    id: str
    """Unique id drawn by the caller; also the name of the generation's stream."""
    created_ms: int
    """POSIX milliseconds."""
    model: str
    """Name of the model that answers."""
    head: dict[str, Any] = field(repr=False)
    """Data that the transport needs to render it again, JSON values; opaque here."""
    input: list[Any] = field(repr=False)
    """Items of the request, JSON values; opaque here."""
    previous_id: str | None = None
    """The response that it continues."""
    conversation_id: str | None = None
    """The conversation that it belongs to, and is appended to at its end."""
    conversation_version: int = 0
    """Version of the history that the prompt was built from."""
    conversation_leaf: int | None = None
    """Number of the conversation's turn that it follows; None, from an older version, is the last one."""
    notifies: bool = False
    """Send a notification at the end."""
    title: str = ""
    """Title in the notification."""


@frozen(kw_only=True)
class StartResponse(Request[GenerationStarted]):
    """Start a stored response. If refused with `CommandError`, nothing is stored.

    It runs to its end whether or not it is read. After a restart, the next server generates it again with the same seed.
    """

    client_id: str
    domain: str = ""
    """As in `StartGeneration`."""
    caller: str = ""
    """As in `StartGeneration`."""
    key: IdempotencyKey | None = None
    """Makes it idempotent: a repetition gets `is_repeat`, with the first response's id as its stream."""
    response: NewResponse
    generate: Generate = field(repr=False)


@frozen(kw_only=True)
class ResponseSnapshot:
    """The current state of a response."""

    response: NewResponse
    text: str = field(repr=False)
    logprobs: tuple[dict[str, Any], ...] = field(default=(), repr=False)
    """One for each token, if requested."""
    end: ResponseEnd | None
    """None while it is running; set once it is stored."""


@frozen(kw_only=True)
class ReadResponse(Request[ResponseSnapshot]):
    """Read one response. Refused with `CommandError`: `not_found`, also for another client's."""

    client_id: str
    id: str


@frozen(kw_only=True)
class ResponsePage:
    """The part of a response that follows a position in its text."""

    text: str = field(repr=False)
    logprobs: tuple[dict[str, Any], ...] = field(default=(), repr=False)
    end: ResponseEnd | None = None
    """None if more may come."""


@frozen(kw_only=True)
class FollowResponse(Request[ResponsePage]):
    """Wait for text after ``after`` characters, or for log-probabilities after ``after_tokens`` tokens.

    An empty page means that nothing arrived for ``wait_seconds``. Cancelling the request has no effect on the
    response. Refused like `ReadResponse`.
    """

    client_id: str
    id: str
    after: int = 0
    after_tokens: int = 0
    wait_seconds: float


@frozen(kw_only=True)
class ReadInput(Request[NewResponse]):
    """Read the input of a response. Refused like `ReadResponse`."""

    client_id: str
    id: str


@frozen(kw_only=True)
class ReadChain(Request[tuple[ResponseSnapshot, ...]]):
    """Read a response and all that it continues, oldest first.

    Refused with `CommandError`: `not_found`, `conflict` while it is running, `context_length_exceeded` if there are
    too many.
    """

    client_id: str
    id: str


@frozen(kw_only=True)
class CancelResponse(Request[ResponseSnapshot]):
    """Cancel a response, keeping its text so far. Has no effect if it has ended. Refused like `ReadResponse`."""

    client_id: str
    id: str


@frozen(kw_only=True)
class DeleteResponse(Request[bool]):
    """Delete a response, cancelling it if it is running. Refused like `ReadResponse`."""

    client_id: str
    id: str


@frozen(kw_only=True)
class FindBegun(Request[str | None]):
    """Return the id of the response that was started with this key, or None.

    Refused with `CommandError`: `conflict` if the key belongs to another command.
    """

    client_id: str
    key: IdempotencyKey


ResponsesRequest = (
    StartResponse | ReadResponse | FollowResponse | ReadInput | ReadChain | CancelResponse | DeleteResponse | FindBegun
)
"""Requests that other services may send to responses."""
