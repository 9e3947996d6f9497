"""The place in a trace that work belongs to, and its form on the wire: W3C Trace Context, level 1."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from attrs import frozen

from runtime.asking import request_context

__all__ = ["TraceContext", "current_trace", "new_trace", "parse_traceparent", "within"]

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
SAMPLED = 0x01


@frozen
class TraceContext:
    """A span, as those below it and other processes know it."""

    trace_id: str
    """32 hexadecimal digits, not all zero."""
    span_id: str
    """16 hexadecimal digits, not all zero."""
    is_sampled: bool = True
    """Whether spans of this trace are recorded; decided where the trace began."""
    is_remote: bool = False
    """Whether another process made the span."""

    def child(self) -> TraceContext:
        """A new span below this one."""
        return TraceContext(self.trace_id, _new_id(8), self.is_sampled)


def new_trace() -> TraceContext:
    """The first span of a trace."""
    return TraceContext(_new_id(16), _new_id(8))


def parse_traceparent(text: str) -> TraceContext | None:
    """Read the header; None where it is not valid, and a new trace begins, as the recommendation has it (section 3.2.2)."""
    found = _TRACEPARENT.fullmatch(text.strip(" \t"))
    if found is None:
        return None
    version, trace_id, span_id, flags, rest = found.groups()
    # Later versions may have more fields, and version 255 is none.
    if version == "ff" or (version == "00" and rest is not None):
        return None
    if not trace_id.strip("0") or not span_id.strip("0"):
        return None
    return TraceContext(trace_id, span_id, bool(int(flags, 16) & SAMPLED), is_remote=True)


def current_trace() -> TraceContext | None:
    """What the running task works for; None where nothing is traced."""
    found = request_context.get()
    return found if isinstance(found, TraceContext) else None


@contextmanager
def within(context: TraceContext | None) -> Iterator[None]:
    """A block that works for ``context``: its asks and the tasks that it starts belong to that span."""
    outer = request_context.set(context)
    try:
        yield
    finally:
        request_context.reset(outer)


def _new_id(count: int) -> str:
    found = secrets.token_hex(count)
    # All zero is no id.
    return found if found.strip("0") else _new_id(count)
