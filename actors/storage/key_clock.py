"""The clock that determines the age of idempotency records."""

from __future__ import annotations

import time
from collections.abc import Callable

from sqlalchemy import Connection, func, select

from actors.clock import now_milliseconds
from actors.storage.tables import idempotency

__all__ = ["KeyClock"]


class KeyClock:
    """Milliseconds that advance with the server's running time, not with its wall clock.

    The wall clock can be set, and jumps ahead after a sleep; a command repeated at that moment would run twice. The wall
    clock counts only when this clock begins, so that records from before a day of downtime expire soon, but it never begins
    before the newest record. Used by the writer's thread alone.
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
        """Return the time by this clock. The first call reads the database."""
        if self._ahead_ms is None:
            newest = connection.scalar(select(func.max(idempotency.c.time_ms)))
            self._ahead_ms = max(self._wall_ms(), newest or 0) - self._running_ms()
        return self._running_ms() + self._ahead_ms
