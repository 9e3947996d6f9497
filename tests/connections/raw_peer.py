"""A client that sends arbitrary bytes, and reads with the `websockets` library, which the server does not use."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from tests.server_fixture import PATIENCE_SECONDS, RunningServer

__all__ = ["BINARY", "CLOSE", "CONTINUATION", "PING", "PONG", "TEXT", "RawPeer", "frame", "raw_peer"]

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MASK = b"\x01\x80\xff\x37"


def frame(
    opcode: int,
    data: bytes = b"",
    *,
    is_final: bool = True,
    reserved_bits: int = 0,
    mask: bytes | None = MASK,
    length_bytes: int | None = None,
    told_length: int | None = None,
) -> bytes:
    """Return the bytes of one frame, valid or not: ``length_bytes`` is 0, 2 or 8, ``told_length`` replaces the true length."""
    length = len(data) if told_length is None else told_length
    if length_bytes is None:
        length_bytes = 0 if length < 126 else 2 if length < 65_536 else 8
    short = {0: length, 2: 126, 8: 127}[length_bytes]
    head = bytes([(is_final << 7) | (reserved_bits << 4) | opcode, ((mask is not None) << 7) | short])
    head += length.to_bytes(length_bytes, "big") if length_bytes else b""
    if mask is None:
        return head + data
    whole = mask * (len(data) // 4 + 1)
    return (
        head
        + mask
        + (int.from_bytes(data, "big") ^ int.from_bytes(whole[: len(data)], "big")).to_bytes(len(data), "big")
    )


class RawPeer:
    """A socket after its handshake."""

    def __init__(self, stream: trio.SocketStream, reader: ClientProtocol) -> None:
        self.stream = stream
        self._reader = reader
        self._received: list[Frame] = []

    async def send(self, *frames: bytes) -> None:
        """Send bytes unchanged; ignore that the server has closed."""
        for one in frames:
            try:
                await self.stream.send_all(one)
            except trio.BrokenResourceError:
                return

    async def command(self, kind: str, command_id: str, data: Any) -> None:
        """Send one valid command in one frame."""
        await self.send(frame(TEXT, json.dumps({"type": kind, "id": command_id, "data": data}).encode()))

    async def receive(self) -> Frame | None:
        """Return the next frame within `PATIENCE_SECONDS`, or None at the end of the stream."""
        with trio.fail_after(PATIENCE_SECONDS):
            while not self._received:
                try:
                    data = await self.stream.receive_some(65_536)
                except trio.BrokenResourceError:
                    return None
                if not data:
                    return None
                self._reader.receive_data(bytes(data))
                self._received += [one for one in self._reader.events_received() if isinstance(one, Frame)]
                assert self._reader.parser_exc is None, self._reader.parser_exc
        return self._received.pop(0)

    async def message(self) -> dict[str, Any]:
        """Return the next frame, which must be a message."""
        received = await self.receive()
        assert received is not None
        assert received.opcode is Opcode.TEXT, received
        found: dict[str, Any] = json.loads(bytes(received.data))
        return found

    async def close_code(self) -> int | None:
        """Read to the end. Returns the code of the close frame, 1005 if it had none, None without a close frame."""
        code: int | None = None
        while (received := await self.receive()) is not None:
            if received.opcode is Opcode.CLOSE:
                assert code is None, "two close frames"
                code = int.from_bytes(bytes(received.data[:2]), "big") if received.data else 1005
                await self.send(frame(CLOSE, bytes(received.data)))
        return code


@asynccontextmanager
async def raw_peer(server: RunningServer, client_id: str = "raw") -> AsyncIterator[RawPeer]:
    """Open a connection that has sent hello."""
    url = server.about.websocket_url
    reader = ClientProtocol(parse_uri(url), max_size=None)
    port = int(url.rsplit(":", 1)[1].split("/")[0])
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        reader.send_request(reader.connect())
        await stream.send_all(b"".join(reader.data_to_send()))
        with trio.fail_after(PATIENCE_SECONDS):
            while not reader.events_received():
                reader.receive_data(bytes(await stream.receive_some()))
        peer = RawPeer(stream, reader)
        await peer.command("hello", "h", {"client_id": client_id})
        assert (await peer.message())["type"] == "welcome"
        yield peer
