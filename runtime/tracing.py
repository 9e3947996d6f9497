"""Trace sessions: record messages in and out of one actor, at a bounded rate, and end by themselves."""

from __future__ import annotations

import math

import trio
from attrs import field, frozen

__all__ = ["TraceRecord", "TraceSession"]


@frozen
class TraceRecord:
    """A traced message."""

    direction: str
    """`in` (a tell), `ask` (a request) or `out` (sent by the traced actor)."""
    other: str
    """The sender of an `in` or `ask`, the receiver of an `out`; empty if it is not an actor."""
    message_type: str
    message: object = field(repr=False)
    """The message itself, for readers that request payloads."""
    time: float
    """Trio clock, seconds."""


class TraceSession:
    """Collects records for one reader. Never waits, so a slow reader cannot slow the actor."""

    def __init__(self, *, rate_per_second: float, maximum: int) -> None:
        """At most ``rate_per_second`` records a second and ``maximum`` in total; the session then closes."""
        self.rate_per_second = rate_per_second
        self.remaining = maximum
        self.skipped = 0
        """Messages over the rate, or more than the reader has taken."""
        self._allowance = max(1.0, rate_per_second)
        self._refilled_at = trio.current_time()
        self._send, self.records = trio.open_memory_channel[TraceRecord](max(1, min(maximum, 1024)))

    @property
    def is_open(self) -> bool:
        """False once the limit is reached or the reader is gone."""
        return self.remaining > 0

    def record(self, direction: str, other: str, message: object) -> None:
        """Records one message, or counts it as skipped."""
        if not self.is_open:
            return
        now = trio.current_time()
        self._allowance = min(
            max(1.0, self.rate_per_second), self._allowance + (now - self._refilled_at) * self.rate_per_second
        )
        self._refilled_at = now
        if math.floor(self._allowance) < 1:
            self.skipped += 1
            return
        try:
            self._send.send_nowait(TraceRecord(direction, other, type(message).__name__, message, now))
        except trio.WouldBlock:
            self.skipped += 1
            return
        except trio.BrokenResourceError:
            self.close()
            return
        self._allowance -= 1
        self.remaining -= 1
        if self.remaining == 0:
            self.close()

    def close(self) -> None:
        """Takes no more; the reader gets the remaining records and then the end."""
        self.remaining = 0
        self._send.close()
