"""Takes over the listening sockets of a service manager (socket activation, sd_listen_fds(3))."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import MutableMapping

__all__ = ["SocketsUnusable", "take_listening_sockets"]

FIRST_DESCRIPTOR = 3
EXPECTED = 2


class SocketsUnusable(Exception):
    """The service manager passed something other than the two sockets. The text says what."""


def take_listening_sockets(
    environment: MutableMapping[str, str] | None = None, first: int = FIRST_DESCRIPTOR
) -> tuple[socket.socket, socket.socket] | None:
    """Return the sockets of REST and of the WebSocket, or None if none were passed.

    The variables are removed, and child processes do not inherit the descriptors. Raises `SocketsUnusable`.
    """
    environment = os.environ if environment is None else environment
    pid, count = environment.pop("LISTEN_PID", ""), environment.pop("LISTEN_FDS", "")
    environment.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdecimal() or count == "0":
        return None
    if int(count) != EXPECTED:
        raise SocketsUnusable(
            f"the service manager passed {count} sockets; two are needed: ListenStream= of REST, then of the WebSocket"
        )
    with contextlib.ExitStack() as refused:
        rest = refused.enter_context(_listening(first))
        websocket = refused.enter_context(_listening(first + 1))
        if rest.getsockname()[0] != websocket.getsockname()[0]:
            raise SocketsUnusable("both sockets of the service manager must listen on the same address")
        refused.pop_all()
    return rest, websocket


def _listening(number: int) -> socket.socket:
    try:
        found = socket.socket(fileno=number)
        is_listening = found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise SocketsUnusable(
            f"descriptor {number} of the service manager is not a socket: {error.strerror}"
        ) from error
    if found.family not in (socket.AF_INET, socket.AF_INET6) or found.type != socket.SOCK_STREAM or not is_listening:
        found.close()
        raise SocketsUnusable(f"descriptor {number} of the service manager is not a listening TCP socket")
    found.set_inheritable(False)
    found.setblocking(False)
    return found
