"""systemd's notification protocol (sd_notify(3)): datagrams to the Unix socket that NOTIFY_SOCKET names.

Implemented here because it is one `sendto`, whereas libsystemd's Python binding is compiled against the system's library.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping

import structlog
from attrs import frozen

__all__ = ["NotifySocket", "take_notify_socket"]

_log = structlog.get_logger("service")

VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
MICROSECONDS = 1_000_000
STATUS_CHARACTERS = 200


@frozen
class NotifySocket:
    """The service manager's socket, and its watchdog interval."""

    address: str
    """A path, or a name in the abstract namespace that begins with `@`."""
    watchdog_seconds: float | None
    """Time without `WATCHDOG=1` after which the manager ends this process; None if it never does."""

    def send(self, *assignments: str, status: str | None = None) -> bool:
        """Send one datagram of `NAME=value` lines. Never blocks or raises; returns False if it was not accepted.

        ``status`` is for people (`systemctl status`), in one line.
        """
        lines = list(assignments)
        if status is not None:
            lines.append(f"STATUS={' '.join(status.split())[:STATUS_CHARACTERS]}")
        name = f"\0{self.address[1:]}" if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | getattr(socket, "SOCK_CLOEXEC", 0)) as sender:
                # A manager that does not read must not hold the event loop.
                sender.setblocking(False)
                sender.sendto("\n".join(lines).encode(), name)
        except OSError as error:
            _log.debug("service manager not notified", problem=str(error))
            return False
        return True


def take_notify_socket(environment: MutableMapping[str, str] | None = None) -> NotifySocket | None:
    """Return the socket named by the environment, and remove its variables, because child processes are not the service.

    Returns None without a service manager, or if the variables are invalid.
    """
    environment = os.environ if environment is None else environment
    address, watchdog, pid = (environment.pop(name, "") for name in VARIABLES)
    if not address.startswith(("/", "@")) or address == "@":
        return None
    seconds = None
    if watchdog.isdecimal() and int(watchdog) > 0 and pid in ("", str(os.getpid())):
        seconds = int(watchdog) / MICROSECONDS
    return NotifySocket(address, seconds)
