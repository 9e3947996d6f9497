"""When a client comes back, and after how long: pure rules.

Full jitter as in "Exponential Backoff And Jitter" (AWS, 2015): anything from nothing to the bound, so that a
thousand clients of one server that restarts do not come back as one.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from attrs import frozen

from protocol.errors import CLOSE_CODES, CloseCode

__all__ = ["Backoff", "comes_back"]

NO_CLOSE_FRAME = (None, 1005, 1006)


def comes_back(code: int | None) -> bool:
    """Whether a connection that ended with this close code (None: without one) may be opened again."""
    if code in NO_CLOSE_FRAME:
        return True
    try:
        return CLOSE_CODES[CloseCode(code)].reconnect != "no"
    except (ValueError, KeyError):
        # 1000 is an end that was meant; a code that we do not know was meant by somebody too.
        return False


@frozen(kw_only=True)
class Backoff:
    """How long to wait before each attempt."""

    base_seconds: float = 0.25
    factor: float = 2.0
    cap_seconds: float = 10.0

    def delay_seconds(
        self, attempt: int, hint_ms: float | None = None, uniform: Callable[[float, float], float] = random.uniform
    ) -> float:
        """Before attempt 0, 1, 2 …; what the server said wins."""
        if hint_ms is not None:
            return max(0.0, hint_ms / 1000)
        bound = self.base_seconds * self.factor ** min(attempt, 64)
        return uniform(0, min(self.cap_seconds, bound))
