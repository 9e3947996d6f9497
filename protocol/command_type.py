"""What the server knows of a command before it reads its data; each file of commands has a table of these."""

from __future__ import annotations

from typing import Any

from attrs import frozen

__all__ = [
    "KIBIBYTE",
    "MAXIMUM_FRAME_BYTES",
    "ONLY_IF_KNOWN",
    "TRACEPARENT",
    "TRACEPARENT_CHARACTERS",
    "TRACEPARENT_PATTERN",
    "CommandType",
]

KIBIBYTE = 1024
MAXIMUM_FRAME_BYTES = 1024 * KIBIBYTE
"""No frame in either direction is larger."""
ONLY_IF_KNOWN = "only_if_known"
"""Field of the envelope, of commands that write: answer what became of this id, and carry nothing out where it is not known."""
TRACEPARENT = "traceparent"
"""Field of the envelope: the span of the client's that the command belongs to, as in HTTP's header of that name (W3C Trace Context)."""
TRACEPARENT_PATTERN = "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[!-~]*)?$"
TRACEPARENT_CHARACTERS = 256


@frozen
class CommandType:
    """One command of the protocol."""

    data: type
    """The attrs class of `data`."""
    maximum_bytes: int = 64 * KIBIBYTE
    """Limit of the whole frame."""
    needs_id: bool = True
    writes: bool = False
    """It writes or starts work, so the same id with the same data is carried out once."""
    needs_operator: bool = False
    """Only for the role `operator`, which everybody has who reaches a server without tokens. Such a command is never sent
    again by itself: the server does not remember that it carried it out."""
    result: Any = None
    """The type of `result`'s data, for schemas and clients; None where it is any JSON."""
