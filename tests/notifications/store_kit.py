"""The service's store on a real database, with storage's own transaction and a clock that a test sets."""

from __future__ import annotations

import json
import types
from typing import Any

import pytest
from attrs import define, field
from sqlalchemy import Engine, select

from actors import clock
from actors.notifications.fan_out import trigger_hook
from actors.notifications.outbox import (
    DUE_DELIVERIES,
    READ_DEVICE_QUEUE,
    DeviceQueuePage,
    DeviceQueueQuery,
    Due,
    DueDeliveriesQuery,
)
from actors.notifications.store import POST, REGISTER, SET_PREFERENCES, Posting, PreferencesSet, Registering
from actors.notifications.tables import deliveries
from actors.storage.clocks import KeyClock
from actors.storage.messages import Operation, Outcome, Query, StoredEvent, Transact, Trigger
from actors.storage.transaction import carry_out_batch
from protocol.codec import structure
from protocol.events import Priority
from protocol.notifications import DeviceRegister, NotificationPost, Preferences

__all__ = ["START_MS", "SUBSCRIPTION", "Service", "device"]

START_MS = 1_790_000_000_000
"""2026-09-21T14:13:20Z, a Monday."""
SUBSCRIPTION = {
    "endpoint": "https://push.example.org/send/abc",
    "keys": {
        "p256dh": "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
        "auth": "BTBZMqHH6r4Tts7J_aSIgg",
    },
}


def device(device_id: str = "phone", **fields: Any) -> DeviceRegister:
    """Return a device registration, by default a browser's."""
    if "platform" not in fields:
        fields = {"platform": "web", "subscription": SUBSCRIPTION, **fields}
    registered: DeviceRegister = structure({"device_id": device_id, **fields}, DeviceRegister)
    return registered


@define
class Service:
    """Shortcuts for tests of the service's tables."""

    engine: Engine
    monkeypatch: pytest.MonkeyPatch
    push_hold_seconds: float = 0.0
    now_ms: int = START_MS
    events: list[StoredEvent] = field(factory=list)
    """Events published to clients' logs."""

    def __attrs_post_init__(self) -> None:
        self.monkeypatch.setattr(clock, "time", types.SimpleNamespace(time=lambda: self.now_ms / 1000))

    def transact(self, operation: Operation[Any, Any], command: Any, client_id: str = "me") -> Any:
        """Commit one write. Raises what the operation raised."""
        result = carry_out_batch(
            self.engine,
            {operation.name: operation},
            trigger_hook(self.push_hold_seconds),
            [Transact(operation=operation.name, client_id=client_id, command=command)],
            key_clock=KeyClock(),
            now_ms=lambda: self.now_ms,
        )
        self.events += result.events
        write = result.writes[0]
        if write.error is not None:
            raise write.error
        assert write.committed is not None
        return write.committed.value

    def read(self, query: Query[Any, Any], command: Any) -> Any:
        """Run one query."""
        with self.engine.connect() as connection, connection.begin():
            return query.function(connection, command)

    def cause(self, *triggers: Trigger, client_id: str = "me") -> None:
        """Commit a change of another service that triggers these."""
        operation: Operation[None, int] = Operation("cause", lambda _, __: Outcome(value=1, triggers=triggers), int)
        self.transact(operation, None, client_id)

    def post(
        self, title: str, priority: Priority = Priority.MEDIUM, client_id: str = "me", template: str = "message"
    ) -> str:
        """Post a client's event. Returns its id."""
        name = f"n-{client_id}-{title}"
        fields = {"title": title} if template == "message" else {"source": title}
        data = NotificationPost(template=template, fields=fields, priority=priority)
        self.transact(POST, Posting(client_id=client_id, notification_id=name, data=data), client_id)
        return name

    def register(self, device_id: str = "phone", client_id: str = "me", **fields: Any) -> Any:
        """Register a device."""
        data = device(device_id, **fields)
        return self.transact(REGISTER, Registering(client_id=client_id, device_id=device_id, data=data), client_id)

    def prefer(self, device_id: str | None = None, client_id: str = "me", **fields: Any) -> None:
        """Set preferences, written as JSON."""
        preferences: Preferences = structure(fields, Preferences)
        wanted = PreferencesSet(client_id=client_id, device_id=device_id, preferences=preferences)
        self.transact(SET_PREFERENCES, wanted, client_id)

    def look(self) -> Due:
        """Return what is due now."""
        due: Due = self.read(DUE_DELIVERIES, DueDeliveriesQuery(now_ms=self.now_ms))
        return due

    def device_queue(self, device_id: str = "phone", client_id: str = "me", maximum: int = 16) -> DeviceQueuePage:
        """Return the queue of a device."""
        page: DeviceQueuePage | None = self.read(
            READ_DEVICE_QUEUE, DeviceQueueQuery(client_id=client_id, device_id=device_id, maximum=maximum)
        )
        assert page is not None
        return page

    def state(self, notification_id: str, device_id: str = "phone") -> str:
        """Return state and reason of one delivery, as `held (quiet_hours)`."""
        with self.engine.connect() as connection, connection.begin():
            row = connection.execute(
                select(deliveries).where(
                    deliveries.c.notification_id == notification_id, deliveries.c.device_id == device_id
                )
            ).one()
        return f"{row.state} ({row.reason})" if row.reason else str(row.state)

    def told(self, client_id: str = "me") -> list[str]:
        """Return the titles in the client's log, in order."""
        return [json.loads(one.data)["notification"]["title"] for one in self.events if one.client_id == client_id]
