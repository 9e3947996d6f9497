"""P4: the TCP connection is cut everywhere in a session, in both directions; nothing is lost and nothing repeated."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from actors import wiring
from tests.connections.cut_client import CutClient
from tests.connections.test_client_stream import TELL, event, tell
from tests.server_fixture import RunningServer, count_to, running_server

pytestmark = [pytest.mark.websocket, pytest.mark.integration]

PROMPT = "count to 3"
STRIDE = int(os.environ.get("LEANVIBE_CUT_STRIDE", "17"))
"""Bytes from one cut to the next; 1 takes some minutes and is what P4 asks for. Prime, and frames differ in length."""


async def whole_session(server: RunningServer, number: int, epoch: str, seq: int, **cut: int) -> CutClient:
    """A session that is cut once and resumed; two durable events happen in it, one of them while it is away."""
    client = CutClient(server, f"g-{number}", PROMPT, epoch, seq)

    def is_over() -> bool:
        return bool(client.endings) and client.client_seq >= seq + 2

    await tell(server, event(2 * number))
    await client.connect(until=lambda: bool(client.endings) and client.client_seq > seq, **cut)
    await tell(server, event(2 * number + 1))
    while not is_over():
        await client.connect(until=is_over)
    assert client.numbers == [2 * number, 2 * number + 1]
    assert client.client_seq == seq + 2
    assert (client.text, client.endings) == (count_to(3), ["done"])
    return client


@pytest.mark.parametrize("direction", ["receive_bytes", "send_bytes"])
async def test_p4_the_connection_is_cut_at_every_byte_of_a_session(
    tmp_path: Path, direction: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wiring, "OPERATIONS", (*wiring.OPERATIONS, TELL))
    async with running_server(tmp_path) as server:
        async with server.peer(hello=False) as peer:
            epoch = (await peer.hello())["epoch"]
        seq = 0
        # Uncut once, to know how many bytes there are.
        client = CutClient(server, "g-length", PROMPT, epoch, 0)
        await tell(server, event(-1))
        await client.connect(until=lambda: bool(client.endings) and client.client_seq == 1)
        total = client.bytes_received if direction == "receive_bytes" else client.bytes_sent
        assert total > 300
        seq = 1
        for number, offset in enumerate(range(1, total + 1, STRIDE)):
            await whole_session(server, number, epoch, seq, **{direction: offset})
            seq += 2
        finished = (await server.snapshot("inference/inference"))["finished"]
        # Each command was carried out once, however often it was sent.
        assert finished["stop"] <= number + 2
