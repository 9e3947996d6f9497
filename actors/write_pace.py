"""Socket writes with a deadline on progress instead of on the whole.

Bytes accepted by the kernel are not progress yet: its buffer holds mebibytes, and it wakes a writer only once a third is free,
which on a slow link takes longer than any sensible deadline. So the kernel is asked how much the peer has not acknowledged.
"""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
import sys
import termios

import trio
from attrs import define

__all__ = ["WINDOW_SECONDS", "Pace", "PacedStream", "ReaderTooSlow", "send_paced", "untaken_bytes"]

WINDOW_SECONDS = 20.0
"""Time after which a reader that takes nothing is given up."""
FLOOR_BYTES_PER_SECOND = 1024
"""Minimum rate over each window; a slower link cannot carry a conversation."""
LOOK_SECONDS = 1.0
PIECE_BYTES = 64 * 1024
_SO_NWRITE = 0x1024
"""macOS: bytes in the send buffer."""
_CLOSED = frozenset({errno.EBADF, errno.ENOTSOCK})


class ReaderTooSlow(trio.BrokenResourceError):
    """The peer took less than the minimum in a whole window. The write was cut short, so the stream must be closed."""


@define
class Pace:
    """Measures the rate of a reader or writer against the minimum. No I/O."""

    began: float
    taken: int = 0
    """Bytes taken by then."""

    def goes_on(self, now: float, taken: int) -> bool:
        """Note the bytes taken by ``now``. Returns False if the rate is too low."""
        if taken - self.taken >= WINDOW_SECONDS * FLOOR_BYTES_PER_SECOND:
            self.began, self.taken = now, taken
        return now - self.began < WINDOW_SECONDS


def untaken_bytes(stream: trio.SocketStream) -> int:
    """Return the unacknowledged bytes in the kernel's send buffer; 0 if unknown or the socket is closed."""
    try:
        if sys.platform == "darwin":
            return stream.socket.getsockopt(socket.SOL_SOCKET, _SO_NWRITE)
        told = fcntl.ioctl(stream.socket.fileno(), termios.TIOCOUTQ, bytes(4))
        return int(struct.unpack("i", told)[0])
    except (OSError, ValueError):  # a closed socket has the number -1
        return 0


async def send_paced(stream: trio.SocketStream, data: bytes | bytearray | memoryview) -> None:
    """Send everything, for as long as the reader keeps the minimum rate.

    Raises `ReaderTooSlow`, `trio.BrokenResourceError`, `trio.ClosedResourceError`. If cancelled, a part may have been sent.
    """
    pace = Pace(trio.current_time(), -untaken_bytes(stream))
    handed = 0
    with memoryview(data) as view:
        while handed < len(view):
            with trio.move_on_after(LOOK_SECONDS):
                handed += await _send(stream, view[handed : handed + PIECE_BYTES])
            if not pace.goes_on(trio.current_time(), handed - untaken_bytes(stream)):
                raise ReaderTooSlow(f"less than {FLOOR_BYTES_PER_SECOND} bytes a second for {WINDOW_SECONDS:g} seconds")


async def _send(stream: trio.SocketStream, piece: memoryview) -> int:
    """Send as much of a piece as the socket takes, and return the number of bytes."""
    try:
        return await stream.socket.send(piece)
    except OSError as error:
        gone = trio.ClosedResourceError if error.errno in _CLOSED else trio.BrokenResourceError
        raise gone("the socket accepts no more data") from error


class PacedStream(trio.abc.HalfCloseableStream):
    """A socket stream whose writes are limited only by the reader's rate."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self.socket = stream.socket
        self._is_sending = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """See `send_paced`."""
        self._is_sending = True
        try:
            await send_paced(self._stream, data)
        finally:
            self._is_sending = False

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """Close the sending half. Raises `trio.BusyResourceError` during a write, whose rest would be lost."""
        if self._is_sending:
            raise trio.BusyResourceError("something is being sent")
        await self._stream.send_eof()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._stream.aclose()
