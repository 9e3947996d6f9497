"""Idempotency: a command's outcome is stored in the transaction of its change, and returned to retries for ten minutes."""

from __future__ import annotations

from typing import Any

import msgspec
from attrs import field, frozen
from sqlalchemy import Connection, and_, bindparam, delete, insert, or_, select

from actors.errors import CommandError
from actors.storage.messages import Committed, IdempotencyKey, Query
from actors.storage.tables import idempotency
from protocol.codec import encode, structure, unstructure
from protocol.command_type import ONLY_IF_KNOWN
from protocol.errors import ErrorCode

__all__ = ["FIND_KEPT", "KEPT_MILLISECONDS", "KeptQuery", "find_outcome", "keep_outcome", "prune_outcomes"]

KEPT_MILLISECONDS = 10 * 60 * 1000
PRUNE_ROWS = 500

# Made once: a statement that is built anew for each write costs more than running it.
_OF_KEY = and_(
    idempotency.c.client_id == bindparam("of_client"),
    idempotency.c.device_id == bindparam("of_device"),
    idempotency.c.command_id == bindparam("of_command"),
)
_FIND = select(idempotency.c.digest, idempotency.c.outcome, idempotency.c.head, idempotency.c.time_ms).where(_OF_KEY)
_FORGET = delete(idempotency).where(_OF_KEY)
_KEEP = insert(idempotency)


def find_outcome(connection: Connection, key: IdempotencyKey, result: Any, now_ms: int) -> Committed[Any] | None:
    """Return the first outcome of this command, or None. An expired one is deleted, so that a new one can be stored.

    Raises `CommandError` if the id belongs to another command, or if it must be known and is not.
    """
    row = connection.execute(_FIND, _named(key)).first()
    if row is not None and row.time_ms <= now_ms - KEPT_MILLISECONDS:
        connection.execute(_FORGET, _named(key))
        row = None
    if row is None:
        if key.must_be_known:
            raise CommandError(
                ErrorCode.CONFLICT,
                f"no command with the id {key.command_id!r} is known; nothing was carried out now",
                field=ONLY_IF_KNOWN,
            )
        return None
    if row.digest != key.digest:
        raise CommandError(
            ErrorCode.CONFLICT,
            f"id {key.command_id!r} was used for another command in the last ten minutes",
            field="id",
        )
    stored = msgspec.json.decode(row.outcome)
    return Committed(value=structure(stored, result, prefix="outcome"), is_repeat=True, head=row.head)


@frozen(kw_only=True)
class KeptQuery:
    """Query for the first outcome of a command while the database is read-only."""

    key: IdempotencyKey
    result: Any = field(repr=False)
    """Class of the outcome."""


def _find_kept(connection: Connection, wanted: KeptQuery) -> Committed[Any] | None:
    """Return the first outcome of this command, however old: while nothing is written, no command can run twice."""
    row = connection.execute(_FIND, _named(wanted.key)).first()
    if row is None or row.digest != wanted.key.digest:
        return None
    stored = msgspec.json.decode(row.outcome)
    return Committed(value=structure(stored, wanted.result, prefix="outcome"), is_repeat=True, head=row.head)


FIND_KEPT: Query[KeptQuery, Committed[Any] | None] = Query("storage.find_kept", _find_kept)


def keep_outcome(connection: Connection, key: IdempotencyKey, value: Any, head: int | None, now_ms: int) -> None:
    """Store an outcome in the transaction that produced it, after `find_outcome` returned None."""
    connection.execute(
        _KEEP,
        {
            "client_id": key.client_id,
            "device_id": key.device_id,
            "command_id": key.command_id,
            "digest": key.digest,
            "outcome": encode(unstructure(value)).decode(),
            "head": head,
            "time_ms": now_ms,
        },
    )


def prune_outcomes(connection: Connection, now_ms: int) -> int:
    """Delete expired outcomes, at most `PRUNE_ROWS`. Returns the number deleted."""
    rows = connection.execute(
        select(idempotency.c.client_id, idempotency.c.device_id, idempotency.c.command_id)
        .where(idempotency.c.time_ms <= now_ms - KEPT_MILLISECONDS)
        .limit(PRUNE_ROWS)
    ).all()
    if rows:
        connection.execute(
            delete(idempotency).where(
                or_(
                    *(
                        and_(
                            idempotency.c.client_id == one.client_id,
                            idempotency.c.device_id == one.device_id,
                            idempotency.c.command_id == one.command_id,
                        )
                        for one in rows
                    )
                )
            )
        )
    return len(rows)


def _named(key: IdempotencyKey) -> dict[str, str]:
    return {"of_client": key.client_id, "of_device": key.device_id, "of_command": key.command_id}
