"""Notifications on the wire: one attrs class per object and per command."""

from __future__ import annotations

import enum
import re
from typing import Any
from zoneinfo import ZoneInfo

from attrs import Attribute, field, frozen

from protocol.command_type import CommandType
from protocol.events import Priority
from protocol.notification_templates import LOCALES, TEMPLATES, checked_fields
from protocol.validation import (
    FieldFault,
    between,
    client_name,
    control_problem,
    each,
    https_address,
    length,
    plain_text,
)

__all__ = [
    "NOTIFICATION_COMMANDS",
    "PUSH_CHANNELS",
    "Channel",
    "Counts",
    "Delivery",
    "DeliveryState",
    "Device",
    "DeviceList",
    "DeviceListed",
    "DeviceRegister",
    "DeviceRemove",
    "DeviceRemoved",
    "HistoryEntry",
    "HistoryPage",
    "Notification",
    "NotificationEvent",
    "NotificationList",
    "NotificationPage",
    "NotificationPost",
    "NotificationPreferences",
    "NotificationRead",
    "NotificationReadAll",
    "Platform",
    "Preferences",
    "QuietHours",
    "RateLimit",
    "ReadResult",
    "SubscriptionKeys",
    "WebPushSubscription",
]

_CLOCK = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")
_LOCALE = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8}){0,3}")
_BASE64URL = re.compile(r"[A-Za-z0-9_-]+={0,2}")
_HEXADECIMAL = re.compile(r"[0-9A-Fa-f]{64,200}")
_TOPIC = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,254}")


class Channel(enum.Enum):
    """A channel to a person."""

    IN_APP = "in_app"
    WEB_PUSH = "web_push"
    APNS = "apns"
    WEBHOOK = "webhook"


PUSH_CHANNELS = (Channel.WEB_PUSH, Channel.APNS, Channel.WEBHOOK)
"""The channels that go out to a registered device."""


class DeliveryState(enum.Enum):
    """State of a delivery."""

    PENDING = "pending"
    """To be sent at its turn."""
    HELD = "held"
    """Deferred because of quiet hours, a rate limit, or a device that may show it anyway."""
    SENT = "sent"
    """Accepted by the channel: it is in the client's log, or a push service accepted it."""
    DELIVERED = "delivered"
    """Acknowledged by a device."""
    OPENED = "opened"
    """Opened by a person on that device."""
    DIGESTED = "digested"
    """Included in a digest."""
    DISCARDED = "discarded"
    """Not to be sent, for the given reason."""
    DEAD = "dead"
    """Rejected permanently by the service; it can be sent again manually."""


class Platform(enum.Enum):
    """Platform of a registered device."""

    WEB = "web"
    IOS = "ios"
    WEBHOOK = "webhook"

    @property
    def channel(self) -> Channel:
        """The channel that reaches it."""
        return {Platform.WEB: Channel.WEB_PUSH, Platform.IOS: Channel.APNS, Platform.WEBHOOK: Channel.WEBHOOK}[self]


def _clock(_: object, attribute: Attribute[Any], value: str) -> None:
    if not _CLOCK.fullmatch(value):
        raise FieldFault(attribute.name, "must be a time of day such as 22:30")


def timezone_name(_: object, attribute: Attribute[Any], value: str | None) -> None:
    """Validator: a name of the IANA time zone database; None passes."""
    if value is None:
        return
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError):
        raise FieldFault(attribute.name, "must be an IANA time zone such as Europe/Berlin") from None


def _locale(_: object, attribute: Attribute[Any], value: str | None) -> None:
    if value is not None and not _LOCALE.fullmatch(value):
        raise FieldFault(attribute.name, f"must be a language tag such as {' or '.join(LOCALES)}")


def _known_kind(one: Any) -> str | None:
    return None if one in TEMPLATES else f"must be one of {', '.join(TEMPLATES)}"


@frozen(kw_only=True)
class QuietHours:
    """Hours of the day in which only `critical` notifications are delivered; the others are delivered afterwards."""

    start: str = field(validator=_clock)
    """Local time of day, as `22:00`."""
    end: str = field(validator=_clock)
    """Local time of day, exclusive; a time before `start` means the next morning."""
    timezone: str | None = field(default=None, validator=timezone_name)
    """IANA name; by default the device's, else UTC."""

    def __attrs_post_init__(self) -> None:
        if self.start == self.end:
            raise FieldFault("end", "must differ from start")


@frozen(kw_only=True)
class RateLimit:
    """Most notifications in a period; further ones are delivered later, as one digest."""

    count: int = field(validator=between(1, 10_000))
    seconds: int = field(validator=between(1, 86_400))


@frozen(kw_only=True)
class Preferences:
    """Notification preferences of a client or of one of its devices. A device can only narrow its client's."""

    event_types: list[str] | None = field(default=None, validator=[length(0, 64, "entries"), each(_known_kind)])
    """Only these kinds; all by default."""
    channels: list[Channel] | None = field(default=None, validator=length(0, 8, "entries"))
    """Only these channels; all by default."""
    min_priority: Priority = Priority.DEBUG
    """Only notifications of at least this priority."""
    quiet_hours: QuietHours | None = None
    rate_limit: RateLimit | None = None
    """Applies to each device and channel separately; `critical` is exempt."""
    ai_notifications: bool = True
    """True to report work of the assistant."""
    locale: str | None = field(default=None, validator=_locale)
    """Language of the texts; a device's own takes precedence."""


@frozen(kw_only=True)
class Notification:
    """A notification as clients see it."""

    notification_id: str
    """Stable: every channel and every repeated delivery carries the same id."""
    kind: str
    """Name of its template."""
    priority: Priority
    title: str
    body: str
    data: dict[str, Any]
    """Data for programs that open the object, such as `task_id`."""
    created_at: str
    """RFC 3339, UTC."""
    read_at: str | None = None


@frozen(kw_only=True)
class NotificationEvent:
    """Data of the event `notification` on a client's durable stream."""

    event_id: str
    """Identifies the event, even if it is delivered twice; a notification sent in two events keeps its own id."""
    channel: str
    priority: Priority
    notification: Notification


@frozen(kw_only=True)
class NotificationPage:
    """One page of a client's notifications, unread first, then newest first."""

    notifications: list[Notification]
    unread: int
    next: str | None = None
    """Cursor of the next page; absent at the end."""


@frozen(kw_only=True)
class Delivery:
    """Delivery of one notification over one channel to one device."""

    channel: Channel
    device_id: str
    """Empty for deliveries to all devices at once."""
    state: DeliveryState
    attempts: int
    reason: str | None = None
    """The reason for waiting or for not being sent."""
    due_at: str | None = None
    sent_at: str | None = None
    delivered_at: str | None = None
    opened_at: str | None = None
    digest_id: str | None = None
    """The digest that included it."""


@frozen(kw_only=True)
class HistoryEntry:
    """A notification with all its deliveries."""

    notification: Notification
    deliveries: list[Delivery]


@frozen(kw_only=True)
class HistoryPage:
    """One page of the history, newest first."""

    entries: list[HistoryEntry]
    next: str | None = None


@frozen(kw_only=True)
class Counts:
    """Counts for a badge."""

    unread: int
    total: int
    unread_by_priority: dict[str, int]


@frozen(kw_only=True)
class SubscriptionKeys:
    """Keys of a browser's push subscription, base64url."""

    p256dh: str = field(validator=length(80, 100, "characters"))
    auth: str = field(validator=length(20, 32, "characters"), repr=False)

    def __attrs_post_init__(self) -> None:
        for name in ("p256dh", "auth"):
            if not _BASE64URL.fullmatch(getattr(self, name)):
                raise FieldFault(name, "must be base64url")


@frozen(kw_only=True)
class WebPushSubscription:
    """The output of a browser's `PushSubscription.toJSON()`."""

    endpoint: str = field(validator=[length(1, 2048, "characters"), https_address])
    expirationTime: float | None = None  # noqa: N815  the browser's own name
    """Milliseconds; ignored, since the push service reports when it has ended."""
    keys: SubscriptionKeys


@frozen(kw_only=True)
class Device:
    """A registered device. Its secrets stay in the server."""

    device_id: str
    platform: Platform
    host: str
    """Destination of its pushes: the host of its endpoint, never the endpoint itself, which is a secret."""
    environment: str | None = None
    topic: str | None = None
    app_version: str | None = None
    device_model: str | None = None
    timezone: str | None = None
    locale: str | None = None
    created_at: str
    updated_at: str


@frozen(kw_only=True)
class DeviceListed:
    """The client's devices, by name."""

    devices: list[Device]


@frozen(kw_only=True)
class DeviceRemoved:
    """Result of removing a device."""

    removed: bool


@frozen(kw_only=True)
class ReadResult:
    """Number of notifications that became read, and of those still unread."""

    changed: int
    unread: int


# --- commands -----------------------------------------------------------------------------------------


@frozen(kw_only=True)
class NotificationList:
    """Lists notifications, unread first. One that is read between two pages may appear on both."""

    cursor: str | None = field(default=None, validator=length(1, 64, "characters"))
    limit: int = field(default=50, validator=between(1, 200))
    unread_only: bool = False


@frozen(kw_only=True)
class NotificationRead:
    """Marks notifications as read; unknown ids are not counted."""

    notification_ids: list[str] = field(validator=length(1, 200, "entries"))
    opened: bool = False
    """True if a person opened them on this device."""


@frozen(kw_only=True)
class NotificationReadAll:
    """Marks all notifications as read."""


@frozen(kw_only=True)
class NotificationPreferences:
    """Reads the preferences, or replaces them if they are given."""

    preferences: Preferences | None = None
    device_id: str | None = field(default=None, validator=client_name)
    """A registered device; by default the client's own preferences."""


@frozen(kw_only=True)
class DeviceRegister:
    """Registers a device, or updates its registration."""

    device_id: str | None = field(default=None, validator=client_name)
    """By default the device that sends this."""
    platform: Platform
    subscription: WebPushSubscription | None = None
    """For `web`."""
    token: str | None = field(default=None, repr=False, validator=length(1, 200, "characters"))
    """For `ios`: the device token, hexadecimal."""
    environment: str | None = None
    """For `ios`: `production` (default) or `sandbox`."""
    topic: str | None = None
    """For `ios`: the app's bundle id; by default the server's setting."""
    url: str | None = field(default=None, validator=[length(1, 2048, "characters"), https_address], repr=False)
    """For `webhook`."""
    secret: str | None = field(default=None, validator=length(16, 200, "characters"), repr=False)
    """For `webhook`: signs each request."""
    app_version: str | None = field(default=None, validator=[length(0, 64, "characters"), plain_text])
    device_model: str | None = field(default=None, validator=[length(0, 128, "characters"), plain_text])
    timezone: str | None = field(default=None, validator=timezone_name)
    locale: str | None = field(default=None, validator=_locale)

    def __attrs_post_init__(self) -> None:
        needs = {
            Platform.WEB: ("subscription",),
            Platform.IOS: ("token",),
            Platform.WEBHOOK: ("url", "secret"),
        }[self.platform]
        for name in ("subscription", "token", "url", "secret"):
            if (getattr(self, name) is not None) != (name in needs):
                verb = "is missing" if name in needs else "is not a field"
                raise FieldFault(name, f"{verb} for the platform {self.platform.value}")
        if self.platform is not Platform.IOS and (self.environment is not None or self.topic is not None):
            name = "environment" if self.environment is not None else "topic"
            raise FieldFault(name, f"is not a field for the platform {self.platform.value}")
        if self.token is not None and not _HEXADECIMAL.fullmatch(self.token):
            raise FieldFault("token", "must have 64 to 200 hexadecimal digits")
        if self.environment not in (None, "production", "sandbox"):
            raise FieldFault("environment", "must be production or sandbox")
        if self.topic is not None and not _TOPIC.fullmatch(self.topic):
            raise FieldFault("topic", "must be an app's bundle id")


@frozen(kw_only=True)
class DeviceList:
    """Lists the client's devices."""


@frozen(kw_only=True)
class DeviceRemove:
    """Removes a device and discards its pending deliveries."""

    device_id: str = field(validator=client_name)


@frozen(kw_only=True)
class NotificationPost:
    """Posts an event of the client (REST only)."""

    template: str
    """One of the templates that may be posted."""
    fields: dict[str, Any] = field(factory=dict)
    priority: Priority | None = None
    """By default the template's."""

    def __attrs_post_init__(self) -> None:
        allowed = [name for name, one in TEMPLATES.items() if one.may_be_posted]
        if self.template not in allowed:
            raise FieldFault("template", f"must be one of {', '.join(allowed)}, not {self.template[:40]!r}")
        for name, value in checked_fields(self.template, self.fields).items():
            problem = control_problem(value) if isinstance(value, str) else None
            if problem is not None:
                raise FieldFault(f"fields.{name}", problem)


NOTIFICATION_COMMANDS: dict[str, CommandType] = {
    "notification_list": CommandType(NotificationList, result=NotificationPage),
    "notification_read": CommandType(NotificationRead, writes=True, result=ReadResult),
    "notification_read_all": CommandType(NotificationReadAll, writes=True, result=ReadResult),
    "notification_preferences": CommandType(NotificationPreferences, writes=True, result=Preferences),
    "device_register": CommandType(DeviceRegister, writes=True, result=Device),
    "device_list": CommandType(DeviceList, result=DeviceListed),
    "device_remove": CommandType(DeviceRemove, writes=True, result=DeviceRemoved),
}
"""Commands about notifications by their wire names."""
