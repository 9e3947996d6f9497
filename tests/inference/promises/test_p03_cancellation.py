"""Promise 3: in each of {queued, prefill, decode, blocked writer} × {WebSocket, HTTP} the row is freed.

That it is freed within one step is shown at the worker's own pipe (`test_worker_process.py`), where steps can be counted.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from actors import write_pace
from actors.inference.admission import AdmissionLimits
from actors.inference.messages import GenerationTokens
from protocol.errors import ErrorCode
from tests.connections.deaf_client import deaf_client
from tests.inference.service_kit import inference_service
from tests.server_fixture import Peer, RunningServer, eventually, running_server

pytestmark = [pytest.mark.integration, pytest.mark.websocket]

STEP_SECONDS = 0.05
PROMPTS = {
    "queued": "count to 900",
    "prefill": "x" * 6000,  # read 512 tokens a step
    "decode": "count to 900",
}


async def is_in(server: RunningServer, phase: str) -> bool:
    """True if the request under test is in that phase."""
    inference, engine = await server.snapshot("inference/inference"), await server.snapshot("inference/engines/1")
    match phase:
        case "queued":
            return bool(inference["waiting"] == 1)
        case "prefill":
            return bool(inference["running"] == 1 and engine["unread_rows"] == 1)
        case _:
            return bool(inference["running"] == 1 and engine["unread_rows"] == 0 and engine["rows"] == 1)


@asynccontextmanager
async def server_for(folder: Path, phase: str) -> AsyncIterator[RunningServer]:
    """A server with one row, which another client has taken where the request under test shall wait."""
    async with running_server(folder, mock_step_seconds=STEP_SECONDS, max_rows=1) as server:
        if phase != "queued":
            yield server
            return
        async with server.peer(client_id="other") as other:
            await other.send("generate", "busy", {"prompt": "count to 900"})
            await eventually(functools.partial(is_in, server, "decode"), what="the row taken")
            yield server


async def assert_freed(server: RunningServer, phase: str, outcome: str) -> None:
    """Asserts that no row and no place in the queue is left of it, and that it never starts again."""

    async def is_freed() -> bool:
        inference, engine = await server.snapshot("inference/inference"), await server.snapshot("inference/engines/1")
        left = 1 if phase == "queued" else 0
        return (inference["waiting"], inference["running"], engine["rows"]) == (0, left, left)

    await eventually(is_freed, what="freed")
    assert (await server.snapshot("inference/inference"))["finished"] == {outcome: 1}


async def begin(server: RunningServer, peer: Peer, phase: str) -> None:
    await peer.send("generate", "g", {"prompt": PROMPTS[phase]})
    await eventually(functools.partial(is_in, server, phase), what=phase)


@pytest.mark.parametrize("phase", PROMPTS)
async def test_p03_a_cancel_command_frees_the_row_in_every_phase(tmp_path: Path, phase: str) -> None:
    async with server_for(tmp_path, phase) as server, server.peer() as peer:
        await begin(server, peer, phase)
        await peer.send("cancel", "c", {"target": "g"})
        events = await peer.stream("g")
        assert events[-1]["type"] == "cancelled"
        assert (phase == "decode") or len(events) == 1, "nothing of it was ever computed"
        await assert_freed(server, phase, "cancelled")


@pytest.mark.parametrize("phase", PROMPTS)
async def test_p03_a_websocket_that_goes_frees_the_row_in_every_phase(tmp_path: Path, phase: str) -> None:
    async with server_for(tmp_path, phase) as server, server.peer() as peer:
        await begin(server, peer, phase)
        await trio.aclose_forcefully(peer.websocket.stream)
        await assert_freed(server, phase, "abandoned")


@pytest.mark.parametrize("phase", PROMPTS)
async def test_p03_an_http_client_that_goes_frees_the_row_in_every_phase(tmp_path: Path, phase: str) -> None:
    async with server_for(tmp_path, phase) as server, server.http() as http:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                functools.partial(http.post, "/ai/process", json={"type": "message", "content": PROMPTS[phase]})
            )
            await eventually(functools.partial(is_in, server, phase), what=phase)
            nursery.cancel_scope.cancel()
        # The assistant asked, and it cancels what nobody waits for any more.
        await assert_freed(server, phase, "cancelled")


async def test_p03_a_websocket_reader_that_blocks_the_writer_loses_its_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_pace, "WINDOW_SECONDS", 0.3)
    # It is given up, and what it followed is kept for it as long as for one that has left a detached answer.
    async with (
        running_server(tmp_path, send_buffer_bytes=4096, detach_seconds=0, mock_step_seconds=0.01) as server,
        deaf_client(server) as deaf,
    ):
        await deaf.say("generate", {"prompt": "count to 100000", "max_tokens": 8000}, "g")
        await deaf.say("ping", "x" * 30_000, "p")
        await eventually(lambda: not server.connections(), what="the reader that blocks is parted with")
        await server.until_no_row_is_taken()


async def test_p03_an_http_reader_that_blocks_the_writer_holds_no_row(tmp_path: Path) -> None:
    async with running_server(tmp_path, send_buffer_bytes=4096) as server:
        port = int(server.about.rest_url.rsplit(":", 1)[1])
        body = b'{"type": "message", "content": "count to 1500", "max_tokens": 7000}'
        head = b"POST /ai/process HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
        async with await trio.open_tcp_stream("127.0.0.1", port) as deaf:
            await deaf.send_all(head + body)

            async def is_made() -> bool:
                return bool((await server.snapshot("inference/inference"))["finished"])

            await eventually(is_made, what="the answer made, though nobody reads it")
            await server.until_no_row_is_taken()


@pytest.mark.parametrize("phase", ["queued", "prefill", "decode"])
async def test_p03_a_deadline_is_kept_in_every_phase(phase: str) -> None:
    async with inference_service(step_seconds=STEP_SECONDS, limits=AdmissionLimits(rows=1)) as service:
        streams = [await service.start("count to 900", client="other")] if phase == "queued" else []
        # Reading takes twelve steps of 50 ms at the least, so this deadline cannot come after it.
        late = await service.start(PROMPTS[phase], deadline_ms=400 if phase == "prefill" else 1500)
        assert (await service.failure(late)).code is ErrorCode.DEADLINE_EXCEEDED
        has_text = any(isinstance(one, GenerationTokens) for one in service.events[late])
        assert has_text == (phase == "decode")
        await service.until_health(lambda one: (one.running, one.queue_depth) == (len(streams), 0))
        for stream in streams:
            await service.cancel(stream)
