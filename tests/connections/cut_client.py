"""A client whose TCP connection is cut after a given number of bytes, and which then reconnects and resumes."""

from __future__ import annotations

import json
from typing import Any

import trio
from attrs import define, field
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Request, TextMessage

from tests.server_fixture import RunningServer

__all__ = ["CutClient"]

CONNECTION_SECONDS = 30.0
"""Many of them may be in progress at once."""


@define
class CutClient:
    """Follows the stream `client` and one generation over as many connections as needed, by the protocol's rules alone."""

    server: RunningServer
    command_id: str
    prompt: str
    client_epoch: str
    client_seq: int
    client_id: str = "tester"
    numbers: list[int] = field(factory=list)
    """Sequence numbers of the durable events."""
    accepted: dict[str, Any] | None = None
    seq: int = 0
    text: str = ""
    endings: list[str] = field(factory=list)
    bytes_received: int = 0
    bytes_sent: int = 0
    handshake_bytes: tuple[int, int] = (0, 0)
    """Bytes received and sent up to the last `welcome`."""
    _part: str = ""

    async def connect(self, *, until: Any, receive_bytes: int | None = None, send_bytes: int | None = None) -> None:
        """Run one connection until ``until()``, or until cut after so many bytes in either direction."""
        port = int(self.server.about.websocket_url.rsplit(":", 1)[1].split("/")[0])
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            frames = WSConnection(ConnectionType.CLIENT)
            self.bytes_sent = self.bytes_received = 0
            self._part = ""

            async def send(data: bytes) -> bool:
                service = len(data) if send_bytes is None else max(0, min(len(data), send_bytes - self.bytes_sent))
                self.bytes_sent += service
                await stream.send_all(data[:service])
                return service == len(data)

            if not await send(frames.send(Request(host="127.0.0.1", target="/ws"))):
                return await trio.aclose_forcefully(stream)
            with trio.fail_after(CONNECTION_SECONDS):
                while not until():
                    most = 65_536 if receive_bytes is None else min(65_536, receive_bytes - self.bytes_received)
                    if most <= 0:
                        return await trio.aclose_forcefully(stream)
                    data = await stream.receive_some(most)
                    if not data:
                        return None
                    self.bytes_received += len(data)
                    frames.receive_data(data)
                    for event in frames.events():
                        for command in self._take(event):
                            if not await send(frames.send(TextMessage(json.dumps(command)))):
                                return await trio.aclose_forcefully(stream)
            await trio.aclose_forcefully(stream)
        return None

    def _take(self, event: Any) -> list[dict[str, Any]]:
        match event:
            case AcceptConnection():
                points = [{"stream": "client", "epoch": self.client_epoch, "seq": self.client_seq}]
                if self.accepted is not None:
                    points.append({**self.accepted, "seq": self.seq})
                return [{"type": "hello", "id": "h", "data": {"client_id": self.client_id, "resume": points}}]
            case CloseConnection():
                return []
            case TextMessage(data=data, message_finished=is_whole):
                # wsproto yields the available part of a frame.
                self._part += data
                if is_whole:
                    whole, self._part = self._part, ""
                    return self._take_message(json.loads(whole))
        return []

    def _take_message(self, message: dict[str, Any]) -> list[dict[str, Any]]:
        kind = message["type"]
        if kind == "welcome":
            self.handshake_bytes = (self.bytes_received, self.bytes_sent)
            assert all(one["resumed"] for one in message["data"]["resumed"]), message["data"]["resumed"]
            if self.accepted is None:
                data = {"prompt": self.prompt, "on_disconnect": "detach"}
                return [{"type": "generate", "id": self.command_id, "data": data}]
        elif kind == "accepted":
            assert message["re"] == self.command_id
            self.accepted = message["data"]
        elif message.get("stream") == "client":
            assert message.get("first_seq", message["seq"]) == self.client_seq + 1
            self.client_seq = message["seq"]
            self.numbers.append(message["data"]["number"])
        elif self.accepted is not None and message.get("stream") == self.accepted["stream"]:
            assert message.get("first_seq", message["seq"]) == self.seq + 1
            self.seq = message["seq"]
            if kind == "token":
                self.text += message["data"]["text"]
            else:
                self.endings.append(kind)
        else:
            assert message.get("stream") == "state" or kind == "ping", message
        return []
