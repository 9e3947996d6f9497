"""Responses that quart has no constructor for: empty ones, and ones produced while they are sent.

A streamed response is pulled one part at a time, so that a slow reader delays only itself. The write deadline of
`serving.py` ends a reader that stalls; quart's own deadline is switched off.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from types import TracebackType

from quart import Response
from quart.wrappers.response import ResponseBody

__all__ = ["empty_answer", "event_stream", "streamed_answer"]


def empty_answer(status: int, headers: Mapping[str, str]) -> Response:
    """Build a 204 or 304, which has neither a body nor headers that describe one (RFC 9110, 8.6)."""
    response = Response(b"", status=status, headers=dict(headers))
    for name in ("Content-Length", "Content-Type"):
        response.headers.pop(name, None)
    return response


class _MadeBody(ResponseBody):
    """Closes its generator in the task that ran it, however the response ends."""

    def __init__(self, parts: AsyncGenerator[bytes, None]) -> None:
        self._parts = parts

    async def __aenter__(self) -> AsyncIterator[bytes]:
        return self._parts

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._parts.aclose()


def event_stream(events: AsyncGenerator[bytes, None]) -> Response:
    """Build a response that writes each of ``events`` as it is produced. Each event includes its terminating blank
    line.
    """
    response = streamed_answer(events, "text/event-stream; charset=utf-8")
    response.headers["Cache-Control"] = "no-cache"
    # Asks proxies such as nginx not to buffer the answer.
    response.headers["X-Accel-Buffering"] = "no"
    return response


def streamed_answer(parts: AsyncGenerator[bytes, None], content_type: str) -> Response:
    """Build a response that writes each of ``parts`` as it is produced, and closes the generator however it ends."""
    response = Response(None, content_type=content_type)
    response.response = _MadeBody(parts)
    response.timeout = None
    response.headers.pop("Content-Length", None)
    return response
