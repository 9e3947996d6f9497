"""Records a span for each HTTP request, following OpenTelemetry's conventions for servers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from quart import request
from quart_trio import QuartTrio

from actors.rest.exchanges import IN_FLIGHT, InFlight
from actors.tracing.trace_context import TraceContext, parse_traceparent, parse_tracestate
from actors.tracing.tracer import Span, SpanKind, Tracer

__all__ = ["register_route_notes", "request_span"]

UNTRACED = ("/health", "/metrics")
"""Paths that monitors poll every few seconds."""
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE", "QUERY"})


@contextmanager
def request_span(tracer: Tracer, scope: Mapping[str, Any], in_flight: InFlight) -> Iterator[None]:
    """Trace one request, as a child of its `traceparent` header or as the root of a new trace."""
    path = scope.get("path", "")
    if not tracer.is_on or any(path == one or path.startswith(f"{one}/") for one in UNTRACED):
        yield
        return
    with tracer.span("", SpanKind.SERVER, parent=_parent(scope)) as span:
        try:
            yield
        finally:
            if span is not None:
                _describe(span, scope, in_flight)


def _parent(scope: Mapping[str, Any]) -> TraceContext | None:
    headers = [(name.lower(), value.decode("latin-1")) for name, value in scope.get("headers", ())]
    found = [value for name, value in headers if name == b"traceparent"]
    # Two headers name no single parent.
    if len(found) != 1:
        return None
    return parse_traceparent(found[0], parse_tracestate([value for name, value in headers if name == b"tracestate"]))


def _describe(span: Span, scope: Mapping[str, Any], in_flight: InFlight) -> None:
    method = scope["method"] if scope["method"] in METHODS else "_OTHER"
    shown = "HTTP" if method == "_OTHER" else method
    # A path may contain anything; routes are few.
    span.name = shown if in_flight.route is None else f"{shown} {in_flight.route}"
    span.attributes |= {
        "http.request.method": method,
        "url.scheme": scope.get("scheme", "http"),
        "url.path": scope.get("path", ""),
        "network.protocol.version": str(scope.get("http_version", "1.1")),
    }
    if in_flight.route is not None:
        span.attributes["http.route"] = in_flight.route
    if in_flight.status is not None:
        span.attributes["http.response.status_code"] = in_flight.status
        if in_flight.status >= 500:
            span.error_type = str(in_flight.status)
    if not in_flight.is_whole and span.error_type is None:
        span.error_type = "cut_off"


def register_route_notes(app: QuartTrio) -> None:
    """Record the route of each request for its span."""

    @app.before_request
    async def note_route() -> None:
        if request.url_rule is not None:
            # Our own extension; hypercorn's type of a scope has a fixed set of names.
            in_flight: InFlight = request.scope[IN_FLIGHT]  # type: ignore[literal-required]
            in_flight.route = request.url_rule.rule
