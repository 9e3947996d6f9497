"""What may become of a delivery, and when a failed one is tried again: pure rules."""

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
"""How the reason of a delivery begins that had all its attempts."""
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
"""From each state, the states that may follow. `discarded` and `dead` are left only by sending again by hand."""

LONGEST_RETRY_AFTER_SECONDS = 86_400.0


def may_become(now: DeliveryState, then: DeliveryState) -> bool:
    """Is this step allowed?"""
    return then in TRANSITIONS[now]


@frozen(kw_only=True)
class Attempt:
    """What came of one try on one delivery."""

    is_sent: bool = False
    """The channel took it."""
    is_gone: bool = False
    """The subscription is no more (404, 410): the device is removed."""
    is_final: bool = False
    """The service will never take this one."""
    reason: str = ""
    """What went wrong, for people; never a secret."""
    retry_after_seconds: float | None = None
    """What the service asked for."""


@frozen(kw_only=True)
class RetrySchedule:
    """Waits between attempts: capped exponential with jitter, never shorter than the service asked for."""

    base_seconds: float = field(default=2.0, validator=validators.gt(0))
    """After the first failure."""
    maximum_seconds: float = field(default=3600.0, validator=validators.gt(0))
    """No wait of ours is longer, before jitter."""
    jitter: float = field(default=0.2, validator=[validators.ge(0), validators.lt(1)])
    """Largest share by which a wait is lengthened or shortened."""
    maximum_attempts: int = field(default=16, validator=validators.ge(1))
    """After this many the delivery is discarded; with the other defaults that is after some five hours."""

    @property
    def longest_seconds(self) -> float:
        """No wait is longer, but where a service asks for more."""
        return self.maximum_seconds * (1.0 + self.jitter)

    def next_attempt_seconds(
        self, attempts: int, retry_after_seconds: float | None, *, uniform: float | None = None
    ) -> float | None:
        """Seconds until the next try, after ``attempts`` (≥ 1) that failed; None when it is given up.

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
    """What a `Retry-After` header asks for: seconds or a date (RFC 9110 §10.2.3); None without a readable one."""
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
