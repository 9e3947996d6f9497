"""Restart policy: how soon a child is restarted (back-off), and how often before its supervisor gives up (intensity)."""

from __future__ import annotations

import random
from collections import deque

from attrs import field, frozen, validators

__all__ = ["MAXIMUM_INTENSITY_PRODUCT", "Backoff", "RestartWindow"]

MAXIMUM_INTENSITY_PRODUCT = 1000
"""Bound on the product of intensities along one branch (OTP's documentation warns of 10 × 10 = 100)."""


@frozen(kw_only=True)
class Backoff:
    """Delays between restarts of one child. No I/O.

    The first restart after a stable time is immediate; the n-th one after it waits
    ``min(maximum, base · 2^(n-1)) · (1 ± jitter)`` seconds.
    """

    base_seconds: float = field(default=0.1, validator=validators.gt(0))
    """Delay of the second restart in a row."""
    maximum_seconds: float = field(default=10.0, validator=validators.gt(0))
    """Longest delay, before jitter."""
    jitter: float = field(default=0.2, validator=[validators.ge(0), validators.lt(1)])
    """Largest relative change of a delay, so that many children do not restart in lockstep."""
    stable_after_seconds: float = field(default=5.0, validator=validators.ge(0))
    """A child that ran this long counts as stable; its next restart is immediate."""

    def delay_seconds(self, failures_in_a_row: int, *, uniform: float | None = None) -> float:
        """Seconds to wait after the n-th consecutive failure (n ≥ 1).

        ``uniform`` is a number in [0, 1) that determines the jitter; random by default.
        """
        if failures_in_a_row < 1:
            raise ValueError(f"failures_in_a_row must be at least 1, not {failures_in_a_row}")
        if failures_in_a_row == 1:
            return 0.0
        # The exponent is capped because 2**n overflows a float if a child crash-loops for days.
        exponent = min(failures_in_a_row - 2, 63)
        plain = min(self.maximum_seconds, self.base_seconds * 2.0**exponent)
        draw = random.random() if uniform is None else uniform  # noqa: S311  spreads load, guards nothing
        return plain * (1.0 + self.jitter * (2.0 * draw - 1.0))

    def failures_after(self, failures_in_a_row: int, uptime_seconds: float) -> int:
        """The number of consecutive failures after a child that ran for ``uptime_seconds`` has failed again."""
        return 1 if uptime_seconds >= self.stable_after_seconds else failures_in_a_row + 1


class RestartWindow:
    """Counts restarts within the last ``period_seconds``. No I/O; the caller supplies the time."""

    __slots__ = ("_times", "intensity", "period_seconds")

    def __init__(self, intensity: int | None, period_seconds: float) -> None:
        """``intensity`` restarts are allowed in ``period_seconds``; None means no limit."""
        self.intensity = intensity
        self.period_seconds = period_seconds
        self._times: deque[float] = deque(maxlen=None if intensity is None else intensity + 1)

    def add(self, now: float) -> bool:
        """Records a restart due at ``now``; True while it is within the intensity."""
        self._forget_before(now)
        if self.intensity is None:
            # Never escalates; the times are for inspection only, so keep a bounded number.
            if len(self._times) >= 100:
                self._times.popleft()
            self._times.append(now)
            return True
        self._times.append(now)
        return len(self._times) <= self.intensity

    def count(self, now: float) -> int:
        """Number of restarts within the window that ends at ``now``."""
        self._forget_before(now)
        return len(self._times)

    def is_at_limit(self, now: float) -> bool:
        """True if one more restart would exceed the intensity."""
        return self.intensity is not None and self.count(now) >= max(self.intensity, 1)

    def _forget_before(self, now: float) -> None:
        while self._times and self._times[0] <= now - self.period_seconds:
            self._times.popleft()
