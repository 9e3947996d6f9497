"""How long to wait before a restart: capped exponential with jitter, the first restart at once."""

from __future__ import annotations

import random

from attrs import field, frozen, validators

__all__ = ["Backoff"]


@frozen(kw_only=True)
class Backoff:
    """Delays between restarts of one child, a pure rule.

    The first restart after a stable time is immediate; the n-th one after it waits
    ``min(maximum, base · 2^(n-1)) · (1 ± jitter)`` seconds.
    """

    base_seconds: float = field(default=0.1, validator=validators.gt(0))
    """Delay of the second restart in a row."""
    maximum_seconds: float = field(default=10.0, validator=validators.gt(0))
    """No delay is longer than this, before jitter."""
    jitter: float = field(default=0.2, validator=[validators.ge(0), validators.lt(1)])
    """Largest share by which a delay is lengthened or shortened, so that crowds do not restart in step."""
    stable_after_seconds: float = field(default=5.0, validator=validators.ge(0))
    """A child that lived this long starts again with an immediate restart."""

    def delay_seconds(self, failures_in_a_row: int, *, uniform: float | None = None) -> float:
        """Seconds to wait after the n-th failure in a row (n ≥ 1).

        ``uniform`` is a number in [0, 1) that decides the jitter; by default a random one.
        """
        if failures_in_a_row < 1:
            raise ValueError(f"failures_in_a_row must be at least 1, not {failures_in_a_row}")
        if failures_in_a_row == 1:
            return 0.0
        # The exponent is capped because 2**n of a child that crash-loops for days overflows a float.
        exponent = min(failures_in_a_row - 2, 63)
        plain = min(self.maximum_seconds, self.base_seconds * 2.0**exponent)
        draw = random.random() if uniform is None else uniform  # noqa: S311  spreads load, guards nothing
        return plain * (1.0 + self.jitter * (2.0 * draw - 1.0))

    def failures_after(self, failures_in_a_row: int, uptime_seconds: float) -> int:
        """The count of failures in a row once a child that lived ``uptime_seconds`` has failed again."""
        return 1 if uptime_seconds >= self.stable_after_seconds else failures_in_a_row + 1
