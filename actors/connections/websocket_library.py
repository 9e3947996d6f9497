"""What stands between trio-websocket and our sockets, so that its reader's end is not the end of our task or stream."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio
from attrs import frozen

__all__ = ["HandshakeTasks", "KeptStream"]


@frozen
class HandshakeTasks:
    """Stands for the nursery in which trio-websocket starts its reader, and notices when that ends.

    After a request that is no handshake trio-websocket answers, ends its reader, and lets us wait for a request.
    """

    nursery: trio.Nursery
    waiting: trio.CancelScope

    def start_soon(self, reader: Callable[[], Awaitable[None]]) -> None:
        """Called once, with the reader."""
        self.nursery.start_soon(self._read, reader)

    async def _read(self, reader: Callable[[], Awaitable[None]]) -> None:
        await reader()
        self.waiting.cancel(reason="the peer left before its handshake")


class KeptStream(trio.abc.Stream):
    """The socket for trio-websocket, which would close it while our last words are still on their way."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        """Nothing: its connection closes it."""
        await trio.lowlevel.checkpoint()
