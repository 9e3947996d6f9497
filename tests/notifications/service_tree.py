"""Storage and the notifications service as a running tree, with probes in place of other services."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
from attrs import define
from sqlalchemy import create_engine, text

from actors.database_operations import OPERATIONS, QUERIES
from actors.inference.messages import DescribeEngine, EngineHealth
from actors.notifications import spec as notifications
from actors.notifications.delivery_rules import RetrySchedule
from actors.notifications.fan_out import trigger_hook
from actors.notifications.messages import (
    ListNotifications,
    PostNotification,
    ReadHistory,
    RegisterDevice,
    UsePreferences,
)
from actors.settings import Settings
from actors.storage.database import FILE_NAME, database_url
from actors.storage.messages import Storage
from actors.storage.readers import Readers
from actors.storage.relay import Relay
from actors.storage.writer import Writer, WriterSettings
from protocol.codec import structure
from protocol.events import Priority
from protocol.notifications import (
    DeviceRegister,
    NotificationList,
    NotificationPage,
    NotificationPost,
    NotificationPreferences,
)
from runtime import ActorRef, ActorSystem, ChildSpec, SupervisorSpec
from runtime.testing import Probe
from tests.database_fixture import fresh_database

__all__ = ["QUICK", "RunningService", "engine_health", "running_service", "service_spec"]

QUICK = RetrySchedule(base_seconds=0.02, maximum_seconds=0.2, maximum_attempts=8)
"""Retries fast enough for tests."""


def engine_health(state: str = "ready", restarts: int = 0, problem: str | None = None) -> EngineHealth:
    """Return an engine state as the inference service reports it."""
    return EngineHealth(
        engine="mock",
        state=state,
        model="phi",
        worker_pid=1,
        restarts=restarts,
        report={},
        problem=problem,
        queue_depth=0,
        running=0,
        tokens_per_second=None,
        last_inference_ms=None,
    )


def service_spec(
    system: ActorSystem,
    settings: Settings,
    registry: Probe,
    inference: Probe,
    *,
    schedule: RetrySchedule | None = QUICK,
    failpoint: Callable[[str], None] = lambda _: None,
) -> SupervisorSpec:
    """Return the spec of storage, the service and the probes."""
    url = database_url(settings.database, settings.data_dir)
    storage = Storage(system.reference("storage/writer"), system.reference("storage/readers"))
    relay = system.reference("storage/relay")
    writer = WriterSettings(url=url, operations=OPERATIONS, hook=trigger_hook(settings.push_hold_seconds))
    return SupervisorSpec(
        intensity=None,
        children=(
            ChildSpec(id="registry", start=registry.start),
            ChildSpec(
                id="storage",
                start=SupervisorSpec(
                    children=(
                        ChildSpec(
                            id="relay",
                            start=lambda: Relay(
                                system.reference("registry"), system.reference("notifications/dispatcher")
                            ),
                        ),
                        ChildSpec(id="writer", start=lambda: Writer(writer, relay)),
                        ChildSpec(id="readers", start=lambda: Readers(url, QUERIES)),
                    )
                ),
            ),
            ChildSpec(
                id="inference", start=SupervisorSpec(children=(ChildSpec(id="inference", start=inference.start),))
            ),
            notifications.spec(system, settings, storage, schedule=schedule, failpoint=failpoint),
        ),
    )


@define
class RunningService:
    """A started tree, and shortcuts for tests."""

    system: ActorSystem
    settings: Settings
    storage: Storage
    registry: Probe
    inference: Probe

    @property
    def dispatcher(self) -> ActorRef[Any]:
        """The service's dispatcher."""
        return self.system.reference("notifications/dispatcher")

    async def register(self, device_id: str, client_id: str = "me", **fields: Any) -> Any:
        """Register a device."""
        data: DeviceRegister = structure({"device_id": device_id, **fields}, DeviceRegister)
        return await self.dispatcher.ask(RegisterDevice(client_id=client_id, device_id="cli", data=data), timeout=60)

    async def post(
        self, title: str, client_id: str = "me", body: str = "", priority: Priority = Priority.MEDIUM
    ) -> str:
        """Post an event. Returns the notification's id."""
        data = NotificationPost(template="message", fields={"title": title, "body": body}, priority=priority)
        posted = await self.dispatcher.ask(PostNotification(client_id=client_id, data=data), timeout=60)
        return str(posted.notification_id)

    async def prefer(self, client_id: str = "me", **fields: Any) -> None:
        """Set the client's preferences."""
        data: NotificationPreferences = structure({"preferences": fields}, NotificationPreferences)
        await self.dispatcher.ask(UsePreferences(client_id=client_id, device_id="cli", data=data), timeout=60)

    async def list(self, client_id: str = "me") -> NotificationPage:
        """Return the newest notifications."""
        wanted = ListNotifications(client_id=client_id, device_id="cli", data=NotificationList(limit=200))
        page: NotificationPage = await self.dispatcher.ask(wanted, timeout=60)
        return page

    async def state(self, notification_id: str, device_id: str) -> str:
        """Return state and reason of one delivery."""
        page = await self.dispatcher.ask(ReadHistory(client_id="me", limit=200), timeout=60)
        for entry in page.entries:
            for one in entry.deliveries:
                if (entry.notification.notification_id, one.device_id) == (notification_id, device_id):
                    return f"{one.state.value} ({one.reason})" if one.reason else one.state.value
        raise AssertionError("there is no such delivery")

    def rows(self, statement: str) -> list[Any]:
        """Query the database directly."""
        engine = create_engine(database_url(None, self.settings.data_dir))
        with engine.connect() as connection:
            found = [tuple(row) for row in connection.execute(text(statement))]
        engine.dispose()
        return found


@asynccontextmanager
async def running_service(
    folder: Path,
    *,
    schedule: RetrySchedule | None = QUICK,
    failpoint: Callable[[str], None] = lambda _: None,
    health: Any = None,
    **overrides: Any,
) -> AsyncIterator[RunningService]:
    """Run the tree for a block, on the folder's database; without a ``schedule`` the settings' own is used."""
    if not (folder / FILE_NAME).exists():
        fresh_database(folder)
    settings = Settings(
        **{"data_dir": folder, "push_allow_private": True, "push_hold_seconds": 0.0, "engine": "mock", **overrides}
    )
    registry = Probe()
    inference = Probe({DescribeEngine: health or engine_health()})
    system = ActorSystem(watch_loop=False, drain_seconds=0.1)
    storage = Storage(system.reference("storage/writer"), system.reference("storage/readers"))
    async with trio.open_nursery() as nursery:
        spec = service_spec(system, settings, registry, inference, schedule=schedule, failpoint=failpoint)
        await nursery.start(system.run, spec)
        try:
            yield RunningService(system, settings, storage, registry, inference)
        finally:
            system.request_stop("the test is over")
