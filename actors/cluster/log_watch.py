"""Finds what no announcement told: compares the heads of connected clients' logs with those seen before."""

from __future__ import annotations

import structlog
from attrs import frozen

from actors.cluster.store import LOG_HEADS
from actors.connections.messages import ListDevices
from actors.errors import CommandError
from actors.storage.messages import LogsAdvanced, Storage
from runtime import Actor, ActorRef, RuntimeFault, reject

__all__ = ["LogWatch"]

_log = structlog.get_logger("cluster")

LOOK_SECONDS = 5.0
ASK_SECONDS = 2.0


@frozen
class Look:
    """Timer."""


class LogWatch(Actor[Look]):
    """One query for all connected clients."""

    mailbox = reject(4)

    def __init__(self, storage: Storage, registry: ActorRef[ListDevices | LogsAdvanced]) -> None:
        self._storage = storage
        self._registry = registry
        self._heads: dict[str, int] = {}

    async def started(self) -> None:
        """Look now and then."""
        self.context.every(LOOK_SECONDS, Look())

    async def handle(self, message: Look) -> None:
        try:
            await self._look()
        except (CommandError, RuntimeFault) as error:
            _log.debug("logs not looked at", error=str(error))

    def snapshot(self) -> dict[str, object]:
        """Number of known logs."""
        return {"logs": len(self._heads)}

    async def _look(self) -> None:
        devices = await self._registry.ask(ListDevices(), timeout=ASK_SECONDS)
        clients = frozenset(one.client_id for one in devices)
        if not clients:
            self._heads = {}
            return
        heads = await self._storage.read(LOG_HEADS, clients)
        for client_id, head in heads.items():
            # One that is seen for the first time may have grown since its connection read it.
            if self._heads.get(client_id) != head:
                await self._registry.tell(LogsAdvanced(client_id))
        self._heads = dict(heads)
