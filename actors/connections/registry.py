"""The registry of connections: presence, publishing of events and states, and one timing wheel for all keepalives."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from typing import Any

import structlog
import trio
from attrs import frozen

from actors.connections.keepalive import TimingWheel
from actors.connections.messages import (
    ChangeSubscription,
    CheckKeepalive,
    ClientEvents,
    ConnectionNews,
    DeviceConnected,
    Displaced,
    GoAway,
    Join,
    Joined,
    ListDevices,
    ReadLog,
    ReadSubscription,
    RegistryRequest,
    ScheduleKeepalive,
    StateChanged,
    SubscriptionChanged,
)
from actors.connections.store import READ_SUBSCRIPTION, STORE_SUBSCRIPTION, Device, StoreSubscription
from actors.errors import CommandError
from actors.inference.messages import DescribeEngine, EngineHealth
from actors.storage.messages import LogsAdvanced, PublishEvents, Storage, StoredEvent
from protocol.codec import encode, wire_time
from protocol.commands import Subscribe
from protocol.errors import ErrorCode
from runtime import Actor, ActorRef, Down, RuntimeFault, SendFault, reject

__all__ = ["ConnectionRegistry", "agent_status"]

_log = structlog.get_logger("registry")

STATUS_SECONDS = 0.25
"""Interval of the engine's status checks while anybody is connected; only changes are published."""
STATUS_ASK_SECONDS = 2.0
GOING_BATCH = 64
GOING_SECONDS = 2.0
RETRY_MS = (500, 1500)
"""Range over which clients spread their reconnects."""


@frozen
class Tick:
    """Tick of the timing wheel."""


@frozen
class _Member:
    client_id: str
    device_id: str
    connection: ActorRef[ConnectionNews]


def agent_status(health: EngineHealth | None) -> dict[str, Any]:
    """Return the data of `agent_status`; None means the inference service is restarting."""
    if health is None:
        return {"state": "restarting", "queue_depth": 0, "running": 0}
    status: dict[str, Any] = {
        "state": health.state,
        "model": health.model,
        "queue_depth": health.queue_depth,
        "running": health.running,
    }
    if health.running and health.tokens_per_second is not None:
        status["tokens_per_second"] = round(health.tokens_per_second, 1)
    return status


class ConnectionRegistry(Actor[RegistryRequest | Tick]):
    """Holds references and counts but no streams; after a restart every connection joins again."""

    mailbox = reject(8192)

    def __init__(self, storage: Storage, inference: ActorRef[DescribeEngine], *, connections_per_client: int) -> None:
        self._storage = storage
        self._inference = inference
        self._connections_per_client = connections_per_client
        self._members: dict[str, _Member] = {}
        self._clients: dict[str, dict[str, _Member]] = defaultdict(dict)
        self._wheel = TimingWheel()
        self._status = encode(agent_status(None))
        self._has_members = trio.Event()
        self._missed: set[str] = set()

    async def started(self) -> None:
        """Start the timing wheel and the engine's status checks."""
        self.context.every(self._wheel.tick_seconds, Tick())
        self.context.spawn(self._watch_engine)

    async def handle(
        self,
        message: Join
        | ScheduleKeepalive
        | Tick
        | PublishEvents
        | LogsAdvanced
        | ChangeSubscription
        | ReadSubscription
        | ListDevices,
    ) -> object:
        match message:
            case PublishEvents(events):
                self._publish(events)
            case LogsAdvanced(client_id):
                members = self._members if client_id is None else self._clients.get(client_id, {})
                for member in members.values():
                    self._notify(member, ReadLog())
            case ScheduleKeepalive(connection, seconds):
                if connection in self._members:
                    self._wheel.put(connection, seconds)
            case Tick():
                self._tick()
            case ListDevices():
                return self._list_devices()
            case Join():
                self.context.answer_later(self._join, message)
            case ChangeSubscription():
                self.context.answer_later(self._change_subscription, message)
            case ReadSubscription():
                self.context.answer_later(self._read_subscription, message.client_id, message.device_id)
        return None

    async def down(self, down: Down) -> None:
        """Remove a connection that ended."""
        member = self._members.pop(down.path, None)
        self._wheel.remove(down.path)
        self._missed.discard(down.path)
        if member is None:
            return
        others = self._clients[member.client_id]
        del others[down.path]
        if not others:
            del self._clients[member.client_id]
        self._notify_devices(member.client_id)

    async def draining(self) -> None:
        """Tell all clients that the server is going away, in random batches over at most two seconds."""
        members = list(self._members.values())
        random.shuffle(members)
        batches = [members[at : at + GOING_BATCH] for at in range(0, len(members), GOING_BATCH)]
        for number, batch in enumerate(batches):
            if number:
                await trio.sleep(random.random() * GOING_SECONDS / len(batches))  # noqa: S311  no secret
            for member in batch:
                self._notify(member, GoAway(random.randint(*RETRY_MS)))  # noqa: S311  no secret

    def snapshot(self) -> dict[str, object]:
        """Current counts."""
        return {"connections": len(self._members), "clients": len(self._clients), "watched": len(self._wheel)}

    # --- presence ----------------------------------------------------------------------------------

    async def _join(self, request: Join) -> Joined:
        """Register a connection. Events are published to it from here on, also while its subscription is read."""
        member = _Member(request.client_id, request.device_id, request.connection)
        path = request.connection.path
        others = self._clients[request.client_id]
        if (
            path not in others
            and len(others) >= self._connections_per_client
            and not self._displace_one(request, others)
        ):
            raise CommandError(
                ErrorCode.RATE_LIMITED,
                f"more than {self._connections_per_client} connections of one client id",
                retry_after_ms=1000,
            )
        is_alone = all(one.device_id != request.device_id for one in others.values())
        others[path] = self._members[path] = member
        self.context.monitor(request.connection)
        self._has_members.set()
        subscription = await self._read_subscription(request.client_id, request.device_id)
        self._notify_devices(request.client_id, but=path)
        return Joined(
            state={"agent_status": self._status, "devices": self._devices(request.client_id)},
            subscription=subscription,
            is_alone=is_alone,
        )

    def _displace_one(self, request: Join, others: dict[str, _Member]) -> bool:
        """Displace the oldest connection of this device, else of the device with most; False if each has one.

        A phone whose network was cut leaves connections that look alive until they are pinged; it must get in anyway.
        """
        by_device: dict[str, list[_Member]] = {}
        for member in others.values():
            by_device.setdefault(member.device_id, []).append(member)
        mine = by_device.get(request.device_id) or max(by_device.values(), key=len)
        if mine[0].device_id != request.device_id and len(mine) < 2:
            return False
        oldest = mine[0]
        _log.info("connection displaced", connection=oldest.connection.path, device_id=oldest.device_id)
        del others[oldest.connection.path], self._members[oldest.connection.path]
        self._wheel.remove(oldest.connection.path)
        self._notify(oldest, Displaced())
        self._missed.discard(oldest.connection.path)
        return True

    def _devices(self, client_id: str) -> bytes:
        counts: dict[str, int] = {}
        for member in self._clients.get(client_id, {}).values():
            counts[member.device_id] = counts.get(member.device_id, 0) + 1
        return encode({"devices": [{"device_id": one, "connections": counts[one]} for one in sorted(counts)]})

    def _list_devices(self) -> tuple[DeviceConnected, ...]:
        counts = Counter((one.client_id, one.device_id) for one in self._members.values())
        return tuple(
            DeviceConnected(client_id=client_id, device_id=device_id, connections=count)
            for (client_id, device_id), count in sorted(counts.items())
        )

    def _notify_devices(self, client_id: str, *, but: str = "") -> None:
        members = self._clients.get(client_id, {})
        if members:
            changed = StateChanged(kind="devices", time=wire_time(), data=self._devices(client_id))
            for path, member in members.items():
                if path != but:
                    self._notify(member, changed)

    # --- publishing -------------------------------------------------------------------------------

    def _publish(self, events: tuple[StoredEvent, ...]) -> None:
        by_client: dict[str, list[StoredEvent]] = {}
        for event in events:
            if event.client_id in self._clients:
                by_client.setdefault(event.client_id, []).append(event)
        for client_id, ours in by_client.items():
            committed = ClientEvents(tuple(ours))
            for member in self._clients[client_id].values():
                self._notify(member, committed)

    def _notify(self, member: _Member, message: Any) -> None:
        try:
            member.connection.tell_nowait(message)
        except SendFault as error:
            # The log has what it missed; it is told to read it as soon as its mailbox takes messages again.
            _log.warning("connection overrun", connection=member.connection.path, error=str(error))
            self._missed.add(member.connection.path)

    def _tick(self) -> None:
        for path in self._wheel.turn():
            self._notify(self._members[path], CheckKeepalive())
        missed, self._missed = self._missed, set()
        for path in missed:
            self._notify(self._members[path], ReadLog())

    async def _watch_engine(self) -> None:
        """Publish the engine's status to all connections when it changes, encoded once, at most once per check."""
        while True:
            await self._has_members.wait()
            try:
                health: EngineHealth | None = await self._inference.ask(DescribeEngine(), timeout=STATUS_ASK_SECONDS)
            except RuntimeFault:
                health = None
            data = encode(agent_status(health))
            if data != self._status:
                self._status = data
                changed = StateChanged(kind="agent_status", time=wire_time(), data=data)
                for member in self._members.values():
                    self._notify(member, changed)
            if not self._members:
                self._has_members = trio.Event()
            await trio.sleep(STATUS_SECONDS)

    # --- subscriptions ----------------------------------------------------------------------------

    async def _change_subscription(self, request: ChangeSubscription) -> Subscribe:
        device = Device(client_id=request.client_id, device_id=request.device_id)
        committed = await self._storage.transact(
            STORE_SUBSCRIPTION,
            StoreSubscription(device=device, subscription=request.data),
            client_id=request.client_id,
            key=request.key,
        )
        for member in self._clients.get(request.client_id, {}).values():
            if member.device_id == request.device_id:
                self._notify(member, SubscriptionChanged(committed.value))
        return committed.value

    async def _read_subscription(self, client_id: str, device_id: str) -> Subscribe:
        return await self._storage.read(READ_SUBSCRIPTION, Device(client_id=client_id, device_id=device_id))
