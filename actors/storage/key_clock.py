"""The clock by which remembered commands grow old."""

from __future__ import annotations

import time
from collections.abc import Callable

from sqlalchemy import Connection, func, select

from actors.clock import now_milliseconds
from actors.storage.tables import idempotency

__all__ = ["KeyClock"]


class KeyClock:
    """Milliseconds that go on with the time that this server runs, and not with its time of day.

    The time of day is set, by a person or by the network, and after a sleep it is far ahead at once; a command that was
    sent again just then would be carried out twice. It counts when the clock begins, so that what was remembered before
    the server stood still for a day is forgotten soon after; but never to before what is remembered already. Used by
    the one thread that writes.
    """

    def __init__(
        self,
        *,
        running_ms: Callable[[], int] = lambda: time.monotonic_ns() // 1_000_000,
        wall_ms: Callable[[], int] = now_milliseconds,
    ) -> None:
        self._running_ms = running_ms
        self._wall_ms = wall_ms
        self._ahead_ms: int | None = None

    def now_ms(self, connection: Connection) -> int:
        """The time by this clock. Reads the database the first time."""
        if self._ahead_ms is None:
            newest = connection.scalar(select(func.max(idempotency.c.time_ms)))
            self._ahead_ms = max(self._wall_ms(), newest or 0) - self._running_ms()
        return self._running_ms() + self._ahead_ms
