"""Spans, and the bounded queue between the code that makes them and the exporter."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum

import trio
from attrs import define, field
from prometheus_client import CollectorRegistry, Counter

from actors.errors import CommandError
from actors.tracing.trace_context import TraceContext, current_trace, new_trace, within

__all__ = ["QUEUE_SPANS", "AttributeValue", "Span", "SpanKind", "Tracer"]

QUEUE_SPANS = 2048
"""Bound of the export queue; newer spans are dropped and counted. The default of `OTEL_BSP_MAX_QUEUE_SIZE`."""

AttributeValue = str | bool | int | float | Sequence[str]


class SpanKind(Enum):
    """Span kinds by their OTLP numbers."""

    INTERNAL = 1
    SERVER = 2
    CLIENT = 3


@define(eq=False, kw_only=True)
class Span:
    """A timed operation of a trace."""

    name: str
    kind: SpanKind
    context: TraceContext
    parent: TraceContext | None
    start_ns: int
    """POSIX time, nanoseconds."""
    end_ns: int = 0
    attributes: dict[str, AttributeValue] = field(factory=dict)
    error_type: str | None = None
    """An error code or the class of an exception, never its text; None if the work succeeded."""


class Tracer:
    """Makes spans and queues the ended ones. Lives as long as the process, so that restarts of the exporter lose none."""

    def __init__(self, registry: CollectorRegistry | None = None, *, is_on: bool = False) -> None:
        self.is_on = is_on
        self._waiting: deque[Span] = deque()
        self._arrived = trio.Event()
        self._exported: Counter | None = None
        self._dropped: Counter | None = None
        if registry is not None:
            self._exported = Counter(
                "leanvibe_trace_spans_exported", "Spans that a collector has taken", registry=registry
            )
            self._dropped = Counter(
                "leanvibe_trace_spans_dropped",
                "Spans lost before a collector took them, by reason: queue_full, not_taken, rejected, shutdown",
                ["reason"],
                registry=registry,
            )

    # --- spans --------------------------------------------------------------------------------------

    @contextmanager
    def span(
        self,
        name: str,
        kind: SpanKind = SpanKind.INTERNAL,
        *,
        parent: TraceContext | None = None,
        attributes: Mapping[str, AttributeValue] | None = None,
    ) -> Iterator[Span | None]:
        """Run a block as a child span of ``parent``, or as a root span. Its asks and tasks become children of the span.

        Yields None if the span is not recorded. An exception that leaves the block becomes the span's error.
        """
        if not self.is_on:
            yield None
            return
        if parent is not None and not parent.is_sampled:
            with within(parent):
                yield None
            return
        span = Span(
            name=name,
            kind=kind,
            context=new_trace() if parent is None else parent.child(),
            parent=parent,
            start_ns=time.time_ns(),
            attributes=dict(attributes or {}),
        )
        # The wall clock may be set meanwhile, so the duration comes from the monotonic clock.
        began = time.monotonic_ns()
        try:
            with within(span.context):
                yield span
        except BaseException as error:
            # Cancelled work did not succeed either.
            span.error_type = _error_type(error)
            raise
        finally:
            span.end_ns = span.start_ns + time.monotonic_ns() - began
            self.record(span)

    @contextmanager
    def span_below(
        self,
        name: str,
        kind: SpanKind = SpanKind.INTERNAL,
        *,
        attributes: Mapping[str, AttributeValue] | None = None,
    ) -> Iterator[Span | None]:
        """Like `span`, with the running task's context as parent; yields None if the task is not traced."""
        parent = current_trace() if self.is_on else None
        if parent is None:
            yield None
            return
        with self.span(name, kind, parent=parent, attributes=attributes) as span:
            yield span

    def record(self, span: Span) -> None:
        """Queue an ended span. If the queue is full, the span is dropped and counted."""
        if not self.is_on:
            return
        if len(self._waiting) >= QUEUE_SPANS:
            self.count_dropped(1, "queue_full")
            return
        self._waiting.append(span)
        self._arrived.set()

    # --- for the exporter ---------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Spans in the queue."""
        return len(self._waiting)

    async def until_some(self) -> None:
        """Wait until the queue holds a span."""
        while not self._waiting:
            self._arrived = trio.Event()
            await self._arrived.wait()

    def take(self, count: int) -> list[Span]:
        """Remove and return the oldest spans, at most ``count``."""
        return [self._waiting.popleft() for _ in range(min(count, len(self._waiting)))]

    def count_exported(self, count: int) -> None:
        """Count spans that a collector accepted."""
        if self._exported is not None:
            self._exported.inc(count)

    def count_dropped(self, count: int, reason: str) -> None:
        """Count lost spans."""
        if self._dropped is not None and count:
            self._dropped.labels(reason).inc(count)


def _error_type(error: BaseException) -> str:
    return error.code.value if isinstance(error, CommandError) else type(error).__name__
