"""Limits of conversations, in storage and in the model's context. Pure functions.

In both, the older half is dropped at once rather than single turns: as long as nothing is dropped, each prompt begins
with the whole previous prompt, which the prefix cache holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import field, frozen

from actors.errors import CommandError
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
"""Size of a conversation's turns, including the prompts sent for them."""
MAXIMUM_CONVERSATIONS = 1000
"""Conversations of one client, including deleted ones until they are pruned."""
MAXIMUM_ITEMS = 4096
"""Turns and steps of one conversation together."""
MAXIMUM_ITEM_BYTES = 4 * 1024 * 1024
"""Size of one conversation's items: no model reads more, and a single reader must not block the others."""


@frozen(kw_only=True)
class StoredTurn:
    """A turn, with the data that the next prompt needs."""

    number: int
    role: Role
    text: str = field(repr=False)
    """The text that the model receives."""
    bytes: int = 0


@frozen(kw_only=True)
class AskedTurn:
    """The user's message in a turn that is answered again."""

    number: int
    content: str = field(repr=False)
    prompt: str | None = field(repr=False)
    """The prompt sent for it, if it differs from the content."""
    intent: str | None


def first_kept(numbers_and_bytes: Sequence[tuple[int, int]]) -> int | None:
    """Number of the first turn to keep if a conversation exceeds its limits, else None."""
    count, size = len(numbers_and_bytes), sum(one[1] for one in numbers_and_bytes)
    if count <= MAXIMUM_TURNS and size <= MAXIMUM_BYTES:
        return None
    keep = list(numbers_and_bytes)
    while len(keep) > MAXIMUM_TURNS // 2 or (len(keep) > 1 and sum(one[1] for one in keep) > MAXIMUM_BYTES // 2):
        keep.pop(0)
    return keep[0][0]


def half_window(turns: Sequence[StoredTurn]) -> Sequence[StoredTurn]:
    """The newer half, beginning with a message of the user; possibly empty."""
    kept = list(turns[(len(turns) + 1) // 2 :])
    while kept and kept[0].role is not Role.USER:
        kept.pop(0)
    return kept


def history_of(turns: Sequence[StoredTurn]) -> list[ChatMessage]:
    """Convert turns to alternating messages of user and assistant. Unanswered messages are left out."""
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
    """Raise `CommandError` if a conversation with ``held`` items has no capacity for ``count`` more.

    A conversation that forgets its oldest turns always has capacity.
    """
    bytes_before = row.bytes if row.keeps_all else 0
    held = held if row.keeps_all else 0
    if held + count > MAXIMUM_ITEMS or bytes_before + size > MAXIMUM_ITEM_BYTES:
        message = (
            f"this conversation has {held} items and {bytes_before} bytes, and may have at most {MAXIMUM_ITEMS} and {MAXIMUM_ITEM_BYTES}; "
            "start another one"
        )
        raise CommandError(ErrorCode.CONTEXT_LENGTH_EXCEEDED, message, field=field)
