"""Messages of the connections service. Other services import this module and nothing else of it."""

from __future__ import annotations

from collections.abc import Mapping

import trio
from attrs import field, frozen

from actors.storage.messages import IdempotencyKey, LogsAdvanced, PublishEvents, StoredEvent
from protocol.commands import Subscribe
from runtime import ActorRef, Request

__all__ = [
    "AckNoted",
    "ChangeSubscription",
    "CheckKeepalive",
    "ClientEvents",
    "DeviceBegan",
    "DeviceConnected",
    "Displaced",
    "GoAway",
    "Join",
    "Joined",
    "ListDevices",
    "ReadLog",
    "ReadSubscription",
    "ScheduleKeepalive",
    "StateChanged",
    "SubscriptionChanged",
    "TakeSocket",
]


@frozen(kw_only=True)
class TakeSocket(Request[None]):
    """To the listener: take over a socket of another port whose peer asked for a WebSocket.

    It belongs to the listener once answered; until then to the caller, who closes it if the answer is an error.
    """

    stream: trio.SocketStream
    secured: trio.SSLStream[trio.abc.Stream] | None = None
    """TLS over the socket, with the handshake complete."""
    received: bytes = field(repr=False)
    """The head of the request, and any bytes after it."""


@frozen(kw_only=True)
class AckNoted:
    """To the notifications service: a device has acknowledged its client's events up to ``seq``; that is on disk."""

    client_id: str
    device_id: str
    seq: int
    after: int = 0
    """Where the reporting connection began; it has sent everything since itself."""
    skipped: tuple[int, ...] = ()
    """Events since ``after`` that the device's subscription filtered out."""
    subscription: Subscribe = field(factory=Subscribe)
    """The device's current subscription: the best guess at what it was sent earlier."""


@frozen(kw_only=True)
class DeviceBegan:
    """To the notifications service: a device began at the head of its client's log and was not sent what came before.

    Sent if the device has no other connection and did not resume.
    """

    client_id: str
    device_id: str
    seq: int


@frozen(kw_only=True)
class ChangeSubscription(Request[Subscribe]):
    """To the registry: change the subscription of a device. Answers the stored subscription."""

    client_id: str
    device_id: str
    data: Subscribe
    key: IdempotencyKey | None = None


@frozen(kw_only=True)
class ReadSubscription(Request[Subscribe]):
    """To the registry: read the subscription of a device."""

    client_id: str
    device_id: str


@frozen(kw_only=True)
class Joined:
    """A connection is registered."""

    state: Mapping[str, bytes] = field(repr=False)
    """Current value of each state, encoded."""
    subscription: Subscribe
    is_alone: bool
    """The device has no other connection."""


@frozen(kw_only=True)
class Join(Request[Joined]):
    """Register a connection that has sent `hello`. If its client has too many, the oldest of the device is displaced.

    Rejected with `CommandError` (`rate_limited`) if each of them is the only connection of its device.
    """

    client_id: str
    device_id: str
    connection: ActorRef[ConnectionNews]


@frozen
class ScheduleKeepalive:
    """From a connection: schedule its next keepalive check."""

    connection: str
    seconds: float


@frozen(kw_only=True)
class DeviceConnected:
    """A connected device and its number of connections."""

    client_id: str
    device_id: str
    connections: int


@frozen
class ListDevices(Request[tuple[DeviceConnected, ...]]):
    """To the registry: list the connected devices, ordered by client and device."""


@frozen
class CheckKeepalive:
    """To a connection: check that the peer is alive."""


@frozen
class ClientEvents:
    """To a connection: committed events of its client, in order. Some may be repeated."""

    events: tuple[StoredEvent, ...]


@frozen
class ReadLog:
    """To a connection: read the log, because events may have been missed."""


@frozen(kw_only=True)
class StateChanged:
    """To a connection: the newest value of a state, encoded once for all."""

    kind: str
    """`agent_status` or `devices`."""
    time: str
    data: bytes = field(repr=False)


@frozen
class SubscriptionChanged:
    """To a connection: the subscription of its device has changed."""

    subscription: Subscribe


@frozen
class Displaced:
    """To a connection: a newer connection of its client displaces it."""


@frozen
class GoAway:
    """To a connection: tell the client when to reconnect."""

    retry_after_ms: int


ConnectionNews = CheckKeepalive | ClientEvents | ReadLog | StateChanged | SubscriptionChanged | Displaced | GoAway
"""Messages from the registry to a connection."""
RegistryRequest = (
    Join | ScheduleKeepalive | PublishEvents | LogsAdvanced | ChangeSubscription | ReadSubscription | ListDevices
)
"""Messages to the registry."""
