"""Acknowledgements: an `ack` marks delivered only what was sent to its device. Synchronous functions over a connection.

Each device has one high-water mark, up to which its client's log is settled: acknowledged, or logged before the device
registered. Whatever an `ack` covers beyond it was sent to the device, on this connection or another, except for events that
its subscription excludes.
"""

from __future__ import annotations

import json
from typing import Any

from attrs import field, frozen
from sqlalchemy import Connection, bindparam, delete, exists, insert, select, update

from actors.notifications.fan_out import IN_APP_DEVICE
from actors.notifications.tables import deliveries, high_water_marks
from actors.storage.messages import Operation, Outcome, client_logs, events
from protocol.commands import Subscribe
from protocol.events import Priority
from protocol.notifications import Channel, DeliveryState

__all__ = ["ACKNOWLEDGE", "Acknowledged", "Acknowledgements", "StreamBegun", "prune_settled"]


@frozen
class Acknowledged:
    """A device has received everything sent to it, up to a sequence number of its client's log."""

    client_id: str
    device_id: str
    seq: int
    time_ms: int
    after: int = 0
    """Everything after this number was sent by the acknowledging connection, except for ``left_out``."""
    skipped: tuple[int, ...] = ()
    subscription: Subscribe = field(factory=Subscribe)
    """Decides which events up to ``after`` the device was sent."""


@frozen
class StreamBegun:
    """A device's log begins at this number; earlier events were not sent to it."""

    client_id: str
    device_id: str
    seq: int


@frozen
class Acknowledgements:
    """Acknowledgements of many devices, in order for each device."""

    entries: tuple[Acknowledged | StreamBegun, ...]


KEPT_MILLISECONDS = 60 * 60 * 1000
"""Presence depends on the last seconds alone, so older acknowledgements can be dropped."""
MAXIMUM_DEVICES = 256
"""Devices of one client whose high-water marks and delivery rows are stored."""
PRUNE_ROWS = 500

# Made once: SQLAlchemy takes longer to make a statement than SQLite to carry it out.
_MINE = (
    high_water_marks.c.client_id == bindparam("of_client"),
    high_water_marks.c.device_id == bindparam("of_device"),
)
_SETTLED = select(high_water_marks.c.seq).where(*_MINE)
_SETTLE = update(high_water_marks).where(*_MINE).values(seq=bindparam("new_seq"))
_SETTLE_NOW = update(high_water_marks).where(*_MINE).values(seq=bindparam("new_seq"), time_ms=bindparam("now_ms"))
_FIRST = insert(high_water_marks)
_HEAD = select(client_logs.c.head).where(client_logs.c.client_id == bindparam("of_client"))
_TOLD = (
    select(events.c.seq, events.c.channel, events.c.priority, events.c.data)
    .where(
        events.c.client_id == bindparam("of_client"),
        events.c.seq > bindparam("settled"),
        events.c.seq <= bindparam("last"),
        events.c.type == "notification",
    )
    .order_by(events.c.seq)
)
_IN_APP = (
    deliveries.c.notification_id == bindparam("of_notification"),
    deliveries.c.client_id == bindparam("of_client"),
    deliveries.c.channel == Channel.IN_APP.value,
)
_IN_APP_DELIVERIES = select(
    deliveries.c.device_id, deliveries.c.number, deliveries.c.state, deliveries.c.sent_ms
).where(*_IN_APP)
_DELIVERED_TO = insert(deliveries)
_DELIVERED = (
    update(deliveries)
    .where(*_IN_APP, deliveries.c.device_id == IN_APP_DEVICE)
    .values(state=DeliveryState.DELIVERED.value, delivered_ms=bindparam("now_ms"))
)


def acknowledge(connection: Connection, command: Acknowledgements) -> Outcome[int]:
    """Mark as delivered what these devices have received. Returns the number of deliveries."""
    count = 0
    for one in command.entries:
        if isinstance(one, StreamBegun):
            _begin(connection, one)
        else:
            count += _acknowledge(connection, one)
    return Outcome(value=count)


def _begin(connection: Connection, one: StreamBegun) -> None:
    mine = {"of_client": one.client_id, "of_device": one.device_id}
    before = connection.execute(_SETTLED, mine).scalar()
    if before is None:
        # No time: it has acknowledged nothing, so nobody is known to look at it.
        _make_room(connection, one.client_id)
        row = {"client_id": one.client_id, "device_id": one.device_id, "seq": one.seq, "time_ms": 0}
        connection.execute(_FIRST, row)
    elif before != one.seq:
        connection.execute(_SETTLE, {**mine, "new_seq": one.seq})


def _acknowledge(connection: Connection, one: Acknowledged) -> int:
    mine = {"of_client": one.client_id, "of_device": one.device_id}
    settled = connection.execute(_SETTLED, mine).scalar()
    if settled is None:
        settled = 0
        _make_room(connection, one.client_id)
        row = {"client_id": one.client_id, "device_id": one.device_id, "seq": one.seq, "time_ms": one.time_ms}
        connection.execute(_FIRST, row)
    else:
        if settled > one.seq and settled > (connection.execute(_HEAD, mine).scalar() or 0):
            settled = 0  # the log was lost and begun anew
        connection.execute(_SETTLE_NOW, {**mine, "new_seq": max(settled, one.seq), "now_ms": one.time_ms})
    if settled >= one.seq:
        return 0
    told = connection.execute(_TOLD, {"of_client": one.client_id, "settled": settled, "last": one.seq}).all()
    return sum(_mark_delivered(connection, one, row.data) for row in told if _was_sent(one, row))


def _make_room(connection: Connection, client_id: str) -> None:
    """Make room for one more device by forgetting those that have been silent longest."""
    surplus = connection.execute(
        select(high_water_marks.c.device_id)
        .where(high_water_marks.c.client_id == client_id)
        .order_by(high_water_marks.c.time_ms.desc(), high_water_marks.c.seq.desc(), high_water_marks.c.device_id)
        .offset(MAXIMUM_DEVICES - 1)
    ).scalars()
    for device_id in surplus.all():
        connection.execute(
            delete(high_water_marks).where(
                high_water_marks.c.client_id == client_id, high_water_marks.c.device_id == device_id
            )
        )


def prune_settled(connection: Connection, now_ms: int) -> int:
    """Delete high-water marks below which the client's log holds nothing, at most `PRUNE_ROWS`. Returns the number deleted.

    An unknown device counts as having settled nothing, which is equivalent if the log holds nothing up to its mark.
    """
    is_left = exists().where(events.c.client_id == high_water_marks.c.client_id, events.c.seq <= high_water_marks.c.seq)
    rows = connection.execute(
        select(high_water_marks.c.client_id, high_water_marks.c.device_id)
        .where(high_water_marks.c.time_ms < now_ms - KEPT_MILLISECONDS, ~is_left)
        .limit(PRUNE_ROWS)
    ).all()
    for row in rows:
        connection.execute(
            delete(high_water_marks).where(
                high_water_marks.c.client_id == row.client_id, high_water_marks.c.device_id == row.device_id
            )
        )
    return len(rows)


def _was_sent(one: Acknowledged, event: Any) -> bool:
    if event.seq > one.after:
        return event.seq not in one.skipped
    return one.subscription.wants(event.channel, Priority(event.priority))


def _mark_delivered(connection: Connection, one: Acknowledged, data: str) -> int:
    """Add a row for the device and mark the client's delivery as delivered. Returns 1 if it was not yet."""
    notification_id = json.loads(data)["notification"]["notification_id"]
    which = {"of_notification": notification_id, "of_client": one.client_id}
    rows = {row.device_id: row for row in connection.execute(_IN_APP_DELIVERIES, which)}
    told = rows.get(IN_APP_DEVICE)
    if told is None or one.device_id in rows:
        return 0
    if len(rows) <= MAXIMUM_DEVICES:
        connection.execute(
            _DELIVERED_TO,
            {
                "notification_id": notification_id,
                "channel": Channel.IN_APP.value,
                "device_id": one.device_id,
                "client_id": one.client_id,
                "number": told.number,
                "state": DeliveryState.DELIVERED.value,
                "attempts": 0,
                "sent_ms": told.sent_ms,
                "delivered_ms": one.time_ms,
            },
        )
    if told.state == DeliveryState.SENT.value:
        connection.execute(_DELIVERED, {**which, "now_ms": one.time_ms})
    return 1


ACKNOWLEDGE: Operation[Acknowledgements, int] = Operation("notifications.acknowledge", acknowledge, int)
