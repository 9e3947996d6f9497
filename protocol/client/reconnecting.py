"""Rules for reconnecting: conditions and delays. No I/O.

Full jitter as in "Exponential Backoff And Jitter" (AWS, 2015): anything from zero to the bound, so that a
thousand clients of a restarting server do not return at the same moment.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from attrs import define, field, frozen

from protocol.errors import CLOSE_CODES, CloseCode

__all__ = ["Backoff", "Change", "Retries", "comes_back", "hint_of"]

NO_CLOSE_FRAME = (None, 1005, 1006)
OF_PROXIES = (1013, 1014)
"""Try again later, and bad gateway: sent by proxies while the server is away."""
HINT_SECONDS = 300.0
"""Longest pause accepted from a server: people are waiting."""
STEADY_SECONDS = 10.0
"""A connection that lived this long counts as useful, even if it was idle."""


def comes_back(code: int | None) -> bool:
    """True if a connection that ended with this close code (None: without one) may be reopened."""
    if code in NO_CLOSE_FRAME or code in OF_PROXIES:
        return True
    try:
        return CLOSE_CODES[CloseCode(code)].reconnect != "no"
    except (ValueError, KeyError):
        # 1000 is a deliberate end; an unknown code was sent deliberately as well.
        return False


@frozen(kw_only=True)
class Change:
    """A change of the connection's state, for programs that display it."""

    state: str
    """`connected`, `going_away`, `disconnected` (another attempt follows) or `ended`."""
    delay_seconds: float | None = None
    """Time until the next attempt, or as announced in `going_away`."""
    cause: Exception | None = None


@frozen(kw_only=True)
class Backoff:
    """Delays before attempts."""

    base_seconds: float = 0.25
    factor: float = 2.0
    cap_seconds: float = 10.0

    def delay_seconds(
        self, attempt: int, hint_ms: float | None = None, uniform: Callable[[float, float], float] = random.uniform
    ) -> float:
        """The delay before attempt 0, 1, 2 …; the server's hint takes precedence, up to five minutes."""
        if hint_ms is not None:
            return min(max(0.0, hint_ms / 1000), HINT_SECONDS)
        bound = self.base_seconds * self.factor ** min(attempt, 64)
        return uniform(0, min(self.cap_seconds, bound))


@define(kw_only=True)
class Retries:
    """Counts failed attempts. A welcome alone is not a success: a server that drops connections right after accepting them
    would otherwise be retried without pauses, indefinitely.
    """

    backoff: Backoff
    give_up_seconds: float | None = None
    """Limit in seconds of a clock that stops while the machine sleeps; None for no limit."""
    failing_since: float
    """Time of the last useful connection, or of the start."""
    _attempt: int = field(default=0, init=False)
    _welcomed_at: float | None = field(default=None, init=False)
    _was_of_use: bool = field(default=False, init=False)

    def welcomed(self, now: float) -> None:
        """Records that a connection was established."""
        self._welcomed_at, self._was_of_use = now, False

    def was_of_use(self) -> None:
        """Records that something was answered on it, and that no resent command is still waiting."""
        self._was_of_use = True

    def begin_again(self) -> None:
        """Resets the attempts, which say nothing after a sleep of the machine."""
        self._attempt = 0

    def delay_seconds(
        self, now: float, hint_ms: float | None = None, uniform: Callable[[float, float], float] = random.uniform
    ) -> float | None:
        """The delay until the next attempt, after a connection ended or failed; None to give up."""
        if self._welcomed_at is not None and (self._was_of_use or now - self._welcomed_at >= STEADY_SECONDS):
            self._attempt, self.failing_since = 0, now
        self._welcomed_at = None
        delay = self.backoff.delay_seconds(self._attempt, hint_ms, uniform)
        self._attempt += 1
        if self.give_up_seconds is not None and now + delay - self.failing_since > self.give_up_seconds:
            return None
        return delay


def hint_of(data: dict[str, Any]) -> float | None:
    """Milliseconds that the server asks to wait, or None."""
    hint = data.get("retry_after_ms")
    return hint if type(hint) is int or type(hint) is float else None
