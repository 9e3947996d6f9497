"""The baseline of the connection benchmarks: trio-websocket and a channel, with nothing around them.

Run as a program it serves on a free port, which it prints, and does what a client says:

    idle          any connection is kept and read from
    `fanout N`    a message of N bytes is sent to every connection, one `send_message` after the other
    `stream N S`  every S seconds, N times: a token for each connection into its channel, whose writer sends it
"""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import trio
import trio_websocket

import protocol

__all__ = ["PROGRAM", "sized"]

PROGRAM = Path(__file__).resolve()
TOKENS_WAITING = 1024


def sized(head: str, size: int) -> str:
    """A JSON text of so many bytes."""
    return head + '"pad":"' + "x" * max(0, size - len(head) - 9) + '"}'


class Connections:
    """The open connections."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._open: list[trio_websocket.WebSocketConnection] = []

    async def serve(self, request: trio_websocket.WebSocketRequest) -> None:
        """Keep one connection, and do what it says."""
        websocket = await request.accept(subprotocol=protocol.SUBPROTOCOL)
        self._open.append(websocket)
        try:
            while True:
                words = (await websocket.get_message()).strip('"').split()
                if words[0] == "fanout":
                    await self._fan_out(int(words[1]))
                else:
                    self._nursery.start_soon(self._stream, int(words[1]), float(words[2]))
        except trio_websocket.ConnectionClosed:
            self._open.remove(websocket)

    async def _fan_out(self, size: int) -> None:
        text = sized(f'{{"type":"agent_status","ns":{time.monotonic_ns()},', size)
        for websocket in self._open:
            await websocket.send_message(text)

    async def _stream(self, count: int, step_seconds: float) -> None:
        async def write(websocket: trio_websocket.WebSocketConnection, receive: trio.MemoryReceiveChannel[str]) -> None:
            async for text in receive:
                await websocket.send_message(text)

        async with trio.open_nursery() as nursery:
            channels = []
            for websocket in self._open:
                send, receive = trio.open_memory_channel[str](TOKENS_WAITING)
                nursery.start_soon(write, websocket, receive)
                channels.append(send)
            for seq in range(1, count + 1):
                await trio.sleep(step_seconds)
                head = f'{{"type":"token","stream":"g-1234567890","seq":{seq},"ns":{time.monotonic_ns()},'
                for send in channels:
                    send.send_nowait(sized(head, 160))
            for send in channels:
                send.close()


async def main() -> None:
    """Serve until the process is ended."""
    async with trio.open_nursery() as nursery:
        connections = Connections(nursery)
        serve = partial(trio_websocket.serve_websocket, connections.serve, "127.0.0.1", 0, ssl_context=None)
        server = await nursery.start(serve)
        sys.stdout.write(f"{server.port}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    trio.run(main)
