"""Which room answers which command: data that the composition root writes and the connection reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import frozen

from runtime import ActorRef, Request

__all__ = ["CommandRoute"]


@frozen(kw_only=True)
class CommandRoute:
    """Commands of one wire class go to a room as one message and come back as one `result`."""

    room: ActorRef[Any]
    message: Callable[..., Request[Any]]
    """Called with `client_id`, `device_id`, `data` (the wire class) and `key` (None for reads)."""
    timeout_seconds: float = 10.0
    """Deadline of the ask."""
