"""Requests of clients as functions over a connection: lists, reading, devices, preferences, posts."""

from __future__ import annotations

from typing import Any

from attrs import field, frozen
from sqlalchemy import Connection, and_, delete, exists, func, insert, select, true, update

from actors.clock import now_milliseconds
from actors.errors import CommandError
from actors.notifications.clock_rules import IS_AHEAD, SETTLE
from actors.notifications.fan_out import trigger_of_post
from actors.notifications.history import HISTORY_OPERATIONS, HISTORY_QUERIES
from actors.notifications.messages import Posted
from actors.notifications.outbox import OUTBOX_OPERATIONS, OUTBOX_QUERIES, discard_waiting
from actors.notifications.rows import (
    as_device,
    as_notification,
    json_text,
    preferences_of,
    preferences_text,
    read_preferences,
    unread_count,
)
from actors.notifications.tables import clients, deliveries, devices, notifications
from actors.storage.messages import Operation, Outcome, Query, Trigger
from protocol.codec import encode, unstructure
from protocol.errors import ErrorCode
from protocol.notifications import (
    Counts,
    DeliveryState,
    Device,
    DeviceListed,
    DeviceRegister,
    DeviceRemoved,
    Notification,
    NotificationList,
    NotificationPage,
    NotificationPost,
    Preferences,
    ReadResult,
)

__all__ = [
    "ANNOUNCE",
    "COUNT",
    "KNOWN_CLIENTS",
    "LIST",
    "LIST_DEVICES",
    "OPERATIONS",
    "POST",
    "QUERIES",
    "READ",
    "READ_PREFERENCES",
    "REGISTER",
    "REMOVE",
    "SET_PREFERENCES",
    "Announcement",
    "ClientsAfter",
    "Listing",
    "Marking",
    "OfDevice",
    "Posting",
    "PreferencesSet",
    "Registering",
]

MAXIMUM_DEVICES = 32
"""Maximum number of registered devices per client."""
CLIENTS_AT_ONCE = 200
PAGE_BYTES = 768 * 1024
"""Maximum JSON size of a page of notifications, well below a frame."""
_S = DeliveryState


# --- lists --------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class Listing:
    """Arguments of `list_notifications`."""

    client_id: str
    data: NotificationList


def list_notifications(connection: Connection, command: Listing) -> NotificationPage:
    """List unread notifications first, then newest first. The cursor names the part (`u` or `r`) and the last number returned."""
    wanted = command.data
    part, after = _cursor(wanted.cursor, "data.cursor")
    mine = and_(notifications.c.client_id == command.client_id, notifications.c.is_digest.is_(False))
    found: list[Any] = []
    for name in ("u", "r"):
        if (part == "r" and name == "u") or (name == "r" and wanted.unread_only):
            continue
        of_part = notifications.c.read_ms.is_(None) if name == "u" else notifications.c.read_ms.is_not(None)
        before = notifications.c.number < after if name == part and after is not None else true()
        rows = connection.execute(
            select(notifications)
            .where(mine, of_part, before)
            .order_by(notifications.c.number.desc())
            .limit(wanted.limit + 1 - len(found))
        )
        found += [(name, row) for row in rows]
    page = _fitting([as_notification(row) for _, row in found[: wanted.limit]])
    last = found[len(page) - 1] if len(found) > len(page) else None
    return NotificationPage(
        notifications=page,
        unread=unread_count(connection, command.client_id),
        next=None if last is None else f"{last[0]}{last[1].number}",
    )


def _fitting(found: list[Notification]) -> list[Notification]:
    """Return as many as fit a page, but at least one."""
    size = 0
    for count, one in enumerate(found):
        size += len(encode(unstructure(one)))
        if size > PAGE_BYTES and count:
            return found[:count]
    return found


def _cursor(text: str | None, name: str) -> tuple[str, int | None]:
    if text is None:
        return "u", None
    if text[:1] not in ("u", "r") or not (text[1:].isascii() and text[1:].isdigit() and len(text) < 19):
        raise CommandError(ErrorCode.INVALID_FIELD, f"{name} is not a cursor of this list", field=name)
    return text[0], int(text[1:])


def count(connection: Connection, client_id: str) -> Counts:
    """Count unread notifications, for a badge."""
    mine = and_(notifications.c.client_id == client_id, notifications.c.is_digest.is_(False))
    unread = {
        row.priority: int(row.number)
        for row in connection.execute(
            select(notifications.c.priority, func.count().label("number"))
            .where(mine, notifications.c.read_ms.is_(None))
            .group_by(notifications.c.priority)
        )
    }
    total = connection.execute(select(func.count()).select_from(notifications).where(mine)).scalar_one()
    return Counts(unread=sum(unread.values()), total=int(total), unread_by_priority=unread)


# --- reading ------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class Marking:
    """Arguments of `read`."""

    client_id: str
    device_id: str
    notification_ids: tuple[str, ...] | None
    """None marks all."""
    is_opened: bool = False


def read(connection: Connection, command: Marking) -> Outcome[ReadResult]:
    """Mark notifications as read. If opened, the device's delivery is marked as opened too."""
    now_ms = now_milliseconds()
    which = notifications.c.client_id == command.client_id
    if command.notification_ids is not None:
        which = and_(which, notifications.c.notification_id.in_(command.notification_ids))
    changed = connection.execute(
        update(notifications).where(which, notifications.c.read_ms.is_(None)).values(read_ms=now_ms)
    ).rowcount
    if command.is_opened and command.notification_ids is not None:
        connection.execute(
            update(deliveries)
            .where(
                deliveries.c.client_id == command.client_id,
                deliveries.c.device_id.in_((command.device_id, "")),
                deliveries.c.notification_id.in_(command.notification_ids),
                deliveries.c.state.in_((_S.SENT.value, _S.DELIVERED.value)),
            )
            .values(
                state=_S.OPENED.value,
                opened_ms=now_ms,
                delivered_ms=func.coalesce(deliveries.c.delivered_ms, now_ms),
            )
        )
    return Outcome(value=ReadResult(changed=int(changed), unread=unread_count(connection, command.client_id)))


# --- preferences --------------------------------------------------------------------------------------


@frozen(kw_only=True)
class OfDevice:
    """A client, or one of its devices."""

    client_id: str
    device_id: str | None = None


@frozen(kw_only=True)
class PreferencesSet:
    """Arguments of `set_preferences`."""

    client_id: str
    device_id: str | None
    preferences: Preferences


def get_preferences(connection: Connection, command: OfDevice) -> Preferences:
    """Return the preferences of the client or of a device. Refused with `not_found` for an unknown device."""
    if command.device_id is None:
        return read_preferences(connection, command.client_id)
    row = connection.execute(
        select(devices.c.preferences).where(_device(command.client_id, command.device_id))
    ).one_or_none()
    if row is None:
        raise _no_device(command.device_id)
    return preferences_of(row.preferences)


def set_preferences(connection: Connection, command: PreferencesSet) -> Outcome[Preferences]:
    """Replace preferences; held deliveries are judged again at once by the new ones."""
    text = preferences_text(command.preferences)
    if command.device_id is not None:
        changed = connection.execute(
            update(devices).where(_device(command.client_id, command.device_id)).values(preferences=text)
        ).rowcount
        if not changed:
            raise _no_device(command.device_id)
    else:
        _know(connection, command.client_id)
        connection.execute(update(clients).where(clients.c.client_id == command.client_id).values(preferences=text))
    connection.execute(
        update(deliveries)
        .where(deliveries.c.client_id == command.client_id, deliveries.c.state == _S.HELD.value)
        .values(due_ms=now_milliseconds())
    )
    return Outcome(value=command.preferences)


def _know(connection: Connection, client_id: str) -> None:
    if not connection.execute(select(exists().where(clients.c.client_id == client_id))).scalar():
        connection.execute(insert(clients).values(client_id=client_id, last_number=0, preferences=None))


def _device(client_id: str, device_id: str) -> Any:
    return and_(devices.c.client_id == client_id, devices.c.device_id == device_id)


def _no_device(device_id: str) -> CommandError:
    return CommandError(ErrorCode.NOT_FOUND, f"no device {device_id} is registered", field="data.device_id")


# --- devices ------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class Registering:
    """Register or update a device."""

    client_id: str
    device_id: str
    data: DeviceRegister = field(repr=False)


def register(connection: Connection, command: Registering) -> Outcome[Device]:
    """Register or update the device. Its preferences and pending deliveries stay."""
    data, now_ms = command.data, now_milliseconds()
    _know(connection, command.client_id)
    mine = _device(command.client_id, command.device_id)
    before = connection.execute(select(devices).where(mine)).one_or_none()
    count_of_client = connection.execute(
        select(func.count()).select_from(devices).where(devices.c.client_id == command.client_id)
    ).scalar_one()
    if before is None and count_of_client >= MAXIMUM_DEVICES:
        raise CommandError(
            ErrorCode.CONFLICT, f"a client may have {MAXIMUM_DEVICES} devices; remove one first", field="data.device_id"
        )
    address, secret = _address(data)
    values = {
        "channel": data.platform.channel.value,
        "address": address,
        "secret": secret,
        "environment": (data.environment or "production") if data.token is not None else None,
        "topic": data.topic,
        "app_version": data.app_version,
        "device_model": data.device_model,
        "timezone": data.timezone,
        "locale": data.locale,
        "updated_ms": now_ms,
    }
    if before is None:
        connection.execute(
            insert(devices).values(
                client_id=command.client_id, device_id=command.device_id, created_ms=now_ms, **values
            )
        )
    else:
        if before.channel != values["channel"]:
            discard_waiting(connection, command.client_id, command.device_id, "the device became another platform")
            values["due_ms"] = None
        elif before.due_ms is not None and before.address != address:
            # What failed at the old address is tried at the new one at once.
            values["due_ms"] = now_ms
        connection.execute(update(devices).where(mine).values(**values))
    return Outcome(value=as_device(connection.execute(select(devices).where(mine)).one()))


def _address(data: DeviceRegister) -> tuple[str, str]:
    """Return the address of a device, with its keys or secret."""
    if data.subscription is not None:
        return data.subscription.endpoint, json_text(unstructure(data.subscription.keys))
    if data.token is not None:
        return data.token.lower(), ""
    assert data.url is not None
    assert data.secret is not None
    return data.url, data.secret


def list_devices(connection: Connection, client_id: str) -> DeviceListed:
    """Return the devices by name, without secrets."""
    rows = connection.execute(
        select(devices).where(devices.c.client_id == client_id).order_by(devices.c.device_id)
    ).all()
    return DeviceListed(devices=[as_device(row) for row in rows])


def remove(connection: Connection, command: OfDevice) -> Outcome[DeviceRemoved]:
    """Delete a device and discard its pending deliveries."""
    assert command.device_id is not None
    removed = connection.execute(delete(devices).where(_device(command.client_id, command.device_id))).rowcount
    if removed:
        discard_waiting(connection, command.client_id, command.device_id, "the device was removed")
    return Outcome(value=DeviceRemoved(removed=bool(removed)))


# --- posts and announcements --------------------------------------------------------------------------


@frozen(kw_only=True)
class Posting:
    """Arguments of `post`."""

    client_id: str
    notification_id: str
    data: NotificationPost = field(repr=False)


def post(_: Connection, command: Posting) -> Outcome[Posted]:
    """Trigger a notification, which the hook writes in this transaction."""
    return Outcome(
        value=Posted(notification_id=command.notification_id),
        triggers=(
            trigger_of_post(command.data.template, command.data.fields, command.data.priority, command.notification_id),
        ),
    )


@frozen(kw_only=True)
class Announcement:
    """Arguments of `announce`: a notification from the server itself."""

    announcement_id: str
    kind: str
    fields: dict[str, Any]


def announce(_: Connection, command: Announcement) -> Outcome[bool]:
    """Trigger the notification, which the hook writes in this transaction."""
    return Outcome(value=True, triggers=(Trigger(kind=command.kind, data={"fields": command.fields}),))


@frozen(kw_only=True)
class ClientsAfter:
    """Query for a page of known clients."""

    after: str = ""


def known_clients(connection: Connection, command: ClientsAfter) -> tuple[str, ...]:
    """Return clients that were ever notified, registered a device or set preferences, ordered by id."""
    return tuple(
        connection.execute(
            select(clients.c.client_id)
            .where(clients.c.client_id > command.after)
            .order_by(clients.c.client_id)
            .limit(CLIENTS_AT_ONCE)
        ).scalars()
    )


LIST: Query[Listing, NotificationPage] = Query("notifications.list", list_notifications)
COUNT: Query[str, Counts] = Query("notifications.count", count)
READ: Operation[Marking, ReadResult] = Operation("notifications.read", read, ReadResult)
READ_PREFERENCES: Query[OfDevice, Preferences] = Query("notifications.preferences", get_preferences)
SET_PREFERENCES: Operation[PreferencesSet, Preferences] = Operation(
    "notifications.set_preferences", set_preferences, Preferences, begins_client=True
)
REGISTER: Operation[Registering, Device] = Operation("notifications.register", register, Device, begins_client=True)
LIST_DEVICES: Query[str, DeviceListed] = Query("notifications.devices", list_devices)
REMOVE: Operation[OfDevice, DeviceRemoved] = Operation("notifications.remove", remove, DeviceRemoved)
POST: Operation[Posting, Posted] = Operation("notifications.post", post, Posted)
ANNOUNCE: Operation[Announcement, bool] = Operation("notifications.announce", announce, bool)
KNOWN_CLIENTS: Query[ClientsAfter, tuple[str, ...]] = Query("notifications.clients", known_clients)

OPERATIONS: tuple[Operation[Any, Any], ...] = (
    READ,
    SET_PREFERENCES,
    REGISTER,
    REMOVE,
    POST,
    ANNOUNCE,
    SETTLE,
    *OUTBOX_OPERATIONS,
    *HISTORY_OPERATIONS,
)
"""All operations of the service."""
QUERIES: tuple[Query[Any, Any], ...] = (
    LIST,
    COUNT,
    READ_PREFERENCES,
    LIST_DEVICES,
    KNOWN_CLIENTS,
    IS_AHEAD,
    *OUTBOX_QUERIES,
    *HISTORY_QUERIES,
)
"""All queries of the service."""
