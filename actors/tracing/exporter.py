"""Sends spans to the collector, a batch at a time. A collector that hangs or is gone costs spans and nothing else."""

from __future__ import annotations

import ssl
from contextlib import aclosing
from pathlib import Path
from typing import NoReturn

import httpcore2
import structlog
import trio
from attrs import frozen

from actors.tracing.endpoint import ExportSettings
from actors.tracing.otlp import PartialSuccess, export_request, partial_success
from actors.tracing.tracer import Span, Tracer
from actors.version import VERSION
from runtime import Actor, reject

__all__ = ["TraceExporter"]

_log = structlog.get_logger("tracing")

BATCH_SPANS = 512
GATHER_SECONDS = 1.0
"""A batch that is not full waits so long for more."""
REQUEST_SECONDS = 5.0
"""Of one whole request, from resolving the name to the end of the answer."""
ATTEMPTS = 3
RETRY_SECONDS = 1.0
"""Before the second attempt; twice as long before the third."""
STOP_SECONDS = 2.0
"""What the last spans may take when the server stops."""
ANSWER_BYTES = 64 * 1024
"""As much of an answer is read for what it says; a longer one says nothing."""
SAID_CHARACTERS = 200
TEMPORARY = frozenset({429, 502, 503, 504})
"""Statuses after which OTLP wants the same batch once more."""


@frozen
class _NoMessages:
    """Message type of an actor that takes no messages."""


class TraceExporter(Actor[_NoMessages]):
    """The first child of the tree, so that it ends last and gets the spans of the stop."""

    mailbox = reject(1)

    def __init__(self, settings: ExportSettings, tracer: Tracer, ca: Path | None = None) -> None:
        self._settings = settings
        self._tracer = tracer
        self._ca = ca
        self._is_ending = trio.Event()
        self._is_done = trio.Event()
        self._problem: str | None = None
        self._said = ""

    async def started(self) -> None:
        """Start the export task, which connects when there is a first span."""
        self.context.spawn(self._export)

    async def handle(self, message: _NoMessages) -> NoReturn:
        raise AssertionError("unreachable: nothing sends this")

    async def stopping(self) -> None:
        """Send what waits, for a bounded time; the rest is dropped and counted."""
        self._is_ending.set()
        with trio.move_on_after(STOP_SECONDS):
            await self._is_done.wait()
        self._tracer.count_dropped(len(self._tracer.take(self._tracer.waiting)), "shutdown")

    def snapshot(self) -> dict[str, object]:
        """Counts, and what kept the last batch from the collector."""
        return {"waiting": self._tracer.waiting, "problem": self._problem}

    async def _export(self) -> None:
        async with _Client(self._ca) as client:
            while not self._is_ending.is_set() or self._tracer.waiting:
                await self._gather()
                batch = self._tracer.take(BATCH_SPANS)
                if batch:
                    await self._send(client, batch)
        self._is_done.set()

    async def _gather(self) -> None:
        """Until a batch is worth a request, or the server stops."""
        async with trio.open_nursery() as nursery:

            async def until_ending() -> None:
                await self._is_ending.wait()
                nursery.cancel_scope.cancel(reason="the server stops")

            nursery.start_soon(until_ending)
            await self._tracer.until_some()
            if self._tracer.waiting < BATCH_SPANS:
                await trio.sleep(GATHER_SECONDS)
            nursery.cancel_scope.cancel(reason="there is a batch")

    async def _send(self, client: _Client, batch: list[Span]) -> None:
        """One batch, tried again where that may help. Whatever becomes of it, it is counted once."""
        reason = "shutdown"
        try:
            body = export_request(batch, self._settings.resource, VERSION)
            for attempt in range(ATTEMPTS):
                if attempt and not self._is_ending.is_set():
                    await trio.sleep(RETRY_SECONDS * 2 ** (attempt - 1))
                answer = await client.post(self._settings, body)
                if isinstance(answer, PartialSuccess):
                    refused = min(answer.rejected, len(batch))
                    self._tracer.count_exported(len(batch) - refused)
                    self._tracer.count_dropped(refused, "rejected")
                    self._note_partial(refused, answer.message)
                    batch = []
                    return
                problem, may_help = answer
                if not may_help:
                    break
            reason = "not_taken"
            self._note(problem)
        finally:
            self._tracer.count_dropped(len(batch), reason)

    def _note_partial(self, rejected: int, message: str) -> None:
        """OTLP wants such a batch not sent again, and what the collector says of it shown."""
        said = "".join(one if one.isprintable() else " " for one in message[:SAID_CHARACTERS])
        self._note(f"{rejected} spans of a batch rejected" if rejected else None)
        if message and said != self._said:
            _log.warning("the collector says", said=said, rejected=rejected)
        self._said = said

    def _note(self, problem: str | None) -> None:
        """Log a change, not each batch."""
        if problem is not None and self._problem is None:
            _log.warning("traces are not taken", problem=problem)
        elif problem is None and self._problem is not None:
            _log.info("traces are taken again", after=self._problem)
        self._problem = problem


class _Client:
    """Posts to the collector over connections that are kept."""

    def __init__(self, ca: Path | None) -> None:
        self._ca = ca
        self._pool: httpcore2.AsyncConnectionPool | None = None

    async def __aenter__(self) -> _Client:
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._pool is not None:
            with trio.CancelScope(shield=True), trio.move_on_after(1):
                await self._pool.aclose()

    async def post(self, settings: ExportSettings, body: bytes) -> PartialSuccess | tuple[str, bool]:
        """Send a batch. Returns the collector's answer, or the problem and whether another attempt may help."""
        headers = {"content-type": "application/x-protobuf", "user-agent": f"leanvibe/{VERSION}", **settings.headers}
        try:
            with trio.fail_after(REQUEST_SECONDS):
                if self._pool is None:
                    # Reading the system's authorities takes long; a thread does.
                    context = await trio.to_thread.run_sync(_trusting, self._ca)
                    self._pool = httpcore2.AsyncConnectionPool(ssl_context=context, max_connections=1)
                request = self._pool.stream("POST", settings.url, headers=list(headers.items()), content=body)
                async with request as response:
                    # Typed as a stream of either kind; an asynchronous pool gives an asynchronous one.
                    async with aclosing(aiter(response.stream)) as parts:  # type: ignore[arg-type,type-var]
                        # Read to its end, so that the connection is kept.
                        said = b""
                        async for part in parts:
                            said = (said + part)[: ANSWER_BYTES + 1]
                    status = response.status
        except trio.TooSlowError:
            return f"no answer within {REQUEST_SECONDS:g} seconds", True
        except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException, OSError) as error:
            # The text may quote the address, and that a secret.
            return type(error).__name__, True
        if 200 <= status < 300:
            return partial_success(said if len(said) <= ANSWER_BYTES else b"")
        return f"status {status}", status in TEMPORARY


def _trusting(ca: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if ca is not None:
        context.load_verify_locations(ca)
    return context
