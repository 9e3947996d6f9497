"""Stores subscriptions and acknowledgements of devices."""

from __future__ import annotations

from typing import Any

import msgspec
from attrs import frozen
from sqlalchemy import Connection, delete, func, insert, select

from actors.clock import now_milliseconds
from actors.connections.tables import acknowledgements, subscriptions
from actors.errors import CommandError
from actors.storage.messages import Operation, Outcome, Query
from protocol.codec import encode
from protocol.commands import Subscribe
from protocol.errors import ErrorCode
from protocol.events import Priority

__all__ = [
    "OPERATIONS",
    "QUERIES",
    "READ_ACKNOWLEDGED",
    "READ_SUBSCRIPTION",
    "STORE_ACKNOWLEDGEMENT",
    "STORE_SUBSCRIPTION",
    "Acknowledge",
    "Device",
    "StoreSubscription",
    "prune_acknowledgements",
]

KEPT_MILLISECONDS = 30 * 24 * 60 * 60 * 1000
"""An acknowledgement means nothing long after the log has dropped its event."""
PRUNE_ROWS = 500
MAXIMUM_DEVICES = 256
"""Limit per client on devices with a subscription, and on devices with stored acknowledgements."""


@frozen(kw_only=True)
class Device:
    """A device of a client."""

    client_id: str
    device_id: str


@frozen(kw_only=True)
class StoreSubscription:
    """Replaces the subscription of a device."""

    device: Device
    subscription: Subscribe


@frozen(kw_only=True)
class Acknowledge:
    """A device has received all of a stream up to ``seq``. Cumulative: a lower number than before changes nothing."""

    device: Device
    stream: str
    epoch: str
    seq: int


def _is(table: Any, device: Device) -> Any:
    return (table.c.client_id == device.client_id) & (table.c.device_id == device.device_id)


def _store_subscription(connection: Connection, command: StoreSubscription) -> Outcome[Subscribe]:
    wanted = command.subscription
    connection.execute(delete(subscriptions).where(_is(subscriptions, command.device)))
    if wanted == Subscribe():
        # A missing row reads as the default.
        return Outcome(value=wanted, keeps_nothing=True)
    mine = subscriptions.c.client_id == command.device.client_id
    if connection.execute(select(func.count()).select_from(subscriptions).where(mine)).scalar_one() >= MAXIMUM_DEVICES:
        raise CommandError(
            ErrorCode.CONFLICT,
            f"{MAXIMUM_DEVICES} devices of this client already have a subscription; reset one to the default first",
        )
    connection.execute(
        insert(subscriptions).values(
            client_id=command.device.client_id,
            device_id=command.device.device_id,
            channels=None if wanted.channels is None else encode(list(wanted.channels)).decode(),
            min_priority=wanted.min_priority.value,
            max_events_per_second=wanted.max_events_per_second,
            batch_ms=wanted.batch_ms,
        )
    )
    return Outcome(value=wanted)


def _read_subscription(connection: Connection, device: Device) -> Subscribe:
    row = connection.execute(select(subscriptions).where(_is(subscriptions, device))).first()
    if row is None:
        return Subscribe()
    return Subscribe(
        channels=None if row.channels is None else msgspec.json.decode(row.channels),
        min_priority=Priority(row.min_priority),
        max_events_per_second=row.max_events_per_second,
        batch_ms=row.batch_ms,
    )


def _acknowledge(connection: Connection, command: Acknowledge) -> Outcome[int]:
    where = _is(acknowledgements, command.device) & (acknowledgements.c.stream == command.stream)
    row = connection.execute(select(acknowledgements.c.epoch, acknowledgements.c.seq).where(where)).first()
    seq = command.seq
    if row is not None and row.epoch == command.epoch:
        seq = max(seq, int(row.seq))
    connection.execute(delete(acknowledgements).where(where))
    if row is None:
        _evict_silent_devices(connection, command.device.client_id)
    connection.execute(
        insert(acknowledgements).values(
            client_id=command.device.client_id,
            device_id=command.device.device_id,
            stream=command.stream,
            epoch=command.epoch,
            seq=seq,
            time_ms=now_milliseconds(),
        )
    )
    return Outcome(value=seq)


def _evict_silent_devices(connection: Connection, client_id: str) -> None:
    """Make space for one more device by dropping those that have been silent longest."""
    table = acknowledgements
    surplus = connection.execute(
        select(table.c.device_id, table.c.stream)
        .where(table.c.client_id == client_id)
        .order_by(table.c.time_ms.desc(), table.c.device_id)
        .offset(MAXIMUM_DEVICES - 1)
    ).all()
    for row in surplus:
        device = Device(client_id=client_id, device_id=row.device_id)
        connection.execute(delete(table).where(_is(table, device) & (table.c.stream == row.stream)))


def _read_acknowledged(connection: Connection, device: Device) -> int | None:
    where = _is(acknowledgements, device) & (acknowledgements.c.stream == "client")
    seq = connection.execute(select(acknowledgements.c.seq).where(where)).scalar()
    return None if seq is None else int(seq)


def prune_acknowledgements(connection: Connection, now_ms: int) -> int:
    """Delete acknowledgements older than thirty days, at most `PRUNE_ROWS`. Returns the number deleted."""
    table = acknowledgements
    rows = connection.execute(
        select(table.c.client_id, table.c.device_id, table.c.stream)
        .where(table.c.time_ms <= now_ms - KEPT_MILLISECONDS)
        .limit(PRUNE_ROWS)
    ).all()
    for row in rows:
        device = Device(client_id=row.client_id, device_id=row.device_id)
        connection.execute(delete(table).where(_is(table, device) & (table.c.stream == row.stream)))
    return len(rows)


STORE_SUBSCRIPTION: Operation[StoreSubscription, Subscribe] = Operation(
    "store_subscription", _store_subscription, Subscribe, begins_client=True
)
STORE_ACKNOWLEDGEMENT: Operation[Acknowledge, int] = Operation("store_acknowledgement", _acknowledge, int)
READ_SUBSCRIPTION: Query[Device, Subscribe] = Query("read_subscription", _read_subscription)
READ_ACKNOWLEDGED: Query[Device, int | None] = Query("read_acknowledged", _read_acknowledged)
"""Last event of the stream `client` that a device has acknowledged; None if it has acknowledged none."""

OPERATIONS: tuple[Operation[Any, Any], ...] = (STORE_SUBSCRIPTION, STORE_ACKNOWLEDGEMENT)
QUERIES: tuple[Query[Any, Any], ...] = (READ_SUBSCRIPTION, READ_ACKNOWLEDGED)
