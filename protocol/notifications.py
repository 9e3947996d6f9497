"""What crosses the wire about notifications: one attrs class per thing and per command."""

from __future__ import annotations

import enum
import re
from typing import Any
from zoneinfo import ZoneInfo

from attrs import Attribute, field, frozen

from protocol.addresses import https_address
from protocol.command_type import CommandType
from protocol.events import Priority
from protocol.notification_templates import LOCALES, TEMPLATES, checked_fields
from protocol.validation import FieldFault, between, client_name, control_problem, each, length, plain_text

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
    """A way to reach a person."""

    IN_APP = "in_app"
    WEB_PUSH = "web_push"
    APNS = "apns"
    WEBHOOK = "webhook"


PUSH_CHANNELS = (Channel.WEB_PUSH, Channel.APNS, Channel.WEBHOOK)
"""Those that go out to a registered device."""


class DeliveryState(enum.Enum):
    """Where one delivery stands."""

    PENDING = "pending"
    """It will be sent as soon as its turn comes."""
    HELD = "held"
    """It waits for an hour: quiet hours, a rate limit, or a device that may show it anyway."""
    SENT = "sent"
    """The channel took it: it is in the client's log, or a push service accepted it."""
    DELIVERED = "delivered"
    """A device said that it has it."""
    OPENED = "opened"
    """A person opened it there."""
    DIGESTED = "digested"
    """It was told as one of several in a digest."""
    DISCARDED = "discarded"
    """It will not be sent; the reason says why."""
    DEAD = "dead"
    """The service refused it for good; it can be sent again by hand."""


class Platform(enum.Enum):
    """What a registered device is."""

    WEB = "web"
    IOS = "ios"
    WEBHOOK = "webhook"

    @property
    def channel(self) -> Channel:
        """The channel that reaches it."""
        return {Platform.WEB: Channel.WEB_PUSH, Platform.IOS: Channel.APNS, Platform.WEBHOOK: Channel.WEBHOOK}[self]


def _clock(_: object, attribute: Attribute[Any], value: str) -> None:
    if not _CLOCK.fullmatch(value):
        raise FieldFault(attribute.name, "must be a time of day as 22:30")


def timezone_name(_: object, attribute: Attribute[Any], value: str | None) -> None:
    """A name of the IANA time zone database; None passes."""
    if value is None:
        return
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError):
        raise FieldFault(attribute.name, "must be an IANA time zone as Europe/Berlin") from None


def _locale(_: object, attribute: Attribute[Any], value: str | None) -> None:
    if value is not None and not _LOCALE.fullmatch(value):
        raise FieldFault(attribute.name, f"must be a language tag as {' or '.join(LOCALES)}")


def _known_kind(one: Any) -> str | None:
    return None if one in TEMPLATES else f"must be one of {', '.join(TEMPLATES)}"


@frozen(kw_only=True)
class QuietHours:
    """Hours of the day in which nothing but `critical` is told; what waits is told afterwards."""

    start: str = field(validator=_clock)
    """Local time of day, as `22:00`."""
    end: str = field(validator=_clock)
    """Local time of day, not included; before `start` it means the next morning."""
    timezone: str | None = field(default=None, validator=timezone_name)
    """IANA name; by default the device's, else UTC."""

    def __attrs_post_init__(self) -> None:
        if self.start == self.end:
            raise FieldFault("end", "must differ from start")


@frozen(kw_only=True)
class RateLimit:
    """Most notifications in a span of time; what is more comes later, as one digest."""

    count: int = field(validator=between(1, 10_000))
    seconds: int = field(validator=between(1, 86_400))


@frozen(kw_only=True)
class Preferences:
    """What a client, or one of its devices, wants to be told. A device can only narrow what its client wants."""

    event_types: list[str] | None = field(default=None, validator=[length(0, 64, "entries"), each(_known_kind)])
    """Only these kinds; all by default."""
    channels: list[Channel] | None = field(default=None, validator=length(0, 8, "entries"))
    """Only these ways; all by default."""
    min_priority: Priority = Priority.DEBUG
    """Only what matters at least this much."""
    quiet_hours: QuietHours | None = None
    rate_limit: RateLimit | None = None
    """For each device and way by itself; `critical` is not limited."""
    ai_notifications: bool = True
    """Whether to tell what the assistant did."""
    locale: str | None = field(default=None, validator=_locale)
    """Language of texts; a device's own wins."""


@frozen(kw_only=True)
class Notification:
    """One notification as a client sees it."""

    notification_id: str
    """Stable: every channel and every repeat of a delivery carries the same."""
    kind: str
    """Name of its template."""
    priority: Priority
    title: str
    body: str
    data: dict[str, Any]
    """What a program needs to open the thing, as `task_id`."""
    created_at: str
    """RFC 3339, UTC."""
    read_at: str | None = None


@frozen(kw_only=True)
class NotificationEvent:
    """Data of the event `notification` on a client's durable stream."""

    event_id: str
    """The same however often this event is told; a notification that comes in two events keeps its own id."""
    channel: str
    priority: Priority
    notification: Notification


@frozen(kw_only=True)
class NotificationPage:
    """A part of a client's notifications, unread first, then newest first."""

    notifications: list[Notification]
    unread: int
    next: str | None = None
    """Cursor of the next page; absent at the end."""


@frozen(kw_only=True)
class Delivery:
    """How one notification fared on one way to one device."""

    channel: Channel
    device_id: str
    """Empty for what is told to all devices at once."""
    state: DeliveryState
    attempts: int
    reason: str | None = None
    """Why it waits, or why it was not sent."""
    due_at: str | None = None
    sent_at: str | None = None
    delivered_at: str | None = None
    opened_at: str | None = None
    digest_id: str | None = None
    """The digest that told it."""


@frozen(kw_only=True)
class HistoryEntry:
    """A notification with all its deliveries."""

    notification: Notification
    deliveries: list[Delivery]


@frozen(kw_only=True)
class HistoryPage:
    """A part of the history, newest first."""

    entries: list[HistoryEntry]
    next: str | None = None


@frozen(kw_only=True)
class Counts:
    """What a badge shows."""

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
    """What a browser's `PushSubscription.toJSON()` gives."""

    endpoint: str = field(validator=[length(1, 2048, "characters"), https_address])
    expirationTime: float | None = None  # noqa: N815  the browser's own name
    """Milliseconds; kept by nobody, the service says when it ended."""
    keys: SubscriptionKeys


@frozen(kw_only=True)
class Device:
    """A registered device. Secrets stay in the server."""

    device_id: str
    platform: Platform
    host: str
    """Where pushes to it go: the host of its endpoint, never the endpoint itself, which is a secret."""
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
    """A client's devices, by name."""

    devices: list[Device]


@frozen(kw_only=True)
class DeviceRemoved:
    """Whether there was such a device."""

    removed: bool


@frozen(kw_only=True)
class ReadResult:
    """How many became read, and how many remain."""

    changed: int
    unread: int


# --- commands -----------------------------------------------------------------------------------------


@frozen(kw_only=True)
class NotificationList:
    """List notifications, unread first. What is read between two pages may come a second time."""

    cursor: str | None = field(default=None, validator=length(1, 64, "characters"))
    limit: int = field(default=50, validator=between(1, 200))
    unread_only: bool = False


@frozen(kw_only=True)
class NotificationRead:
    """Mark notifications as read; those that are not there are left out of the count."""

    notification_ids: list[str] = field(validator=length(1, 200, "entries"))
    opened: bool = False
    """A person opened them, on this device."""


@frozen(kw_only=True)
class NotificationReadAll:
    """Mark everything as read."""


@frozen(kw_only=True)
class NotificationPreferences:
    """Read the preferences, or replace them when they are given."""

    preferences: Preferences | None = None
    device_id: str | None = field(default=None, validator=client_name)
    """Those of a registered device; by default the client's."""


@frozen(kw_only=True)
class DeviceRegister:
    """Register a device, or update what is known of it."""

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
    """For `webhook`: signs what is sent."""
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
    """List the client's devices."""


@frozen(kw_only=True)
class DeviceRemove:
    """Forget a device; what waits for it is discarded."""

    device_id: str = field(validator=client_name)


@frozen(kw_only=True)
class NotificationPost:
    """An event that a client tells of (REST only)."""

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
