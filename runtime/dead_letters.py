"""Dead letters, messages that will never be handled: all are counted, the last 256 kept, and logging is rate-limited."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable

import trio
from attrs import field, frozen

__all__ = ["KEPT", "DeadLetter", "DeadLetters"]

KEPT = 256
"""Number of the newest dead letters kept for inspection."""

LOG_EVERY_SECONDS = 1.0
"""Shortest interval between log lines of one reason; each line counts the letters since the previous one."""

_log = logging.getLogger("runtime.dead_letters")


@frozen
class DeadLetter:
    """An unhandled message."""

    path: str
    """Its destination."""
    message: object = field(repr=False)
    """The message itself; inspection shows only the class name by default."""
    reason: str
    """`stopped`, `not_running`, `dropped`, `late_reply`, `expired` or `timer_mailbox_full`."""
    time: float
    """Trio clock, seconds."""


class DeadLetters:
    """The counters and recent dead letters of one actor system."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        """Dead letters so far, by reason."""
        self.last: deque[DeadLetter] = deque(maxlen=KEPT)
        """The newest ones, oldest first."""
        self.observers: list[Callable[[DeadLetter], None]] = []
        """Called with each dead letter; must not wait or raise."""
        self._logged_at: dict[str, float] = {}
        self._unlogged: Counter[str] = Counter()

    @property
    def total(self) -> int:
        """Dead letters so far."""
        return self.counts.total()

    def add(self, path: str, message: object, reason: str) -> None:
        """Records a dead letter. Never waits."""
        now = trio.current_time()
        letter = DeadLetter(path, message, reason, now)
        self.counts[reason] += 1
        self.last.append(letter)
        for observer in self.observers:
            observer(letter)
        self._unlogged[reason] += 1
        if now - self._logged_at.get(reason, -LOG_EVERY_SECONDS) >= LOG_EVERY_SECONDS:
            self._logged_at[reason] = now
            _log.info(
                "dead letters: %d %s, last a %s for %s", self._unlogged[reason], reason, type(message).__name__, path
            )
            self._unlogged[reason] = 0
