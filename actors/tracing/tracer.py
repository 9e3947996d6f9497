"""Spans and the bounded queue that they wait in for the exporter. Nothing here waits."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum

import trio
from attrs import define, field
from prometheus_client import CollectorRegistry, Counter

from actors.refusals import CommandRefused
from actors.tracing.trace_context import TraceContext, current_trace, new_trace, within

__all__ = ["QUEUE_SPANS", "AttributeValue", "Span", "SpanKind", "Tracer"]

QUEUE_SPANS = 2048
"""Spans that may wait for the exporter; newer ones are dropped and counted. As `OTEL_BSP_MAX_QUEUE_SIZE` has it by default."""

AttributeValue = str | bool | int | float | Sequence[str]


class SpanKind(Enum):
    """Numbers as OTLP has them."""

    INTERNAL = 1
    SERVER = 2
    CLIENT = 3


@define(eq=False, kw_only=True)
class Span:
    """One piece of work with its beginning and end."""

    name: str
    kind: SpanKind
    context: TraceContext
    parent: TraceContext | None
    start_ns: int
    """POSIX time, nanoseconds."""
    end_ns: int = 0
    attributes: dict[str, AttributeValue] = field(factory=dict)
    error_type: str | None = None
    """A code or the class of an exception, never its text; None of work that succeeded."""


class Tracer:
    """Makes spans and queues those that have ended. Lives as long as the process, so restarts of the exporter lose none."""

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
                "Spans that no collector got, by why: queue_full, not_taken, shutdown",
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
        """A block as a span below ``parent``, or as the first of a trace; what it asks and starts is below it.

        None where nothing is recorded. An exception out of the block is its error.
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
        # The wall clock may be set meanwhile; how long it took is the monotonic clock's to say.
        began = time.monotonic_ns()
        try:
            with within(span.context):
                yield span
        except BaseException as error:
            # What was cancelled did not succeed either, and its span says so.
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
        """As `span`, below what the running task works for; nothing where that is not traced."""
        parent = current_trace() if self.is_on else None
        if parent is None:
            yield None
            return
        with self.span(name, kind, parent=parent, attributes=attributes) as span:
            yield span

    def record(self, span: Span) -> None:
        """Queue a span that has ended; where the queue is full it is dropped and counted."""
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
        """Wait until a span waits."""
        while not self._waiting:
            self._arrived = trio.Event()
            await self._arrived.wait()

    def take(self, count: int) -> list[Span]:
        """The oldest, at most ``count``."""
        return [self._waiting.popleft() for _ in range(min(count, len(self._waiting)))]

    def count_exported(self, count: int) -> None:
        """A collector has taken so many."""
        if self._exported is not None:
            self._exported.inc(count)

    def count_dropped(self, count: int, reason: str) -> None:
        """So many are lost."""
        if self._dropped is not None and count:
            self._dropped.labels(reason).inc(count)


def _error_type(error: BaseException) -> str:
    return error.code.value if isinstance(error, CommandRefused) else type(error).__name__
