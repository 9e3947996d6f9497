"""`POST /mcp`: the Model Context Protocol over streamable HTTP.

Requests pass the checks of every route (Host, Origin, token, size and pace of the body), then go to the official SDK
as ASGI requests. The response is the one that the SDK sends.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import structlog
import trio
from quart import Response, request
from quart_trio import QuartTrio

from actors.errors import CommandError
from actors.rest.answers import streamed_answer
from actors.rest.asgi_connection import EXCHANGE_TASKS
from actors.rest.mcp.tools import Asker
from actors.rest.references import Services
from actors.rest.services import caller, identity, json_body
from protocol.errors import ErrorCode

__all__ = ["CALLS_AT_ONCE", "register_mcp"]

_log = structlog.get_logger("mcp")

CALLS_AT_ONCE = 64
PARTS_WAITING = 16
RETRY_MS = 1000

_Answer = Callable[[Asker, Any, Any, Any], Awaitable[None]]


def register_mcp(app: QuartTrio, services: Services) -> None:
    """Register `/mcp`."""
    running = trio.CapacityLimiter(CALLS_AT_ONCE)
    sdk = _Sdk()

    @app.post("/mcp")
    async def mcp() -> Response:
        who = await identity(services)
        # Parsed like every body, in steps and by the same rules; the SDK parses the bytes again.
        await json_body(any_integers=True)
        asker = Asker(services=services, who=who, caller=caller())
        body = await request.get_data(as_text=False)
        assert isinstance(body, bytes)
        exchange = _Exchange(dict(request.scope), body)
        tasks: trio.Nursery = request.scope[EXCHANGE_TASKS]  # type: ignore[literal-required]
        try:
            running.acquire_on_behalf_of_nowait(exchange)
        except trio.WouldBlock:
            raise CommandError(
                ErrorCode.OVERLOADED, f"{CALLS_AT_ONCE} calls are already in progress", retry_after_ms=RETRY_MS
            ) from None
        try:
            answer = await sdk.answer()
            tasks.start_soon(exchange.run, answer, asker, running)
        except BaseException:  # Including cancellation while the SDK is imported: nothing else would release the slot.
            running.release_on_behalf_of(exchange)
            raise
        return await exchange.response()


class _Sdk:
    """The SDK, imported by the first request in a thread: it takes a second, during which other requests proceed."""

    def __init__(self) -> None:
        self._importing = trio.Lock()
        self._answer: _Answer | None = None

    async def answer(self) -> _Answer:
        if self._answer is None:
            async with self._importing:
                if self._answer is None:
                    self._answer = await trio.to_thread.run_sync(_import_answer)
        return self._answer


def _import_answer() -> _Answer:
    from actors.rest.mcp.server import answer

    return answer


class _Exchange:
    """A request as the SDK sees it, and its answer as it arrives."""

    def __init__(self, scope: dict[str, Any], body: bytes) -> None:
        # Only what an ASGI application needs, with header names in lower case.
        self._scope = {
            name: scope[name]
            for name in ("type", "asgi", "http_version", "method", "scheme", "path", "raw_path", "query_string")
        }
        self._scope["headers"] = [(name.lower(), value) for name, value in scope["headers"]]
        self._scope |= {"root_path": "", "client": scope.get("client"), "server": scope.get("server")}
        self._body: bytes | None = body
        self._send, self._parts = trio.open_memory_channel[dict[str, Any]](PARTS_WAITING)

    async def run(self, answer: _Answer, asker: Asker, running: trio.CapacityLimiter) -> None:
        """Answer, until complete or until the exchange ends."""
        try:
            with self._send:
                await answer(asker, self._scope, self._receive, self._send.send)
        except Exception as error:  # noqa: BLE001  isolation border: the exchange's other tasks tell the client
            _log.error("request failed", exc_info=error)
        finally:
            running.release_on_behalf_of(self)

    async def response(self) -> Response:
        """Return the response once it has begun."""
        try:
            start = await self._parts.receive()
        except trio.EndOfChannel:
            raise CommandError(ErrorCode.INTERNAL, "the server failed to carry this out") from None
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in start["headers"]}
        content_type = headers.pop("content-type", "application/json")
        if content_type.startswith("text/event-stream"):
            response = streamed_answer(self._rest(), content_type)
        else:
            response = Response(b"".join([part async for part in self._rest()]), content_type=content_type)
            headers.pop("content-length", None)
        response.status_code = start["status"]
        for name, value in headers.items():
            response.headers[name] = value
        return response

    async def _receive(self) -> dict[str, Any]:
        body, self._body = self._body, None
        if body is None:
            # The client stays until the exchange ends, and this task with it.
            await trio.sleep_forever()
        return {"type": "http.request", "body": body, "more_body": False}

    async def _rest(self) -> AsyncGenerator[bytes, None]:
        async for part in self._parts:
            if part.get("body"):
                yield part["body"]
