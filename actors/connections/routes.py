"""Which room answers which command: data that the composition root writes and the connection reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import frozen

from actors.inference.messages import GenerationStarted, InferenceRequest, StartGeneration
from protocol.commands import Generate
from runtime import ActorRef, Request

__all__ = ["CommandRoute", "StreamRoute", "generation_route"]


@frozen(kw_only=True)
class CommandRoute:
    """Commands of one wire class go to a room as one message and come back as one `result`."""

    service: ActorRef[Any]
    message: Callable[..., Request[Any]]
    """Called with `client_id`, `device_id`, `data` (the wire class) and `key` (None for reads)."""
    timeout_seconds: float = 10.0
    """Deadline of the ask."""


@frozen(kw_only=True)
class StreamRoute:
    """Commands of one wire class go to a room that answers with `GenerationStarted`; events come to the follower."""

    service: ActorRef[Any]
    message: Callable[..., Request[GenerationStarted]]
    """Called with `client_id`, `device_id`, `domain`, `data` (the wire class), `key`, `stream` (a new name) and `subscriber`.

    The room passes `stream`, `subscriber`, `key` and `domain` on in its `StartGeneration` and gives its answer back.
    """
    of_conversation: StreamRoute | None = None
    """Where a command that names a conversation goes instead."""


def generation_route(inference: ActorRef[InferenceRequest], of_conversation: StreamRoute | None = None) -> StreamRoute:
    """How `generate` reaches the inference room, and as a turn of a conversation the room that keeps those."""
    return StreamRoute(service=inference, message=_start_generation, of_conversation=of_conversation)


def _start_generation(*, device_id: str, data: Generate, **fields: Any) -> StartGeneration:
    return StartGeneration(generate=data, **fields)
