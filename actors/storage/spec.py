"""Child spec of the storage service."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection

from actors.references import References
from actors.settings import Settings
from actors.storage.database import database_url
from actors.storage.holding import holder_name
from actors.storage.messages import Operation, Query, TriggerHook
from actors.storage.read_only import ReadOnlyStorage, WriterInWaiting
from actors.storage.readers import Readers
from actors.storage.relay import Relay
from actors.storage.writer import Writer, WriterSettings
from runtime import ActorSystem, ChildSpec, SupervisorSpec

__all__ = ["spec"]


def spec(
    system: ActorSystem,
    settings: Settings,
    to: References,
    *,
    operations: tuple[Operation[Any, Any], ...],
    queries: tuple[Query[Any, Any], ...],
    pruners: tuple[Callable[[Connection, int], int], ...],
    hook: TriggerHook,
    address: str,
    read_only: str | None,
    node: str | None = None,
) -> ChildSpec:
    """The one writer, the readers, and the relay that tells others of what was committed.

    ``operations``, ``queries`` and ``pruners`` are everything that services do in the database, and ``hook`` runs within each
    transaction. ``address`` names this server to another one that finds the database taken. ``read_only`` says why nothing may
    be written; None where it may.
    """
    url = database_url(settings.database, settings.data_dir)
    of_writer = WriterSettings(
        url=url,
        operations=operations,
        hook=hook,
        pruners=pruners,
        holder=holder_name(address),
        node=node,
    )
    mode = ReadOnlyStorage(read_only)
    relay = system.reference("storage/relay")
    announcer = None if node is None else system.reference("cluster/announcer")

    def writer() -> Writer | WriterInWaiting:
        if mode.reason is None:
            return Writer(of_writer, relay)
        return WriterInWaiting(url, mode, to.storage.readers, operations)

    return ChildSpec(
        id="storage",
        start=SupervisorSpec(
            children=(
                ChildSpec(id="relay", start=lambda: Relay(to.connection_registry, to.notifications, announcer)),
                ChildSpec(id="writer", start=writer),
                ChildSpec(
                    id="readers", start=lambda: Readers(url, queries, read_only=mode.reason is not None, node=node)
                ),
            ),
        ),
    )
