"""Conversions between rows and wire classes, and small reads that the store's modules share."""

from __future__ import annotations

import functools
import json
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from attrs import frozen
from sqlalchemy import Connection, Row, bindparam, func, insert, select, update

from actors.notifications.tables import clients, devices, notifications
from protocol.codec import structure, unstructure, wire_time
from protocol.events import Priority
from protocol.notifications import Channel, Delivery, DeliveryState, Device, Notification, Platform, Preferences

__all__ = [
    "ClientRow",
    "NotificationRow",
    "as_delivery",
    "as_device",
    "as_notification",
    "json_text",
    "next_number",
    "preferences_of",
    "preferences_text",
    "read_preferences",
    "unread_count",
    "wake_device",
    "wire_ms",
]

_PLATFORMS = {one.channel: one for one in Platform}

# Made once: SQLAlchemy takes longer to make a statement than SQLite to carry it out.
_NEXT_NUMBER = (
    update(clients)
    .where(clients.c.client_id == bindparam("of_client"))
    .values(last_number=clients.c.last_number + 1)
    .returning(clients.c.last_number, clients.c.preferences)
)
_NEW_CLIENT = insert(clients)
_PREFERENCES = select(clients.c.preferences).where(clients.c.client_id == bindparam("of_client"))
_WAKE = (
    update(devices)
    .where(
        devices.c.client_id == bindparam("of_client"),
        devices.c.device_id == bindparam("of_device"),
        devices.c.due_ms.is_(None),
    )
    .values(due_ms=bindparam("now_ms"))
)
_UNREAD = (
    select(func.count())
    .select_from(notifications)
    .where(
        notifications.c.client_id == bindparam("of_client"),
        notifications.c.read_ms.is_(None),
        notifications.c.is_digest.is_(False),
    )
)


class NotificationRow(NamedTuple):
    """A row of the notifications table."""

    notification_id: str
    client_id: str
    number: int
    kind: str
    priority: str
    title: str
    body: str
    fields: str
    data: str
    created_ms: int
    read_ms: int | None
    is_digest: bool


@frozen(kw_only=True)
class ClientRow:
    """A row of the clients table: next order number and preferences."""

    number: int
    preferences: Preferences


def wire_ms(time_ms: int | None) -> str | None:
    """Format POSIX milliseconds as RFC 3339."""
    return None if time_ms is None else wire_time(time_ms / 1000)


def json_text(value: Any) -> str:
    """Encode JSON for a Text column."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@functools.lru_cache(maxsize=4096)
def preferences_of(text: str | None) -> Preferences:
    """Decode preferences from their column."""
    if text is None:
        return Preferences()
    preferences: Preferences = structure(json.loads(text), Preferences)
    return preferences


def read_preferences(connection: Connection, client_id: str) -> Preferences:
    """Return a client's preferences, or the defaults."""
    return preferences_of(connection.execute(_PREFERENCES, {"of_client": client_id}).scalar())


def preferences_text(preferences: Preferences) -> str:
    """Encode preferences for their column."""
    return json_text(unstructure(preferences))


def next_number(connection: Connection, client_id: str) -> ClientRow:
    """Take the client's next order number. Needs a write transaction."""
    row = connection.execute(_NEXT_NUMBER, {"of_client": client_id}).one_or_none()
    if row is None:
        connection.execute(_NEW_CLIENT, {"client_id": client_id, "last_number": 1, "preferences": None})
        return ClientRow(number=1, preferences=Preferences())
    return ClientRow(number=row.last_number, preferences=preferences_of(row.preferences))


def wake_device(connection: Connection, client_id: str, device_id: str, now_ms: int) -> None:
    """Make an idle device due now. A device that waits for a retry keeps its time."""
    connection.execute(_WAKE, {"of_client": client_id, "of_device": device_id, "now_ms": now_ms})


def unread_count(connection: Connection, client_id: str) -> int:
    """Return the number of unread notifications."""
    return int(connection.execute(_UNREAD, {"of_client": client_id}).scalar_one())


def as_notification(row: Row[Any] | NotificationRow) -> Notification:
    """Convert a row to a notification."""
    return Notification(
        notification_id=row.notification_id,
        kind=row.kind,
        priority=Priority(row.priority),
        title=row.title,
        body=row.body,
        data=json.loads(row.data),
        created_at=wire_time(row.created_ms / 1000),
        read_at=wire_ms(row.read_ms),
    )


def as_delivery(row: Row[Any]) -> Delivery:
    """Convert a row to a delivery."""
    return Delivery(
        channel=Channel(row.channel),
        device_id=row.device_id,
        state=DeliveryState(row.state),
        attempts=row.attempts,
        reason=row.reason,
        due_at=wire_ms(row.due_ms),
        sent_at=wire_ms(row.sent_ms),
        delivered_at=wire_ms(row.delivered_ms),
        opened_at=wire_ms(row.opened_ms),
        digest_id=row.digest_id,
    )


def as_device(row: Row[Any]) -> Device:
    """Convert a row to a device without its secrets."""
    channel = Channel(row.channel)
    return Device(
        device_id=row.device_id,
        platform=_PLATFORMS[channel],
        host="" if channel is Channel.APNS else urlsplit(row.address).hostname or "",
        environment=row.environment,
        topic=row.topic,
        app_version=row.app_version,
        device_model=row.device_model,
        timezone=row.timezone,
        locale=row.locale,
        created_at=wire_time(row.created_ms / 1000),
        updated_at=wire_time(row.updated_ms / 1000),
    )
