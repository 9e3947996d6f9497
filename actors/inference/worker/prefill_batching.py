"""Which waiting prompts are read side by side. Pure.

Reading several at once costs little more than reading one, because the weights are what has to be fetched. What it
costs is padding: all of a group read as many tokens as the one that has the most to read, and the keys and values of
all are as long as those of the longest.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

__all__ = ["Waiting", "read_together"]

ROWS = 8
"""Prompts read side by side at most, save for short ends."""
SHORT_TOKENS = 256
"""What is left of kept prompts is often short: then as many rows as keep their tokens within this."""
SIMILAR = 0.7
"""The one that has the least to read has at least this share of the one that has the most."""
PADDED = 1.5
"""Keys and values of a group may take this many times the room of its members' own."""


@frozen
class Waiting:
    """A prompt that waits to be read."""

    length: int
    """Tokens of it, with those already emitted after it."""
    known: int
    """Tokens at its beginning whose keys and values are kept; less than the length."""

    @property
    def unread(self) -> int:
        """Tokens still to be read, at least one."""
        return self.length - self.known


def read_together(waiting: Sequence[Waiting]) -> list[int]:
    """Indexes of the prompts to read with the first, in their order; the first is always among them."""
    first = waiting[0]
    group = [0]
    least = most = first.unread
    longest = total = first.length
    for index, one in enumerate(waiting[1:], start=1):
        new_least, new_most = min(least, one.unread), max(most, one.unread)
        new_longest, new_total, rows = max(longest, one.length), total + one.length, len(group) + 1
        if rows > ROWS and rows * new_most > SHORT_TOKENS:
            continue
        if new_least < SIMILAR * new_most or rows * new_longest > PADDED * new_total:
            continue
        group.append(index)
        least, most, longest, total = new_least, new_most, new_longest, new_total
    return group
