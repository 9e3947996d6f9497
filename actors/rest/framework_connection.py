"""One exchange as quart takes it up, where it fails at what it cannot read of the request.

quart makes its request of hypercorn's words before any handler of errors is in reach: what it raises there would come
out as a failure of the server, with the client's own text in its traceback.
"""

from __future__ import annotations

from typing import Any

import structlog
import trio
from quart import Request
from quart_trio.asgi import TrioASGIHTTPConnection

from actors.rest.problems import problem
from protocol.errors import ErrorCode

__all__ = ["FrameworkConnection"]

UNREAD_BODY_SECONDS = 1.0

_log = structlog.get_logger("rest")


class _Unreadable(Exception):
    """No request could be made of it. Says nothing of what the client sent."""


class FrameworkConnection(TrioASGIHTTPConnection):
    """Answers 400 to what quart can make no request of; the log tells the kind of error alone."""

    async def __call__(self, receive: Any, send: Any) -> None:
        try:
            await super().__call__(receive, send)
        except _Unreadable as error:
            _log.info("request unreadable", reason=str(error))
            # Its body is nobody's to read, and an answer waits for its end.
            with trio.move_on_after(UNREAD_BODY_SECONDS):
                await receive()
            await self._send_response(send, problem(ErrorCode.BAD_MESSAGE, "this is no request that can be read"))

    def _create_request_from_scope(self, send: Any) -> Request:
        try:
            return super()._create_request_from_scope(send)
        except Exception as error:  # noqa: BLE001  whatever it is: its words may be the client's
            raise _Unreadable(type(error).__name__) from None
