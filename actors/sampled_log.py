"""Rate-limits log lines that clients can cause at will: a few are written, the rest are counted."""

from __future__ import annotations

import time
from collections.abc import Callable, MutableMapping
from typing import Any

import structlog
from attrs import define

__all__ = ["SAMPLED_EVENTS", "LineSampler"]

SAMPLED_EVENTS = frozenset(
    {
        "HTTP connection failed",
        "connection refused",
        "entry refused",
        "fields ignored",
        "handshake refused",
        "nonsense refused",
        "outbox full",
        "reader too slow",
        "reader too slow, connection aborted",
        "request too slow, connection closed",
        "request unreadable",
        "connection evicted",
    }
)
"""Sampled events: refusals and slow clients, each counted separately."""
LINES = 5
WINDOW_SECONDS = 10.0


@define
class _Window:
    began: float
    written: int = 0
    left_out: int = 0


class LineSampler:
    """A structlog processor: passes `LINES` of each sampled event per window, and reports the number suppressed with the next one."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        # One for each event that is sampled, so it does not grow.
        self._windows: dict[str, _Window] = {}

    def __call__(self, _: object, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Return the line, with `left_out` if similar ones were suppressed. Raises `structlog.DropEvent`."""
        event = line.get("event")
        if event not in SAMPLED_EVENTS:
            return line
        now = self._now()
        window = self._windows.setdefault(str(event), _Window(now))
        if now - window.began >= WINDOW_SECONDS:
            window.began, window.written = now, 0
        if window.written >= LINES:
            window.left_out += 1
            raise structlog.DropEvent
        window.written += 1
        if window.left_out:
            line["left_out"] = window.left_out
            window.left_out = 0
        return line
