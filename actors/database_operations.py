"""All database operations of the services, collected for storage. The only module that imports every store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Table

from actors.access.store import OPERATIONS as ACCESS_OPERATIONS
from actors.access.store import QUERIES as ACCESS_QUERIES
from actors.access.store import clients_of_tokens
from actors.assistant import store as assistant_store
from actors.assistant import tables as assistant_tables
from actors.cluster.store import OPERATIONS as CLUSTER_OPERATIONS
from actors.cluster.store import QUERIES as CLUSTER_QUERIES
from actors.connections import tables as connection_tables
from actors.connections.event_log_reader import EventLog
from actors.connections.store import OPERATIONS as CONNECTIONS_OPERATIONS
from actors.connections.store import QUERIES as CONNECTIONS_QUERIES
from actors.connections.store import prune_acknowledgements
from actors.inference import tables as inference_tables
from actors.inference.store import OPERATIONS as INFERENCE_OPERATIONS
from actors.inference.store import QUERIES as INFERENCE_QUERIES
from actors.inference.store import prune_generations
from actors.notifications import tables as notification_tables
from actors.notifications.acks import prune_settled
from actors.notifications.fan_out import trigger_hook
from actors.notifications.outbox import prune_notifications
from actors.notifications.store import COUNT as COUNT_UNREAD
from actors.notifications.store import OPERATIONS as NOTIFICATION_OPERATIONS
from actors.notifications.store import QUERIES as NOTIFICATION_QUERIES
from actors.references import References
from actors.responses import tables as response_tables
from actors.responses.store import OPERATIONS as RESPONSE_OPERATIONS
from actors.responses.store import QUERIES as RESPONSE_QUERIES
from actors.responses.store import prune_responses
from actors.storage import tables as storage_tables
from actors.storage.client_retention import client_pruner
from actors.storage.idempotency import FIND_KEPT, KEPT_MILLISECONDS
from actors.storage.log import LOG_OPERATIONS, LOG_PAGE, LOG_QUERIES, OPEN_LOG, LogPageQuery, prune_log
from actors.storage.messages import LogPage, Operation, Query
from actors.tasks import tables as task_tables
from actors.tasks.store import COUNT_TASKS
from actors.tasks.store import OPERATIONS as TASK_OPERATIONS
from actors.tasks.store import QUERIES as TASK_QUERIES

__all__ = [
    "COMMAND_MEMORY_SECONDS",
    "OPERATIONS",
    "PRUNERS",
    "QUERIES",
    "TABLES_OF_CLIENTS",
    "event_log",
    "trigger_hook",
]

COMMAND_MEMORY_SECONDS = KEPT_MILLISECONDS // 1000
"""Time for which a repeated command is recognised by its id."""
OPERATIONS: tuple[Operation[Any, Any], ...] = (
    *LOG_OPERATIONS,
    *ACCESS_OPERATIONS,
    *CLUSTER_OPERATIONS,
    *CONNECTIONS_OPERATIONS,
    *INFERENCE_OPERATIONS,
    *TASK_OPERATIONS,
    *assistant_store.OPERATIONS,
    *RESPONSE_OPERATIONS,
    *NOTIFICATION_OPERATIONS,
)
"""All operations (writes)."""
QUERIES: tuple[Query[Any, Any], ...] = (
    FIND_KEPT,
    *LOG_QUERIES,
    *ACCESS_QUERIES,
    *CLUSTER_QUERIES,
    *CONNECTIONS_QUERIES,
    *INFERENCE_QUERIES,
    *TASK_QUERIES,
    *assistant_store.QUERIES,
    *RESPONSE_QUERIES,
    *NOTIFICATION_QUERIES,
)
"""All queries."""
TABLES_OF_CLIENTS: tuple[Table, ...] = tuple(
    table
    for service in (
        storage_tables,
        connection_tables,
        inference_tables,
        task_tables,
        assistant_tables,
        response_tables,
        notification_tables,
    )
    for table in service.metadata.sorted_tables
    if "client_id" in table.c and table is not storage_tables.client_logs
)
"""Tables whose rows make a client keep its log."""
PRUNERS: tuple[Callable[[Connection, int], int], ...] = (
    prune_log,
    prune_generations,
    prune_acknowledgements,
    prune_notifications,
    prune_settled,
    prune_responses,
    client_pruner(TABLES_OF_CLIENTS, clients_of_tokens),
)
"""Pruners of expired rows."""


def event_log(to: References) -> EventLog:
    """Return the event log as connections read it, with the counters of devices."""
    storage = to.storage

    async def open_log(client_id: str) -> str:
        return (await storage.transact(OPEN_LOG, client_id, client_id=client_id)).value

    async def page(client_id: str, after_seq: int) -> LogPage:
        return await storage.read(LOG_PAGE, LogPageQuery(client_id=client_id, after_seq=after_seq))

    async def counts(client_id: str) -> dict[str, int]:
        unread = await storage.read(COUNT_UNREAD, client_id)
        return {"unread": unread.unread, "task_count": await storage.read(COUNT_TASKS, client_id)}

    return EventLog(storage=storage, open=open_log, page=page, counts=counts, ack_to=to.notifications)
