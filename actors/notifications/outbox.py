"""The outbox: due deliveries and the outcome of each attempt. Synchronous functions over a database connection.

Deliveries of one device go out in order, so a device waits as a whole: `devices.due_ms` is the time of its next attempt.
"""

from __future__ import annotations

import json
from typing import Any

from attrs import field, frozen
from sqlalchemy import Connection, and_, bindparam, delete, exists, func, select, update
from sqlalchemy.sql.elements import ColumnElement

from actors.clock import now_milliseconds
from actors.notifications.acks import ACKNOWLEDGE
from actors.notifications.delivery_rules import GIVEN_UP, SUBSCRIPTION_GONE, Attempt, RetrySchedule
from actors.notifications.fan_out import release_held
from actors.notifications.rows import unread_count
from actors.notifications.tables import deliveries, devices, notifications
from actors.storage.messages import Operation, Outcome, Query, Trigger
from protocol.events import Priority
from protocol.notifications import Channel, DeliveryState

__all__ = [
    "DUE_DELIVERIES",
    "OUTBOX_OPERATIONS",
    "OUTBOX_QUERIES",
    "READ_DEVICE_QUEUE",
    "RECORD",
    "RELEASE",
    "DeviceQueuePage",
    "DeviceQueueQuery",
    "Due",
    "DueDeliveriesQuery",
    "QueuedDelivery",
    "Recorded",
    "ReleaseClient",
    "Results",
    "prune_notifications",
]

_S = DeliveryState
QUEUES_AT_ONCE = 64
LANE_PAGE = 16
"""Deliveries read, sent and recorded together. After a crash as many may go out twice, with the same ids."""
KEPT_MILLISECONDS = 30 * 24 * 60 * 60 * 1000
PRUNE_ROWS = 500

# Made once: SQLAlchemy takes longer to make a statement than SQLite to carry it out.
_DUE_LANES = (
    select(devices.c.client_id, devices.c.device_id)
    .where(devices.c.channel == bindparam("of_channel"), devices.c.due_ms <= bindparam("now_ms"))
    .order_by(devices.c.due_ms)
    .limit(QUEUES_AT_ONCE)
)
_DUE_CLIENTS = (
    select(deliveries.c.client_id)
    .where(deliveries.c.state == _S.HELD.value, deliveries.c.due_ms <= bindparam("now_ms"))
    .order_by(deliveries.c.due_ms)
    .limit(QUEUES_AT_ONCE)
)
_LATER = (
    select(func.min(devices.c.due_ms)).where(devices.c.due_ms > bindparam("now_ms")),
    select(func.min(deliveries.c.due_ms)).where(
        deliveries.c.state == _S.HELD.value, deliveries.c.due_ms > bindparam("now_ms")
    ),
)
_DEVICE = select(devices).where(
    devices.c.client_id == bindparam("of_client"), devices.c.device_id == bindparam("of_device")
)
_PENDING = (
    deliveries.c.client_id == bindparam("of_client"),
    deliveries.c.device_id == bindparam("of_device"),
    deliveries.c.channel == bindparam("of_channel"),
    deliveries.c.state == _S.PENDING.value,
)
_NEXT = (
    select(notifications, deliveries.c.attempts)
    .join(deliveries, deliveries.c.notification_id == notifications.c.notification_id)
    .where(*_PENDING)
    .order_by(deliveries.c.number)
    .limit(bindparam("maximum"))
)
_WAITS = select(exists().where(*_PENDING))
_SENT = (
    update(deliveries)
    .where(
        deliveries.c.notification_id == bindparam("of_notification"),
        deliveries.c.channel == bindparam("of_channel"),
        deliveries.c.device_id == bindparam("of_device"),
        deliveries.c.state == _S.PENDING.value,
    )
    .values(state=_S.SENT.value, sent_ms=bindparam("now_ms"), reason=None, attempts=deliveries.c.attempts + 1)
)
_DEVICE_DUE = (
    update(devices)
    .where(devices.c.client_id == bindparam("of_client"), devices.c.device_id == bindparam("of_device"))
    .values(due_ms=bindparam("next_ms"))
)


# --- looking ------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class DueDeliveriesQuery:
    """Query for due devices and clients."""

    now_ms: int


@frozen(kw_only=True)
class Due:
    """A bounded part of what is due, and the time of the next poll."""

    device_queues: tuple[tuple[str, str, str], ...]
    """(channel, client id, device id), longest waiting first."""
    clients: tuple[str, ...]
    """Clients with held deliveries that are due."""
    next_ms: int | None
    """Time at which the next of either is due; None if nothing waits."""


def look(connection: Connection, wanted: DueDeliveriesQuery) -> Due:
    """Return devices to send to and clients with held deliveries that are due."""
    device_queues: list[tuple[str, str, str]] = []
    for channel in (Channel.WEB_PUSH, Channel.APNS, Channel.WEBHOOK):
        # Each channel has its own share, so that one that is down does not hide the others.
        device_queues += [
            (channel.value, row.client_id, row.device_id)
            for row in connection.execute(_DUE_LANES, {"of_channel": channel.value, "now_ms": wanted.now_ms})
        ]
    clients = connection.execute(_DUE_CLIENTS, {"now_ms": wanted.now_ms}).scalars()
    later = [connection.execute(one, {"now_ms": wanted.now_ms}).scalar() for one in _LATER]
    return Due(
        device_queues=tuple(device_queues),
        clients=tuple(dict.fromkeys(clients)),
        next_ms=min((one for one in later if one is not None), default=None),
    )


@frozen(kw_only=True)
class DeviceQueueQuery:
    """Query for the next deliveries of one device."""

    client_id: str
    device_id: str
    maximum: int = LANE_PAGE


@frozen(kw_only=True)
class QueuedDelivery:
    """A notification on its way to a device."""

    notification_id: str
    kind: str
    priority: Priority
    fields: dict[str, Any] = field(repr=False)
    data: dict[str, Any] = field(repr=False)
    created_ms: int
    attempts: int
    """Number of earlier attempts."""


@frozen(kw_only=True)
class DeviceQueuePage:
    """A device and its pending deliveries, in order."""

    client_id: str
    device_id: str
    channel: Channel
    address: str = field(repr=False)
    secret: str = field(repr=False)
    environment: str | None
    topic: str | None
    locale: str | None
    badge: int
    """Number of unread notifications of the client."""
    items: tuple[QueuedDelivery, ...]


def read_device_queue(connection: Connection, wanted: DeviceQueueQuery) -> DeviceQueuePage | None:
    """Return a device and its first pending deliveries, or None if the device is gone."""
    mine = {"of_client": wanted.client_id, "of_device": wanted.device_id}
    device = connection.execute(_DEVICE, mine).one_or_none()
    if device is None:
        return None
    rows = connection.execute(_NEXT, {**mine, "of_channel": device.channel, "maximum": wanted.maximum})
    return DeviceQueuePage(
        client_id=wanted.client_id,
        device_id=wanted.device_id,
        channel=Channel(device.channel),
        address=device.address,
        secret=device.secret,
        environment=device.environment,
        topic=device.topic,
        locale=device.locale,
        badge=unread_count(connection, wanted.client_id),
        items=tuple(
            QueuedDelivery(
                notification_id=row.notification_id,
                kind=row.kind,
                priority=Priority(row.priority),
                fields=json.loads(row.fields),
                data=json.loads(row.data),
                created_ms=row.created_ms,
                attempts=row.attempts,
            )
            for row in rows
        ),
    )


# --- what came of it ----------------------------------------------------------------------------------


@frozen(kw_only=True)
class Results:
    """Outcomes of a page of deliveries, in order; a failure ends the list."""

    client_id: str
    device_id: str
    channel: Channel
    address: str = field(repr=False)
    """Address they were sent to, so that a device that has registered again is not removed for its old address."""
    attempts: tuple[tuple[str, Attempt], ...]
    """(notification id, outcome)."""
    schedule: RetrySchedule


@frozen(kw_only=True)
class Recorded:
    """State of the device after its results."""

    due_ms: int | None
    """Time of its next attempt."""


def record(connection: Connection, results: Results) -> Outcome[Recorded]:
    """Record outcomes: schedule retries, give up, and remove a device that is gone, with an event that says so."""
    now_ms = now_milliseconds()
    due_ms: int | None = None
    mine = {"of_client": results.client_id, "of_device": results.device_id}
    device_queue = {"of_device": results.device_id, "of_channel": results.channel.value}
    for notification_id, attempt in results.attempts:
        where = and_(
            deliveries.c.notification_id == notification_id,
            deliveries.c.channel == results.channel.value,
            deliveries.c.device_id == results.device_id,
            # A device that was removed meanwhile, or registered again, has had its rows settled.
            deliveries.c.state == _S.PENDING.value,
        )
        attempts = deliveries.c.attempts + 1
        if attempt.is_gone and _forget(connection, results):
            return Outcome(
                value=Recorded(due_ms=None),
                triggers=(
                    Trigger(
                        kind="device_removed",
                        data={"fields": {"device_id": results.device_id, "detail": attempt.reason}},
                    ),
                ),
            )
        if attempt.is_gone:
            due_ms = now_ms
        elif attempt.is_sent:
            connection.execute(_SENT, {**device_queue, "of_notification": notification_id, "now_ms": now_ms})
        elif attempt.is_final:
            connection.execute(
                update(deliveries).where(where).values(state=_S.DEAD.value, reason=attempt.reason, attempts=attempts)
            )
        else:
            due_ms = _failed(connection, where, attempt, results.schedule, now_ms)
    if due_ms is None:
        due_ms = now_ms if connection.execute(_WAITS, {**mine, **device_queue}).scalar() else None
    connection.execute(_DEVICE_DUE, {**mine, "next_ms": due_ms})
    return Outcome(value=Recorded(due_ms=due_ms))


def _failed(
    connection: Connection, where: ColumnElement[bool], attempt: Attempt, schedule: RetrySchedule, now_ms: int
) -> int | None:
    """Record a temporary failure. Returns the time of the next attempt, or None if the delivery was given up."""
    before = connection.execute(select(deliveries.c.attempts).where(where)).scalar()
    if before is None:
        return None
    wait = schedule.next_attempt_seconds(before + 1, attempt.retry_after_seconds)
    if wait is None:
        reason = f"{GIVEN_UP} after {before + 1} attempts: {attempt.reason}"
        connection.execute(
            update(deliveries).where(where).values(state=_S.DISCARDED.value, reason=reason, attempts=before + 1)
        )
        return None
    connection.execute(update(deliveries).where(where).values(reason=attempt.reason, attempts=before + 1))
    return now_ms + int(wait * 1000)


def _forget(connection: Connection, results: Results) -> bool:
    """Remove the device if it still has the address that is gone, and discard its pending deliveries."""
    removed = connection.execute(
        delete(devices).where(
            devices.c.client_id == results.client_id,
            devices.c.device_id == results.device_id,
            devices.c.address == results.address,
        )
    ).rowcount
    if removed:
        discard_waiting(connection, results.client_id, results.device_id, SUBSCRIPTION_GONE)
    return bool(removed)


def discard_waiting(connection: Connection, client_id: str, device_id: str, reason: str) -> None:
    """Discard the pending deliveries of a registered device."""
    connection.execute(
        update(deliveries)
        .where(
            deliveries.c.client_id == client_id,
            deliveries.c.device_id == device_id,
            deliveries.c.channel != Channel.IN_APP.value,
            deliveries.c.state.in_((_S.PENDING.value, _S.HELD.value)),
        )
        .values(state=_S.DISCARDED.value, reason=reason, due_ms=None)
    )


# --- held ---------------------------------------------------------------------------------------------


@frozen
class ReleaseClient:
    """Arguments of `release`."""

    client_id: str


def release(connection: Connection, command: ReleaseClient) -> Outcome[int]:
    """Release held deliveries that are due. Returns the number of in-app events."""
    events = release_held(connection, command.client_id, now_milliseconds())
    return Outcome(value=len(events), events=events)


def prune_notifications(connection: Connection, now_ms: int) -> int:
    """Delete notifications older than 30 days, a bounded number per call."""
    old = (
        connection.execute(
            select(notifications.c.notification_id)
            .where(notifications.c.created_ms < now_ms - KEPT_MILLISECONDS)
            .limit(PRUNE_ROWS)
        )
        .scalars()
        .all()
    )
    if old:
        connection.execute(delete(deliveries).where(deliveries.c.notification_id.in_(old)))
        connection.execute(delete(notifications).where(notifications.c.notification_id.in_(old)))
    return len(old)


DUE_DELIVERIES: Query[DueDeliveriesQuery, Due] = Query("notifications.look", look)
READ_DEVICE_QUEUE: Query[DeviceQueueQuery, DeviceQueuePage | None] = Query("notifications.read_lane", read_device_queue)
RECORD: Operation[Results, Recorded] = Operation("notifications.record", record, Recorded)
RELEASE: Operation[ReleaseClient, int] = Operation("notifications.release", release, int)
OUTBOX_OPERATIONS: tuple[Operation[Any, Any], ...] = (RECORD, RELEASE, ACKNOWLEDGE)
OUTBOX_QUERIES: tuple[Query[Any, Any], ...] = (DUE_DELIVERIES, READ_DEVICE_QUEUE)
