"""Which HTTP connections there are, and which of them ends when another comes: bounds in all and for each address."""

from __future__ import annotations

from typing import Protocol

import trio

__all__ = ["OpenConnections"]

CONNECTIONS = 512
"""At once; one more takes the place of the oldest that has no whole request."""
ADDRESS_CONNECTIONS = 384
"""Of one address, or one network of IPv6 (/64), which is as easily had; one more takes the place of its own oldest."""


class Served(Protocol):
    """What is known of a connection here."""

    @property
    def missing(self) -> str | None:
        """Which part of a request is still to come; None where the client waits for its answer."""


class OpenConnections:
    """Connections by their streams, oldest first."""

    def __init__(self, most: int | None = None) -> None:
        """``most`` at once, `CONNECTIONS` by default; of one address its share of them."""
        self._most = most
        self._served: dict[trio.SocketStream, Served] = {}
        self._addresses: dict[trio.SocketStream, str] = {}

    def __len__(self) -> int:
        return len(self._served)

    def add(self, stream: trio.SocketStream, served: Served, address: str) -> None:
        """One more, for which `make_room` was asked."""
        self._served[stream] = served
        self._addresses[stream] = address

    def remove(self, stream: trio.SocketStream) -> None:
        """This one has ended; it may have been removed before."""
        self._served.pop(stream, None)
        self._addresses.pop(stream, None)

    def make_room(self, address: str) -> bool:
        """See to it that one more of this address may come; False where all that could go are being answered."""
        own = [stream for stream, one in self._addresses.items() if one == address]
        most, of_address = CONNECTIONS, ADDRESS_CONNECTIONS
        if self._most is not None:
            most, of_address = self._most, max(1, self._most * ADDRESS_CONNECTIONS // CONNECTIONS)
        if len(own) >= of_address:
            return self._end_one_of(own)
        return len(self._served) < most or self._end_one_of(list(self._served))

    def abort(self) -> None:
        """End all of them at once."""
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
