"""Runs one exchange through quart: unparsable requests, memory for bodies, and tokens that expire in the middle.

quart builds its request object before any error handler can run. An exception there would surface as a server
failure, with the client's own text in the traceback.

Memory for a large body is reserved before any of it is read: a process that runs out while receiving may fail
anywhere, even in the event loop, and exit.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import structlog
import trio
from quart import Request, Response
from quart_trio.asgi import TrioASGIHTTPConnection

from actors.process_memory import NO_MEMORY, RETRY_MS, is_shortage, note_shortage, spare_bytes
from actors.rest.dialects import dialect_of_head
from actors.rest.exchanges import IN_FLIGHT, InFlight
from actors.rest.problems import problem, problem_of
from protocol.codec import encode
from protocol.commands import MAXIMUM_FRAME_BYTES
from protocol.errors import ErrorCode

__all__ = ["BODY_MEMORY", "EXCHANGE_TASKS", "BodyMemory", "FrameworkConnection"]

UNREAD_BODY_SECONDS = 1.0
EXCHANGE_TASKS = "leanvibe.exchange_tasks"
"""Key in a request's ASGI scope: a nursery whose tasks end with the exchange, however it ends."""

_log = structlog.get_logger("rest")
BODY_MEMORY = "leanvibe.body_memory"
"""Key of an application's extensions: its `BodyMemory`."""
SMALL_BYTES = 64 * 1024
"""Bodies up to this size reserve nothing: there are no more of them than connections."""
COPIES = 4
"""Simultaneous copies of a body, at most: received pieces, joined bytes, text, and the parser's tokens."""


class _Unreadable(Exception):
    """quart could not build a request. The message contains nothing that the client sent."""


class FrameworkConnection(TrioASGIHTTPConnection):
    """Answers 400 if quart cannot parse a request, and 401 if its token expires before the answer begins."""

    async def __call__(self, receive: Any, send: Any) -> None:
        room: BodyMemory = self.app.extensions[BODY_MEMORY]
        with room.held(self._body_bytes()) as has_room:
            if has_room:
                await self._answer(receive, send)
            else:
                await self._refuse(send, self._no_memory())

    async def _answer(self, receive: Any, send: Any) -> None:
        in_flight: InFlight = self.scope[IN_FLIGHT]  # type: ignore[literal-required]
        begun = _Begun(send)
        try:
            with in_flight.scope:
                await super().__call__(receive, begun)
        except _Unreadable as error:
            _log.info("request unreadable", reason=str(error))
            # Nobody reads its body, and a response waits for the body to end.
            with trio.move_on_after(UNREAD_BODY_SECONDS):
                await receive()
            await self._send_response(send, problem(ErrorCode.BAD_MESSAGE, "the request cannot be parsed"))
        except (MemoryError, RuntimeError, OSError, ExceptionGroup) as error:
            # No error handler is active while a body is being collected.
            if not is_shortage(error):
                raise
            refusal = self._no_memory()
            if not in_flight.has_begun:
                await self._refuse(send, refusal)
        if in_flight.ended_because is not None and not in_flight.is_whole:
            await self._end_without_token(send, begun, in_flight)

    async def handle_request(self, nursery: trio.Nursery, request: Request, send: Any) -> None:  # type: ignore[override]
        """Answer, and provide the request with a nursery for background tasks."""
        # Our own extension; hypercorn's type of a scope has a fixed set of names.
        self.scope[EXCHANGE_TASKS] = nursery  # type: ignore[literal-required]
        await super().handle_request(nursery, request, send)

    async def _end_without_token(self, send: Any, begun: _Begun, in_flight: InFlight) -> None:
        reason = in_flight.ended_because or ""
        body = problem_of(ErrorCode.UNAUTHORIZED, reason)
        dialect = dialect_of_head(self.scope["path"], dict(self.scope["headers"]))
        if not in_flight.has_begun:
            await self._refuse(send, problem(ErrorCode.UNAUTHORIZED, reason))
        elif begun.is_told_in_stream:
            words = encode(body if dialect is None else dialect.error(body)[0])
            words = b"data: " + words + b"\n\n" if dialect is None else dialect.in_stream(words)
            await send({"type": "http.response.body", "body": words, "more_body": False})
        # Any other answer that has begun is cut off, so that a client cannot mistake it for a complete one.

    async def _refuse(self, send: Any, refusal: Response) -> None:
        """Answer with a problem in the error format of the path's API."""
        dialect = dialect_of_head(self.scope["path"], dict(self.scope["headers"]))
        if dialect is not None:
            body, status = dialect.error(json.loads(await refusal.get_data()))
            refusal.set_data(encode(body))
            refusal.status_code = status
            refusal.content_type = "application/json"
        await self._send_response(send, refusal)

    def _body_bytes(self) -> int:
        """Size of the body, or the most it may be."""
        headers = dict(self.scope["headers"])
        if b"transfer-encoding" in headers:
            return MAXIMUM_FRAME_BYTES
        return int(headers.get(b"content-length", b"0"))

    @staticmethod
    def _no_memory() -> Response:
        note_shortage()
        refusal = problem(ErrorCode.UNAVAILABLE, NO_MEMORY, retry_after_ms=RETRY_MS)
        # The rest of the body is not read, so it must not be parsed as the next request.
        refusal.headers["Connection"] = "close"
        return refusal

    def _create_request_from_scope(self, send: Any) -> Request:
        try:
            return super()._create_request_from_scope(send)
        except Exception as error:  # noqa: BLE001  whatever it is: its words may be the client's
            raise _Unreadable(type(error).__name__) from None


class _Begun:
    """Records the kind of answer being sent."""

    def __init__(self, send: Any) -> None:
        self._send = send
        self.is_told_in_stream = False
        """True if the body is a sequence of messages, so that an error can be sent as one more."""

    async def __call__(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.is_told_in_stream = any(
                name.lower() == b"content-type" and value.startswith((b"text/event-stream", b"application/x-ndjson"))
                for name, value in message["headers"]
            )
        await self._send(message)


class BodyMemory:
    """Reserves memory for the bodies that are being received."""

    def __init__(self, spare: Callable[[], int | None] = spare_bytes) -> None:
        """``spare`` returns the bytes that are free beyond the reserve, or None if the process has no limit."""
        self._spare = spare
        self._held_bytes = 0

    @contextmanager
    def held(self, body_bytes: int) -> Iterator[bool]:
        """Reserve memory for a body until the block ends. Yields False if there is not enough."""
        wanted = 0 if body_bytes <= SMALL_BYTES else COPIES * body_bytes
        spare = self._spare() if wanted else None
        # Parts that others have already received are counted twice, which errs on the safe side.
        has_room = spare is None or self._held_bytes + wanted <= spare
        if not has_room:
            wanted = 0
        self._held_bytes += wanted
        try:
            yield has_room
        finally:
            self._held_bytes -= wanted
