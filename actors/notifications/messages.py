"""What the notifications room takes and tells. Other rooms import this file and nothing else of the room."""

from __future__ import annotations

from attrs import field, frozen

from actors.connections.messages import AckNoted, DeviceBegan
from actors.storage.messages import IdempotencyKey, TriggersCommitted
from protocol.notifications import (
    Counts,
    DeliveryState,
    Device,
    DeviceList,
    DeviceListed,
    DeviceRegister,
    DeviceRemove,
    DeviceRemoved,
    HistoryPage,
    Notification,
    NotificationList,
    NotificationPage,
    NotificationPost,
    NotificationPreferences,
    NotificationRead,
    NotificationReadAll,
    Preferences,
    ReadResult,
)
from runtime import Request

__all__ = [
    "NOTIFICATION_REQUESTS",
    "AckNoted",
    "CountNotifications",
    "DeadLetter",
    "DeadLetterPage",
    "DescribePush",
    "DeviceBegan",
    "DispatcherRequest",
    "ListDeadLetters",
    "ListDevices",
    "ListNotifications",
    "MarkDelivery",
    "Marked",
    "NotificationRequest",
    "PostNotification",
    "Posted",
    "PushKey",
    "ReadAllNotifications",
    "ReadHistory",
    "ReadNotifications",
    "ReadStatistics",
    "RegisterDevice",
    "RemoveDevice",
    "Resend",
    "Resent",
    "Statistics",
    "TriggersCommitted",
    "UsePreferences",
]


# --- commands, as the connections and REST have them ---------------------------------------------------


@frozen(kw_only=True)
class ListNotifications(Request[NotificationPage]):
    """A page of notifications. Refused with `CommandRefused` for a wrong cursor."""

    client_id: str
    device_id: str
    data: NotificationList
    key: IdempotencyKey | None = None


@frozen(kw_only=True)
class ReadNotifications(Request[ReadResult]):
    """Mark some as read."""

    client_id: str
    device_id: str
    data: NotificationRead
    key: IdempotencyKey | None = None


@frozen(kw_only=True)
class ReadAllNotifications(Request[ReadResult]):
    """Mark all as read."""

    client_id: str
    device_id: str
    data: NotificationReadAll
    key: IdempotencyKey | None = None


@frozen(kw_only=True)
class UsePreferences(Request[Preferences]):
    """Read or replace preferences. Refused with `CommandRefused` for a device that is not registered."""

    client_id: str
    device_id: str
    data: NotificationPreferences
    key: IdempotencyKey | None = None


@frozen(kw_only=True)
class RegisterDevice(Request[Device]):
    """Register or update a device. Refused with `CommandRefused` when there are too many."""

    client_id: str
    device_id: str
    data: DeviceRegister = field(repr=False)
    key: IdempotencyKey | None = None


@frozen(kw_only=True)
class ListDevices(Request[DeviceListed]):
    """The registered devices."""

    client_id: str
    device_id: str
    data: DeviceList
    key: IdempotencyKey | None = None


@frozen(kw_only=True)
class RemoveDevice(Request[DeviceRemoved]):
    """Forget a device."""

    client_id: str
    device_id: str
    data: DeviceRemove
    key: IdempotencyKey | None = None


NOTIFICATION_REQUESTS: dict[type, type] = {
    NotificationList: ListNotifications,
    NotificationRead: ReadNotifications,
    NotificationReadAll: ReadAllNotifications,
    NotificationPreferences: UsePreferences,
    DeviceRegister: RegisterDevice,
    DeviceList: ListDevices,
    DeviceRemove: RemoveDevice,
}
"""Wire class → the request that carries it."""


# --- REST alone ---------------------------------------------------------------------------------------


@frozen(kw_only=True)
class Posted:
    """A posted event was written."""

    notification_id: str


@frozen(kw_only=True)
class PostNotification(Request[Posted]):
    """Tell a client's devices of an event."""

    client_id: str
    data: NotificationPost = field(repr=False)
    key: IdempotencyKey | None = None


@frozen(kw_only=True)
class CountNotifications(Request[Counts]):
    """What a badge shows."""

    client_id: str


@frozen(kw_only=True)
class ReadHistory(Request[HistoryPage]):
    """Notifications with their deliveries, newest first. Refused with `CommandRefused` for a wrong cursor."""

    client_id: str
    cursor: str | None = None
    limit: int = 50


@frozen(kw_only=True)
class Statistics:
    """What became of a client's deliveries within the time that is kept, counted and measured from their rows."""

    by_channel: dict[str, dict[str, int]]
    """Channel → state → how many; for in-app, of the client's log."""
    sent: int
    """Accepted by their channel, whatever came after."""
    delivered: int
    opened: int
    failed: int
    """Refused, or given up; not those that nobody wanted."""
    latency_ms: dict[str, dict[str, float]]
    """Channel → `p50`, `p95`, `p99` of the time from the cause to the channel's acceptance, milliseconds."""
    delivery_ms: dict[str, dict[str, float]]
    """The same to a device's own word that it has it."""


@frozen(kw_only=True)
class ReadStatistics(Request[Statistics]):
    """The figures of one client."""

    client_id: str


@frozen(kw_only=True)
class DeadLetter:
    """A delivery that failed for good."""

    notification: Notification
    channel: str
    device_id: str
    state: DeliveryState
    reason: str
    attempts: int


@frozen(kw_only=True)
class DeadLetterPage:
    """A part of them, newest first."""

    dead_letters: list[DeadLetter]
    next: str | None = None


@frozen(kw_only=True)
class ListDeadLetters(Request[DeadLetterPage]):
    """What was refused or given up."""

    client_id: str
    cursor: str | None = None
    limit: int = 50


@frozen(kw_only=True)
class Resent:
    """How many deliveries wait again."""

    resent: int


@frozen(kw_only=True)
class Resend(Request[Resent]):
    """Send a notification's failed deliveries again, to devices that are still registered."""

    client_id: str
    notification_id: str


@frozen(kw_only=True)
class Marked:
    """Whether that was news."""

    changed: bool


@frozen(kw_only=True)
class MarkDelivery(Request[Marked]):
    """A device says that it shows a notification, or that a person opened it."""

    client_id: str
    notification_id: str
    device_id: str
    state: DeliveryState
    """`delivered` or `opened`."""


@frozen(kw_only=True)
class PushKey:
    """What a browser needs to subscribe."""

    public_key: str
    """VAPID public key, base64url of the uncompressed point."""


@frozen
class DescribePush(Request[PushKey]):
    """The server's key for Web Push, made at first need."""


NotificationRequest = (
    ListNotifications
    | ReadNotifications
    | ReadAllNotifications
    | UsePreferences
    | RegisterDevice
    | ListDevices
    | RemoveDevice
    | PostNotification
    | CountNotifications
    | ReadHistory
    | ReadStatistics
    | ListDeadLetters
    | Resend
    | MarkDelivery
    | DescribePush
)
"""Whatever the planner answers."""
DispatcherRequest = NotificationRequest | TriggersCommitted | AckNoted | DeviceBegan
"""All that others tell the dispatcher."""
