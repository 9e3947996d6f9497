"""What the access room is asked."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field, frozen

from runtime import ActorRef, Refused, Request

__all__ = [
    "LOCAL_CLIENT",
    "OPERATOR",
    "ROLES",
    "USER",
    "AccessRequest",
    "AuthenticationError",
    "AwaitTokenChange",
    "CheckIdentity",
    "CheckOrigin",
    "CreateToken",
    "EnsureLocalToken",
    "FindEnded",
    "ForgetTokens",
    "Identity",
    "IdentityWithdrawn",
    "ListTokens",
    "MadeToken",
    "RevokeToken",
    "TokenDescription",
]

OPERATOR = "operator"
"""Role that may change models and read metrics."""
USER = "user"
"""Role that may use what belongs to its client ids."""
ROLES = (USER, OPERATOR)
LOCAL_CLIENT = "local"
"""Whose things they are when nobody says otherwise."""


class AuthenticationError(Refused):
    """This one may not enter; `is_forbidden` tells a wrong place from a wrong token."""

    def __init__(self, message: str, *, is_forbidden: bool) -> None:
        super().__init__(message)
        self.is_forbidden = is_forbidden


@frozen(kw_only=True)
class CheckOrigin(Request[None]):
    """May a request with these headers be served at all? Refused with `AuthenticationError`."""

    host: str | None
    origin: str | None
    query: str = field(default="", repr=False)
    """What follows the `?` of the address."""


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
    """Who is this, and may the client id be used with this token? Refused with `AuthenticationError`."""

    client_id: str | None
    """None takes the token's first, or `local`."""
    token: str | None = field(default=None, repr=False)
    may_be_needless: bool = False
    """Ignore a token on a server without tokens, as REST does for clients that always send one."""
    session: ActorRef[IdentityWithdrawn] | None = None
    """Told `IdentityWithdrawn` when the token ends; forgotten when it ends itself."""


@frozen
class IdentityWithdrawn:
    """To a holder: your token opens nothing any more."""

    reason: str


@frozen
class FindEnded(Request[Mapping[str, str]]):
    """Which of these security domains (`Identity.domain`) may do nothing any more, and why each.

    For work that outlives the request or connection that began it: asked again and again, it needs no session that is kept,
    and nothing is missed when either side is started again.
    """

    domains: frozenset[str]


@frozen
class AwaitTokenChange(Request[int]):
    """Answered with a number that each change of tokens raises: at once where it is not ``seen``, else at the next change."""

    seen: int | None
    """The last answer; None before there was one."""
    within_seconds: float
    """Answered then without a change, as tokens also expire."""


@frozen(kw_only=True)
class TokenDescription:
    """A token as it may be shown: no secret, not even its hash."""

    token_id: str
    """Names it, as for `revoke`."""
    name: str
    client_ids: tuple[str, ...] | None
    """Client ids it opens; None opens all."""
    roles: tuple[str, ...]
    created_ms: int
    """POSIX milliseconds."""
    expires_ms: int | None
    """POSIX milliseconds; None never."""
    revoked_ms: int | None
    """POSIX milliseconds; None where it was not."""
    is_local: bool
    """It is the one of this machine's command line."""


@frozen(kw_only=True)
class MadeToken:
    """A new token: the only time that its text is told."""

    description: TokenDescription
    token: str = field(repr=False)


@frozen(kw_only=True)
class CreateToken(Request[MadeToken]):
    """Make a token. Refused with `CommandRefused`, naming the field."""

    client_ids: tuple[str, ...]
    """At least one."""
    roles: tuple[str, ...] = (USER,)
    name: str = ""
    expires_ms: int | None = None
    """POSIX milliseconds, in the future."""


@frozen
class ListTokens(Request[tuple[TokenDescription, ...]]):
    """All tokens, oldest first, ended ones too."""


@frozen
class RevokeToken(Request[TokenDescription]):
    """End a token now; its connections are closed. Refused with `CommandRefused` where there is none."""

    token_id: str


@frozen
class ForgetTokens(Request[int]):
    """Delete every token, so that this machine's programs enter without; how many there were.

    Refused with `CommandRefused` while the server listens to other machines.
    """


@frozen
class EnsureLocalToken(Request[bool]):
    """See to it that the command line's token lies in the data folder; whether this server has tokens at all."""


AccessRequest = (
    CheckOrigin
    | CheckIdentity
    | FindEnded
    | AwaitTokenChange
    | CreateToken
    | ListTokens
    | RevokeToken
    | ForgetTokens
    | EnsureLocalToken
)
"""All that others may ask of access."""
