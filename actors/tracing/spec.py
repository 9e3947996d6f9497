"""Child spec of the trace exporter."""

from __future__ import annotations

from actors.settings import Settings
from actors.tracing.endpoint import ExportSettings
from actors.tracing.tracer import Tracer
from runtime import ChildSpec

__all__ = ["spec"]


def spec(settings: Settings, export: ExportSettings | None, tracer: Tracer) -> tuple[ChildSpec, ...]:
    """Child spec of the exporter, or none if tracing is off."""
    if export is None:
        return ()
    # The HTTP client is imported only for it.
    from actors.tracing.exporter import TraceExporter

    return (ChildSpec(id="tracing", start=lambda: TraceExporter(export, tracer, settings.ca), is_helper=True),)
