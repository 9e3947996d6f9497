"""Tokens in the database: plain functions over a connection, run by storage, or by the command line under the lock."""

from __future__ import annotations

import json

from attrs import frozen
from sqlalchemy import Connection, Row, delete, func, insert, select, update

from actors.access.tables import access_tokens
from actors.access.tokens import StoredToken
from actors.errors import CommandError
from actors.storage.messages import Operation, Outcome, Query
from protocol.errors import ErrorCode

__all__ = [
    "FORGET_TOKENS",
    "LOAD_TOKENS",
    "OPERATIONS",
    "QUERIES",
    "REVOKE_TOKEN",
    "SAVE_TOKEN",
    "RevokeStored",
    "clients_of_tokens",
    "forget_tokens",
    "load_tokens",
    "revoke_token",
    "save_token",
]

MAXIMUM_TOKENS = 1000
KEPT_AFTER_END_MS = 90 * 24 * 3600 * 1000
"""Time for which an ended token is still listed. Older ones are deleted when the next token is made."""


@frozen(kw_only=True)
class RevokeStored:
    """Arguments of `revoke_token`."""

    token_id: str
    time_ms: int


def save_token(connection: Connection, token: StoredToken) -> Outcome[str]:
    """Store a new token; a local one replaces its predecessor. Refuses more than `MAXIMUM_TOKENS`."""
    long_ago = token.created_ms - KEPT_AFTER_END_MS
    connection.execute(
        delete(access_tokens).where((access_tokens.c.revoked_ms < long_ago) | (access_tokens.c.expires_ms < long_ago))
    )
    if token.is_local:
        connection.execute(
            delete(access_tokens).where(access_tokens.c.is_local.is_(True), access_tokens.c.name == token.name)
        )
    elif connection.execute(select(func.count()).select_from(access_tokens)).scalar_one() >= MAXIMUM_TOKENS:
        raise CommandError(ErrorCode.CONFLICT, f"there are {MAXIMUM_TOKENS} tokens; revoke some")
    connection.execute(
        insert(access_tokens).values(
            token_id=token.token_id,
            name=token.name,
            digest=token.digest,
            client_ids=None if token.client_ids is None else json.dumps(token.client_ids),
            roles=json.dumps(token.roles),
            created_ms=token.created_ms,
            expires_ms=token.expires_ms,
            revoked_ms=token.revoked_ms,
            is_local=token.is_local,
        )
    )
    return Outcome(value=token.token_id)


def clients_of_tokens(connection: Connection) -> frozenset[str]:
    """Return every client id that a token covers."""
    lists = connection.execute(select(access_tokens.c.client_ids).where(access_tokens.c.client_ids.is_not(None)))
    return frozenset(client_id for names in lists.scalars() for client_id in json.loads(names))


def revoke_token(connection: Connection, command: RevokeStored) -> Outcome[str]:
    """Revoke a token; a second time changes nothing. Refuses an unknown id."""
    row = connection.execute(
        select(access_tokens.c.revoked_ms).where(access_tokens.c.token_id == command.token_id)
    ).first()
    if row is None:
        raise CommandError(ErrorCode.NOT_FOUND, "there is no such token", field="token_id")
    if row.revoked_ms is None:
        connection.execute(
            update(access_tokens).where(access_tokens.c.token_id == command.token_id).values(revoked_ms=command.time_ms)
        )
    return Outcome(value=command.token_id)


def forget_tokens(connection: Connection, _: None) -> Outcome[int]:
    """Delete all tokens and return how many there were."""
    return Outcome(value=connection.execute(delete(access_tokens)).rowcount)


def load_tokens(connection: Connection, _: None) -> tuple[StoredToken, ...]:
    """Return all tokens, oldest first."""
    rows = connection.execute(select(access_tokens).order_by(access_tokens.c.created_ms, access_tokens.c.token_id))
    return tuple(_token(row) for row in rows)


def _token(row: Row[tuple[object, ...]]) -> StoredToken:
    return StoredToken(
        token_id=row.token_id,
        name=row.name,
        digest=row.digest,
        client_ids=None if row.client_ids is None else tuple(json.loads(row.client_ids)),
        roles=tuple(json.loads(row.roles)),
        created_ms=row.created_ms,
        expires_ms=row.expires_ms,
        revoked_ms=row.revoked_ms,
        is_local=row.is_local,
    )


SAVE_TOKEN: Operation[StoredToken, str] = Operation("access_save_token", save_token, str)
REVOKE_TOKEN: Operation[RevokeStored, str] = Operation("access_revoke_token", revoke_token, str)
FORGET_TOKENS: Operation[None, int] = Operation("access_forget_tokens", forget_tokens, int)
LOAD_TOKENS: Query[None, tuple[StoredToken, ...]] = Query("access_load_tokens", load_tokens)

OPERATIONS = (SAVE_TOKEN, REVOKE_TOKEN, FORGET_TOKENS)
QUERIES = (LOAD_TOKENS,)
