"""A socket with TLS that a connection can use like a plain one: half a close, then what the peer still says."""

from __future__ import annotations

import ssl

import trio

from actors.write_pace import send_paced

__all__ = ["TLSStream"]


class _HalfClosing(trio.abc.Stream):
    """The socket under TLS, of which closing TLS ends our direction only."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await send_paced(self.stream, data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self.stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self.stream.send_eof()


class TLSStream(trio.abc.HalfCloseableStream):
    """TLS over a socket. The handshake is made with the first byte, under the deadline of whoever waits for that."""

    def __init__(self, stream: trio.SocketStream, secured: trio.SSLStream[trio.abc.Stream]) -> None:
        """``secured`` is TLS over ``stream``, whoever made it, and nobody else's from now on."""
        self.plain = stream
        """The socket under it."""
        secured.transport_stream = _HalfClosing(stream)
        self._secured = secured
        self._has_said_all = False

    @classmethod
    def accepted(cls, stream: trio.SocketStream, context: ssl.SSLContext) -> TLSStream:
        """Over a socket on which nothing has been said yet."""
        return cls(stream, trio.SSLStream(stream, context, server_side=True))

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._secured.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._secured.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """What came; after `send_eof` without deciphering it, because nobody reads it any more."""
        if self._has_said_all:
            return await self.plain.receive_some(max_bytes)
        return await self._secured.receive_some(max_bytes)

    async def send_eof(self) -> None:
        """Say `close_notify` and end our direction; a peer without a handshake gets the end alone."""
        self._has_said_all = True
        await self._secured.aclose()

    async def aclose(self) -> None:
        await self.plain.aclose()
