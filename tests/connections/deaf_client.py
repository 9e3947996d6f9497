"""A client with tiny buffers that reads only when a test makes it."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Request, TextMessage

from tests.server_fixture import RunningServer

__all__ = ["Deaf", "deaf_client"]


class Deaf:
    """A socket with the smallest buffers that completes the handshake, sends hello, and then reads only on demand."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.frames = WSConnection(ConnectionType.CLIENT)

    async def open(self, client_id: str) -> None:
        await self.stream.send_all(self.frames.send(Request(host="127.0.0.1", target="/ws")))
        accepted = False
        while not accepted:
            self.frames.receive_data(await self.stream.receive_some(1024))
            accepted = any(isinstance(event, AcceptConnection) for event in self.frames.events())
        await self.say("hello", {"client_id": client_id})

    async def say(self, kind: str, data: object, command_id: str = "1") -> None:
        text = json.dumps({"type": kind, "id": command_id, "data": data})
        await self.stream.send_all(self.frames.send(TextMessage(text)))

    def read_on(self) -> None:
        """Enlarge the buffers: through the smallest window the kernel would take half a minute for a megabyte."""
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1_048_576)


@asynccontextmanager
async def deaf_client(server: RunningServer, client_id: str = "deaf") -> AsyncIterator[Deaf]:
    port = int(server.about.websocket_url.rsplit(":", 1)[1].split("/")[0])
    plain = trio.socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    await plain.connect(("127.0.0.1", port))
    async with trio.SocketStream(plain) as stream:
        client = Deaf(stream)
        await client.open(client_id)
        yield client
