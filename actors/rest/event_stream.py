"""Answers that are made while they are sent: pulled one part at a time, so that a slow reader slows nobody else.

What ends a reader that takes nothing is the write deadline of `serving.py`; quart's own deadline is switched off.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from types import TracebackType

from quart import Response
from quart.wrappers.response import ResponseBody

__all__ = ["event_stream", "streamed_answer"]


class _MadeBody(ResponseBody):
    """Closes its generator in the task that ran it, whatever ended the response."""

    def __init__(self, parts: AsyncGenerator[bytes, None]) -> None:
        self._parts = parts

    async def __aenter__(self) -> AsyncIterator[bytes]:
        return self._parts

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._parts.aclose()


def event_stream(events: AsyncGenerator[bytes, None]) -> Response:
    """An answer that writes each of ``events`` (whole, with their empty lines) as it is made."""
    response = streamed_answer(events, "text/event-stream; charset=utf-8")
    response.headers["Cache-Control"] = "no-cache"
    # Asks proxies such as nginx not to collect the answer first.
    response.headers["X-Accel-Buffering"] = "no"
    return response


def streamed_answer(parts: AsyncGenerator[bytes, None], content_type: str) -> Response:
    """An answer that writes each of ``parts`` as it is made, and closes what makes them however it ends."""
    response = Response(None, content_type=content_type)
    response.response = _MadeBody(parts)
    response.timeout = None
    response.headers.pop("Content-Length", None)
    return response
