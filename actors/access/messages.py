"""Messages of the access service."""

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
    "OfferToken",
    "RevokeToken",
    "TakeOfferedToken",
    "TokenDescription",
    "TokenOffer",
]

OPERATOR = "operator"
"""Role that may change models and read metrics."""
USER = "user"
"""Role that may use the data of its client ids."""
ROLES = (USER, OPERATOR)
LOCAL_CLIENT = "local"
"""Client id of requests that name none."""


class AuthenticationError(Refused):
    """Authentication failed. `is_forbidden` is True if no other token would help (403 instead of 401)."""

    def __init__(self, message: str, *, is_forbidden: bool) -> None:
        super().__init__(message)
        self.is_forbidden = is_forbidden


@frozen(kw_only=True)
class CheckOrigin(Request[None]):
    """Check the headers of a request against the Host and Origin rules. Refused with `AuthenticationError`."""

    host: str | None
    origin: str | None
    query: str = field(default="", repr=False)
    """Query string, without the `?`."""


@frozen(kw_only=True)
class Identity:
    """The authenticated caller."""

    client_id: str
    """Owner of the data that the request reads or writes."""
    token_id: str | None = None
    """Id of the token that was presented; None on a server without tokens."""
    roles: frozenset[str] = frozenset({OPERATOR})
    domain: str = ""
    """Security domain of cached keys and values, shared by the client ids of one token. A server without tokens has one domain."""

    @property
    def is_operator(self) -> bool:
        """True if it may change models and read metrics."""
        return OPERATOR in self.roles


@frozen(kw_only=True)
class CheckIdentity(Request[Identity]):
    """Authenticate a token and check that it covers the client id. Refused with `AuthenticationError`."""

    client_id: str | None
    """None for the token's first client id, or `local`."""
    token: str | None = field(default=None, repr=False)
    may_be_needless: bool = False
    """Ignore a token on a server without tokens, as REST does for clients that always send one."""
    session: ActorRef[IdentityWithdrawn] | None = None
    """Receives `IdentityWithdrawn` when the token ends; dropped when the connection ends."""


@frozen
class IdentityWithdrawn:
    """Notifies a session that its token has ended."""

    reason: str


@frozen
class FindEnded(Request[Mapping[str, str]]):
    """Return those of the given security domains (`Identity.domain`) whose token has ended, with the reason of each.

    For work that outlives its request or connection. Because it is polled, it needs no session, and a restart of either
    side misses nothing.
    """

    domains: frozenset[str]


@frozen
class AwaitTokenChange(Request[int]):
    """Long poll for changes of tokens.

    Answers with a counter that each change increments: at once if it differs from ``seen``, otherwise at the next change.
    """

    seen: int | None
    """The previous answer, or None."""
    within_seconds: float
    """Answer after this long without a change, because tokens also expire."""


@frozen(kw_only=True)
class TokenDescription:
    """A token without its secret and its hash."""

    token_id: str
    """Public id, as `revoke` takes it."""
    name: str
    client_ids: tuple[str, ...] | None
    """Client ids it opens; None opens all."""
    roles: tuple[str, ...]
    created_ms: int
    """POSIX milliseconds."""
    expires_ms: int | None
    """POSIX milliseconds; None never."""
    revoked_ms: int | None
    """POSIX milliseconds; None if it was not revoked."""
    is_local: bool
    """True for the token of this machine's command line."""


@frozen(kw_only=True)
class MadeToken:
    """A new token. Its text is shown this once and stored nowhere."""

    description: TokenDescription
    token: str = field(repr=False)


@frozen(kw_only=True)
class CreateToken(Request[MadeToken]):
    """Make a token. Refused with `CommandError`, naming the field."""

    client_ids: tuple[str, ...]
    """At least one."""
    roles: tuple[str, ...] = (USER,)
    name: str = ""
    expires_ms: int | None = None
    """POSIX milliseconds, in the future."""


@frozen(kw_only=True)
class TokenOffer:
    """A token that will be made for the first caller that presents this code."""

    code: str = field(repr=False)
    seconds: float
    """How long it may be shown."""


@frozen
class OfferToken(Request[TokenOffer]):
    """Make a token when a code is shown, once and soon; until then there is none. Refused as `CreateToken` is."""

    wanted: CreateToken


@frozen
class TakeOfferedToken(Request[MadeToken]):
    """Show a code. Refused with `CommandError` if it was used, has expired or is unknown."""

    code: str = field(repr=False)


@frozen
class ListTokens(Request[tuple[TokenDescription, ...]]):
    """All tokens, oldest first, ended ones too."""


@frozen
class RevokeToken(Request[TokenDescription]):
    """Revoke a token and close its connections. Refused with `CommandError` if the id is unknown."""

    token_id: str


@frozen
class ForgetTokens(Request[int]):
    """Delete every token, so that programs on this machine need none. Answers with the number deleted.

    Refused with `CommandError` while the server listens to other machines.
    """


@frozen
class EnsureLocalToken(Request[bool]):
    """Bring the command line's token file up to date. Answers True if the server has tokens."""


AccessRequest = (
    CheckOrigin
    | CheckIdentity
    | FindEnded
    | AwaitTokenChange
    | CreateToken
    | OfferToken
    | TakeOfferedToken
    | ListTokens
    | RevokeToken
    | ForgetTokens
    | EnsureLocalToken
)
"""Requests that other services may send to access."""
