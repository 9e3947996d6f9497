"""Child specification of the REST service."""

from __future__ import annotations

import functools
import socket
import ssl
import sys
from typing import Any

from prometheus_client import CollectorRegistry

from actors.own_command import line_here
from actors.references import References
from actors.rest.actor import Rest
from actors.rest.references import Services
from actors.settings import Settings
from actors.tracing.tracer import Tracer
from runtime import ActorSystem, ChildSpec
from runtime.inspection import readiness

__all__ = ["spec"]

IMPORT_SECONDS = 30.0
"""Time allowed for importing the web framework, even on a machine that is busy booting."""


def spec(
    system: ActorSystem,
    settings: Settings,
    to: References,
    registry: CollectorRegistry,
    tracer: Tracer,
    bound: socket.socket,
    tls: ssl.SSLContext | None,
    *,
    is_ephemeral: bool,
) -> ChildSpec:
    """A single actor, which serves every route on ``bound`` and hands WebSocket requests to the listener of connections."""
    services = _services(settings, to)

    def application() -> Any:
        # Imports the web framework, in parallel with the rest of the start.
        from actors.rest.all_routes import make_whole_application

        return make_whole_application(services=services, registry=registry, readiness=lambda: readiness(system))

    return ChildSpec(
        id="rest",
        start=lambda: Rest(
            bound,
            application,
            to.access,
            to.connection_listener,
            tls,
            tracer,
            connections=settings.max_http_connections,
            on_demand=is_ephemeral,
        ),
        start_seconds=IMPORT_SECONDS,
    )


def _services(settings: Settings, to: References) -> Services:
    # Commands that download and remove models; the name is appended.
    program = (sys.executable, "-m", "actors.command_line.main", "model")
    cache = ("--cache-dir", str(settings.cache_dir))
    return Services(
        access=to.access,
        inference=to.inference,
        encoder=to.encoder,
        storage=to.storage,
        assistant=to.assistant,
        responses=to.responses,
        tasks=to.tasks,
        notifications=to.notifications,
        connection_registry=to.connection_registry,
        inspection=to.inspection,
        answer_defaults=settings.answer_defaults(),
        pull_command=(*program, "pull", "--no-check", "--tell-progress", *cache, "--"),
        remove_command=(*program, "remove", "--yes", *cache, "--data-dir", str(settings.data_dir), "--"),
        command_line=functools.partial(line_here, settings),
    )
