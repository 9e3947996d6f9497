"""Writing to a socket for as long as its reader takes something: a deadline on progress, not on the whole.

What the kernel has taken is no progress yet: its buffer holds mebibytes, and it wakes a writer only once a third of that
is free, which on a slow link takes longer than any decent deadline. So it is asked how much the peer has not taken yet.
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
"""A reader that takes nothing is given up after this."""
FLOOR_BYTES_PER_SECOND = 1024
"""Of whoever takes a little, so much has to go in each window: a link that is slower carries no conversation."""
LOOK_SECONDS = 1.0
PIECE_BYTES = 64 * 1024
_SO_NWRITE = 0x1024
"""macOS: bytes in the send buffer."""
_CLOSED = frozenset({errno.EBADF, errno.ENOTSOCK})


class ReaderTooSlow(trio.BrokenResourceError):
    """The peer took less than the floor in a whole window. What was being written is cut off: close the stream."""


@define
class Pace:
    """How fast a reader takes what is written, or a writer sends what is read. Pure."""

    began: float
    taken: int = 0
    """Bytes that had gone then."""

    def goes_on(self, now: float, taken: int) -> bool:
        """Note how much has gone by ``now``; False where it is too little to go on."""
        if taken - self.taken >= WINDOW_SECONDS * FLOOR_BYTES_PER_SECOND:
            self.began, self.taken = now, taken
        return now - self.began < WINDOW_SECONDS


def untaken_bytes(stream: trio.SocketStream) -> int:
    """What the kernel holds that the peer has not confirmed; 0 where the system does not tell, or the socket is gone."""
    try:
        if sys.platform == "darwin":
            return stream.socket.getsockopt(socket.SOL_SOCKET, _SO_NWRITE)
        told = fcntl.ioctl(stream.socket.fileno(), termios.TIOCOUTQ, bytes(4))
        return int(struct.unpack("i", told)[0])
    except (OSError, ValueError):  # a closed socket has the number -1
        return 0


async def send_paced(stream: trio.SocketStream, data: bytes | bytearray | memoryview) -> None:
    """Send all, however long it takes a reader that keeps the pace.

    Raises `ReaderTooSlow`, `trio.BrokenResourceError`, `trio.ClosedResourceError`. Cancelled, a part may be on the wire.
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
    """What the socket takes of a piece, once it takes any."""
    try:
        return await stream.socket.send(piece)
    except OSError as error:
        gone = trio.ClosedResourceError if error.errno in _CLOSED else trio.BrokenResourceError
        raise gone("the socket takes nothing more") from error


class PacedStream(trio.abc.HalfCloseableStream):
    """A socket whose writes have no other deadline than the pace of the reader."""

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
        """End our half. Raises `trio.BusyResourceError` within a write, whose rest would never go out."""
        if self._is_sending:
            raise trio.BusyResourceError("something is being sent")
        await self._stream.send_eof()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._stream.aclose()
