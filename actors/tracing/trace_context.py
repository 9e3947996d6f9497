"""Trace context of the running task and its wire format: W3C Trace Context, level 1."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from attrs import frozen

from runtime.asking import request_context

__all__ = ["TraceContext", "current_trace", "new_trace", "parse_traceparent", "parse_tracestate", "within"]

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
SAMPLED = 0x01
_KEY = r"[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13}"
_MEMBER = re.compile(rf"({_KEY})=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{{0,255}}[\x21-\x2b\x2d-\x3c\x3e-\x7e]", re.ASCII)
MOST_MEMBERS = 32
MOST_CHARACTERS = 512
"""As much of `tracestate` as everybody must pass on."""
LONG_MEMBER = 128
"""Longer members are the first to be left out."""


@frozen
class TraceContext:
    """Identifies a span to its children and to other processes."""

    trace_id: str
    """32 hexadecimal digits, not all zero."""
    span_id: str
    """16 hexadecimal digits, not all zero."""
    is_sampled: bool = True
    """True if spans of this trace are recorded; decided where the trace began."""
    is_remote: bool = False
    """True if another process made the span."""
    state: str = ""
    """`tracestate`: what other tracing systems said of this trace, passed on as it came."""

    def child(self) -> TraceContext:
        """Return the context of a new child span."""
        return TraceContext(self.trace_id, _new_id(8), self.is_sampled, state=self.state)


def new_trace() -> TraceContext:
    """Return the context of a new root span."""
    return TraceContext(_new_id(16), _new_id(8))


def parse_traceparent(text: str, state: str = "") -> TraceContext | None:
    """Read the header, with what `parse_tracestate` read.

    None where it is not valid, and a new trace begins, as the recommendation has it (section 3.2.2).
    """
    found = _TRACEPARENT.fullmatch(text.strip(" \t"))
    if found is None:
        return None
    version, trace_id, span_id, flags, rest = found.groups()
    # Later versions may have more fields, and version 255 is none.
    if version == "ff" or (version == "00" and rest is not None):
        return None
    if not trace_id.strip("0") or not span_id.strip("0"):
        return None
    return TraceContext(trace_id, span_id, bool(int(flags, 16) & SAMPLED), is_remote=True, state=state)


def parse_tracestate(lines: Sequence[str]) -> str:
    """Read the header, which may come in several lines; empty where any member is not valid (sections 3.3.1 and 3.3.1.5).

    Of one that is too long, long members are left out first, then those at the end, which are the oldest.
    """
    members = [member for line in lines for one in line.split(",") if (member := one.strip(" \t"))]
    keys = [found[1] for one in members if (found := _MEMBER.fullmatch(one)) is not None]
    if not len(members) == len(keys) == len(set(keys)) <= MOST_MEMBERS:
        return ""
    if len(",".join(members)) > MOST_CHARACTERS:
        members = [one for one in members if len(one) <= LONG_MEMBER]
    while len(",".join(members)) > MOST_CHARACTERS:
        members.pop()
    return ",".join(members)


def current_trace() -> TraceContext | None:
    """Return the context of the running task, or None if it is not traced."""
    found = request_context.get()
    return found if isinstance(found, TraceContext) else None


@contextmanager
def within(context: TraceContext | None) -> Iterator[None]:
    """Run a block under ``context``: its asks and the tasks it starts belong to that span."""
    outer = request_context.set(context)
    try:
        yield
    finally:
        request_context.reset(outer)


def _new_id(count: int) -> str:
    found = secrets.token_hex(count)
    # The specification forbids an id of zeros.
    return found if found.strip("0") else _new_id(count)
