"""Owns this node's carrier: hands it what others want announced, and keeps nothing that it could not hand over."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import structlog
import trio

from actors.cluster.carrier import Carrier, CarrierUnavailable
from actors.cluster.lanes import AnnouncementLane
from actors.cluster.messages import Announce, CarrierHealth, DescribeCarrier
from runtime import Actor, drop_oldest

__all__ = ["Announcer", "OpenCarrier"]

_log = structlog.get_logger("cluster")

OpenCarrier = Callable[[], AbstractAsyncContextManager[Carrier]]
WAITING_KEYS = 1024
REST_SECONDS = 1.0
"""After a failure. What was to be announced meanwhile conflates, and the nodes look for themselves all the while."""


class Announcer(Actor[Announce | DescribeCarrier]):
    """Says once what was asked several times before it came to it."""

    mailbox = drop_oldest(4096)

    def __init__(self, open_carrier: OpenCarrier) -> None:
        self._open = open_carrier
        self._lane = AnnouncementLane(WAITING_KEYS)
        self._has_work = trio.Event()
        self._problem: str | None = None
        self._announced = 0

    async def started(self) -> None:
        """The carrier connects when it is first used."""
        self.context.spawn(self._work)

    async def handle(self, message: Announce | DescribeCarrier) -> CarrierHealth | None:
        match message:
            case Announce(topic, key):
                self._lane.put(topic, key)
                self._has_work.set()
                return None
            case DescribeCarrier():
                return CarrierHealth(problem=self._problem)

    def snapshot(self) -> dict[str, object]:
        """Counts and the last problem."""
        return {"waiting": len(self._lane), "announced": self._announced, "problem": self._problem}

    async def _work(self) -> None:
        async with self._open() as carrier:
            while True:
                await self._has_work.wait()
                self._has_work = trio.Event()
                while (next_one := self._lane.take()) is not None:
                    await self._announce(carrier, *next_one)

    async def _announce(self, carrier: Carrier, topic: str, key: str) -> None:
        try:
            await carrier.announce(topic, key)
        except CarrierUnavailable as error:
            if self._problem is None:
                _log.warning("announcement failed; the other nodes find the change within seconds", error=str(error))
            self._problem = str(error)
            self.context.note_problem(self._problem)
            self._lane.put(topic, key)
            # The broker is away: without a pause the lane would be tried in a busy loop.
            await trio.sleep(REST_SECONDS)
        else:
            if self._problem is not None:
                self._problem = None
                self.context.note_problem(None)
            self._announced += 1
