"""What the access room is asked."""

from __future__ import annotations

from attrs import field, frozen

from runtime import Refused, Request

__all__ = ["OPERATOR", "CheckDoor", "CheckIdentity", "EntryRefused", "Identity"]

OPERATOR = "operator"
"""Role that may change models and read metrics."""


class EntryRefused(Refused):
    """This one may not enter; `is_forbidden` tells a wrong place from a wrong token."""

    def __init__(self, message: str, *, is_forbidden: bool) -> None:
        super().__init__(message)
        self.is_forbidden = is_forbidden


@frozen(kw_only=True)
class CheckDoor(Request[None]):
    """May a request with these headers be served at all? Refused with `EntryRefused`."""

    host: str | None
    origin: str | None


@frozen(kw_only=True)
class Identity:
    """Who asks, as the access room believes it."""

    client_id: str
    """Owner of what is asked for."""
    token_id: str | None = None
    """Which token was shown; None on a server without tokens."""
    roles: frozenset[str] = frozenset({OPERATOR})
    domain: str = ""
    """Security domain of kept keys and values: the client ids of one token share one; without tokens there is one."""

    @property
    def is_operator(self) -> bool:
        """May it change models and read metrics?"""
        return OPERATOR in self.roles


@frozen(kw_only=True)
class CheckIdentity(Request[Identity]):
    """Who is this, and may the client id be used with this token? Refused with `EntryRefused`."""

    client_id: str | None
    """None takes the token's first, or `local`."""
    token: str | None = field(default=None, repr=False)
