"""One exchange as quart takes it up: where it fails at what it cannot read, and where its token ends in the middle.

quart makes its request of hypercorn's words before any handler of errors is in reach: what it raises there would come
out as a failure of the server, with the client's own text in its traceback.
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

from actors.memory_ceiling import NO_MEMORY, RETRY_MS, is_shortage, note_shortage, spare_bytes
from actors.rest.dialects import dialect_of_head
from actors.rest.exchanges import IN_FLIGHT, InFlight
from actors.rest.problems import problem, problem_of
from protocol.codec import encode
from protocol.commands import MAXIMUM_FRAME_BYTES
from protocol.errors import ErrorCode

__all__ = ["BODY_MEMORY", "EXCHANGE_TASKS", "BodyMemory", "FrameworkConnection"]

UNREAD_BODY_SECONDS = 1.0
EXCHANGE_TASKS = "leanvibe.exchange_tasks"
"""Key in a request's ASGI scope: a nursery whose tasks end with the exchange, whatever ends it."""

_log = structlog.get_logger("rest")
BODY_MEMORY = "leanvibe.body_memory"
"""Key of an application's extensions: its `BodyMemory`."""
SMALL_BYTES = 64 * 1024
"""A body up to this size is taken as it comes: there are no more of them than connections."""
COPIES = 4
"""Of a body at the same time, at most: in pieces as they were received, joined, as text, and in the tokens of its reader."""


class _Unreadable(Exception):
    """No request could be made of it. Says nothing of what the client sent."""


class FrameworkConnection(TrioASGIHTTPConnection):
    """Answers 400 to what quart can make no request of, and 401 to whoever's token ends before the answer begins."""

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
            # Its body is nobody's to read, and an answer waits for its end.
            with trio.move_on_after(UNREAD_BODY_SECONDS):
                await receive()
            await self._send_response(send, problem(ErrorCode.BAD_MESSAGE, "this is no request that can be read"))
        except (MemoryError, RuntimeError, OSError, ExceptionGroup) as error:
            # While a body is collected no handler of errors is in reach.
            if not is_shortage(error):
                raise
            refusal = self._no_memory()
            if not in_flight.has_begun:
                await self._refuse(send, refusal)
        if in_flight.ended_because is not None and not in_flight.is_whole:
            await self._end_without_token(send, begun, in_flight)

    async def handle_request(self, nursery: trio.Nursery, request: Request, send: Any) -> None:  # type: ignore[override]
        """Answer, with tasks of the request beside."""
        # An extension of ours; hypercorn's type of a scope has a fixed set of names.
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
        # Any other answer that has begun is cut, so that nobody takes it for a whole one.

    async def _refuse(self, send: Any, refusal: Response) -> None:
        """Answer with a problem, in the shape of its path's API."""
        dialect = dialect_of_head(self.scope["path"], dict(self.scope["headers"]))
        if dialect is not None:
            body, status = dialect.error(json.loads(await refusal.get_data()))
            refusal.set_data(encode(body))
            refusal.status_code = status
            refusal.content_type = "application/json"
        await self._send_response(send, refusal)

    def _body_bytes(self) -> int:
        """As many as may come."""
        headers = dict(self.scope["headers"])
        if b"transfer-encoding" in headers:
            return MAXIMUM_FRAME_BYTES
        return int(headers.get(b"content-length", b"0"))

    @staticmethod
    def _no_memory() -> Response:
        note_shortage()
        refusal = problem(ErrorCode.UNAVAILABLE, NO_MEMORY, retry_after_ms=RETRY_MS)
        # The rest of the body is not read: what follows of it is no request.
        refusal.headers["Connection"] = "close"
        return refusal

    def _create_request_from_scope(self, send: Any) -> Request:
        try:
            return super()._create_request_from_scope(send)
        except Exception as error:  # noqa: BLE001  whatever it is: its words may be the client's
            raise _Unreadable(type(error).__name__) from None


class _Begun:
    """Notes what kind of answer is being sent."""

    def __init__(self, send: Any) -> None:
        self._send = send
        self.is_told_in_stream = False
        """Whether its parts are messages, of which an error may be one more."""

    async def __call__(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.is_told_in_stream = any(
                name.lower() == b"content-type" and value.startswith((b"text/event-stream", b"application/x-ndjson"))
                for name, value in message["headers"]
            )
        await self._send(message)


class BodyMemory:
    """What bodies that are being received may still take."""

    def __init__(self, spare: Callable[[], int | None] = spare_bytes) -> None:
        """``spare`` says how many bytes are left beside what is kept free; None without a limit."""
        self._spare = spare
        self._held_bytes = 0

    @contextmanager
    def held(self, body_bytes: int) -> Iterator[bool]:
        """Hold room for a body until the block ends; False where there is none."""
        wanted = 0 if body_bytes <= SMALL_BYTES else COPIES * body_bytes
        spare = self._spare() if wanted else None
        # What the others have received by now counts twice, which errs on the side that keeps the server alive.
        has_room = spare is None or self._held_bytes + wanted <= spare
        if not has_room:
            wanted = 0
        self._held_bytes += wanted
        try:
            yield has_room
        finally:
            self._held_bytes -= wanted
