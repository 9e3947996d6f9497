"""Many WebSocket clients in one process that cost next to nothing: plain sockets, epoll, and no parsing but of ends.

What they cost would otherwise be measured with the server. Times are of the monotonic clock, which on Linux is one
for all processes.
"""

from __future__ import annotations

import json
import selectors
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import protocol

__all__ = ["ManySockets", "Socket", "many_sockets"]

ENTERING = 32
"""Handshakes under way at once."""
OPEN_SECONDS = 60.0
UPGRADE = (
    "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Protocol: {subprotocol}\r\n\r\n"
)
PONG = {"type": "pong", "data": {}}


class Socket:
    """A connection. ``received`` holds bytes that have arrived and were not taken."""

    def __init__(self, number: int, plain: socket.socket) -> None:
        self.number = number
        self.plain = plain
        self.received = b""

    def say(self, message: dict[str, Any]) -> None:
        """Send one text frame, masked with zeros (RFC 6455, 5.3)."""
        payload = json.dumps(message).encode()
        assert len(payload) < 65_536
        length = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + struct.pack("!H", len(payload))
        self.plain.sendall(b"\x81" + length + bytes(4) + payload)

    def frames(self) -> list[bytes]:
        """The payloads of the whole frames that have come; a part stays."""
        found = []
        while len(self.received) >= 2:
            start, length = 2, self.received[1]
            if length == 126:
                start, length = 4, int.from_bytes(self.received[2:4], "big")
            elif length == 127:
                start, length = 10, int.from_bytes(self.received[2:10], "big")
            if len(self.received) < start + length:
                break
            found.append(self.received[start : start + length])
            self.received = self.received[start + length :]
        return found


class ManySockets:
    """A crowd of connections, driven by one thread and only while a method is called."""

    def __init__(self, url: str, *, says_hello: bool) -> None:
        self._url = url
        self._says_hello = says_hello
        self._selector = selectors.DefaultSelector()
        self.all: list[Socket] = []

    def open(self, count: int) -> None:
        """Open so many more, each greeted (with a client id of its own) where the server wants that."""
        entering: set[int] = set()
        wanted = len(self.all) + count
        deadline = time.monotonic() + OPEN_SECONDS

        def has_entered(one: Socket, chunk: bytes, _: int) -> None:
            if one.number not in entering:
                # Opening thousands may take longer than a server waits for a sign of life.
                _answer_ping(one, chunk)
                return
            one.received += chunk
            if (b'"type":"welcome"' if self._says_hello else b"\r\n\r\n") in one.received:
                one.received = b""
                entering.discard(one.number)
            elif self._says_hello and one.received.endswith(b"\r\n\r\n"):
                hello = {"client_id": f"bench-{one.number}"}
                one.say({"type": "hello", "id": "h", "data": hello})

        while len(self.all) < wanted or entering:
            if time.monotonic() > deadline:
                raise SystemExit(f"{len(entering)} connections were not opened")
            while len(self.all) < wanted and len(entering) < ENTERING:
                entering.add(len(self.all))
                self._begin()
            self.receive(has_entered, 0.1)

    def _begin(self) -> None:
        parts = urlsplit(self._url)
        plain = socket.create_connection((parts.hostname or "", parts.port or 0))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        text = UPGRADE.format(path=parts.path, host=parts.netloc, subprotocol=protocol.SUBPROTOCOL)
        plain.sendall(text.encode())
        one = Socket(len(self.all), plain)
        self.all.append(one)
        self._selector.register(plain, selectors.EVENT_READ, one)

    def receive(self, take: Callable[[Socket, bytes, int], None], seconds: float) -> None:
        """Wait at most so long, once, and hand on what came with the time (nanoseconds) at which it did."""
        for key, _ in self._selector.select(seconds):
            chunk = key.data.plain.recv(65_536)
            if not chunk:
                raise SystemExit(f"the server closed connection {key.data.number}")
            take(key.data, chunk, time.monotonic_ns())

    def live_for(self, seconds: float) -> int:
        """Answer the server's pings for a time; returns how many there were."""
        pings = 0

        def answer(one: Socket, chunk: bytes, _: int) -> None:
            nonlocal pings
            pings += _answer_ping(one, chunk)

        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.receive(answer, left)
        return pings

    def close(self) -> None:
        """Close all."""
        for one in self.all:
            one.plain.close()
        self._selector.close()


def _answer_ping(one: Socket, chunk: bytes) -> bool:
    """Answer a ping. Returns False if the chunk is something else."""
    is_ping = b'"type":"ping"' in chunk
    if is_ping:
        one.say(PONG)
    return is_ping


@contextmanager
def many_sockets(url: str, count: int, *, says_hello: bool) -> Iterator[ManySockets]:
    """So many open connections."""
    sockets = ManySockets(url, says_hello=says_hello)
    try:
        sockets.open(count)
        yield sockets
    finally:
        sockets.close()
