"""Logging: structured events on standard error, human-readable on a terminal and JSON lines elsewhere."""

from __future__ import annotations

import io
import logging
import re
import sys
import time
from collections.abc import Callable, MutableMapping
from typing import Any, TextIO

import structlog
from attrs import define

from actors.access.tokens import hide_tokens
from actors.terminal_text import LONG_FIELDS, many_lines, one_line
from actors.tracing.trace_context import current_trace
from runtime import ChildEnded, ChildRestarting, ChildStarted, Event, StuckReport, SystemStopping

__all__ = ["SAMPLED_EVENTS", "LineSampler", "configure_logging", "log_event"]

_log = structlog.get_logger("supervision")

_DETAIL = re.compile(r"^([ |+]*(?:DETAIL|CONTEXT|QUERY):)[^\n]*", re.MULTILINE)

SAMPLED_EVENTS = frozenset(
    {
        "HTTP connection failed",
        "connection refused",
        "entry refused",
        "fields ignored",
        "handshake refused",
        "nonsense refused",
        "outbox full",
        "reader too slow",
        "reader too slow, connection aborted",
        "request too slow, connection closed",
        "request unreadable",
        "connection evicted",
    }
)
"""Sampled events: refusals and slow clients, each counted separately."""
LINES = 5
WINDOW_SECONDS = 10.0


class _Forward(logging.Handler):
    """Forwards the standard library's logging, which libraries and the runtime use, to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        logger = structlog.get_logger(record.name)
        logger.log(record.levelno, record.getMessage(), exc_info=record.exc_info)


class _NamedLogger(structlog.PrintLogger):
    """A print logger that keeps its name, which structlog's own drops."""

    def __init__(self, file: TextIO, name: str) -> None:
        super().__init__(file)
        self.name = name


class _LoggersOf:
    """Factory of loggers that write to one stream."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def __call__(self, name: str = "root", *_: Any) -> _NamedLogger:
        return _NamedLogger(self._file, name)


def configure_logging(level: str) -> None:
    """Configure structlog and the standard library's logging for this process."""
    number = logging.getLevelNamesMapping()[level.upper()]
    # Tracebacks drawn by rich would show what variables hold, prompts too, and take the loop 20 ms each.
    console = structlog.dev.ConsoleRenderer(pad_event_to=28, exception_formatter=_shown_traceback)
    renderer = console if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    processors: list[structlog.typing.Processor] = [
        LineSampler(),
        structlog.contextvars.merge_contextvars,
        _name_trace,
        structlog.stdlib.add_logger_name,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    if sys.stderr.isatty():
        processors += [_hide_details, _shown_on_terminal]
    else:
        processors += [structlog.processors.format_exc_info, _hide_details]
    structlog.configure(
        processors=[*processors, renderer, _hide_tokens],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=_LoggersOf(sys.stderr),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers = [_Forward()]
    root.setLevel(number)
    for noisy in ("hypercorn", "quart", "trio-websocket", "httpx", "httpcore"):
        logging.getLogger(noisy).setLevel(max(number, logging.WARNING))


def _name_trace(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Add trace ids under OpenTelemetry's names for logs outside OTLP."""
    trace = current_trace()
    if trace is not None:
        event["trace_id"], event["span_id"] = trace.trace_id, trace.span_id
    return event


def _shown_on_terminal(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Escape strings, which may come from clients. Other values are formatted by `repr`, which escapes too."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = many_lines(value) if name in LONG_FIELDS else one_line(value)
    return event


def _shown_traceback(file: TextIO, error: structlog.typing.ExcInfo) -> None:
    text = io.StringIO()
    structlog.dev.plain_traceback(text, error)
    file.write(many_lines(_without_details(text.getvalue())))


def _hide_details(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Drop PostgreSQL's DETAIL line, which quotes the refused row and thus client data."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = _without_details(value)
        elif isinstance(value, list):
            event[name] = [_without_details(one) if isinstance(one, str) else one for one in value]
    return event


def _without_details(text: str) -> str:
    return _DETAIL.sub(r"\1 (hidden)", text) if "\n" in text else text


def _hide_tokens(_: object, __: str, line: Any) -> str:
    """Redact tokens in the finished line, since text of libraries and stacks may quote a URL that holds one."""
    return hide_tokens(str(line))


def log_event(event: Event) -> None:
    """Log one line per event of the tree. An observer of the actor system."""
    match event:
        case ChildRestarting():
            _log.warning(
                "restart" if event.delay_seconds is not None else "giving up",
                child=event.path,
                incarnation=event.incarnation,
                reason=event.reason.value,
                cause=_cause_chain(event.error),
                uptime_seconds=round(event.uptime_seconds, 3),
                attempt=event.attempt,
                delay_seconds=event.delay_seconds,
            )
        case ChildStarted():
            _log.debug("started", child=event.path, incarnation=event.incarnation, seconds=event.ready_seconds)
        case ChildEnded():
            _log.debug("ended", child=event.path, incarnation=event.incarnation, reason=event.reason.value)
        case StuckReport():
            _log.error("stuck", child=event.path, stack=list(event.stack))
        case SystemStopping():
            _log.info("stopping", reason=event.reason)


def _cause_chain(error: BaseException | None) -> list[str]:
    """Return the error and its causes, outermost first."""
    chain: list[str] = []
    while error is not None and len(chain) < 10:
        chain.append(f"{type(error).__name__}: {error}")
        error = error.__cause__ or error.__context__
    return chain


@define
class _Window:
    began: float
    written: int = 0
    left_out: int = 0


class LineSampler:
    """A structlog processor: passes `LINES` of each sampled event per window, and adds the number dropped to the next.

    Clients can cause these events as often as they like.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        # One per sampled event, so it does not grow.
        self._windows: dict[str, _Window] = {}

    def __call__(self, _: object, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Return the line, with `left_out` if similar ones were dropped. Raises `structlog.DropEvent`."""
        event = line.get("event")
        if event not in SAMPLED_EVENTS:
            return line
        now = self._now()
        window = self._windows.setdefault(str(event), _Window(now))
        if now - window.began >= WINDOW_SECONDS:
            window.began, window.written = now, 0
        if window.written >= LINES:
            window.left_out += 1
            raise structlog.DropEvent
        window.written += 1
        if window.left_out:
            line["left_out"] = window.left_out
            window.left_out = 0
        return line
