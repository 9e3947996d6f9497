"""A TLS socket with half-close: after `send_eof`, the peer's remaining bytes can be read, as from a plain socket."""

from __future__ import annotations

import ssl

import trio

from actors.write_pace import send_paced

__all__ = ["TLSStream"]


class _HalfClosing(trio.abc.Stream):
    """The socket under TLS; closing TLS shuts down only our sending direction."""

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
    """TLS over a socket. The handshake runs with the first byte, under that caller's deadline."""

    def __init__(self, stream: trio.SocketStream, secured: trio.SSLStream[trio.abc.Stream]) -> None:
        """``secured`` is TLS over ``stream``; this object owns it from now on."""
        self.plain = stream
        """The underlying socket."""
        secured.transport_stream = _HalfClosing(stream)
        self._secured = secured
        self._has_said_all = False

    @classmethod
    def accepted(cls, stream: trio.SocketStream, context: ssl.SSLContext) -> TLSStream:
        """Wrap an accepted socket before the handshake."""
        return cls(stream, trio.SSLStream(stream, context, server_side=True))

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._secured.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._secured.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive data; after `send_eof` still encrypted, because it is only drained."""
        if self._has_said_all:
            return await self.plain.receive_some(max_bytes)
        return await self._secured.receive_some(max_bytes)

    async def send_eof(self) -> None:
        """Send `close_notify` and shut down our direction. Before the handshake there is no `close_notify`."""
        self._has_said_all = True
        await self._secured.aclose()

    async def aclose(self) -> None:
        await self.plain.aclose()
