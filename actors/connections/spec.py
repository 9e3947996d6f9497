"""The connections service's part of the supervision tree, and the routes of WebSocket commands."""

from __future__ import annotations

import socket
import ssl

from actors.assistant.messages import CONVERSATION_REQUESTS, StartTurn
from actors.connections.commands import CommandRoute, StreamRoute, generation_route
from actors.connections.connection import Connection, ConnectionServices
from actors.connections.event_log_reader import EventLog
from actors.connections.listener import Listener
from actors.connections.registry import ConnectionRegistry
from actors.connections.session import ConnectionSettings
from actors.inference.messages import ReportProgress
from actors.monitoring.messages import OPERATOR_REQUESTS
from actors.notifications.messages import NOTIFICATION_REQUESTS
from actors.references import References
from actors.settings import Settings
from actors.tasks.messages import TASK_REQUESTS
from actors.tracing.tracer import Tracer
from actors.version import VERSION
from protocol.commands import MAXIMUM_FRAME_BYTES, Assist, Generate, GetProgress
from protocol.events import Limits
from runtime import ActorSystem, ChildSpec, DynamicSpec, SupervisorSpec

__all__ = ["command_routes", "spec"]

TASK_SECONDS = 75.0
"""As long as the longest wait for an analysis, and for the largest bulk command."""

OPERATOR_SECONDS = 60.0
"""A restart waits for the old actors to stop and the new ones to start."""


def spec(
    system: ActorSystem,
    settings: Settings,
    to: References,
    log: EventLog,
    bound: socket.socket,
    tls: ssl.SSLContext | None,
    tracer: Tracer,
    *,
    command_memory_seconds: int,
) -> ChildSpec:
    """Return the listener on ``bound``, the supervisor of connections, and their registry.

    ``log`` reads a client's log. ``command_memory_seconds`` tells clients how long a repeated command is recognised.
    """
    of_connection = _connection_settings(settings, command_memory_seconds)
    services = ConnectionServices(
        access=to.access,
        inference=to.inference,
        registry=to.connection_registry,
        monitoring=to.monitoring,
        log=log,
        routes=command_routes(to),
        tracer=tracer,
    )
    sockets = system.dynamic("connections/sockets")
    per_client = settings.connections_per_client

    def listener() -> Listener:
        return Listener(
            bound,
            sockets,
            lambda name, stream, passed, received: Connection(name, stream, of_connection, services, passed, received),
            maximum_entering=settings.max_entering,
            tls=tls,
        )

    return ChildSpec(
        id="connections",
        start=SupervisorSpec(
            children=(
                ChildSpec(
                    id="registry",
                    start=lambda: ConnectionRegistry(to.storage, to.inference, connections_per_client=per_client),
                ),
                ChildSpec(id="sockets", start=DynamicSpec(max_children=settings.max_connections)),
                ChildSpec(id="listener", start=listener),
            ),
        ),
    )


def command_routes(to: References) -> dict[type, CommandRoute | StreamRoute]:
    """Map each WebSocket command to its service."""
    turns = StreamRoute(service=to.assistant, message=StartTurn)
    routes: dict[type, CommandRoute | StreamRoute] = {
        Generate: generation_route(to.inference, turns),
        Assist: turns,
        GetProgress: CommandRoute(service=to.inference, message=ReportProgress),
    }
    for wanted, message in CONVERSATION_REQUESTS.items():
        routes[wanted] = CommandRoute(service=to.assistant, message=message)
    for wanted, message in TASK_REQUESTS.items():
        routes[wanted] = CommandRoute(service=to.tasks, message=message, timeout_seconds=TASK_SECONDS)
    for wanted, message in NOTIFICATION_REQUESTS.items():
        routes[wanted] = CommandRoute(service=to.notifications, message=message)
    for wanted, message in OPERATOR_REQUESTS.items():
        routes[wanted] = CommandRoute(service=to.monitoring, message=message, timeout_seconds=OPERATOR_SECONDS)
    return routes


def _connection_settings(settings: Settings, command_memory_seconds: int) -> ConnectionSettings:
    """Return the settings shared by all connections."""
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
            command_memory_seconds=command_memory_seconds,
        ),
        answer_defaults=settings.answer_defaults(),
    )
