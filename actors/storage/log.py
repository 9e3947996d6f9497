"""Each client's event log: appending in the transaction that causes the events, reading pages, pruning.

`seq` is assigned by one UPDATE of the client's row, so that commit order is `seq` order and a rollback leaves no
hole. Pruning removes events from the front only.
"""

from __future__ import annotations

import hashlib
import secrets
import uuid
from collections.abc import Iterable

from attrs import frozen
from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from actors.errors import CommandError
from actors.storage.messages import SHARE_EPOCHS_NAME, LogEvent, LogPage, Operation, Outcome, Query, StoredEvent
from actors.storage.tables import client_logs, events
from protocol.codec import encode
from protocol.errors import ErrorCode
from protocol.events import Priority

__all__ = [
    "LOG_OPERATIONS",
    "LOG_PAGE",
    "LOG_QUERIES",
    "MAXIMUM_EVENT_BYTES",
    "NOBODY",
    "OPEN_LOG",
    "PRUNE_ROWS",
    "EventTooLarge",
    "LogPageQuery",
    "append_events",
    "begin_client",
    "new_seed",
    "prune_log",
    "read_page",
]

MAXIMUM_EVENT_BYTES = 32 * 1024
"""Maximum size of an event's data. Larger objects are read through the lists."""
KEPT_EVENTS = 1000
KEPT_MILLISECONDS = 24 * 60 * 60 * 1000
PRUNE_ROWS = 500
"""Rows deleted per transaction, so that no write waits long."""
MAXIMUM_CLIENTS = 10_000
"""Clients with durable rows. Callers that can make up client ids must not fill the disk with them."""
NOBODY = ""
"""No client is called so; its row holds a part of what the epochs of logs are made of that were not begun, and their head."""
_THIS_START = secrets.token_hex(16)
"""The part that is never on disk. A database restored from a copy is served by a new run of the server, and must not reuse an
epoch under which events were published that the copy does not have."""

_SHARED = "shared-"
"""Beginning of a seed that nodes of a cluster share."""

# Made once: a statement that is built anew for each write costs more than running it.
_ADVANCE = (
    update(client_logs)
    .where(client_logs.c.client_id == bindparam("of_client"))
    .values(head=client_logs.c.head + bindparam("more"))
    .returning(client_logs.c.head)
)
_APPEND = insert(events)
_LOG = select(client_logs.c.epoch, client_logs.c.head).where(client_logs.c.client_id == bindparam("of_client"))
_EPOCH = select(client_logs.c.epoch).where(client_logs.c.client_id == bindparam("of_client"))


class EventTooLarge(ValueError):
    """A service made an event over the size limit, which is a bug in that service."""


@frozen(kw_only=True)
class LogPageQuery:
    """Query for a part of a log."""

    client_id: str
    after_seq: int
    maximum_events: int = 100
    maximum_bytes: int = 256 * 1024
    """Limit on the data of all events; at least one event is returned."""


def append_events(
    connection: Connection, client_id: str, new: Iterable[LogEvent], time_ms: int
) -> tuple[StoredEvent, ...]:
    """Append to the client's log in the caller's transaction. Raises `EventTooLarge`."""
    wanted = tuple(new)
    if not wanted:
        return ()
    head = _advance(connection, client_id, len(wanted))
    stored = []
    for seq, event in enumerate(wanted, start=head - len(wanted) + 1):
        data = encode(
            {
                "event_id": str(uuid.uuid4()),
                "channel": event.channel,
                "priority": event.priority.value,
                **event.data,
            }
        )
        if len(data) > MAXIMUM_EVENT_BYTES:
            raise EventTooLarge(f"{event.type} has {len(data)} bytes of data, over {MAXIMUM_EVENT_BYTES}")
        stored.append(
            StoredEvent(
                client_id=client_id,
                seq=seq,
                type=event.type,
                channel=event.channel,
                priority=event.priority,
                time_ms=time_ms,
                data=data,
            )
        )
    connection.execute(
        _APPEND,
        [
            {
                "client_id": one.client_id,
                "seq": one.seq,
                "type": one.type,
                "channel": one.channel,
                "priority": one.priority.value,
                "time_ms": one.time_ms,
                "data": one.data.decode(),
                "bytes": len(one.data),
            }
            for one in stored
        ],
    )
    return tuple(stored)


def _advance(connection: Connection, client_id: str, count: int) -> int:
    """Advance the log's head by ``count`` and return it, inserting the row if it is missing."""
    advance = {"of_client": client_id, "more": count}
    head = connection.execute(_ADVANCE, advance).scalar()
    if head is None:
        begin_client(connection, client_id)
        head = connection.execute(_ADVANCE, advance).scalar_one()
    return int(head)


def begin_client(connection: Connection, client_id: str) -> None:
    """Begin the client's log if it has none. Refused with `conflict` if too many clients have one."""
    if _stored_epoch(connection, client_id) is not None:
        return
    epoch = _open_log(connection, client_id).value
    others = client_logs.c.client_id != NOBODY
    count = connection.execute(select(func.count()).select_from(client_logs).where(others)).scalar_one()
    if count >= MAXIMUM_CLIENTS:
        raise CommandError(
            ErrorCode.CONFLICT, f"this server already stores data of {MAXIMUM_CLIENTS} clients and accepts no more"
        )
    floor = connection.execute(select(client_logs.c.head).where(client_logs.c.client_id == NOBODY)).scalar() or 0
    connection.execute(insert(client_logs).values(client_id=client_id, epoch=epoch, head=floor))


def _open_log(connection: Connection, client_id: str) -> Outcome[str]:
    """Return the epoch of a client's log, or the one it will have. Nothing is stored for a client that merely connects."""
    epoch = _stored_epoch(connection, client_id)
    if epoch is None:
        seed = _stored_epoch(connection, NOBODY)
        if seed is None:
            seed = secrets.token_hex(16)
            connection.execute(insert(client_logs).values(client_id=NOBODY, epoch=seed, head=0))
        epoch = _epoch_to_be(seed, client_id)
    return Outcome(value=epoch)


def _stored_epoch(connection: Connection, client_id: str) -> str | None:
    epoch = connection.execute(_EPOCH, {"of_client": client_id}).scalar()
    return None if epoch is None else str(epoch)


def _epoch_to_be(seed: str, client_id: str) -> str:
    """Derive the epoch of a log that has not begun: stable within a database and a run of the server, different otherwise."""
    key = seed if seed.startswith(_SHARED) else seed + _THIS_START
    return hashlib.blake2b(client_id.encode(), key=key.encode(), digest_size=8).hexdigest()


def new_seed(seed: str | None) -> str:
    """Draw the database's part of epochs, in the form that the one before had."""
    return _SHARED + secrets.token_hex(12) if seed is not None and seed.startswith(_SHARED) else secrets.token_hex(16)


def _share_epochs(connection: Connection, is_first: bool) -> Outcome[None]:
    """Let all nodes derive the same epochs, from the database alone: drawn again by the node that ``is_first``.

    So a database that was restored from a copy, which no node survives, still reports no epoch of before.
    """
    seed = _stored_epoch(connection, NOBODY)
    shared = _SHARED + secrets.token_hex(12)
    if seed is None:
        connection.execute(insert(client_logs).values(client_id=NOBODY, epoch=shared, head=0))
    elif is_first or not seed.startswith(_SHARED):
        connection.execute(update(client_logs).where(client_logs.c.client_id == NOBODY).values(epoch=shared))
    return Outcome(value=None)


def read_page(connection: Connection, wanted: LogPageQuery) -> LogPage:
    """Return events after a sequence number, oldest first, and the state of the log.

    The epoch is ``""`` if `OPEN_LOG` has never run in this database.
    """
    row = connection.execute(_LOG, {"of_client": wanted.client_id}).first()
    if row is None:
        nobody = connection.execute(_LOG, {"of_client": NOBODY}).first()
        if nobody is None:
            return LogPage(epoch="", head=0, oldest=1, events=())
        epoch = _epoch_to_be(nobody.epoch, wanted.client_id)
        return LogPage(epoch=epoch, head=nobody.head, oldest=nobody.head + 1, events=())
    oldest = connection.execute(select(func.min(events.c.seq)).where(events.c.client_id == wanted.client_id)).scalar()
    rows = connection.execute(
        select(events)
        .where(events.c.client_id == wanted.client_id, events.c.seq > wanted.after_seq)
        .order_by(events.c.seq)
        .limit(wanted.maximum_events)
    )
    page: list[StoredEvent] = []
    size = 0
    for one in rows:
        size += one.bytes
        if page and size > wanted.maximum_bytes:
            break
        page.append(
            StoredEvent(
                client_id=one.client_id,
                seq=one.seq,
                type=one.type,
                channel=one.channel,
                priority=Priority(one.priority),
                time_ms=one.time_ms,
                data=one.data.encode(),
            )
        )
    return LogPage(
        epoch=row.epoch, head=row.head, oldest=row.head + 1 if oldest is None else int(oldest), events=tuple(page)
    )


def prune_log(connection: Connection, now_ms: int) -> int:
    """Delete events beyond the retained count or age, at most `PRUNE_ROWS`. Returns the number deleted."""
    surplus = (
        select(events.c.client_id, events.c.seq)
        .join(client_logs, client_logs.c.client_id == events.c.client_id)
        .where((events.c.time_ms < now_ms - KEPT_MILLISECONDS) | (events.c.seq <= client_logs.c.head - KEPT_EVENTS))
        # From the front, so that what is kept has no hole.
        .order_by(events.c.client_id, events.c.seq)
        .limit(PRUNE_ROWS)
    )
    gone: dict[str, int] = {}
    rows = connection.execute(surplus).all()
    for client_id, seq in rows:
        gone[client_id] = max(seq, gone.get(client_id, 0))
    for client_id, seq in gone.items():
        connection.execute(delete(events).where(events.c.client_id == client_id, events.c.seq <= seq))
    return len(rows)


OPEN_LOG: Operation[str, str] = Operation("open_log", _open_log, str)
"""Returns the epoch of a client's log. The command is the client id."""
LOG_PAGE: Query[LogPageQuery, LogPage] = Query("log_page", read_page)

SHARE_EPOCHS: Operation[bool, None] = Operation(SHARE_EPOCHS_NAME, _share_epochs, None)

LOG_OPERATIONS = (OPEN_LOG, SHARE_EPOCHS)
LOG_QUERIES = (LOG_PAGE,)
