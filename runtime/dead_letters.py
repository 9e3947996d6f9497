"""Messages that nobody will handle: counted for ever, the last 256 kept, logged at a bounded rate."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable

import trio
from attrs import field, frozen

__all__ = ["KEPT", "DeadLetter", "DeadLetters"]

KEPT = 256
"""How many of the newest dead letters are kept for people to look at."""

LOG_EVERY_SECONDS = 1.0
"""At most one log line per reason in this time; the line counts what it stands for."""

_log = logging.getLogger("runtime.dead_letters")


@frozen
class DeadLetter:
    """One message that was not handled."""

    path: str
    """Where it was going."""
    message: object = field(repr=False)
    """The message itself; shown to people by class name only unless they ask."""
    reason: str
    """`stopped`, `not_running`, `dropped`, `late_reply`, `expired` or `timer_mailbox_full`."""
    time: float
    """Trio clock, seconds."""


class DeadLetters:
    """The counter and the short memory of one actor system."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        """Dead letters so far, by reason."""
        self.last: deque[DeadLetter] = deque(maxlen=KEPT)
        """The newest ones, oldest first."""
        self.observers: list[Callable[[DeadLetter], None]] = []
        """Called with each one; must not wait or raise."""
        self._logged_at: dict[str, float] = {}
        self._unlogged: Counter[str] = Counter()

    @property
    def total(self) -> int:
        """Dead letters so far."""
        return self.counts.total()

    def add(self, path: str, message: object, reason: str) -> None:
        """Record one. Never waits."""
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
