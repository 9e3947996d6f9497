"""When a client comes back, and after how long: pure rules.

Full jitter as in "Exponential Backoff And Jitter" (AWS, 2015): anything from nothing to the bound, so that a
thousand clients of one server that restarts do not come back as one.
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
"""Try again later, and bad gateway: said by what stands between, while the server is away."""
HINT_SECONDS = 300.0
"""A longer pause is not taken from a server: whatever it meant, its people wait."""
STEADY_SECONDS = 10.0
"""A connection that lived so long was of use, even if nothing was asked on it."""


def comes_back(code: int | None) -> bool:
    """Whether a connection that ended with this close code (None: without one) may be opened again."""
    if code in NO_CLOSE_FRAME or code in OF_PROXIES:
        return True
    try:
        return CLOSE_CODES[CloseCode(code)].reconnect != "no"
    except (ValueError, KeyError):
        # 1000 is an end that was meant; a code that we do not know was meant by somebody too.
        return False


@frozen(kw_only=True)
class Change:
    """What became of the connection, for programs that show it."""

    state: str
    """`connected`, `going_away`, `disconnected` (another attempt follows) or `ended`."""
    delay_seconds: float | None = None
    """Until the next attempt, or as the server said in `going_away`."""
    cause: Exception | None = None


@frozen(kw_only=True)
class Backoff:
    """How long to wait before each attempt."""

    base_seconds: float = 0.25
    factor: float = 2.0
    cap_seconds: float = 10.0

    def delay_seconds(
        self, attempt: int, hint_ms: float | None = None, uniform: Callable[[float, float], float] = random.uniform
    ) -> float:
        """Before attempt 0, 1, 2 …; what the server said wins, up to five minutes."""
        if hint_ms is not None:
            return min(max(0.0, hint_ms / 1000), HINT_SECONDS)
        bound = self.base_seconds * self.factor ** min(attempt, 64)
        return uniform(0, min(self.cap_seconds, bound))


@define(kw_only=True)
class Retries:
    """Counts attempts that led nowhere. A welcome alone is not success: a server that cuts what it has just let in
    would be asked again without a pause, for ever.
    """

    backoff: Backoff
    give_up_seconds: float | None = None
    """How long to try, in seconds of a clock that stands still while the machine sleeps; None: for ever."""
    failing_since: float
    """When there was last a connection that was of use, or when it began."""
    _attempt: int = field(default=0, init=False)
    _welcomed_at: float | None = field(default=None, init=False)
    _was_of_use: bool = field(default=False, init=False)

    def welcomed(self, now: float) -> None:
        """A connection stands."""
        self._welcomed_at, self._was_of_use = now, False

    def was_of_use(self) -> None:
        """Something was answered on it, and nothing that had to be sent again still waits."""
        self._was_of_use = True

    def begin_again(self) -> None:
        """What was tried before says nothing any more: the machine slept."""
        self._attempt = 0

    def delay_seconds(
        self, now: float, hint_ms: float | None = None, uniform: Callable[[float, float], float] = random.uniform
    ) -> float | None:
        """Until the next attempt, after a connection ended or none was had; None where it is time to give up."""
        if self._welcomed_at is not None and (self._was_of_use or now - self._welcomed_at >= STEADY_SECONDS):
            self._attempt, self.failing_since = 0, now
        self._welcomed_at = None
        delay = self.backoff.delay_seconds(self._attempt, hint_ms, uniform)
        self._attempt += 1
        if self.give_up_seconds is not None and now + delay - self.failing_since > self.give_up_seconds:
            return None
        return delay


def hint_of(data: dict[str, Any]) -> float | None:
    """Milliseconds that the server asks to wait for, if it does."""
    hint = data.get("retry_after_ms")
    return hint if type(hint) is int or type(hint) is float else None
