"""P11: half-open connections and frozen clients are detected within 33 seconds; with a mock clock and real sockets."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import attrs
import pytest
import trio
from trio.testing import MockClock

from tests.connections.test_keepalive import pass_seconds
from tests.server_fixture import RunningServer, eventually, running_server

pytestmark = [pytest.mark.websocket, pytest.mark.integration]

CLIENT = """
import sys
from websockets.sync.client import connect
with connect(sys.argv[1], proxy=None, ping_interval=None) as socket:
    socket.send('{"type": "hello", "id": "1", "data": {"client_id": "frozen"}}')
    print(socket.recv(), flush=True)
    for _ in socket:
        socket.send('{"type": "pong"}')
"""


async def test_p11_a_frozen_client_is_found(mock_clock: MockClock, tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        command = [sys.executable, "-c", CLIENT, server.about.websocket_url]
        child = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE)
        assert child.stdout is not None
        try:
            line = b""
            while not line.endswith(b"\n"):
                line += await child.stdout.receive_some()
            assert b'"welcome"' in line
            child.send_signal(signal.SIGSTOP)
            await pass_seconds(mock_clock, 40)
            await eventually(lambda: not server.connections(), what="the frozen client's connection ended")
        finally:
            child.kill()
            await child.wait()


async def test_p11_a_half_open_connection_is_found(mock_clock: MockClock, tmp_path: Path) -> None:
    """No FIN ever comes: a middlebox has died and swallows everything sent to the client."""
    async with running_server(tmp_path) as server, trio.open_nursery() as nursery:
        forwards = trio.Event()
        forwards.set()
        port = int(server.about.websocket_url.rsplit(":", 1)[1].split("/")[0])

        async def pass_on(source: trio.SocketStream, target: trio.SocketStream) -> None:
            while True:
                data = await source.receive_some(65_536)
                await forwards.wait()
                if data:
                    await target.send_all(data)

        async def middle(client: trio.SocketStream) -> None:
            async with client, await trio.open_tcp_stream("127.0.0.1", port) as upstream, trio.open_nursery() as both:
                both.start_soon(pass_on, client, upstream)
                both.start_soon(pass_on, upstream, client)

        listeners = await nursery.start(trio.serve_tcp, middle, 0)
        proxied = listeners[0].socket.getsockname()[1]
        about = attrs.evolve(server.about, websocket_url=f"ws://127.0.0.1:{proxied}/ws")
        through = RunningServer(server.system, server.settings, about)
        async with through.peer() as peer:
            assert (await peer.ask("ping", "p"))["type"] == "pong"
            forwards = trio.Event()
            await pass_seconds(mock_clock, 40)
            await eventually(lambda: not server.connections(), what="the half-open connection ended")
            forwards.set()
            nursery.cancel_scope.cancel(reason="seen")
