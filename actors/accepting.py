"""Accepting connections on a socket that was bound before the tree started, whatever the system is short of."""

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
"""Between two attempts while there is no descriptor: not so short that they cost, not so long that they are noticed."""
MISUSE = frozenset({errno.EBADF, errno.EINVAL, errno.ENOTSOCK})
"""The listening socket itself is of no use; everything else befell one connection or passes."""
OF_ONE_CONNECTION = frozenset({errno.ECONNABORTED, errno.EPROTO, errno.ECONNRESET})


async def accept_for_ever(
    bound: socket.socket,
    take: Callable[[trio.SocketStream], Awaitable[None]],
    note: Callable[[str | None], None],
    *,
    when_listening: Callable[[], None] = lambda: None,
) -> NoReturn:
    """Listen on a duplicate of ``bound`` and hand each connection to ``take``, which returns at once, until cancelled.

    Without a descriptor, a buffer or memory it tries again ten times a second, logs that once, and tells ``note``, which hears
    None when that is over. ``when_listening`` is called once. Raises `OSError` where the socket is no listening one.
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
    """One line when it begins and one when it ends, however often it is met between."""

    def __init__(self, note: Callable[[str | None], None]) -> None:
        self._note = note
        self._times = 0

    def met(self, error: OSError) -> None:
        """Take note of a failed attempt. Raises it where another would fail for ever."""
        if error.errno in MISUSE:
            raise error
        if not self._times:
            _log.warning("cannot accept connections", error=error.strerror)
            self._note(f"connections cannot be accepted: {error.strerror}")
        self._times += 1

    def is_over(self) -> None:
        """An attempt went well."""
        if self._times:
            _log.info("accepting connections again", attempts=self._times)
            self._note(None)
            self._times = 0
