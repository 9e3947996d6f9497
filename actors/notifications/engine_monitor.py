"""Notifies every client once when the engine is lost, recovers or was restarted."""

from __future__ import annotations

import hashlib
import uuid

import structlog
import trio
from attrs import define, frozen

from actors.errors import CommandError
from actors.inference.messages import DescribeEngine, EngineHealth
from actors.notifications.store import ANNOUNCE, KNOWN_CLIENTS, Announcement, ClientsAfter
from actors.storage.messages import IdempotencyKey, Storage
from runtime import Actor, ActorRef, RuntimeFault, reject

__all__ = ["EngineMonitor", "EngineState", "Poll"]

_log = structlog.get_logger("notifications")

POLL_SECONDS = 1.0
ASK_SECONDS = 1.0
ENGINE_DEVICE = ":engine"
"""Device id in the keys of these transactions; no real device can have it."""
STEADY_SECONDS = 5.0
"""A state counts once it has lasted this long, so that a crash loop is reported once."""


@define
class EngineState:
    """State of the engine and of what was announced. A pure rule over timed observations."""

    was_ready: bool = False
    """True once it has answered, so that losing it is news."""
    is_degraded: bool = False
    """True if its loss was announced."""
    restarts_told: int = 0
    _is_ready: bool = False
    _since_seconds: float = 0.0
    _restarts: int = 0

    def observe(self, state: str, restarts: int, now_seconds: float) -> str | None:
        """Return the kind of notification that this observation causes, or None."""
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
    """Polls the inference service. An announcement that fails is repeated with the next poll."""

    mailbox = reject(4)

    def __init__(self, inference: ActorRef[DescribeEngine], storage: Storage) -> None:
        self._inference = inference
        self._storage = storage
        self._state = EngineState()
        self._untold: list[Announcement] = []

    async def started(self) -> None:
        """Begin to poll."""
        self.context.after(POLL_SECONDS, Poll())

    async def handle(self, message: Poll) -> None:
        try:
            health: EngineHealth = await self._inference.ask(DescribeEngine(), timeout=ASK_SECONDS)
        except RuntimeFault:
            # The inference room is starting again: how its engine is, nobody knows.
            _log.debug("engine status not available")
        else:
            kind = self._state.observe(health.state, health.restarts, trio.current_time())
            if kind is not None:
                self._untold.append(_announcement(kind, health))
        if self._untold and await self._tell_everyone(self._untold[0]):
            self._untold.pop(0)
        self.context.after(POLL_SECONDS, Poll())

    def snapshot(self) -> dict[str, object]:
        """Known state and pending announcements."""
        return {"is_degraded": self._state.is_degraded, "untold": [one.kind for one in self._untold]}

    async def _tell_everyone(self, announcement: Announcement) -> bool:
        """Announce to every known client, in pages. Returns False if storage could not be reached.

        Starting over is safe, because each client's transaction is keyed by the announcement.
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
            except (CommandError, RuntimeFault) as error:
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
