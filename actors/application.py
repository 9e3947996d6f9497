"""The composition root: the whole tree of the server, written down as data."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from attrs import frozen
from prometheus_client import CollectorRegistry

from actors.access.access import Access
from actors.assistant.assistant import Assistant
from actors.connections.connection import Connection, ConnectionServices
from actors.connections.listener import Listener
from actors.connections.registry import ConnectionRegistry
from actors.inference.encoder.actor import Encoder
from actors.inference.encoder.metrics import EncoderMetrics
from actors.inference.engine import Engine
from actors.inference.engine_registry import EngineRegistry
from actors.inference.inference import Inference
from actors.inference.kernel_compiler import KernelCompiler
from actors.inference.metrics import InferenceMetrics
from actors.inference.sandbox.sandbox import Sandbox
from actors.inference.standby import WarmStandby
from actors.inference.worker_config import WorkerConfig
from actors.inference.worker_process import InferenceWorker
from actors.inspection.inspector import Inspector
from actors.inspection.server_file import ServerFile
from actors.notifications.tree import notifications_tree
from actors.process_metrics import ProcessMetrics
from actors.responses.responses import Responses
from actors.rest.references import Services
from actors.rest.rest import Rest
from actors.service_manager.actor import ServiceManager
from actors.service_manager.notify_socket import NotifySocket
from actors.settings import Settings
from actors.storage.database import database_url
from actors.storage.messages import Storage
from actors.storage.read_only import ReadOnlyStorage, WriterInWaiting
from actors.storage.readers import Readers
from actors.storage.relay import Relay
from actors.storage.writer import Writer
from actors.tasks.tasks import Tasks
from actors.version import VERSION
from actors.wiring import (
    OPERATIONS,
    QUERIES,
    access_settings,
    answer_defaults,
    command_routes,
    connection_settings,
    encoder_settings,
    event_log,
    inference_settings,
    make_model_registry,
    model_commands,
    writer_settings,
)
from runtime import ActorRef, ActorSystem, ChildSpec, DynamicSpec, SupervisorSpec
from runtime.inspection import Readiness, readiness

__all__ = ["VERSION", "Listening", "make_tree"]

MAXIMUM_ENGINES = 4
"""The one in use, one that is loaded to take over, and those that finish their last answers."""
READ_MODEL_SECONDS = 30.0
"""What reading a model's tokenizer may take at the start: a machine that is busy booting must not make the server give up."""
IMPORT_SECONDS = 30.0
"""What importing the web framework may take, for the same reason."""


@frozen
class Listening:
    """The two sockets, bound before the tree starts; each child listens on a duplicate."""

    websocket: socket.socket
    rest: socket.socket
    tls: ssl.SSLContext | None = None
    """What both speak; None is plain HTTP."""
    is_ephemeral: bool = False
    """Whether the server is there for one question: what that does not need is made no sooner than somebody needs it."""


def make_tree(
    system: ActorSystem,
    settings: Settings,
    checkpoint: Path | None,
    listening: Listening,
    about: ServerFile,
    read_only: str | None = None,
    service_manager: NotifySocket | None = None,
    early_worker: InferenceWorker | None = None,
) -> SupervisorSpec:
    """The tree as a spec. Started top to bottom, stopped bottom to top. ``read_only`` says why the database is only read.

    ``service_manager`` is told when all of it has started, and that it lives. The first engine takes the ``early_worker``, a
    process that stands by or will in a moment; whoever started it ends it where no engine came to take it.
    """
    storage_mode = ReadOnlyStorage(read_only)
    access = system.reference("access")
    storage = Storage(system.reference("storage/writer"), system.reference("storage/readers"))
    inference = system.reference("inference/inference")
    engines = system.dynamic("inference/engines")
    engine_registry = system.reference("inference/engine_registry")
    inspection = system.reference("inspection")
    has_standby = settings.spare_worker == "on" or (settings.spare_worker == "auto" and settings.engine == "mlx")
    early = [] if early_worker is None else [early_worker]
    standby = system.reference("inference/standby") if has_standby or early else None
    sockets = system.dynamic("connections/sockets")
    connection_registry = system.reference("connections/registry")
    url = database_url(settings.database, settings.data_dir)
    services = Services(
        access=access,
        inference=inference,
        encoder=system.reference("encoder/encoder"),
        storage=storage,
        assistant=system.reference("assistant"),
        responses=system.reference("responses"),
        tasks=system.reference("tasks"),
        notifications=system.reference("notifications/dispatcher"),
        connection_registry=connection_registry,
        inspection=inspection,
        answer_defaults=answer_defaults(settings),
        **model_commands(settings),
    )
    registry = CollectorRegistry()
    registry.register(ProcessMetrics())
    metrics = InferenceMetrics(registry)
    encoder_metrics = EncoderMetrics(registry)

    of_worker = WorkerConfig.of(settings, is_ephemeral=listening.is_ephemeral)
    kernels = [ChildSpec(id="kernels", start=lambda: KernelCompiler(settings.cache_dir, inference), is_helper=True)]
    inference_of = inference_settings(settings, storage, access)
    model_registry = make_model_registry(settings, checkpoint)
    first_text = None if settings.engine == "mock" or checkpoint is None else checkpoint.resolve()
    connection_of = connection_settings(settings)
    connection_services = ConnectionServices(
        access=access,
        inference=inference,
        registry=connection_registry,
        log=event_log(storage, services.notifications),
        routes=command_routes(services),
    )

    of_writer = writer_settings(settings, url, about.rest_url)

    return SupervisorSpec(
        children=(
            ChildSpec(id="inspection", start=lambda: Inspector(system, settings.data_dir, about), is_helper=True),
            # Before storage: its process reads the checkpoint while the database is opened.
            ChildSpec(
                id="sandbox",
                start=SupervisorSpec(
                    intensity=None,
                    children=(
                        ChildSpec(
                            id="sandbox",
                            start=lambda: Sandbox(opens_first=first_text, grammars_at_need=listening.is_ephemeral),
                        ),
                    ),
                ),
            ),
            ChildSpec(
                id="storage",
                start=SupervisorSpec(
                    children=(
                        ChildSpec(id="relay", start=lambda: Relay(connection_registry, services.notifications)),
                        ChildSpec(
                            id="writer",
                            start=lambda: (
                                Writer(of_writer, system.reference("storage/relay"))
                                if storage_mode.reason is None
                                else WriterInWaiting(url, storage_mode, storage.readers, OPERATIONS)
                            ),
                        ),
                        ChildSpec(
                            id="readers",
                            start=lambda: Readers(url, QUERIES, read_only=storage_mode.reason is not None),
                        ),
                    ),
                ),
            ),
            ChildSpec(
                id="access",
                start=lambda: Access(access_settings(settings), storage),
            ),
            ChildSpec(
                id="inference",
                start=SupervisorSpec(
                    # A machine may lose its worker for as long as it likes; back-off spaces the attempts.
                    intensity=None,
                    children=(
                        ChildSpec(id="engine_registry", start=EngineRegistry),
                        ChildSpec(
                            id="standby",
                            start=lambda: WarmStandby(of_worker, early=early, keeps_one=has_standby),
                            is_helper=True,
                        ),
                        *(kernels if of_worker.compiles_beside else ()),
                        ChildSpec(id="engines", start=DynamicSpec(max_children=MAXIMUM_ENGINES, intensity=None)),
                        ChildSpec(
                            id="inference",
                            start=lambda: Inference(
                                inference_of,
                                model_registry,
                                engines,
                                lambda model: partial(Engine, of_worker, model, inference, inspection, standby),
                                engine_registry,
                                metrics,
                                system.reference("sandbox/sandbox"),
                                system.reference("inference/kernels") if of_worker.compiles_beside else None,
                            ),
                            start_seconds=READ_MODEL_SECONDS,
                        ),
                    ),
                ),
            ),
            ChildSpec(
                id="encoder",
                start=SupervisorSpec(
                    intensity=None,
                    children=(
                        ChildSpec(id="encoder", start=lambda: Encoder(encoder_settings(settings), encoder_metrics)),
                    ),
                ),
                is_helper=True,
            ),
            ChildSpec(id="assistant", start=lambda: Assistant(inference, storage)),
            ChildSpec(id="responses", start=lambda: Responses(inference, storage)),
            ChildSpec(id="tasks", start=lambda: Tasks(storage, inference)),
            ChildSpec(id="notifications", start=notifications_tree(system, settings, storage), is_helper=True),
            ChildSpec(
                id="connections",
                start=SupervisorSpec(
                    children=(
                        ChildSpec(
                            id="registry",
                            start=lambda: ConnectionRegistry(
                                storage, inference, connections_per_client=settings.connections_per_client
                            ),
                        ),
                        ChildSpec(id="sockets", start=DynamicSpec(max_children=settings.max_connections)),
                        ChildSpec(
                            id="listener",
                            start=lambda: Listener(
                                listening.websocket,
                                sockets,
                                lambda name, stream, passed, received: Connection(
                                    name, stream, connection_of, connection_services, passed, received
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
                    lambda: _rest_application(services, registry, lambda: readiness(system)),
                    access,
                    system.reference("connections/listener"),
                    listening.tls,
                    connections=settings.max_http_connections,
                    on_demand=listening.is_ephemeral,
                ),
                start_seconds=IMPORT_SECONDS,
            ),
            *_service_manager(service_manager, inference),
        ),
    )


def _service_manager(manager: NotifySocket | None, inference: ActorRef[Any]) -> tuple[ChildSpec, ...]:
    """Last, so that it starts when everything else has. Without a manager there is no such child."""
    if manager is None:
        return ()
    return (ChildSpec(id="service_manager", start=lambda: ServiceManager(manager, inference), is_helper=True),)


def _rest_application(services: Services, registry: CollectorRegistry, is_ready: Callable[[], Readiness]) -> Any:
    """The REST application; blocking. The web framework comes with it, so it is imported while the rest of the tree starts."""
    from actors.rest.all_routes import make_whole_application

    return make_whole_application(services=services, registry=registry, readiness=is_ready)
