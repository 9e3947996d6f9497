"""The composition root: the whole tree of the server, written down as data."""

from __future__ import annotations

import socket
import ssl
from functools import partial
from pathlib import Path
from typing import Any

from attrs import frozen
from prometheus_client import CollectorRegistry

from actors.access.access import Access, AccessSettings
from actors.access.rules import is_loopback
from actors.access.store import OPERATIONS as ACCESS_OPERATIONS
from actors.access.store import QUERIES as ACCESS_QUERIES
from actors.assistant import store as assistant_store
from actors.assistant.assistant import Assistant
from actors.assistant.messages import CONVERSATION_REQUESTS, StartTurn
from actors.connections.client_stream import EventLog, no_counts
from actors.connections.connection import Connection, ConnectionRooms, ConnectionSettings
from actors.connections.directory import Directory
from actors.connections.listener import Listener
from actors.connections.routes import CommandRoute, StreamRoute, generation_route
from actors.connections.store import OPERATIONS as CONNECTIONS_OPERATIONS
from actors.connections.store import QUERIES as CONNECTIONS_QUERIES
from actors.connections.store import prune_acknowledgements
from actors.inference.admission import AdmissionLimits
from actors.inference.engine import Engine, EngineSettings
from actors.inference.inference import Inference, InferenceSettings
from actors.inference.metrics import InferenceMetrics
from actors.inference.roster import Roster
from actors.inference.shelf import CheckpointShelf, MockShelf, ServableModel, Shelf
from actors.inference.spare import Spare
from actors.inference.store import OPERATIONS as INFERENCE_OPERATIONS
from actors.inference.store import QUERIES as INFERENCE_QUERIES
from actors.inference.store import prune_generations
from actors.inference.stream_keeper import StreamRules
from actors.inspection.inspector import Inspector
from actors.inspection.server_file import ServerFile
from actors.notifications.messages import NOTIFICATION_REQUESTS
from actors.notifications.outbox import prune_notifications
from actors.notifications.planning import trigger_hook
from actors.notifications.store import COUNT as COUNT_UNREAD
from actors.notifications.store import OPERATIONS as NOTIFICATION_OPERATIONS
from actors.notifications.store import QUERIES as NOTIFICATION_QUERIES
from actors.notifications.tree import notifications_tree
from actors.rest.application import make_application
from actors.rest.assistant import register_assistant
from actors.rest.conversations import register_conversations
from actors.rest.notifications import register_notifications
from actors.rest.openai import register_openai
from actors.rest.push import register_push
from actors.rest.rest import Rest
from actors.rest.rooms import Rooms
from actors.rest.subscriptions import register_subscriptions
from actors.rest.tasks import register_tasks
from actors.settings import Settings
from actors.storage.database import database_url
from actors.storage.idempotency import prune_outcomes
from actors.storage.log import LOG_OPERATIONS, LOG_PAGE, LOG_QUERIES, OPEN_LOG, LogPageWanted, prune_log
from actors.storage.messages import LogPage, Operation, Query, Storage
from actors.storage.readers import Readers
from actors.storage.relay import Relay
from actors.storage.writer import Writer, WriterSettings
from actors.tasks.messages import TASK_REQUESTS
from actors.tasks.store import OPERATIONS as TASK_OPERATIONS
from actors.tasks.store import QUERIES as TASK_QUERIES
from actors.tasks.tasks import Tasks
from protocol.commands import MAXIMUM_FRAME_BYTES, Assist, Generate
from protocol.events import Limits
from runtime import ActorRef, ActorSystem, ChildSpec, DynamicSpec, SupervisorSpec
from runtime.inspection import readiness

__all__ = ["VERSION", "Listening", "make_tree"]

VERSION = "0.1.0"
MEBIBYTE = 1024 * 1024
OPERATIONS: tuple[Operation[Any, Any], ...] = (
    *LOG_OPERATIONS,
    *ACCESS_OPERATIONS,
    *CONNECTIONS_OPERATIONS,
    *INFERENCE_OPERATIONS,
    *TASK_OPERATIONS,
    *assistant_store.OPERATIONS,
    *NOTIFICATION_OPERATIONS,
)
"""Every write that a room may ask of storage."""
QUERIES: tuple[Query[Any, Any], ...] = (
    *LOG_QUERIES,
    *ACCESS_QUERIES,
    *CONNECTIONS_QUERIES,
    *INFERENCE_QUERIES,
    *TASK_QUERIES,
    *assistant_store.QUERIES,
    *NOTIFICATION_QUERIES,
)
"""Every read."""
PRUNERS = (prune_log, prune_outcomes, prune_generations, prune_acknowledgements, prune_notifications)
"""What forgets rows that are no longer kept."""
MAXIMUM_ENGINES = 4
"""The one in use, one that is loaded to take over, and those that finish their last answers."""


@frozen
class Listening:
    """The two sockets, bound before the tree starts; each child listens on a duplicate."""

    websocket: socket.socket
    rest: socket.socket
    tls: ssl.SSLContext | None = None
    """What both speak; None is plain HTTP."""


def event_log(storage: Storage, notifications: ActorRef[Any]) -> EventLog:
    """What connections read of each client's log."""

    async def open_log(client_id: str) -> str:
        return (await storage.transact(OPEN_LOG, client_id, client_id=client_id)).value

    async def page(client_id: str, after_seq: int) -> LogPage:
        return await storage.read(LOG_PAGE, LogPageWanted(client_id=client_id, after_seq=after_seq))

    async def counts(client_id: str) -> dict[str, int]:
        unread = await storage.read(COUNT_UNREAD, client_id)
        return {**await no_counts(client_id), "unread": unread.unread}

    return EventLog(storage=storage, open=open_log, page=page, counts=counts, ack_to=notifications)


def make_tree(
    system: ActorSystem, settings: Settings, checkpoint: Path | None, listening: Listening, about: ServerFile
) -> SupervisorSpec:
    """The tree as a spec. Started top to bottom, stopped bottom to top."""
    access = system.reference("access")
    storage = Storage(system.reference("storage/writer"), system.reference("storage/readers"))
    inference = system.reference("inference/inference")
    engines = system.dynamic("inference/engines")
    roster = system.reference("inference/roster")
    inspection = system.reference("inspection")
    has_spare = settings.spare_worker == "on" or (settings.spare_worker == "auto" and settings.engine == "mlx")
    spare = system.reference("inference/spare") if has_spare else None
    sockets = system.dynamic("connections/sockets")
    directory = system.reference("connections/directory")
    url = database_url(settings.database, settings.data_dir)
    rooms = Rooms(
        access=access,
        inference=inference,
        storage=storage,
        assistant=system.reference("assistant"),
        tasks=system.reference("tasks"),
        notifications=system.reference("notifications/planner"),
        directory=directory,
    )
    turns = StreamRoute(room=rooms.assistant, message=StartTurn)
    routes: dict[type, CommandRoute | StreamRoute] = {
        Generate: generation_route(inference, turns),
        Assist: turns,
        **{
            wanted: CommandRoute(room=rooms.assistant, message=message)
            for wanted, message in CONVERSATION_REQUESTS.items()
        },
        # As long as the longest wait for an analysis, and for the largest bulk.
        **{
            wanted: CommandRoute(room=rooms.tasks, message=message, timeout_seconds=75.0)
            for wanted, message in TASK_REQUESTS.items()
        },
        **{
            wanted: CommandRoute(room=rooms.notifications, message=message)
            for wanted, message in NOTIFICATION_REQUESTS.items()
        },
    }
    registry = CollectorRegistry()
    metrics = InferenceMetrics(registry)

    engine_settings = EngineSettings(
        engine=settings.engine,
        cache_folder=settings.cache_dir,
        blas=settings.blas,
        prefix_bytes=settings.prefix_mebibytes * MEBIBYTE,
        mock_step_seconds=settings.mock_step_seconds,
        faults=settings.worker_faults,
    )
    inference_settings = InferenceSettings(
        engine=settings.engine,
        limits=AdmissionLimits(
            rows=settings.max_rows,
            waiting_requests=settings.max_waiting,
            kv_bytes=settings.kv_mebibytes * MEBIBYTE,
        ),
        default_max_tokens=settings.default_max_tokens,
        idle_unload_seconds=settings.idle_unload_seconds,
        model_memory_bytes=settings.model_memory_mebibytes * MEBIBYTE,
        streams=StreamRules(storage=storage, detach_seconds=settings.detach_seconds),
    )
    shelf: Shelf = MockShelf()
    if settings.engine != "mock":
        folder = None if checkpoint is None else checkpoint.resolve()
        started_with = ServableModel(name=settings.model, folder=folder, adapter=settings.adapter)
        shelf = CheckpointShelf(started_with, settings.cache_dir)
    connection_settings = ConnectionSettings(
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
        ),
    )

    connection_rooms = ConnectionRooms(
        access=access,
        inference=inference,
        directory=directory,
        log=event_log(storage, rooms.notifications),
        routes=routes,
    )

    return SupervisorSpec(
        children=(
            ChildSpec(id="inspection", start=lambda: Inspector(system, settings.data_dir, about)),
            ChildSpec(
                id="storage",
                start=SupervisorSpec(
                    children=(
                        ChildSpec(id="relay", start=lambda: Relay(directory, rooms.notifications)),
                        ChildSpec(
                            id="writer",
                            start=lambda: Writer(
                                WriterSettings(
                                    url=url,
                                    operations=OPERATIONS,
                                    hook=trigger_hook(settings.push_hold_seconds),
                                    pruners=PRUNERS,
                                ),
                                system.reference("storage/relay"),
                            ),
                        ),
                        ChildSpec(id="readers", start=lambda: Readers(url, QUERIES)),
                    ),
                ),
            ),
            ChildSpec(
                id="access",
                start=lambda: Access(
                    AccessSettings(
                        data_folder=settings.data_dir,
                        allowed_hosts=frozenset(settings.allowed_hosts),
                        allowed_origins=frozenset(settings.allowed_origins),
                        is_loopback_only=is_loopback(settings.host),
                    ),
                    rooms.storage,
                ),
            ),
            ChildSpec(
                id="inference",
                start=SupervisorSpec(
                    # A machine may lose its worker for as long as it likes; back-off spaces the attempts.
                    intensity=None,
                    children=(
                        ChildSpec(id="roster", start=Roster),
                        ChildSpec(id="spare", start=partial(Spare, engine_settings.standby_command)),
                        ChildSpec(id="engines", start=DynamicSpec(max_children=MAXIMUM_ENGINES, intensity=None)),
                        ChildSpec(
                            id="inference",
                            start=lambda: Inference(
                                inference_settings,
                                shelf,
                                engines,
                                lambda model: partial(
                                    Engine, engine_settings.serving(model), inference, inspection, spare
                                ),
                                roster,
                                metrics,
                            ),
                        ),
                    ),
                ),
            ),
            ChildSpec(id="assistant", start=lambda: Assistant(inference, storage)),
            ChildSpec(id="tasks", start=lambda: Tasks(storage, inference)),
            ChildSpec(id="notifications", start=notifications_tree(system, settings, storage)),
            ChildSpec(
                id="connections",
                start=SupervisorSpec(
                    children=(
                        ChildSpec(
                            id="directory",
                            start=lambda: Directory(
                                storage, inference, connections_per_client=settings.connections_per_client
                            ),
                        ),
                        ChildSpec(id="sockets", start=DynamicSpec(max_children=settings.max_connections)),
                        ChildSpec(
                            id="listener",
                            start=lambda: Listener(
                                listening.websocket,
                                sockets,
                                lambda name, stream, passed: Connection(
                                    name, stream, connection_settings, connection_rooms, passed
                                ),
                                maximum_entering=settings.max_entering,
                                tls=listening.tls,
                            ),
                        ),
                    ),
                ),
            ),
            ChildSpec(
                id="rest",
                start=lambda: Rest(
                    listening.rest,
                    lambda: make_application(
                        rooms=rooms,
                        registry=registry,
                        readiness=lambda: readiness(system),
                        about={"service": "leanvibe", "version": VERSION},
                        parts=(
                            register_assistant,
                            register_conversations,
                            register_openai,
                            register_notifications,
                            register_push,
                            register_subscriptions,
                            register_tasks,
                        ),
                    ),
                    listening.tls,
                ),
            ),
        ),
    )
