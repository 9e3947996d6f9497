"""Tokens: generation, verification, and the client ids and roles they grant. No I/O.

A token is `lv_ID_SECRET`: an id to find its record by, and 256 random bits. Only its SHA-256 is kept. A password needs
a slow hash because people choose guessable ones; 256 random bits cannot be guessed however fast the hash, and a fast
one lets every request be checked.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from actors.access.messages import LOCAL_CLIENT, ROLES, AuthenticationError, CreateToken, Identity, TokenDescription
from actors.errors import CommandError
from protocol.errors import ErrorCode
from protocol.validation import is_client_name

__all__ = [
    "StoredToken",
    "TokenStore",
    "checked_token",
    "describe",
    "digest_of",
    "hide_tokens",
    "is_same_token",
    "new_local_token",
    "new_token",
    "token_id_of",
]

ID_BYTES = 6
SECRET_BYTES = 32
MAXIMUM_CLIENT_IDS = 64
NAME_CHARACTERS = 64
_FORM = re.compile(r"lv_([0-9a-f]{12})_[A-Za-z0-9_-]{43}")
_UNMATCHED_DIGEST = "0" * 64


@frozen(kw_only=True)
class StoredToken:
    """A token as stored in the database."""

    token_id: str
    """Twelve hexadecimal digits; names the token in lists and is no secret."""
    name: str
    """Name given by its creator."""
    digest: str = field(repr=False)
    """SHA-256 of the whole token, hexadecimal."""
    client_ids: tuple[str, ...] | None
    """Client ids that it covers, the first being the default; None covers all."""
    roles: tuple[str, ...]
    """`user`, `operator`."""
    created_ms: int
    """POSIX milliseconds."""
    expires_ms: int | None = None
    """POSIX milliseconds from which it is invalid; None never."""
    revoked_ms: int | None = None
    """POSIX milliseconds at which it was revoked."""
    is_local: bool = False
    """The one in the data folder that this machine's command line uses."""


def new_token() -> tuple[str, str]:
    """Generate a token: its id, and its full text, which is never stored."""
    token_id = secrets.token_hex(ID_BYTES)
    return token_id, f"lv_{token_id}_{secrets.token_urlsafe(SECRET_BYTES)}"


def local_name(node: str | None) -> str:
    """Name of the command line's token; each node of a cluster has one."""
    return "this machine's command line" if node is None else f"{node[:45]}'s command line"


def new_local_token(now_ms: int, node: str | None = None) -> tuple[StoredToken, str]:
    """Generate the command line's token and its text: every client id, both roles."""
    token_id, text = new_token()
    stored = StoredToken(
        token_id=token_id,
        name=local_name(node),
        digest=digest_of(text),
        client_ids=None,
        roles=ROLES,
        created_ms=now_ms,
        is_local=True,
    )
    return stored, text


def checked_token(wanted: CreateToken, now_ms: int) -> tuple[StoredToken, str]:
    """Validate a request and generate its token and text. Raises `CommandError`, naming the field."""
    ids = tuple(dict.fromkeys(wanted.client_ids))
    if not 1 <= len(ids) <= MAXIMUM_CLIENT_IDS:
        raise _wrong("client_ids", f"must have 1 to {MAXIMUM_CLIENT_IDS} entries, not {len(ids)}")
    for index, one in enumerate(ids):
        if not is_client_name(one):
            raise _wrong(f"client_ids[{index}]", "must be 1 to 64 letters, digits, dots, dashes and underscores")
    roles = tuple(one for one in ROLES if one in wanted.roles)
    if not roles or set(wanted.roles) - set(ROLES):
        raise _wrong("roles", f"must be one or more of {', '.join(ROLES)}")
    if len(wanted.name) > NAME_CHARACTERS or not wanted.name.isprintable():
        raise _wrong("name", f"must have at most {NAME_CHARACTERS} printable characters")
    if wanted.expires_ms is not None and not now_ms < wanted.expires_ms < 2**53:
        raise _wrong("expires_ms", "must be in the future")
    token_id, text = new_token()
    stored = StoredToken(
        token_id=token_id,
        name=wanted.name,
        digest=digest_of(text),
        client_ids=ids,
        roles=roles,
        created_ms=now_ms,
        expires_ms=wanted.expires_ms,
    )
    return stored, text


def _wrong(field_name: str, problem: str) -> CommandError:
    return CommandError(ErrorCode.INVALID_FIELD, f"{field_name} {problem}", field=field_name)


def digest_of(token: str) -> str:
    """Return the digest under which a token is stored."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def is_same_token(text: str | None, stored: StoredToken | None) -> bool:
    """Compare a text with a stored token in constant time; False if either is missing."""
    return text is not None and stored is not None and hmac.compare_digest(digest_of(text), stored.digest)


def token_id_of(token: str) -> str | None:
    """Return the id inside a token, or None if the text has another form."""
    found = _FORM.fullmatch(token)
    return None if found is None else found[1]


def hide_tokens(text: str) -> str:
    """Redact the secret of every token in a text."""
    return _FORM.sub(r"lv_\1_…", text) if "lv_" in text else text


def describe(token: StoredToken) -> TokenDescription:
    """Return the public part of a token."""
    return TokenDescription(
        token_id=token.token_id,
        name=token.name,
        client_ids=token.client_ids,
        roles=token.roles,
        created_ms=token.created_ms,
        expires_ms=token.expires_ms,
        revoked_ms=token.revoked_ms,
        is_local=token.is_local,
    )


class TokenStore:
    """All tokens by id. As soon as there is one, even an ended one, every caller needs a token."""

    def __init__(self, tokens: tuple[StoredToken, ...] = ()) -> None:
        self._tokens: dict[str, StoredToken] = {one.token_id: one for one in tokens}

    def __len__(self) -> int:
        return len(self._tokens)

    @property
    def by_id(self) -> Mapping[str, StoredToken]:
        """Every token, ended ones included."""
        return self._tokens

    def local(self, node: str | None = None) -> StoredToken | None:
        """The token of this machine's command line, unless it was revoked."""
        return next(
            (
                one
                for one in self._tokens.values()
                if one.is_local and one.revoked_ms is None and one.name == local_name(node)
            ),
            None,
        )

    def end_of(self, token_id: str, now_ms: int) -> str | None:
        """Return why a token has ended, or None if it is valid."""
        token = self._tokens.get(token_id)
        if token is None or token.revoked_ms is not None:
            return "the token was revoked"
        if token.expires_ms is not None and token.expires_ms <= now_ms:
            return "the token has expired"
        return None

    def identity(self, token: str | None, client_id: str | None, now_ms: int) -> Identity:
        """Authenticate a token. Raises `AuthenticationError`."""
        if token is None:
            raise AuthenticationError("a token is needed", is_forbidden=False)
        found = self._tokens.get(token_id_of(token) or "")
        # Compared in constant time, even if the id is unknown.
        if not hmac.compare_digest(digest_of(token), _UNMATCHED_DIGEST if found is None else found.digest):
            raise AuthenticationError("this token opens nothing here", is_forbidden=False)
        assert found is not None
        end = self.end_of(found.token_id, now_ms)
        if end is not None:
            raise AuthenticationError(end, is_forbidden=False)
        if client_id is None:
            client_id = LOCAL_CLIENT if found.client_ids is None else found.client_ids[0]
        elif found.client_ids is not None and client_id not in found.client_ids:
            raise AuthenticationError("this token is for another client id", is_forbidden=True)
        return Identity(
            client_id=client_id, token_id=found.token_id, roles=frozenset(found.roles), domain=found.token_id
        )

    def snapshot(self, now_ms: int) -> dict[str, Any]:
        """Counts for an operator."""
        return {"tokens": len(self), "in_force": sum(self.end_of(one, now_ms) is None for one in self._tokens)}
