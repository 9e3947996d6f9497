"""What the connections room takes and tells. Other rooms import this file and nothing else of the room."""

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
    """To the listener: a socket of another port, whose peer has asked for a WebSocket. Answered, it is the listener's.

    Until then it belongs to whoever asks, who closes it where the answer is an error.
    """

    stream: trio.SocketStream
    secured: trio.SSLStream[trio.abc.Stream] | None = None
    """TLS over the socket, whose handshake is over."""
    received: bytes = field(repr=False)
    """The head of the request, and what came behind it."""


@frozen(kw_only=True)
class AckNoted:
    """To the notifications room: a device has confirmed its client's events up to a number, and that is on disk."""

    client_id: str
    device_id: str
    seq: int
    after: int = 0
    """Where the connection began that says so: what came since, it has sent itself."""
    skipped: tuple[int, ...] = ()
    """Of that, what the device's subscription left out."""
    subscription: Subscribe = field(factory=Subscribe)
    """What the device wants: the best that is known of what it was sent before."""


@frozen(kw_only=True)
class DeviceBegan:
    """To the notifications room: a device stands at the head of its client's log, and was not sent what came before.

    Told where no other connection of the device is there and none was resumed.
    """

    client_id: str
    device_id: str
    seq: int


@frozen(kw_only=True)
class ChangeSubscription(Request[Subscribe]):
    """To the registry: what a device wants to be told, from now on; answers what is stored."""

    client_id: str
    device_id: str
    data: Subscribe
    key: IdempotencyKey | None = None


@frozen(kw_only=True)
class ReadSubscription(Request[Subscribe]):
    """To the registry: what a device wants to be told."""

    client_id: str
    device_id: str


@frozen(kw_only=True)
class Joined:
    """A connection is known to the registry."""

    state: Mapping[str, bytes] = field(repr=False)
    """First value of each state, encoded."""
    subscription: Subscribe
    is_alone: bool
    """No other connection of its device is there."""


@frozen(kw_only=True)
class Join(Request[Joined]):
    """A connection has said hello. Where its client has too many, the oldest of its device makes room.

    Refused with `CommandRefused` (`rate_limited`) where every one of them is the only one of its device.
    """

    client_id: str
    device_id: str
    connection: ActorRef[ConnectionNews]


@frozen
class ScheduleKeepalive:
    """From a connection: remind it in so many seconds to look whether its peer lives."""

    connection: str
    seconds: float


@frozen(kw_only=True)
class DeviceConnected:
    """One device of a client, and how many connections it has."""

    client_id: str
    device_id: str
    connections: int


@frozen
class ListDevices(Request[tuple[DeviceConnected, ...]]):
    """To the registry: who is connected, in the order of their names."""


@frozen
class CheckKeepalive:
    """To a connection: has anything come since the last look?"""


@frozen
class ClientEvents:
    """To a connection: committed events of its client, in order; some may come twice."""

    events: tuple[StoredEvent, ...]


@frozen
class ReadLog:
    """To a connection: something may have been missed."""


@frozen(kw_only=True)
class StateChanged:
    """To a connection: the whole newest value of a state, encoded once for all."""

    kind: str
    """`agent_status` or `devices`."""
    time: str
    data: bytes = field(repr=False)


@frozen
class SubscriptionChanged:
    """To a connection: what its device wants to be told has changed."""

    subscription: Subscribe


@frozen
class Displaced:
    """To a connection: a newer one of its client has taken its place."""


@frozen
class GoAway:
    """To a connection: tell the client when to come back."""

    retry_after_ms: int


ConnectionNews = CheckKeepalive | ClientEvents | ReadLog | StateChanged | SubscriptionChanged | Displaced | GoAway
"""All that the registry tells a connection."""
RegistryRequest = (
    Join | ScheduleKeepalive | PublishEvents | LogsAdvanced | ChangeSubscription | ReadSubscription | ListDevices
)
"""All that others tell the registry."""
