"""The sliding restart window of a supervisor, and the check that windows do not multiply out of hand."""

from __future__ import annotations

from collections import deque

__all__ = ["MAXIMUM_INTENSITY_PRODUCT", "RestartWindow"]

MAXIMUM_INTENSITY_PRODUCT = 1000
"""Bound on the product of intensities along one branch (OTP's documentation warns of 10 × 10 = 100)."""


class RestartWindow:
    """Counts restarts within the last ``period_seconds``; pure, the caller brings the time."""

    __slots__ = ("_times", "intensity", "period_seconds")

    def __init__(self, intensity: int | None, period_seconds: float) -> None:
        """``intensity`` restarts are allowed in ``period_seconds``; None never gives up."""
        self.intensity = intensity
        self.period_seconds = period_seconds
        self._times: deque[float] = deque(maxlen=None if intensity is None else intensity + 1)

    def add(self, now: float) -> bool:
        """Record a restart wanted at ``now``; True while it is within the intensity."""
        self._forget_before(now)
        if self.intensity is None:
            # Never escalates; the times are kept for people to look at, so keep only a handful.
            if len(self._times) >= 100:
                self._times.popleft()
            self._times.append(now)
            return True
        self._times.append(now)
        return len(self._times) <= self.intensity

    def count(self, now: float) -> int:
        """Restarts within the window that ends at ``now``."""
        self._forget_before(now)
        return len(self._times)

    def is_at_limit(self, now: float) -> bool:
        """True when one more restart would exceed the intensity."""
        return self.intensity is not None and self.count(now) >= max(self.intensity, 1)

    def _forget_before(self, now: float) -> None:
        while self._times and self._times[0] <= now - self.period_seconds:
            self._times.popleft()
