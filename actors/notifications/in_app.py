"""The in-app channel: lets held notifications into the client's log, and notes what devices acknowledged.

What is not held was appended to the log in the transaction of its cause; the connections carry it from there.
"""

from __future__ import annotations

from collections import OrderedDict, deque

import structlog
import trio
from attrs import frozen

from actors.clock import now_milliseconds
from actors.notifications.acks import ACKNOWLEDGE, Acknowledged, Acknowledgements, StreamBegun
from actors.notifications.messages import AckNoted, DeviceBegan
from actors.notifications.outbox import RELEASE, ReleaseClient
from actors.refusals import CommandRefused
from actors.storage.messages import Storage
from runtime import Actor, ActorRef, RuntimeFault, SendFault, reject

__all__ = ["InApp", "ReleaseDone", "ReleaseDue"]

_log = structlog.get_logger("notifications")

AT_ONCE = 128
"""Acknowledgements of as many devices go into one transaction."""
DEVICES_KEPT = 16_384
"""Devices whose newest acknowledgement may wait; beyond, the oldest goes: the next one covers it."""
ENTRIES_KEPT = 16
"""Of one device that wait: it would have to come and go as often while nothing can be written."""
RETRY_SECONDS = 0.5


@frozen
class ReleaseDue:
    """To the in-app channel: this client has held deliveries that are due."""

    client_id: str


@frozen
class ReleaseDone:
    """To the planner: they were looked at."""

    client_id: str
    is_recorded: bool


class InApp(Actor[ReleaseDue | AckNoted | DeviceBegan]):
    """Writes for many clients, a few at a time."""

    mailbox = reject(4096)

    def __init__(self, storage: Storage, dispatcher: ActorRef[ReleaseDone]) -> None:
        self._storage = storage
        self._dispatcher = dispatcher
        self._acknowledged: OrderedDict[tuple[str, str], tuple[Acknowledged | StreamBegun, ...]] = OrderedDict()
        self._releases: deque[str] = deque()
        self._has_work = trio.Event()
        self._noted = 0

    async def started(self) -> None:
        """Nothing waits yet; what a former incarnation had not written is acknowledged again by a later `ack`."""
        self.context.spawn(self._work)

    async def handle(self, message: ReleaseDue | AckNoted | DeviceBegan) -> None:
        match message:
            case AckNoted():
                self._note(
                    Acknowledged(
                        message.client_id,
                        message.device_id,
                        message.seq,
                        now_milliseconds(),
                        message.after,
                        message.skipped,
                        message.subscription,
                    )
                )
            case DeviceBegan(client_id=client_id, device_id=device_id, seq=seq):
                self._note(StreamBegun(client_id, device_id, seq))
            case ReleaseDue(client_id):
                # Bounded by the planner, which names each client once until it hears of it.
                self._releases.append(client_id)
        self._has_work.set()

    def snapshot(self) -> dict[str, object]:
        """What waits to be written, and how many deliveries were noted."""
        return {"acknowledgements": len(self._acknowledged), "releases": len(self._releases), "noted": self._noted}

    def _note(self, *new: Acknowledged | StreamBegun) -> None:
        """Let these wait, all of one device, after what waits of it already; the newest `ack` in a row says it all."""
        key = (new[0].client_id, new[0].device_id)
        waiting = self._acknowledged.pop(key, ())
        for one in new:
            if waiting and type(waiting[-1]) is type(one):
                waiting = (*waiting[:-1], max(waiting[-1], one, key=lambda each: each.seq))
            else:
                waiting = (*waiting, one)
        self._acknowledged[key] = waiting[-ENTRIES_KEPT:]
        if len(self._acknowledged) > DEVICES_KEPT:
            self._acknowledged.popitem(last=False)

    async def _work(self) -> None:
        while True:
            await self._has_work.wait()
            self._has_work = trio.Event()
            while self._acknowledged or self._releases:
                if self._releases:
                    await self._release(self._releases.popleft())
                if self._acknowledged and not await self._acknowledge():
                    await trio.sleep(RETRY_SECONDS)

    async def _acknowledge(self) -> bool:
        batch = [self._acknowledged.popitem(last=False)[1] for _ in range(min(AT_ONCE, len(self._acknowledged)))]
        try:
            committed = await self._storage.transact(
                ACKNOWLEDGE,
                Acknowledgements(tuple(one for entries in batch for one in entries)),
                client_id=batch[0][0].client_id,
            )
        except (CommandRefused, RuntimeFault) as error:
            _log.warning("acknowledgements wait", problem=str(error))
            for entries in batch:
                # Before what came meanwhile.
                self._note(*entries, *self._acknowledged.pop((entries[0].client_id, entries[0].device_id), ()))
            return False
        self._noted += committed.value
        return True

    async def _release(self, client_id: str) -> None:
        is_recorded = False
        try:
            await self._storage.transact(RELEASE, ReleaseClient(client_id), client_id=client_id)
            is_recorded = True
        except (CommandRefused, RuntimeFault) as error:
            _log.warning("held notifications wait", problem=str(error))
        try:
            self._dispatcher.tell_nowait(ReleaseDone(client_id, is_recorded))
        except SendFault:
            _log.debug("planner not told", client_id=client_id)
