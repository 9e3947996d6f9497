"""The wall clock, and detection of its being set back."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["ClockWatch", "now_milliseconds"]

SLACK_SECONDS = 1.0
"""Synchronised clocks are corrected by less at a time."""


def now_milliseconds() -> int:
    """Return POSIX milliseconds."""
    return int(time.time() * 1000)


class ClockWatch:
    """Detects that the wall clock was set back, by comparing it with the monotonic clock."""

    def __init__(
        self, wall_seconds: Callable[[], float] = time.time, steady_seconds: Callable[[], float] = time.monotonic
    ) -> None:
        self._wall_seconds = wall_seconds
        self._steady_seconds = steady_seconds
        self._offset = wall_seconds() - steady_seconds()

    def set_back_ms(self) -> int:
        """Return by how many milliseconds the wall clock was set back since the last call, or 0.

        Small steps add up: an amount below the threshold is carried to the next call.
        """
        offset = self._wall_seconds() - self._steady_seconds()
        back_seconds = self._offset - offset
        if back_seconds < 0:
            # Ahead, by a hand or by a sleep in which the steady clock stood still: from here on this is right.
            self._offset = offset
        if back_seconds < SLACK_SECONDS:
            return 0
        self._offset = offset
        return round(back_seconds * 1000)
