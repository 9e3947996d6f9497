"""Garbage-collects clients that own no rows, so that made-up client ids cannot exhaust the client limit."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice

from sqlalchemy import ColumnElement, Connection, Table, delete, exists, insert, select, update

from actors.storage.log import NOBODY, PRUNE_ROWS, new_seed
from actors.storage.tables import client_logs

__all__ = ["client_pruner"]


def client_pruner(
    tables: Iterable[Table], named_elsewhere: Callable[[Connection], frozenset[str]]
) -> Callable[[Connection, int], int]:
    """Return a pruner that deletes the log rows of clients that have no row in ``tables`` and are not named elsewhere.

    ``tables`` are all other tables with a `client_id`. The newest event of a log is kept for a day, so an empty log was not
    written to for at least that long.
    """
    keeping = tuple(tables)

    def prune(connection: Connection, _: int) -> int:
        return _prune_clients(connection, keeping, named_elsewhere(connection))

    return prune


def _prune_clients(connection: Connection, keeping: tuple[Table, ...], named: frozenset[str]) -> int:
    """Delete at most `PRUNE_ROWS` clients and return how many were deleted."""
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
    """Condition: the client has no row in the table."""
    firsts = [next(iter(table.primary_key.columns)), *(next(iter(index.columns)) for index in table.indexes)]
    if any(column.name == "client_id" for column in firsts):
        return ~exists().where(table.c.client_id == client_logs.c.client_id)
    # Without an index each client would mean reading all of it; so it is read once.
    return client_logs.c.client_id.not_in(select(table.c.client_id))


def _begin_later_logs_after(connection: Connection, head: int) -> None:
    """Make logs that begin from now on use a new epoch and higher numbers than any deleted log.

    The epoch is for clients that return with an old number. A connection that stayed open does not see the epoch of live
    events; a number that is not the next one makes it read the log, where it finds the new epoch.
    """
    floor = connection.execute(select(client_logs.c.head).where(client_logs.c.client_id == NOBODY)).scalar()
    if floor is None:
        floor = 0
        connection.execute(insert(client_logs).values(client_id=NOBODY, epoch=new_seed(None), head=floor))
    if head > floor:
        connection.execute(
            update(client_logs)
            .where(client_logs.c.client_id == NOBODY)
            .values(epoch=new_seed(_stored_seed(connection)), head=head + 1)
        )


def _stored_seed(connection: Connection) -> str | None:
    return connection.execute(select(client_logs.c.epoch).where(client_logs.c.client_id == NOBODY)).scalar()
