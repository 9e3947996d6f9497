"""Clients of which nothing is left give their place back, so that invented names lock nobody out for ever."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from itertools import islice

from sqlalchemy import ColumnElement, Connection, Table, delete, exists, insert, select, update

from actors.storage.log import NOBODY, PRUNE_ROWS
from actors.storage.tables import client_logs

__all__ = ["client_pruner"]


def client_pruner(
    tables: Iterable[Table], named_elsewhere: Callable[[Connection], frozenset[str]]
) -> Callable[[Connection, int], int]:
    """What removes the rows of logs of clients that have no row in ``tables``, and that nothing else names.

    ``tables`` are all others that have a `client_id`. The newest event of a log is kept for a day, so a log without any
    was not written to for that long, or never.
    """
    keeping = tuple(tables)

    def prune(connection: Connection, _: int) -> int:
        return _prune_clients(connection, keeping, named_elsewhere(connection))

    return prune


def _prune_clients(connection: Connection, keeping: tuple[Table, ...], named: frozenset[str]) -> int:
    """At most `PRUNE_ROWS`; returns how many went."""
    left = select(client_logs.c.client_id, client_logs.c.head).where(
        client_logs.c.client_id != NOBODY, *(_has_none(table) for table in keeping)
    )
    rows = connection.execute(left)
    gone = list(islice((row for row in rows if row.client_id not in named), PRUNE_ROWS))
    rows.close()
    if gone:
        connection.execute(delete(client_logs).where(client_logs.c.client_id.in_([row.client_id for row in gone])))
        _begin_later_logs_after(connection, max(row.head for row in gone))
    return len(gone)


def _has_none(table: Table) -> ColumnElement[bool]:
    """The client has no row in the table."""
    firsts = [next(iter(table.primary_key.columns)), *(next(iter(index.columns)) for index in table.indexes)]
    if any(column.name == "client_id" for column in firsts):
        return ~exists().where(table.c.client_id == client_logs.c.client_id)
    # Without an index each client would mean reading all of it; so it is read once.
    return client_logs.c.client_id.not_in(select(table.c.client_id))


def _begin_later_logs_after(connection: Connection, head: int) -> None:
    """A log that is begun from now on has another epoch and higher numbers than any that is gone.

    The epoch is for who comes back with an old number. A connection that has been there all the while knows no epoch of
    a live event: the number tells it that it is not the next one, so that it reads the log and finds another.
    """
    floor = connection.execute(select(client_logs.c.head).where(client_logs.c.client_id == NOBODY)).scalar()
    if floor is None:
        floor = 0
        connection.execute(insert(client_logs).values(client_id=NOBODY, epoch=secrets.token_hex(16), head=floor))
    if head > floor:
        connection.execute(
            update(client_logs)
            .where(client_logs.c.client_id == NOBODY)
            .values(epoch=secrets.token_hex(16), head=head + 1)
        )
