"""How long a conversation may be, on disk and in the model's context. Pure.

In both places the older half goes at once and not one turn at a time: as long as nothing goes, each prompt begins
with the whole prompt before it, and the prefix cache has all of that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import field, frozen

from actors.refusals import CommandRefused
from protocol.commands import ChatMessage, Role
from protocol.errors import ErrorCode

__all__ = [
    "MAXIMUM_BYTES",
    "MAXIMUM_CONVERSATIONS",
    "MAXIMUM_ITEMS",
    "MAXIMUM_ITEM_BYTES",
    "MAXIMUM_TURNS",
    "AskedTurn",
    "StoredTurn",
    "check_capacity",
    "first_kept",
    "half_window",
    "history_of",
]

MAXIMUM_TURNS = 400
MAXIMUM_BYTES = 2 * 1024 * 1024
"""Of a conversation's turns, with what the model was sent for them."""
MAXIMUM_CONVERSATIONS = 1000
"""Of one client, deleted ones with them until they are forgotten."""
MAXIMUM_ITEMS = 4096
"""Of one conversation, turns and items that nobody said together."""
MAXIMUM_ITEM_BYTES = 4 * 1024 * 1024
"""Of one conversation's items: no model reads more, and one reader must not hold up the others."""


@frozen(kw_only=True)
class StoredTurn:
    """One turn as the next prompt needs it."""

    number: int
    role: Role
    text: str = field(repr=False)
    """As the model is sent it."""
    bytes: int = 0


@frozen(kw_only=True)
class AskedTurn:
    """What the user said in a turn that is answered again."""

    number: int
    content: str = field(repr=False)
    prompt: str | None = field(repr=False)
    """What the model was sent for it, where that was more."""
    intent: str | None


def first_kept(numbers_and_bytes: Sequence[tuple[int, int]]) -> int | None:
    """Number of the first turn to keep, where a conversation has outgrown its bounds; None where it has not."""
    count, size = len(numbers_and_bytes), sum(one[1] for one in numbers_and_bytes)
    if count <= MAXIMUM_TURNS and size <= MAXIMUM_BYTES:
        return None
    keep = list(numbers_and_bytes)
    while len(keep) > MAXIMUM_TURNS // 2 or (len(keep) > 1 and sum(one[1] for one in keep) > MAXIMUM_BYTES // 2):
        keep.pop(0)
    return keep[0][0]


def half_window(turns: Sequence[StoredTurn]) -> Sequence[StoredTurn]:
    """The newer half, beginning with something that the user said; empty where there is no such half."""
    kept = list(turns[(len(turns) + 1) // 2 :])
    while kept and kept[0].role is not Role.USER:
        kept.pop(0)
    return kept


def history_of(turns: Sequence[StoredTurn]) -> list[ChatMessage]:
    """The turns as chat messages, user and assistant by turns: what was never answered is left out."""
    messages: list[ChatMessage] = []
    for turn in turns:
        if messages and messages[-1].role is turn.role:
            messages.pop()
        if not messages and turn.role is not Role.USER:
            continue
        messages.append(ChatMessage(turn.role, turn.text))
    if messages and messages[-1].role is Role.USER:
        messages.pop()
    return messages


def check_capacity(row: Any, held: int, count: int, size: int, field: str) -> None:
    """Raises `CommandRefused` where so many items more are too many for a conversation that has ``held``.

    One that forgets its oldest turns has room for whatever may be added to any.
    """
    bytes_before = row.bytes if row.keeps_all else 0
    held = held if row.keeps_all else 0
    if held + count > MAXIMUM_ITEMS or bytes_before + size > MAXIMUM_ITEM_BYTES:
        message = (
            f"this conversation has {held} items and {bytes_before} bytes, of {MAXIMUM_ITEMS} and {MAXIMUM_ITEM_BYTES} at most; "
            "begin another one"
        )
        raise CommandRefused(ErrorCode.CONTEXT_LENGTH_EXCEEDED, message, field=field)
