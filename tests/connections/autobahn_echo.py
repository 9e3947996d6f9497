"""The server's WebSocket, from handshake to close, over an echo instead of commands, for Autobahn's test suite.

`python -m tests.connections.autobahn_echo` prints its address and runs until interrupted. tests/README.md tells how to
run the suite against it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from unittest.mock import patch

import trio

from actors.connections import connection
from actors.connections.connection import Connection
from actors.connections.websocket import text_frame
from actors.inference.worker_config import WorkerConfig
from tests.server_fixture import running_server

BINARY_HEAD = 0x82
A_DAY_SECONDS = 86_400.0


async def echo(self: Connection, frame: str | bytes) -> None:
    """Send a message back unchanged."""
    websocket = self._transport._websocket
    assert websocket is not None
    if isinstance(frame, str):
        await websocket.write(text_frame(frame.encode()))
    else:
        await websocket.write(bytes([BINARY_HEAD]) + text_frame(bytes(frame))[1:])


async def main() -> None:
    """Serve until cancelled."""
    with (
        patch.object(Connection, "_take_frame", echo),
        patch.object(connection, "HELLO_SECONDS", A_DAY_SECONDS),
        patch.object(WorkerConfig, "command", lambda *_: ["sleep", "60"]),
        tempfile.TemporaryDirectory() as folder,
    ):
        async with running_server(Path(folder), wait=False) as server:
            print(server.about.websocket_url, flush=True)
            await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(main)
