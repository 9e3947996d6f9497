"""Limits of one connection: a token bucket for commands and a sliding window for rejections. No I/O."""

from __future__ import annotations

from collections import deque

__all__ = ["SlidingWindowCounter", "TokenBucket"]


class TokenBucket:
    """Allows ``rate`` commands a second, and bursts of ``burst``."""

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._at = now

    def take(self, now: float) -> float | None:
        """Take one token. Returns None, or the seconds until one is available."""
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens >= 1:
            self._tokens -= 1
            return None
        return (1 - self._tokens) / self._rate


class SlidingWindowCounter:
    """Counts events in the last ``seconds``, up to a limit."""

    def __init__(self, limit: int, seconds: float) -> None:
        self._limit = limit
        self._seconds = seconds
        # Most connections never count anything, and an empty deque is 760 bytes.
        self._times: deque[float] | None = None

    def add(self, now: float) -> bool:
        """Count one event; True when the limit is reached."""
        times = self._times
        if times is None:
            times = self._times = deque(maxlen=self._limit)
        while times and times[0] <= now - self._seconds:
            times.popleft()
        times.append(now)
        return len(times) >= self._limit
