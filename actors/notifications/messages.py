"""Messages of the notifications service. Other services import this module and nothing else from it."""

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
    """Read a page of notifications. Refused with `CommandError` for an invalid cursor."""

    client_id: str
    device_id: str
    data: NotificationList
    key: IdempotencyKey | None = None


@frozen(kw_only=True)
class ReadNotifications(Request[ReadResult]):
    """Mark notifications as read."""

    client_id: str
    device_id: str
    data: NotificationRead
    key: IdempotencyKey | None = None


@frozen(kw_only=True)
class ReadAllNotifications(Request[ReadResult]):
    """Mark all notifications as read."""

    client_id: str
    device_id: str
    data: NotificationReadAll
    key: IdempotencyKey | None = None


@frozen(kw_only=True)
class UsePreferences(Request[Preferences]):
    """Read or replace preferences. Refused with `CommandError` for a device that is not registered."""

    client_id: str
    device_id: str
    data: NotificationPreferences
    key: IdempotencyKey | None = None


@frozen(kw_only=True)
class RegisterDevice(Request[Device]):
    """Register or update a device. Refused with `CommandError` when there are too many."""

    client_id: str
    device_id: str
    data: DeviceRegister = field(repr=False)
    key: IdempotencyKey | None = None


@frozen(kw_only=True)
class ListDevices(Request[DeviceListed]):
    """List the registered devices."""

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
"""Maps each wire class to its request."""


# --- REST alone ---------------------------------------------------------------------------------------


@frozen(kw_only=True)
class Posted:
    """Reply to a posted event."""

    notification_id: str


@frozen(kw_only=True)
class PostNotification(Request[Posted]):
    """Notify a client's devices of an event."""

    client_id: str
    data: NotificationPost = field(repr=False)
    key: IdempotencyKey | None = None


@frozen(kw_only=True)
class CountNotifications(Request[Counts]):
    """Count unread notifications, for a badge."""

    client_id: str


@frozen(kw_only=True)
class ReadHistory(Request[HistoryPage]):
    """Read notifications with their deliveries, newest first. Refused with `CommandError` for an invalid cursor."""

    client_id: str
    cursor: str | None = None
    limit: int = 50


@frozen(kw_only=True)
class Statistics:
    """Statistics of a client's stored deliveries, computed from their rows."""

    by_channel: dict[str, dict[str, int]]
    """Channel → state → count; in-app counts the client's log."""
    sent: int
    """Accepted by their channel, whatever happened later."""
    delivered: int
    opened: int
    failed: int
    """Refused or given up, without those that preferences discarded."""
    latency_ms: dict[str, dict[str, float]]
    """Channel → `p50`, `p95`, `p99` of the time from the cause to the channel's acceptance, milliseconds."""
    delivery_ms: dict[str, dict[str, float]]
    """The same, up to the device's receipt."""


@frozen(kw_only=True)
class ReadStatistics(Request[Statistics]):
    """Read the statistics of one client."""

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
    """A page of dead letters, newest first."""

    dead_letters: list[DeadLetter]
    next: str | None = None


@frozen(kw_only=True)
class ListDeadLetters(Request[DeadLetterPage]):
    """List deliveries that were refused or given up."""

    client_id: str
    cursor: str | None = None
    limit: int = 50


@frozen(kw_only=True)
class Resent:
    """Number of deliveries that were requeued."""

    resent: int


@frozen(kw_only=True)
class Resend(Request[Resent]):
    """Send a notification's failed deliveries again, to devices that are still registered."""

    client_id: str
    notification_id: str


@frozen(kw_only=True)
class Marked:
    """True if the state changed."""

    changed: bool


@frozen(kw_only=True)
class MarkDelivery(Request[Marked]):
    """Record a device's receipt: it shows a notification, or a person opened it."""

    client_id: str
    notification_id: str
    device_id: str
    state: DeliveryState
    """`delivered` or `opened`."""


@frozen(kw_only=True)
class PushKey:
    """Key that a browser needs to subscribe."""

    public_key: str
    """VAPID public key, base64url of the uncompressed point."""


@frozen
class DescribePush(Request[PushKey]):
    """Read the server's Web Push key, generated on first use."""


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
"""Requests that the dispatcher answers."""
DispatcherRequest = NotificationRequest | TriggersCommitted | AckNoted | DeviceBegan
"""Messages that other services may send to the dispatcher."""
