"""State transitions and retry times of deliveries. Pure functions."""

from __future__ import annotations

import email.utils
import random
from collections.abc import Mapping

from attrs import field, frozen, validators

from protocol.notifications import DeliveryState

__all__ = [
    "GIVEN_UP",
    "SUBSCRIPTION_GONE",
    "TRANSITIONS",
    "Attempt",
    "RetrySchedule",
    "may_become",
    "retry_after_seconds",
]

GIVEN_UP = "given up"
"""Prefix of the reason of a delivery that has used all its attempts."""
SUBSCRIPTION_GONE = "the subscription is gone"
"""Reason of a delivery whose device its push service no longer knows."""
_S = DeliveryState
TRANSITIONS: Mapping[DeliveryState, frozenset[DeliveryState]] = {
    _S.PENDING: frozenset({_S.HELD, _S.SENT, _S.DIGESTED, _S.DISCARDED, _S.DEAD}),
    _S.HELD: frozenset({_S.PENDING, _S.SENT, _S.DIGESTED, _S.DISCARDED}),
    _S.SENT: frozenset({_S.DELIVERED, _S.OPENED}),
    _S.DELIVERED: frozenset({_S.OPENED}),
    _S.OPENED: frozenset(),
    _S.DIGESTED: frozenset(),
    _S.DISCARDED: frozenset({_S.PENDING}),
    _S.DEAD: frozenset({_S.PENDING}),
}
"""Allowed transitions. `discarded` and `dead` are left only when a person sends again."""

LONGEST_RETRY_AFTER_SECONDS = 86_400.0


def may_become(now: DeliveryState, then: DeliveryState) -> bool:
    """Return whether the transition is allowed."""
    return then in TRANSITIONS[now]


@frozen(kw_only=True)
class Attempt:
    """Outcome of one delivery attempt."""

    is_sent: bool = False
    """The channel accepted it."""
    is_gone: bool = False
    """The subscription no longer exists (404, 410), so the device is removed."""
    is_final: bool = False
    """The service will never accept this delivery."""
    reason: str = ""
    """Reason in words for people, without secrets."""
    retry_after_seconds: float | None = None
    """Wait that the service asked for."""


@frozen(kw_only=True)
class RetrySchedule:
    """Waits between attempts: capped exponential with jitter, and at least as long as the service asked for."""

    base_seconds: float = field(default=2.0, validator=validators.gt(0))
    """Wait after the first failure."""
    maximum_seconds: float = field(default=3600.0, validator=validators.gt(0))
    """Upper bound of our own waits, before jitter."""
    jitter: float = field(default=0.2, validator=[validators.ge(0), validators.lt(1)])
    """Largest share by which a wait is lengthened or shortened."""
    maximum_attempts: int = field(default=16, validator=validators.ge(1))
    """The delivery is discarded after this many, which takes about five hours with the other defaults."""

    @property
    def longest_seconds(self) -> float:
        """Upper bound of every wait, unless a service asks for more."""
        return self.maximum_seconds * (1.0 + self.jitter)

    def next_attempt_seconds(
        self, attempts: int, retry_after_seconds: float | None, *, uniform: float | None = None
    ) -> float | None:
        """Return the seconds until the next try after ``attempts`` (≥ 1) failures, or None to give up.

        ``uniform`` in [0, 1) decides the jitter; by default a random number.
        """
        if attempts >= self.maximum_attempts:
            return None
        plain = min(self.maximum_seconds, self.base_seconds * 2.0 ** min(attempts - 1, 63))
        draw = random.random() if uniform is None else uniform  # noqa: S311  spreads load, guards nothing
        ours = plain * (1.0 + self.jitter * (2.0 * draw - 1.0))
        asked = min(retry_after_seconds or 0.0, LONGEST_RETRY_AFTER_SECONDS)
        return max(ours, asked)


def retry_after_seconds(header: str | None, now_seconds: float) -> float | None:
    """Parse a `Retry-After` header, seconds or a date (RFC 9110 §10.2.3); None if it is absent or unreadable."""
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = email.utils.parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
    return max(0.0, moment - now_seconds)
