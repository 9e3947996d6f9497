"""hypercorn's HTTP/1.1 with strict heads, no other protocol, and errors that explain themselves before closing.

A request for a WebSocket ends the HTTP of its connection (`upgrades.py`). Messages for an application pass through a
bounded channel: hypercorn waits for space in its own queue without a deadline, so the connection of an application
that failed, or answers without reading, would hang after its client has gone.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import h11
import trio
from h11._readers import ChunkedReader
from hypercorn.events import RawData
from hypercorn.protocol import ProtocolWrapper
from hypercorn.protocol.events import Event, Response
from hypercorn.protocol.h11 import H11Protocol

from actors.rest.dialects import dialect_of_head
from actors.rest.problems import problem_of
from actors.rest.request_heads import (
    CHUNK_LINE_BYTES,
    EXTENSION_BYTES,
    METHODS,
    HeadRefused,
    check_lines,
    check_request,
    chunk_extension,
    incomplete_head_problem,
)
from actors.rest.upgrades import Upgraded, asks_for_websocket
from protocol.errors import ErrorCode

__all__ = ["ApplicationCalls", "RequestProtocol"]

_HEAD_END = re.compile(rb"\n\r?\n")
"""The end of a head as h11 finds it; `check_lines` decides which line breaks are valid."""
_NOTHINGS = {b"text/event-stream": b":\n\n", b"application/x-ndjson": b" "}
"""No-op bytes by content type: a comment, and white space before the next line's JSON."""
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:+/=@-]{1,128}")
"""Request ids accepted from clients, for answers and our log."""
_WORDS = {
    400: (ErrorCode.BAD_MESSAGE, "the request cannot be parsed"),
    405: (ErrorCode.BAD_MESSAGE, "no route accepts this method"),
    408: (ErrorCode.DEADLINE_EXCEEDED, "the request did not arrive in time"),
    413: (ErrorCode.TOO_LARGE, "the body is too large"),
    414: (ErrorCode.TOO_LARGE, "the request target is too long"),
    417: (ErrorCode.BAD_MESSAGE, "this expectation is not supported"),
    431: (ErrorCode.TOO_LARGE, "the request head is too large"),
    500: (ErrorCode.INTERNAL, "the server failed to carry this out"),
    501: (ErrorCode.BAD_MESSAGE, "the only supported Transfer-Encoding is chunked"),
    505: (ErrorCode.BAD_MESSAGE, "only HTTP/1.1 is supported"),
}
_DISCONNECT = "http.disconnect"


class StrictConnection(h11.Connection):
    """h11's connection, rejecting heads that can be parsed in two ways and oversized chunks."""

    refusal: h11.RemoteProtocolError | None = None
    """Reason for rejecting the last request."""
    head = b""
    """The last request's head, as received."""
    _extension_bytes = 0
    """Total size of the chunk extensions in the current body."""

    def next_event(self) -> Any:
        """Return h11's next event. Raises `h11.RemoteProtocolError`."""
        try:
            if self.their_state is h11.IDLE:
                self._check_head()
            elif self.their_state is h11.SEND_BODY and isinstance(self._reader, ChunkedReader):
                self._check_chunk(self._reader)
            elif self.their_state is h11.MUST_CLOSE:
                self._forget_rest()
            return super().next_event()
        except h11.RemoteProtocolError as error:
            self.refusal = error
            raise

    def _forget_rest(self) -> None:
        """Discard what the client sends after its last request (RFC 9112, 9.6), so that it cannot replace the answer."""
        self._receive_buffer.maybe_extract_at_most(len(self.trailing_data[0]))

    def _check_head(self) -> None:
        received = self.trailing_data[0]
        if received.startswith(b"\r\n"):
            # RFC 9112, 2.2: older clients end a body with a line break that they do not count.
            self._receive_buffer.maybe_extract_at_most(2)
            received = received[2:]
        end = _HEAD_END.search(received)
        self._extension_bytes = 0
        if end is not None:
            self.head = bytes(received[: end.end()])
            check_lines(self.head)
        elif refusal := incomplete_head_problem(received):
            raise refusal

    def _check_chunk(self, reader: ChunkedReader) -> None:
        """Check the next chunk's line before waiting for its data. Does nothing inside a chunk or a trailer."""
        if reader._bytes_in_chunk or reader._reading_trailer:
            return
        line_break = len(reader._bytes_to_discard)
        # Not the whole buffer, which may hold thousands of chunks.
        received = bytes(self._receive_buffer._data[line_break : line_break + CHUNK_LINE_BYTES])
        try:
            self._extension_bytes += chunk_extension(received) or 0
            if self._extension_bytes > EXTENSION_BYTES:
                raise HeadRefused(
                    400, f"chunk extensions may have at most {EXTENSION_BYTES} bytes in total", field="body"
                )
        except HeadRefused:
            # As h11 does: an answer that the application begins in the meantime is not sent.
            self._process_error(self.their_role)
            raise


class RequestProtocol(H11Protocol):
    """Requests of one connection, HTTP/1.1 only; nothing here holds for HTTP/2."""

    connection: StrictConnection

    def __init__(self, wrapper: ProtocolWrapper) -> None:
        # hypercorn's annotation requires a context manager, which it enters itself before this point.
        calls: Any = ApplicationCalls(wrapper.task_group)
        super().__init__(
            wrapper.app,
            wrapper.config,
            wrapper.context,
            calls,
            wrapper.state,
            wrapper.ssl,
            wrapper.client,
            wrapper.server,
            wrapper.send,
        )
        self.connection = StrictConnection(h11.SERVER, max_incomplete_event_size=self.config.h11_max_incomplete_size)
        self._request: h11.Request | None = None
        self._request_id = _new_request_id()
        self._nothing = b""

    async def stream_send(self, event: Event) -> None:
        """Write part of an answer."""
        if isinstance(event, Response):
            headers = [*event.headers, (b"x-request-id", self._request_id)]
            if not any(name.lower() == b"x-content-type-options" for name, _ in headers):
                headers.append((b"x-content-type-options", b"nosniff"))
            kinds = [value for name, value in headers if name.lower() == b"content-type"]
            self._nothing = next(
                (_NOTHINGS[one.partition(b";")[0]] for one in kinds if one.partition(b";")[0] in _NOTHINGS), b""
            )
            if self.connection.their_state is h11.SEND_BODY:
                # Answered before the body has arrived: the rest of it must not be parsed as a request.
                headers.append((b"connection", b"close"))
            body = b""
            if event.status_code == 500 and (b"content-length", b"0") in headers:
                # hypercorn's own answer for an application that failed.
                body, told = self._refusal(500, None)
                headers = [one for one in headers if one[0] not in (b"content-length", b"connection")] + told
            event = Response(stream_id=event.stream_id, headers=headers, status_code=event.status_code)
            await super().stream_send(event)
            if body and self._request is not None and self._request.method != b"HEAD":
                await self._send_h11_event(h11.Data(data=body))
            return
        await super().stream_send(event)

    async def refuse(self, error: h11.RemoteProtocolError) -> None:
        """Answer a head that was rejected."""
        self.connection.refusal = error
        await self._send_error_response(error.error_status_hint)

    async def probe(self) -> None:
        """Send a no-op: a peer that has gone answers with a reset, and one that still reads ignores it."""
        ours = self.connection.our_state
        if ours is h11.SEND_RESPONSE and self.connection.their_http_version == b"1.1":
            await self._send_h11_event(h11.InformationalResponse(status_code=100, headers=[]))
        elif ours is h11.SEND_BODY and self._nothing:
            await self._send_h11_event(h11.Data(data=self._nothing))

    async def _check_protocol(self, event: h11.Request) -> None:
        """Check the request, in place of hypercorn's check. An offer of h2c is ignored (RFC 9110, 7.8), HTTP/2 is
        rejected.

        Raises `Upgraded` if the request is for a WebSocket, which is granted elsewhere.
        """
        if asks_for_websocket(event):
            raise Upgraded(self.connection.head + bytes(self.connection.trailing_data[0]))
        self._request = event
        given = dict(event.headers).get(b"x-request-id", b"")
        self._request_id = given if _REQUEST_ID.fullmatch(given) else _new_request_id()
        # For the log lines of the application.
        self.connection_state["request_id"] = self._request_id.decode()
        check_request(event)

    async def _maybe_recycle(self) -> None:
        self._request = None
        self._request_id = _new_request_id()
        await super()._maybe_recycle()

    async def _send_error_response(self, status_code: int) -> None:
        """Answer with a problem, where hypercorn would send an empty body, and close the connection."""
        if self.connection.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        refusal, self.connection.refusal = self.connection.refusal, None
        body, headers = self._refusal(status_code, refusal)
        headers += [
            (b"x-content-type-options", b"nosniff"),
            (b"x-request-id", self._request_id),
            *self.config.response_headers("h11"),
        ]
        events: list[Any] = [h11.Response(status_code=status_code, headers=headers), h11.EndOfMessage()]
        if self._request is None or self._request.method != b"HEAD":
            events.insert(1, h11.Data(data=body))
        # In one write: many clients take the first segment for the whole answer.
        await self.send(RawData(data=b"".join(self.connection.send(one) or b"" for one in events)))

    def _refusal(
        self, status_code: int, refusal: h11.RemoteProtocolError | None
    ) -> tuple[bytes, list[tuple[bytes, bytes]]]:
        """Body and headers of an answer that ends the connection."""
        code, words = _WORDS.get(status_code, _WORDS[400])
        field = None
        if isinstance(refusal, HeadRefused):
            words, field = refusal.message, refusal.field
        problem = problem_of(code, words, field=field, status=status_code)
        kind = b"application/problem+json"
        if self._request is not None:
            path = self._request.target.partition(b"?")[0].decode("latin-1")
            if (dialect := dialect_of_head(path, dict(self._request.headers))) is not None:
                problem, kind = dialect.error(problem)[0], b"application/json"
        body = json.dumps(problem).encode()
        headers = [
            (b"content-type", kind),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        if status_code == 426:
            headers[-1] = (b"connection", b"upgrade, close")
            headers += [(b"upgrade", b"websocket"), (b"sec-websocket-version", b"13")]
        if status_code == 405:
            headers.append((b"allow", ", ".join(METHODS).encode()))
        return body, headers


def _new_request_id() -> bytes:
    return secrets.token_hex(12).encode()


class ApplicationCalls:
    """hypercorn's task group of one connection, with a bounded channel for each request."""

    def __init__(self, task_group: Any) -> None:
        """``task_group`` is hypercorn's own."""
        self._task_group = task_group

    def spawn(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Same as hypercorn's."""
        self._task_group.spawn(function, *arguments)

    async def spawn_app(self, app: Any, config: Any, scope: Any, send: Any) -> Callable[[Any], Awaitable[None]]:
        """Run the application in its own task. Returns a function that delivers messages, or drops them once nobody
        reads.
        """
        put, take = trio.open_memory_channel[Any](config.max_app_queue_size)
        await self._task_group.spawn_app(partial(_call, app, take), config, scope, send)

        async def hand_on(message: Any) -> None:
            if message["type"] == _DISCONNECT:
                # Queued after what waits, without waiting for space; a part still waiting is dropped.
                put.close()
                return
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await put.send(message)

        return hand_on


async def _call(
    app: Any, take: trio.MemoryReceiveChannel[Any], scope: Any, _receive: Any, send: Any, *others: Any
) -> None:
    async def receive() -> Any:
        try:
            return await take.receive()
        except trio.EndOfChannel:
            return {"type": _DISCONNECT}

    with take:
        await app(scope, receive, send, *others)
