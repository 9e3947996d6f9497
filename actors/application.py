"""The composition root: the server's whole tree, one `spec` per service."""

from __future__ import annotations

import os
import socket
import ssl
from pathlib import Path

from attrs import frozen
from prometheus_client import CollectorRegistry

from actors.access import spec as access
from actors.assistant import spec as assistant
from actors.cluster import spec as cluster
from actors.cluster.configuration import cluster_configuration
from actors.connections import spec as connections
from actors.database_operations import COMMAND_MEMORY_SECONDS, OPERATIONS, PRUNERS, QUERIES, event_log, trigger_hook
from actors.inference import spec as inference
from actors.inference.encoder import spec as encoder
from actors.inference.encoder.metrics import EncoderMetrics
from actors.inference.metrics import InferenceMetrics
from actors.inference.sandbox import spec as sandbox
from actors.inference.worker_process import InferenceWorker
from actors.inspection import spec as inspection
from actors.inspection.server_file import ServerFile
from actors.monitoring import spec as monitoring
from actors.notifications import spec as notifications
from actors.process_metrics import ProcessMetrics
from actors.references import References
from actors.request_log import RequestLog
from actors.responses import spec as responses
from actors.responses.running import AnswerForms
from actors.rest import spec as rest
from actors.service_manager import spec as service_manager
from actors.service_manager.notify_socket import NotifySocket
from actors.settings import Settings
from actors.storage import spec as storage
from actors.storage.database import database_url
from actors.tasks import spec as tasks
from actors.tracing import spec as tracing
from actors.tracing.endpoint import export_settings
from actors.tracing.tracer import Tracer
from actors.version import VERSION
from runtime import ActorSystem, SupervisorSpec

__all__ = ["VERSION", "Listening", "make_tree"]


@frozen
class Listening:
    """The two listening sockets, bound before the tree starts; each child listens on a duplicate."""

    websocket: socket.socket
    rest: socket.socket
    tls: ssl.SSLContext | None = None
    """TLS context of both; None for plain HTTP."""
    is_ephemeral: bool = False
    """True if the server exists for one question; whatever that does not need is created on first use."""


def make_tree(
    system: ActorSystem,
    settings: Settings,
    checkpoint: Path | None,
    listening: Listening,
    about: ServerFile,
    read_only: str | None = None,
    manager: NotifySocket | None = None,
    early_worker: InferenceWorker | None = None,
) -> SupervisorSpec:
    """Return the tree as a spec, started top to bottom and stopped bottom to top.

    ``read_only``: the reason if the database cannot be written. ``manager`` is notified when everything has started, and of
    liveness. The first engine takes over the ``early_worker``, a process on or near standby; if none does, its starter ends it.
    """
    is_ephemeral = listening.is_ephemeral
    registry = CollectorRegistry()
    export = export_settings(settings, os.environ)
    tracer = Tracer(registry, is_on=export is not None)
    to = References.of(system, tracer)
    registry.register(ProcessMetrics())
    of_inference = InferenceMetrics(registry)
    of_encoder = EncoderMetrics(registry)
    requests = RequestLog()
    of_cluster = cluster_configuration(settings, database_url(settings.database, settings.data_dir))
    return SupervisorSpec(
        children=(
            *tracing.spec(settings, export, tracer),
            inspection.spec(system, settings, about),
            # Before storage: its process reads the checkpoint while the database is opened.
            sandbox.spec(settings, checkpoint, is_ephemeral=is_ephemeral),
            storage.spec(
                system,
                settings,
                to,
                operations=OPERATIONS,
                queries=QUERIES,
                pruners=PRUNERS,
                hook=trigger_hook(settings.push_hold_seconds),
                address=about.rest_url,
                read_only=read_only,
                node=None if of_cluster is None else of_cluster.node,
            ),
            *cluster.spec(of_cluster, to, version=VERSION, model=about.model, address=about.rest_url),
            access.spec(settings, to, node=None if of_cluster is None else of_cluster.node),
            inference.spec(
                system,
                settings,
                to,
                checkpoint,
                of_inference,
                tracer,
                is_ephemeral=is_ephemeral,
                early_worker=early_worker,
                requests=requests,
            ),
            encoder.spec(settings, of_encoder),
            assistant.spec(to),
            responses.spec(to, answer_forms),
            tasks.spec(to),
            notifications.spec(system, settings, to.storage, tracer),
            monitoring.spec(system, to, registry, requests),
            connections.spec(
                system,
                settings,
                to,
                event_log(to),
                listening.websocket,
                listening.tls,
                tracer,
                command_memory_seconds=COMMAND_MEMORY_SECONDS,
            ),
            rest.spec(system, settings, to, registry, tracer, listening.rest, listening.tls, is_ephemeral=is_ephemeral),
            *service_manager.spec(manager, to),
        ),
    )


def answer_forms() -> AnswerForms:
    """Return the readers of stored responses, injected here because services do not import one another."""
    # Imported when that service starts, as the web framework is.
    from actors.rest.responses.reading import output_of, reading_of

    return AnswerForms(reading=reading_of, output=output_of)
