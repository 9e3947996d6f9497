"""Server-sent events as a response body of quart: pulled one at a time, so that a slow reader slows nobody else.

What ends a reader that takes nothing is the write deadline of `serving.py`; quart's own deadline is switched off.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from types import TracebackType

from quart import Response
from quart.wrappers.response import ResponseBody

__all__ = ["event_stream"]


class _EventBody(ResponseBody):
    """Closes its generator in the task that ran it, whatever ended the response."""

    def __init__(self, events: AsyncGenerator[bytes, None]) -> None:
        self._events = events

    async def __aenter__(self) -> AsyncIterator[bytes]:
        return self._events

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._events.aclose()


def event_stream(events: AsyncGenerator[bytes, None]) -> Response:
    """A response that writes each of ``events`` (whole, with their empty lines) as it is made."""
    response = Response(None, content_type="text/event-stream; charset=utf-8")
    response.response = _EventBody(events)
    response.timeout = None
    response.headers.pop("Content-Length", None)
    response.headers["Cache-Control"] = "no-cache"
    # Asks proxies such as nginx not to collect the answer first.
    response.headers["X-Accel-Buffering"] = "no"
    return response
