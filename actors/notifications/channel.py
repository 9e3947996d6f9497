"""A push channel: takes one device at a time, sends its pending deliveries in order, and records the outcomes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import structlog
import trio
from attrs import field, frozen

from actors.errors import CommandError
from actors.notifications.delivery_rules import Attempt, RetrySchedule
from actors.notifications.http_client import AddressRefused, RequestFailed
from actors.notifications.outbox import (
    READ_DEVICE_QUEUE,
    RECORD,
    DeviceQueuePage,
    DeviceQueueQuery,
    QueuedDelivery,
    Results,
)
from actors.notifications.sender import Sender
from actors.storage.messages import Storage
from actors.tracing.tracer import SpanKind, Tracer
from protocol.notifications import Channel
from runtime import Actor, ActorRef, RuntimeFault, SendFault, reject

__all__ = ["ChannelSettings", "DeliverQueue", "PushChannel", "QueueDelivered"]

_log = structlog.get_logger("notifications")

DEVICES_AT_ONCE = 16
DEVICES_OF_ONE_CLIENT = 4
"""Share of one client, so that a client with many dead devices delays nobody but itself."""
WAITING_DEVICES = 128
Failpoint = Callable[[str], None]


@frozen
class DeliverQueue:
    """Tells a channel that deliveries are due for this device."""

    client_id: str
    device_id: str
    turn: int
    """Number of the assignment, echoed in the reply so that it cannot end another one."""


@frozen
class QueueDelivered:
    """Tells the dispatcher that the channel has finished with this device for now."""

    channel: Channel
    client_id: str
    device_id: str
    turn: int
    is_recorded: bool
    """False if storage could not be reached; the dispatcher then waits before it tries again."""


@frozen(kw_only=True)
class ChannelSettings:
    """Settings of a push channel."""

    channel: Channel
    make_sender: Callable[[], Sender]
    """Called once per incarnation."""
    schedule: RetrySchedule = field(factory=RetrySchedule)
    failpoint: Failpoint = lambda _: None
    """Called with the name of each step before it runs, for tests that kill the process there."""
    tracer: Tracer = field(factory=Tracer)
    """Receives one span per push. Each starts a new trace, because a push may be sent long after its cause and by another server."""


class PushChannel(Actor[DeliverQueue]):
    """Delivers at least once and in order per device. A slow or unreachable device delays no other."""

    mailbox = reject(WAITING_DEVICES)

    def __init__(self, settings: ChannelSettings, storage: Storage, dispatcher: ActorRef[QueueDelivered]) -> None:
        self._settings = settings
        self._storage = storage
        self._dispatcher = dispatcher
        self._sender: Sender | None = None
        self._closing = AsyncExitStack()
        self._at_once = trio.CapacityLimiter(DEVICES_AT_ONCE)
        self._shares: dict[str, trio.CapacityLimiter] = {}
        self._taken = 0
        self._failed = 0

    async def started(self) -> None:
        """Open the HTTP client, without connecting."""
        self._sender = await self._closing.enter_async_context(self._settings.make_sender())

    async def handle(self, message: DeliverQueue) -> None:
        self.context.spawn(self._deliver, message)

    async def stopping(self) -> None:
        """Close the connections."""
        await self._closing.aclose()

    def snapshot(self) -> dict[str, object]:
        """Counts since this incarnation began."""
        return {"devices_busy": self._at_once.borrowed_tokens, "taken": self._taken, "failed": self._failed}

    async def _deliver(self, device_queue: DeliverQueue) -> None:
        """Deliver one page to one device. If cancelled, deliveries that were sent but not recorded are sent again with the same ids."""
        is_recorded = False
        try:
            async with self._share(device_queue.client_id), self._at_once:
                is_recorded = await self._deliver_page(device_queue)
        except (CommandError, RuntimeFault) as error:
            _log.warning("storage not reached", channel=self._settings.channel.value, problem=str(error))
        try:
            self._dispatcher.tell_nowait(
                QueueDelivered(
                    self._settings.channel,
                    device_queue.client_id,
                    device_queue.device_id,
                    device_queue.turn,
                    is_recorded=is_recorded,
                )
            )
        except SendFault:
            # The dispatcher is restarting and has lost its record of busy devices.
            _log.debug("dispatcher not notified", channel=self._settings.channel.value)

    @asynccontextmanager
    async def _share(self, client_id: str) -> AsyncIterator[None]:
        """Hold one of the client's places; the entry is dropped once it has none."""
        share = self._shares.setdefault(client_id, trio.CapacityLimiter(DEVICES_OF_ONE_CLIENT))
        try:
            async with share:
                yield
        finally:
            if not share.borrowed_tokens and not share.statistics().tasks_waiting:
                self._shares.pop(client_id, None)

    async def _deliver_page(self, device_queue: DeliverQueue) -> bool:
        failpoint = self._settings.failpoint
        failpoint("before reading")
        page = await self._storage.read(
            READ_DEVICE_QUEUE, DeviceQueueQuery(client_id=device_queue.client_id, device_id=device_queue.device_id)
        )
        if page is None or page.channel is not self._settings.channel:
            return True
        attempts: list[tuple[str, Attempt]] = []
        for item in page.items:
            failpoint("before sending")
            attempt = await self._send(page, item)
            failpoint("after sending")
            attempts.append((item.notification_id, attempt))
            if not attempt.is_sent and not attempt.is_final:
                # What comes after it waits with it: order is kept for each device.
                break
        failpoint("before recording")
        await self._storage.transact(
            RECORD,
            Results(
                client_id=page.client_id,
                device_id=page.device_id,
                channel=page.channel,
                address=page.address,
                attempts=tuple(attempts),
                schedule=self._settings.schedule,
            ),
            client_id=page.client_id,
        )
        failpoint("after recording")
        return True

    async def _send(self, page: DeviceQueuePage, item: QueuedDelivery) -> Attempt:
        with self._settings.tracer.span(
            f"push {page.channel.value}",
            SpanKind.CLIENT,
            attributes={"leanvibe.notification.id": item.notification_id},
        ) as span:
            attempt = await self._try(page, item)
            if span is not None and not attempt.is_sent:
                # Not the reason's text, which may be the peer's.
                span.error_type = "refused" if attempt.is_final else "failed"
        if attempt.is_sent:
            self._taken += 1
        else:
            self._failed += 1
        return attempt

    async def _try(self, page: DeviceQueuePage, item: QueuedDelivery) -> Attempt:
        assert self._sender is not None
        try:
            attempt = await self._sender.send(page, item)
        except RequestFailed as failure:
            attempt = Attempt(reason=str(failure))
        except AddressRefused as refusal:
            attempt = Attempt(is_final=True, reason=str(refusal))
        except Exception as error:  # noqa: BLE001  isolation border: what one device brings about is its delivery's end alone
            # Neither text nor traceback: they may quote the address, which is a secret.
            kind = type(error).__name__
            _log.error(
                "delivery failed unexpectedly", channel=page.channel.value, client_id=page.client_id, problem=kind
            )
            attempt = Attempt(reason=f"the server could not send it: {kind}")
        return attempt
