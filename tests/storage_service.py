"""The storage service in a small tree of its own: the real writer, readers and relay on a real database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from attrs import frozen
from sqlalchemy.engine import URL

from actors.storage.log import LOG_OPERATIONS, LOG_QUERIES
from actors.storage.messages import Operation, Query, Storage, TriggerHook
from actors.storage.readers import Readers
from actors.storage.relay import Relay
from actors.storage.writer import Writer, WriterSettings
from runtime import ActorSystem, ChildSpec, SupervisorSpec
from runtime.testing import Probe, running

__all__ = ["StorageService", "storage_service"]


@frozen
class StorageService:
    """Access to the service from outside."""

    system: ActorSystem
    storage: Storage
    registry: Probe
    """Stands in for the connection registry: collects what the relay publishes."""
    dispatcher: Probe
    """Stands in for the notification dispatcher."""


@asynccontextmanager
async def storage_service(
    url: URL,
    *,
    operations: Iterable[Operation[Any, Any]] = (),
    queries: Iterable[Query[Any, Any]] = (),
    hook: TriggerHook | None = None,
    holder: str | None = None,
    node: str | None = None,
    children: Callable[[ActorSystem, Storage], Iterable[ChildSpec]] = lambda *_: (),
) -> AsyncIterator[StorageService]:
    """Run storage for a block, with ``children`` started after it (a service under test)."""
    registry, dispatcher = Probe(), Probe()
    settings = WriterSettings(url=url, operations=(*LOG_OPERATIONS, *operations), hook=hook, holder=holder, node=node)
    all_queries = (*LOG_QUERIES, *queries)

    def tree(system: ActorSystem) -> SupervisorSpec:
        relay = system.reference("relay")
        return SupervisorSpec(
            children=(
                ChildSpec(id="registry", start=registry.start),
                ChildSpec(id="dispatcher", start=dispatcher.start),
                ChildSpec(
                    id="relay", start=lambda: Relay(system.reference("registry"), system.reference("dispatcher"))
                ),
                ChildSpec(id="writer", start=lambda: Writer(settings, relay)),
                ChildSpec(id="readers", start=lambda: Readers(url, all_queries, node=node)),
                *children(system, Storage(system.reference("writer"), system.reference("readers"))),
            )
        )

    async with running(tree) as system:
        yield StorageService(
            system, Storage(system.reference("writer"), system.reference("readers")), registry, dispatcher
        )
