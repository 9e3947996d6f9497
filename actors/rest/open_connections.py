"""Tracks open HTTP connections and limits them, in total and per address, evicting the oldest idle one."""

from __future__ import annotations

from typing import Protocol

import trio

__all__ = ["OpenConnections"]

CONNECTIONS = 512
"""Connections in total. Beyond that, a new one evicts the oldest without a complete request."""
ADDRESS_CONNECTIONS = 384
"""Connections of one address, or of one IPv6 network (/64), since a client can use all of it. A new one evicts the
address's own oldest.
"""


class Served(Protocol):
    """The view of a connection that eviction needs."""

    @property
    def missing(self) -> str | None:
        """The part of a request that is still missing; None if the client waits for its answer."""


class OpenConnections:
    """Open connections by stream, oldest first."""

    def __init__(self, most: int | None = None) -> None:
        """``most`` limits connections in total, by default `CONNECTIONS`; the limit per address scales with it."""
        self._most = most
        self._served: dict[trio.SocketStream, Served] = {}
        self._addresses: dict[trio.SocketStream, str] = {}

    def __len__(self) -> int:
        return len(self._served)

    def add(self, stream: trio.SocketStream, served: Served, address: str) -> None:
        """Add a connection, after `make_room` has returned True."""
        self._served[stream] = served
        self._addresses[stream] = address

    def remove(self, stream: trio.SocketStream) -> None:
        """Remove a connection. Harmless if it was removed before."""
        self._served.pop(stream, None)
        self._addresses.pop(stream, None)

    def make_room(self, address: str) -> bool:
        """Evict a connection if needed for a new one of this address. Returns False if all candidates are being
        answered.
        """
        own = [stream for stream, one in self._addresses.items() if one == address]
        most, of_address = CONNECTIONS, ADDRESS_CONNECTIONS
        if self._most is not None:
            most, of_address = self._most, max(1, self._most * ADDRESS_CONNECTIONS // CONNECTIONS)
        if len(own) >= of_address:
            return self._end_one_of(own)
        return len(self._served) < most or self._end_one_of(list(self._served))

    def abort(self) -> None:
        """Close all connections at once."""
        for stream in list(self._served):
            stream.socket.close()

    def _end_one_of(self, streams: list[trio.SocketStream]) -> bool:
        for part in ("head", "body"):
            for stream in streams:
                if self._served[stream].missing == part:
                    self.remove(stream)
                    stream.socket.close()
                    return True
        return False
