"""What the access room is asked."""

from __future__ import annotations

from attrs import field, frozen

from runtime import Refused, Request

__all__ = ["CheckDoor", "CheckIdentity", "EntryRefused"]


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
class CheckIdentity(Request[None]):
    """May this client id be used with this token? Refused with `EntryRefused`."""

    client_id: str
    token: str | None = field(default=None, repr=False)
