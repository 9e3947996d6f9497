"""The listener: accepts sockets and hands each to an actor of its own. Closing it closes no connection."""

from __future__ import annotations

import errno
import itertools
import socket
from collections.abc import Callable
from typing import Any, NoReturn

import structlog
import trio
from attrs import frozen

from runtime import Actor, CapacityExceeded, DynamicRef, RuntimeFault, reject

__all__ = ["Listener"]

_log = structlog.get_logger("listener")

OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
PAUSE_SECONDS = 0.1
_REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"

_numbers = itertools.count(1)
"""Connection numbers go on over restarts of the listener, because its connections do."""


@frozen
class _NoMessages:
    """The listener takes none; a type is needed to say so."""


class Listener(Actor[_NoMessages]):
    """Accepts; nothing else."""

    mailbox = reject(1)

    def __init__(
        self, bound: socket.socket, sockets: DynamicRef, connection: Callable[[str, trio.SocketStream], Actor[Any]]
    ) -> None:
        """``bound`` stays open in the application; each incarnation listens on a duplicate of it."""
        self._bound = bound
        self._sockets = sockets
        self._connection = connection
        self._accepting: trio.CancelScope | None = None
        self._count = 0

    async def started(self) -> None:
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(self._bound.dup()))
        self._accepting = self.context.spawn(self._accept, listener)

    async def handle(self, message: _NoMessages) -> NoReturn:
        raise AssertionError("unreachable: nothing sends this")

    async def draining(self) -> None:
        """Take no new connections while the server goes down."""
        if self._accepting is not None:
            self._accepting.cancel(reason="draining")

    def snapshot(self) -> dict[str, object]:
        """How many came through this incarnation."""
        return {"accepted": self._count, "connected": self._sockets.child_count}

    async def _accept(self, listener: trio.SocketListener) -> None:
        async with listener:
            while True:
                try:
                    stream = await listener.accept()
                except OSError as error:
                    if error.errno not in OUT_OF_RESOURCES:
                        raise
                    # Nothing is wrong with us: files will be free again when connections end.
                    _log.warning("cannot accept", error=str(error))
                    await trio.sleep(PAUSE_SECONDS)
                    continue
                self._count += 1
                await self._hand_over(stream)

    async def _hand_over(self, stream: trio.SocketStream) -> None:
        name = f"c-{next(_numbers)}"
        try:
            await self._sockets.start_child(name, lambda: self._connection(name, stream))
        except CapacityExceeded:
            _log.warning("connection refused", reason="max_children")
            with trio.move_on_after(1):
                await stream.send_all(_REFUSAL)
            await trio.aclose_forcefully(stream)
        except RuntimeFault as error:
            _log.warning("connection refused", reason=str(error))
            await trio.aclose_forcefully(stream)
