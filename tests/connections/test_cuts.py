"""P4: the TCP connection is cut at every byte of a session, in both directions; nothing is lost or repeated."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from attrs import define

from actors import application
from tests.connections.cut_client import CutClient
from tests.connections.test_event_log_reader import SEND, event, tell
from tests.server_fixture import RunningServer, count_to, running_server

pytestmark = [pytest.mark.websocket, pytest.mark.integration]

PROMPT = "count to 1"
TEXT = count_to(1)
STRIDE = int(os.environ.get("LEANVIBE_CUT_STRIDE", "1"))
"""Bytes from one cut to the next; P4 asks for 1."""
BYTES = {"receive_bytes": "bytes_received", "send_bytes": "bytes_sent"}
LONGER_BYTES = 40
"""Later sessions have longer numbers in them than the measured one."""
WORKERS = 16
"""Concurrent clients with consecutive sessions, so that their waits for the disk overlap."""


@define
class Sessions:
    """Sessions of one client id: each is cut once, and continues the durable events of the one before."""

    server: RunningServer
    client_id: str
    epoch: str = ""
    seq: int = 0

    async def whole_session(self, number: int, direction: str, offset: int, early: list[int]) -> None:
        """Run a session that is cut at an offset and resumed; two durable events happen in it, one while the client is away.

        ``early`` are offsets in the handshake that are cut too, some before the session and some in its resumption.
        """
        client = CutClient(self.server, f"g-{number}", PROMPT, self.epoch, self.seq, self.client_id)

        def is_begun() -> bool:
            return bool(client.endings) and client.client_seq > self.seq

        def is_over() -> bool:
            return bool(client.endings) and client.client_seq >= self.seq + 2

        async def cut(at: int, until: Callable[[], bool]) -> None:
            await client.connect(until=until, **{direction: at})
            assert until() or getattr(client, BYTES[direction]) == at

        await tell(self.server, event(2 * number), client_id=self.client_id)
        for one in early[::2]:
            await cut(one, is_begun)
            assert not client.numbers
        await cut(offset, is_begun)
        await tell(self.server, event(2 * number + 1), client_id=self.client_id)
        for one in early[1::2]:
            await cut(one, is_over)
            assert not is_over()
        while not is_over():
            await client.connect(until=is_over)
        assert client.numbers == [2 * number, 2 * number + 1]
        assert client.client_seq == self.seq + 2
        assert (client.text, client.endings) == (TEXT, ["done"])
        self.seq += 2

    async def begin(self) -> None:
        """Learn the epoch of the stream."""
        async with self.server.peer(hello=False) as peer:
            self.epoch = (await peer.hello(self.client_id))["epoch"]

    async def length(self) -> CutClient:
        """Run a session without a cut, to measure its bytes."""
        client = CutClient(self.server, "g-length", PROMPT, self.epoch, self.seq, self.client_id)
        await tell(self.server, event(-1), client_id=self.client_id)
        await client.connect(until=lambda: bool(client.endings) and client.client_seq > self.seq)
        self.seq += 1
        return client


@pytest.mark.parametrize("direction", ["receive_bytes", "send_bytes"])
async def test_p4_the_connection_is_cut_at_every_byte_of_a_session(
    tmp_path: Path, direction: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(application, "OPERATIONS", (*application.OPERATIONS, SEND))
    async with running_server(tmp_path, max_rows=WORKERS) as server:
        first = Sessions(server, "cut-xx")
        await first.begin()
        client = await first.length()
        at = list(BYTES).index(direction)
        handshake, total = client.handshake_bytes[at], (client.bytes_received, client.bytes_sent)[at] + LONGER_BYTES
        assert 100 < handshake < total
        early = list(range(1, handshake, STRIDE))
        late = list(range(handshake, total + 1, STRIDE))
        share = -(-len(early) // len(late))
        sessions = iter([(n, one, early[n * share : (n + 1) * share]) for n, one in enumerate(late)])
        done: list[int] = []

        async def work(number: int) -> None:
            mine = Sessions(server, f"cut-{number:02}")
            await mine.begin()
            for session, offset, before in sessions:
                await mine.whole_session(session, direction, offset, before)
                done.extend([offset, *before])

        async with trio.open_nursery() as nursery:
            for number in range(WORKERS):
                nursery.start_soon(work, number)
        assert sorted(done) == [*early, *late]
        finished = (await server.snapshot("inference/inference"))["finished"]
        # Each command was carried out once, however often it was sent.
        assert finished["stop"] <= len(late) + 1
