"""The in-app channel: releases held notifications to the client's log and records acknowledgements.

Notifications that are not held were appended to the log in the transaction of their cause; connections deliver from there.
"""

from __future__ import annotations

from collections import OrderedDict, deque

import structlog
import trio
from attrs import frozen

from actors.clock import now_milliseconds
from actors.errors import CommandError
from actors.notifications.acks import ACKNOWLEDGE, Acknowledged, Acknowledgements, StreamBegun
from actors.notifications.messages import AckNoted, DeviceBegan
from actors.notifications.outbox import RELEASE, ReleaseClient
from actors.storage.messages import Storage
from runtime import Actor, ActorRef, RuntimeFault, SendFault, reject

__all__ = ["InApp", "ReleaseDone", "ReleaseDue"]

_log = structlog.get_logger("notifications")

AT_ONCE = 128
"""Devices whose acknowledgements go into one transaction."""
DEVICES_KEPT = 16_384
"""Devices whose acknowledgement may be pending. Beyond that the oldest is dropped; the next `ack` covers it."""
ENTRIES_KEPT = 16
"""Pending entries per device; more would need that many reconnects while storage is unavailable."""
RETRY_SECONDS = 0.5


@frozen
class ReleaseDue:
    """Tells the in-app channel that this client has held deliveries that are due."""

    client_id: str


@frozen
class ReleaseDone:
    """Tells the dispatcher that they were examined."""

    client_id: str
    is_recorded: bool


class InApp(Actor[ReleaseDue | AckNoted | DeviceBegan]):
    """Writes for many clients, a few per transaction."""

    mailbox = reject(4096)

    def __init__(self, storage: Storage, dispatcher: ActorRef[ReleaseDone]) -> None:
        self._storage = storage
        self._dispatcher = dispatcher
        self._acknowledged: OrderedDict[tuple[str, str], tuple[Acknowledged | StreamBegun, ...]] = OrderedDict()
        self._releases: deque[str] = deque()
        self._has_work = trio.Event()
        self._noted = 0

    async def started(self) -> None:
        """Start empty: whatever the previous incarnation had not written is covered by a later `ack`."""
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
                # Bounded by the dispatcher, which names each client once until it gets an answer.
                self._releases.append(client_id)
        self._has_work.set()

    def snapshot(self) -> dict[str, object]:
        """Pending writes, and the number of deliveries recorded."""
        return {"acknowledgements": len(self._acknowledged), "releases": len(self._releases), "noted": self._noted}

    def _note(self, *new: Acknowledged | StreamBegun) -> None:
        """Queue entries of one device; consecutive acknowledgements collapse into the newest."""
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
        except (CommandError, RuntimeFault) as error:
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
        except (CommandError, RuntimeFault) as error:
            _log.warning("held notifications wait", problem=str(error))
        try:
            self._dispatcher.tell_nowait(ReleaseDone(client_id, is_recorded))
        except SendFault:
            _log.debug("dispatcher not notified", client_id=client_id)
