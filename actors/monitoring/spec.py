"""Child spec of the monitoring service."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from actors.monitoring.actor import Monitor
from actors.references import References
from actors.request_log import RequestLog
from runtime import ActorSystem, ChildSpec

__all__ = ["spec"]


def spec(system: ActorSystem, to: References, registry: CollectorRegistry, log: RequestLog) -> ChildSpec:
    """Child spec of the monitoring actor. A helper: the server works without it."""
    return ChildSpec(
        id="monitoring",
        start=lambda: Monitor(system, registry, log, to.inference, to.connection_registry, to.access),
        is_helper=True,
    )
