"""How much a conversation holds that forgets nothing. Pure."""

from __future__ import annotations

from typing import Any

from actors.refusals import CommandRefused
from protocol.errors import ErrorCode

__all__ = ["MAXIMUM_BYTES", "MAXIMUM_ITEMS", "check_room"]

MAXIMUM_ITEMS = 4096
"""Of one conversation, turns and items that nobody said together."""
MAXIMUM_BYTES = 4 * 1024 * 1024
"""Of one conversation's items: no model reads more, and one reader must not hold up the others."""


def check_room(row: Any, held: int, count: int, size: int, field: str) -> None:
    """Raises `CommandRefused` where so many items more are too many for a conversation that has ``held``.

    One that forgets its oldest turns has room for whatever may be added to any.
    """
    bytes_before = row.bytes if row.keeps_all else 0
    held = held if row.keeps_all else 0
    if held + count > MAXIMUM_ITEMS or bytes_before + size > MAXIMUM_BYTES:
        message = (
            f"this conversation has {held} items and {bytes_before} bytes, of {MAXIMUM_ITEMS} and {MAXIMUM_BYTES} at most; "
            "begin another one"
        )
        raise CommandRefused(ErrorCode.CONTEXT_LENGTH_EXCEEDED, message, field=field)
