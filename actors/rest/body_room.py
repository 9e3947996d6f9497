"""Room in memory for bodies that are on their way, where this process has a limit: found before any of a body is read.

A server that runs out in the middle of a body may miss the memory anywhere, in the event loop too, and end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from actors.memory_ceiling import spare_bytes

__all__ = ["BODY_ROOM", "BodyRoom"]

BODY_ROOM = "leanvibe.body_room"
"""Key of an application's extensions: its `BodyRoom`."""
SMALL_BYTES = 64 * 1024
"""A body up to this size is taken as it comes: there are no more of them than connections."""
COPIES = 4
"""Of a body at the same time, at most: in pieces as they were received, joined, as text, and in the tokens of its reader."""


class BodyRoom:
    """What bodies that are being received may still take."""

    def __init__(self, spare: Callable[[], int | None] = spare_bytes) -> None:
        """``spare`` says how many bytes are left beside what is kept free; None without a limit."""
        self._spare = spare
        self._held_bytes = 0

    @contextmanager
    def held(self, body_bytes: int) -> Iterator[bool]:
        """Hold room for a body until the block ends; False where there is none."""
        wanted = 0 if body_bytes <= SMALL_BYTES else COPIES * body_bytes
        spare = self._spare() if wanted else None
        # What the others have received by now counts twice, which errs on the side that keeps the server alive.
        has_room = spare is None or self._held_bytes + wanted <= spare
        if not has_room:
            wanted = 0
        self._held_bytes += wanted
        try:
            yield has_room
        finally:
            self._held_bytes -= wanted
