"""`CommandType`: the server's knowledge of a command before it reads the data. Each module of commands has a table of these."""

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
"""Largest frame in either direction."""
ONLY_IF_KNOWN = "only_if_known"
"""Envelope field of commands that write: report the outcome recorded for this id, without carrying anything out."""
TRACEPARENT = "traceparent"
"""Envelope field: the client's span that the command belongs to, as in the HTTP header of that name (W3C Trace Context)."""
TRACEPARENT_PATTERN = "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[!-~]*)?$"
TRACEPARENT_CHARACTERS = 256


@frozen
class CommandType:
    """A command of the protocol."""

    data: type
    """The attrs class of `data`."""
    maximum_bytes: int = 64 * KIBIBYTE
    """Size limit of the whole frame."""
    needs_id: bool = True
    writes: bool = False
    """True if it writes or starts work: the same id with the same data is carried out once."""
    needs_operator: bool = False
    """True if it requires the role `operator`, which every client has on a server without tokens. Such a command is never
    resent automatically: the server does not remember having carried it out."""
    result: Any = None
    """Type of the `result`'s data, for schemas and clients; None for any JSON."""
