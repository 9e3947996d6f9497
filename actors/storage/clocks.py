"""Clocks that determine the age of stored rows, and withstand steps of the wall clock."""

from __future__ import annotations

import time
from collections.abc import Callable

from sqlalchemy import Connection, func, select

from actors.clock import now_milliseconds
from actors.storage.tables import events, idempotency

__all__ = ["CONFIRMED_AFTER_MS", "KeyClock", "RetentionClock"]

SLACK_MS = 60_000
"""Synchronised clocks are corrected by less at a time."""
CONFIRMED_AFTER_MS = 60 * 60 * 1000
"""A wall clock that jumped ahead is trusted after this much running time."""


class KeyClock:
    """The clock of idempotency records: milliseconds that advance with the server's running time, not with its wall clock.

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


class RetentionClock:
    """The clock of deletion by age: wall-clock milliseconds in which a jump ahead counts only after it has lasted an hour.

    A clock that is ahead (a dead battery, a resumed virtual machine, a typing error) would otherwise delete within a minute
    what must be kept for a day or a month, and correcting the clock brings nothing back. A jump back counts at once. After
    a start, the time since the newest stored event counts as such a jump. Used by the writer's thread alone.
    """

    def __init__(
        self,
        *,
        running_ms: Callable[[], int] = lambda: time.monotonic_ns() // 1_000_000,
        wall_ms: Callable[[], int] = now_milliseconds,
    ) -> None:
        self._running_ms = running_ms
        self._wall_ms = wall_ms
        self._offset: int | None = None
        """Offset of the trusted time from the monotonic one."""
        self._jump: tuple[int, int] | None = None
        """A larger offset that is not trusted yet, and the monotonic time at which it was first seen."""

    def now_ms(self, connection: Connection) -> int:
        """Return the time by this clock. The first call reads the database."""
        running = self._running_ms()
        offset = self._wall_ms() - running
        if self._offset is None:
            newest: int | None = connection.scalar(select(func.max(events.c.time_ms)))
            self._offset = offset if newest is None else min(offset, newest - running)
        if offset <= self._offset + SLACK_MS:
            self._offset, self._jump = offset, None
        elif self._jump is None or abs(offset - self._jump[0]) > SLACK_MS:
            self._jump = offset, running
        elif running - self._jump[1] >= CONFIRMED_AFTER_MS:
            self._offset, self._jump = offset, None
        return running + self._offset
