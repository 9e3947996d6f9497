"""Accepts connections on a socket bound before the tree started, surviving shortages of descriptors and memory."""

from __future__ import annotations

import errno
import socket
from collections.abc import Awaitable, Callable
from typing import NoReturn

import structlog
import trio

__all__ = ["accept_for_ever"]

_log = structlog.get_logger("accepting")

PAUSE_SECONDS = 0.1
"""Interval between attempts while no descriptor is free: long enough to be cheap, short enough not to be noticed."""
MISUSE = frozenset({errno.EBADF, errno.EINVAL, errno.ENOTSOCK})
"""Errors of the listening socket itself. Every other error concerns one connection or is temporary."""
OF_ONE_CONNECTION = frozenset({errno.ECONNABORTED, errno.EPROTO, errno.ECONNRESET})


async def accept_for_ever(
    bound: socket.socket,
    take: Callable[[trio.SocketStream], Awaitable[None]],
    note: Callable[[str | None], None],
    *,
    when_listening: Callable[[], None] = lambda: None,
) -> NoReturn:
    """Listen on a duplicate of ``bound`` and pass each connection to ``take``, which must not block, until cancelled.

    If descriptors, buffers or memory run out, it retries ten times a second, logs once, and calls ``note`` with the problem
    and with None when it is over. ``when_listening`` is called once. Raises `OSError` if the socket does not listen.
    """
    shortage = _Shortage(note)
    while True:
        try:
            duplicate = bound.dup()
        except OSError as error:
            shortage.met(error)
            await trio.sleep(PAUSE_SECONDS)
        else:
            break
    shortage.is_over()
    listener = trio.SocketListener(trio.socket.from_stdlib_socket(duplicate))
    when_listening()
    async with listener:
        while True:
            try:
                stream = await listener.accept()
            except OSError as error:
                if error.errno in OF_ONE_CONNECTION:
                    continue
                shortage.met(error)
                await trio.sleep(PAUSE_SECONDS)
                continue
            shortage.is_over()
            await take(stream)


class _Shortage:
    """Logs one line when a shortage begins and one when it ends."""

    def __init__(self, note: Callable[[str | None], None]) -> None:
        self._note = note
        self._times = 0

    def met(self, error: OSError) -> None:
        """Note a failed attempt. Raises the error if every further attempt would fail too."""
        if error.errno in MISUSE:
            raise error
        if not self._times:
            _log.warning("cannot accept connections", error=error.strerror)
            self._note(f"cannot accept connections: {error.strerror}")
        self._times += 1

    def is_over(self) -> None:
        """Note a successful attempt."""
        if self._times:
            _log.info("accepting connections again", attempts=self._times)
            self._note(None)
            self._times = 0
