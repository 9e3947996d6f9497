"""What the responses service takes and answers. Other services import this file and nothing else of it."""

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
    """How a response ended."""

    status: str
    """`completed`, `incomplete`, `failed` or `cancelled`."""
    ended_ms: int
    """POSIX milliseconds."""
    reason: str | None = None
    """Why it is incomplete: `max_output_tokens`."""
    code: str | None = None
    """The protocol's error code of one that failed."""
    message: str | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    """Of these, those that were thought."""


def end_of(event: GenerationEvent, ended_ms: int) -> ResponseEnd:
    """The end that a generation's last event means."""
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
    """The end of one that cannot be finished."""
    return ResponseEnd(status="failed", code=code.value, message=message, ended_ms=ended_ms)


@frozen(kw_only=True)
class NewResponse:
    """What is stored of a response before its first token."""

    id: str
    """Unique name that the asker drew; also the name of its stream."""
    created_ms: int
    """POSIX milliseconds."""
    model: str
    """Name of the model that answers it."""
    head: dict[str, Any] = field(repr=False)
    """What the transport needs to show it again, JSON values; opaque here."""
    input: list[Any] = field(repr=False)
    """Items of the request, JSON values; opaque here."""
    previous_id: str | None = None
    """The response that it goes on from."""
    conversation_id: str | None = None
    """The conversation that it is made in, and appended to with its end."""
    conversation_version: int = 0
    """Of the history that it was made of."""
    conversation_leaf: int | None = None
    """Number of the turn of the conversation that it is made behind; None, from an older program, is the last one."""
    notifies: bool = False
    """Whether its end is told as a notification."""
    title: str = ""
    """What a notification calls it."""


@frozen(kw_only=True)
class StartResponse(Request[GenerationStarted]):
    """Begin a response that is stored. Refused with `CommandRefused`; then nothing is stored.

    It runs to its end whether or not anybody reads it, and is made again, with the same seed, by the next server.
    """

    client_id: str
    domain: str = ""
    """As of `StartGeneration`."""
    caller: str = ""
    """As of `StartGeneration`."""
    key: IdempotencyKey | None = None
    """Begun once: the same again is `is_repeat`, with the first one's id as its stream."""
    response: NewResponse
    generate: Generate = field(repr=False)


@frozen(kw_only=True)
class ResponseSnapshot:
    """A response as it stands."""

    response: NewResponse
    text: str = field(repr=False)
    logprobs: tuple[dict[str, Any], ...] = field(default=(), repr=False)
    """One for each token, where the request asked for them."""
    end: ResponseEnd | None
    """None while it is made; what is told of an end is on disk."""


@frozen(kw_only=True)
class ReadResponse(Request[ResponseSnapshot]):
    """One response. Refused with `CommandRefused`: `not_found`, another client's too."""

    client_id: str
    id: str


@frozen(kw_only=True)
class ResponsePage:
    """What has come of a response since some place in its text."""

    text: str = field(repr=False)
    logprobs: tuple[dict[str, Any], ...] = field(default=(), repr=False)
    end: ResponseEnd | None = None
    """None where more may come."""


@frozen(kw_only=True)
class FollowResponse(Request[ResponsePage]):
    """What comes after ``after`` characters and ``after_tokens`` log-probabilities, as soon as there is anything.

    An empty page after ``wait_seconds`` means that nothing came. Cancelling the ask changes nothing. Refused as `ReadResponse`.
    """

    client_id: str
    id: str
    after: int = 0
    after_tokens: int = 0
    wait_seconds: float


@frozen(kw_only=True)
class ReadInput(Request[NewResponse]):
    """What a response was made of. Refused as `ReadResponse`."""

    client_id: str
    id: str


@frozen(kw_only=True)
class ReadChain(Request[tuple[ResponseSnapshot, ...]]):
    """A response and all that it goes on from, oldest first.

    Refused with `CommandRefused`: `not_found`, `conflict` while it is made, `context_length_exceeded` where they are too many.
    """

    client_id: str
    id: str


@frozen(kw_only=True)
class CancelResponse(Request[ResponseSnapshot]):
    """End a response; what it has so far stays. One that has ended is left as it is. Refused as `ReadResponse`."""

    client_id: str
    id: str


@frozen(kw_only=True)
class DeleteResponse(Request[bool]):
    """Forget a response, and end it where it is made. Refused as `ReadResponse`."""

    client_id: str
    id: str


@frozen(kw_only=True)
class FindBegun(Request[str | None]):
    """Id of the response that this key has begun; None where it began none.

    Refused with `CommandRefused`: `conflict` where it stands for another command.
    """

    client_id: str
    key: IdempotencyKey


ResponsesRequest = (
    StartResponse | ReadResponse | FollowResponse | ReadInput | ReadChain | CancelResponse | DeleteResponse | FindBegun
)
"""Requests that other services may send to responses."""
