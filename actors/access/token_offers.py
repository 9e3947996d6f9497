"""One-time codes for tokens: the token is made when a browser opens the link, and not before. No I/O.

A code is 256 random bits. Only its SHA-256 and the wanted token are held, in memory alone.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import deque

from attrs import field, frozen

from actors.access.messages import CreateToken
from actors.errors import CommandError
from protocol.errors import ErrorCode

__all__ = ["OFFER_SECONDS", "TokenOffers"]

OFFER_SECONDS = 120.0
MAXIMUM_OFFERS = 8
"""Maximum number of open offers; a further one replaces the oldest."""
WRONG_CODES = 10
"""Wrong codes in `WRONG_SECONDS` after which further ones are refused with a time to wait."""
WRONG_SECONDS = 60.0
CODE_BYTES = 32


@frozen(kw_only=True)
class _Offer:
    digest: bytes = field(repr=False)
    wanted: CreateToken
    until: float


def _digest(code: str) -> bytes:
    return hashlib.sha256(code.encode("utf-8", "surrogatepass")).digest()


class TokenOffers:
    """The open codes. Times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._offers: deque[_Offer] = deque(maxlen=MAXIMUM_OFFERS)
        self._wrong: deque[float] = deque(maxlen=WRONG_CODES)

    def __len__(self) -> int:
        return len(self._offers)

    def offer(self, wanted: CreateToken, now: float) -> str:
        """Return a new code that makes this token."""
        code = secrets.token_urlsafe(CODE_BYTES)
        self._forget_old(now)
        self._offers.append(_Offer(digest=_digest(code), wanted=wanted, until=now + OFFER_SECONDS))
        return code

    def take(self, code: str, now: float) -> CreateToken:
        """Return the token that this code makes, and forget the code. Raises `CommandError`."""
        self._forget_old(now)
        digest = _digest(code)
        # Each is compared, and each in constant time.
        found = [one for one in self._offers if hmac.compare_digest(one.digest, digest)]
        if not found:
            # A right code is taken all the same: 256 bits cannot be guessed, and a stranger's guesses must lock nobody out.
            if len(self._wrong) == WRONG_CODES and self._wrong[0] > now - WRONG_SECONDS:
                wait_ms = round(1000 * (self._wrong[0] + WRONG_SECONDS - now))
                raise CommandError(
                    ErrorCode.RATE_LIMITED, "too many codes were wrong; try again in a minute", retry_after_ms=wait_ms
                )
            self._wrong.append(now)
            raise CommandError(
                ErrorCode.UNAUTHORIZED,
                "this link was used, is too old, or the server was started again since; "
                "`leanvibe token create --client NAME --open` makes another",
            )
        self._offers.remove(found[0])
        return found[0].wanted

    def _forget_old(self, now: float) -> None:
        while self._offers and self._offers[0].until <= now:
            self._offers.popleft()
