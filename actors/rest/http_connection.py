"""One HTTP connection under our own rules: a write has a deadline, and so have a request's head, its body and silence.

hypercorn counts the time of each read alone, so that a client which sends a byte now and then keeps its connection for
ever (slow loris); here the whole head and the whole body are counted. It also shields `send_all` without a deadline, so
that one client which stops reading would make it deaf to shutdown. HTTP/1.1 alone is spoken: nothing here would hold
for HTTP/2, which hypercorn takes up on a client's word.
"""

from __future__ import annotations

import math
from typing import Any
from urllib.parse import urlsplit

import h11
import structlog
import trio
from hypercorn.events import Closed, RawData
from hypercorn.trio.tcp_server import TCPServer

__all__ = ["DeadlineTCPServer"]

_log = structlog.get_logger("rest")

WRITE_SECONDS = 10.0
HEAD_SECONDS = 10.0
"""From a request's first byte, or from the connection, to the end of its head; with TLS, also from there to here."""
BODY_SECONDS = 30.0
"""From the end of a request's head to the end of its body; the application gives up before, and says so."""
READ_BYTES = 65_536
HEAD_BYTES = 16 * 1024
"""Of one request: its address and all its headers."""


class DeadlineTCPServer(TCPServer):
    """One HTTP connection whose reads and writes end, one way or the other, within their times."""

    async def run(self) -> None:
        """Serve until either side closes."""
        with trio.CancelScope() as self._scope:
            await super().run()

    @property
    def missing(self) -> str | None:
        """Which part of a request is still to come, `head` or `body`; None where the client waits for its answer."""
        protocol: Any = getattr(self, "protocol", None)
        state = h11.IDLE if protocol is None else protocol.protocol.connection.their_state
        return {h11.IDLE: "head", h11.SEND_BODY: "body"}.get(state)

    async def protocol_send(self, event: Any) -> None:
        """Write, or abort the socket of a reader that takes nothing."""
        if isinstance(event, Closed):
            # hypercorn comes here in the task of the application, whose end it has just brought about: without
            # the shield a client that asked for `Connection: close` would wait for that in vain.
            with trio.move_on_after(1, shield=True):
                await super().protocol_send(event)
            self._scope.cancel(reason="the connection is closed")
            return
        if not isinstance(event, RawData):
            # Between two requests hypercorn starts the time of silence in the task of the application, which
            # quart-trio has cancelled by then.
            with trio.CancelScope(shield=True):
                await super().protocol_send(event)
            return
        async with self.send_lock:
            try:
                # Shielded as in hypercorn, because half a response must not be followed by another.
                with trio.move_on_after(WRITE_SECONDS, shield=True) as scope:
                    await self.stream.send_all(event.data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                await self.protocol.handle(Closed())
                return
            if scope.cancelled_caught:
                _log.info("reader too slow, connection aborted")
                await trio.aclose_forcefully(self.stream)
                await self.protocol.handle(Closed())

    async def _read_data(self) -> None:
        # Reached inside the wrapper, which would take up HTTP/2 where ours shall refuse it.
        http: Any = self.protocol.protocol
        http._check_protocol = _stay_with_http_1
        head_began: float | None = trio.current_time()
        body_began: float | None = None
        while True:
            state = http.connection.their_state
            deadline = math.inf
            if state is h11.IDLE and head_began is not None:
                deadline = head_began + HEAD_SECONDS
            elif state is h11.SEND_BODY:
                body_began = trio.current_time() if body_began is None else body_began
                deadline = body_began + BODY_SECONDS
            with trio.CancelScope(deadline=deadline) as scope:
                try:
                    data = await self.stream.receive_some(READ_BYTES)
                except (trio.ClosedResourceError, trio.BrokenResourceError):
                    break
            if scope.cancelled_caught:
                _log.info("request too slow, connection closed", part="head" if state is h11.IDLE else "body")
                if state is h11.IDLE:
                    await http._send_error_response(408)
                break
            try:
                await http.handle(RawData(bytes(data)))
            except h11.RemoteProtocolError as error:
                await http._send_error_response(error.error_status_hint)
                break
            if not data:
                break
            state = http.connection.their_state
            if state is not h11.SEND_BODY:
                body_began = None
            if state is not h11.IDLE or not http.connection.trailing_data[0]:
                head_began = None
            elif head_began is None:
                head_began = trio.current_time()
                # From here on the head's time counts, not that of silence.
                await self.idle_task.stop()
        await self.protocol.handle(Closed())
        # hypercorn would keep what the client has closed for the whole keep-alive time.
        await self.idle_task.stop()


def _check_target(request: h11.Request) -> None:
    """Refuse a request's target (RFC 9112, 3.2) that is no path, and one whose host is not that of the header.

    quart takes both apart before anything of ours sees them, and fails at what it cannot read. It sees them unquoted:
    a host that would be another then is none of ours, as no name and no address of this machine has a `%`.
    """
    if request.target.startswith(b"/") or request.target == b"*":
        return
    try:
        target = urlsplit(request.target.decode("ascii"))
    except ValueError:
        target = urlsplit("")
    host = dict(request.headers).get(b"host", b"").decode("latin-1")
    if target.scheme not in ("http", "https") or "%" in target.netloc or target.netloc.lower() != host.lower():
        raise h11.RemoteProtocolError("no target of this server", error_status_hint=400)


async def _stay_with_http_1(request: h11.Request) -> None:
    """In place of hypercorn's `_check_protocol`: an offer of h2c is left unanswered (RFC 9110, 7.8), HTTP/2 is refused."""
    if request.http_version not in (b"1.0", b"1.1"):
        raise h11.RemoteProtocolError("HTTP/1.1 is spoken here", error_status_hint=505)
    # h11's own limit is on heads that are not whole yet; one read may bring a larger one.
    if len(request.target) + sum(len(name) + len(value) + 4 for name, value in request.headers) > HEAD_BYTES:
        raise h11.RemoteProtocolError("the head is too large", error_status_hint=431)
    _check_target(request)
    await trio.lowlevel.checkpoint()
