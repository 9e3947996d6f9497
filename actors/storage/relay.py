"""The relay: the only publisher of committed events. Connections read from their logs whatever it cannot deliver."""

from __future__ import annotations

import structlog
from attrs import frozen

from actors.cluster.messages import LOG_TOPIC, Announce
from actors.storage.messages import CommitPublished, LogsAdvanced, PublishEvents, StoredEvent, TriggersCommitted
from runtime import Actor, ActorRef, SendFault, Timer, reject

__all__ = ["Relay", "TryAgain"]

_log = structlog.get_logger("relay")

RETRY_SECONDS = 0.25


@frozen
class TryAgain:
    """Timer: the connection registry may be back."""


class Relay(Actor[CommitPublished | TryAgain]):
    """Stateless: after a possible miss it makes every connection read its log."""

    mailbox = reject(4096)

    def __init__(
        self,
        registry: ActorRef[PublishEvents | LogsAdvanced],
        dispatcher: ActorRef[TriggersCommitted],
        announcer: ActorRef[Announce] | None = None,
    ) -> None:
        """``dispatcher`` is woken after commits that may deserve a notification; it also polls.

        In a cluster the ``announcer`` tells the other nodes whose log has grown; they also look for themselves.
        """
        self._registry = registry
        self._dispatcher = dispatcher
        self._announcer = announcer
        self._has_gap = True
        self._retry: Timer | None = None
        self._published = 0

    async def started(self) -> None:
        """Make every connection read its log, which holds whatever was committed while no relay ran."""
        self._publish(())

    async def handle(self, message: CommitPublished | TryAgain) -> None:
        match message:
            case TryAgain():
                self._retry = None
                self._publish(())
            case CommitPublished(events, has_triggers, has_gap):
                self._has_gap = self._has_gap or has_gap
                self._publish(events)
                self._announce(events)
                if has_triggers:
                    self._wake_dispatcher()

    def snapshot(self) -> dict[str, object]:
        """Number of events published."""
        return {"published": self._published, "has_gap": self._has_gap}

    def _announce(self, events: tuple[StoredEvent, ...]) -> None:
        if self._announcer is not None and self._announcer.is_running:
            for client_id in {one.client_id for one in events}:
                self._announcer.tell_nowait(Announce(LOG_TOPIC, client_id))

    def _publish(self, events: tuple[StoredEvent, ...]) -> None:
        if not self._tell(events):
            self._has_gap = True
            if self._retry is None:
                self._retry = self.context.after(RETRY_SECONDS, TryAgain())

    def _tell(self, events: tuple[StoredEvent, ...]) -> bool:
        """Publish to the connection registry if it is running; it starts after storage."""
        if not self._registry.is_running:
            return False
        try:
            if self._has_gap:
                self._registry.tell_nowait(LogsAdvanced())
                self._has_gap = False
            if events:
                self._registry.tell_nowait(PublishEvents(events))
                self._published += len(events)
        except SendFault:
            return False
        return True

    def _wake_dispatcher(self) -> None:
        if not self._dispatcher.is_running:
            return  # it polls when it starts
        try:
            self._dispatcher.tell_nowait(TriggersCommitted())
        except SendFault:
            _log.debug("dispatcher not woken")
