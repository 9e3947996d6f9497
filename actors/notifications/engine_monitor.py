"""Tells every client when the engine was lost, came back, or was started again: once for each change of state."""

from __future__ import annotations

import hashlib
import uuid

import structlog
import trio
from attrs import define, frozen

from actors.inference.messages import DescribeEngine, EngineHealth
from actors.notifications.store import ANNOUNCE, KNOWN_CLIENTS, Announcement, ClientsAfter
from actors.refusals import CommandRefused
from actors.storage.messages import IdempotencyKey, Storage
from runtime import Actor, ActorRef, RuntimeFault, reject

__all__ = ["EngineMonitor", "EngineState", "Poll"]

_log = structlog.get_logger("notifications")

POLL_SECONDS = 1.0
ASK_SECONDS = 1.0
ENGINE_DEVICE = ":engine"
"""Device of these transactions' keys; no device can be called so."""
STEADY_SECONDS = 5.0
"""A state counts once it has lasted this long, so that a crash loop is told of once."""


@define
class EngineState:
    """What is known of the engine, and what was told: a pure rule over observations in time."""

    was_ready: bool = False
    """It has answered at some time, so that losing it is news."""
    is_degraded: bool = False
    """People were told that it is lost."""
    restarts_told: int = 0
    _is_ready: bool = False
    _since_seconds: float = 0.0
    _restarts: int = 0

    def observe(self, state: str, restarts: int, now_seconds: float) -> str | None:
        """The kind of notification that this observation gives cause to, if any."""
        is_ready = state == "ready"
        if is_ready != self._is_ready or restarts != self._restarts:
            self._is_ready, self._restarts, self._since_seconds = is_ready, restarts, now_seconds
        if not self.was_ready and state == "loading":
            # The first load takes its time; that is no loss.
            self._since_seconds = now_seconds
            return None
        if is_ready and not self.was_ready and not self.is_degraded:
            self.was_ready, self.restarts_told = True, restarts
            return None
        if now_seconds - self._since_seconds < STEADY_SECONDS:
            return None
        if not is_ready:
            return None if self.is_degraded else self._told("engine_degraded", restarts, is_degraded=True)
        if self.is_degraded:
            self.was_ready = True
            return self._told("engine_recovered", restarts, is_degraded=False)
        if restarts > self.restarts_told:
            return self._told("engine_restarted", restarts, is_degraded=False)
        return None

    def _told(self, kind: str, restarts: int, *, is_degraded: bool) -> str:
        self.is_degraded, self.restarts_told = is_degraded, restarts
        return kind


@frozen
class Poll:
    """Timer: look at the engine."""


class EngineMonitor(Actor[Poll]):
    """Asks the inference room now and then. A change that cannot be told to a client now is told with the next look."""

    mailbox = reject(4)

    def __init__(self, inference: ActorRef[DescribeEngine], storage: Storage) -> None:
        self._inference = inference
        self._storage = storage
        self._state = EngineState()
        self._untold: list[Announcement] = []

    async def started(self) -> None:
        """Begin to look."""
        self.context.after(POLL_SECONDS, Poll())

    async def handle(self, message: Poll) -> None:
        try:
            health: EngineHealth = await self._inference.ask(DescribeEngine(), timeout=ASK_SECONDS)
        except RuntimeFault:
            # The inference room is starting again: how its engine is, nobody knows.
            _log.debug("engine not described")
        else:
            kind = self._state.observe(health.state, health.restarts, trio.current_time())
            if kind is not None:
                self._untold.append(_announcement(kind, health))
        if self._untold and await self._tell_everyone(self._untold[0]):
            self._untold.pop(0)
        self.context.after(POLL_SECONDS, Poll())

    def snapshot(self) -> dict[str, object]:
        """What is known and what is still to be told."""
        return {"is_degraded": self._state.is_degraded, "untold": [one.kind for one in self._untold]}

    async def _tell_everyone(self, announcement: Announcement) -> bool:
        """Announce to every known client, in pages; False when storage could not be reached in between.

        Beginning again is safe: each client's transaction is keyed by the announcement.
        """
        after = ""
        while True:
            try:
                clients = await self._storage.read(KNOWN_CLIENTS, ClientsAfter(after=after))
                for client_id in clients:
                    key = IdempotencyKey(
                        client_id=client_id,
                        device_id=ENGINE_DEVICE,
                        command_id=announcement.announcement_id,
                        digest=hashlib.sha256(announcement.kind.encode()).hexdigest(),
                    )
                    await self._storage.transact(ANNOUNCE, announcement, client_id=client_id, key=key)
            except (CommandRefused, RuntimeFault) as error:
                _log.warning("announcement waits", kind=announcement.kind, problem=str(error))
                return False
            if not clients:
                return True
            after = clients[-1]


def _announcement(kind: str, health: EngineHealth) -> Announcement:
    fields = {"model": health.model[:300]}
    if kind == "engine_degraded":
        fields["detail"] = (health.problem or f"The engine is {health.state}.")[:1000]
    return Announcement(announcement_id=str(uuid.uuid4()), kind=kind, fields=fields)
