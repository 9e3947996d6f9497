"""The cost of invalid frames: each is rejected at its first error, parsed in steps, and charged to its sender."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
from websockets.exceptions import ConnectionClosed

from actors import nonsense
from actors.connections import command_reader, transport
from actors.connections.transport import WebSocketTransport
from actors.long_texts import LongTexts
from protocol.codec import command_in_steps
from protocol.commands import COMMANDS, MAXIMUM_FRAME_BYTES
from protocol.errors import CloseCode
from protocol.json_text import STEP_CHARACTERS, object_in_steps
from tests.connections.raw_peer import TEXT, frame, raw_peer
from tests.server_fixture import RunningServer, eventually

LONG_NONSENSE = '{"type":"generate","id":"' + "x" * (MAXIMUM_FRAME_BYTES - 100)
LONG_QUESTION = json.dumps({"type": "generate", "id": "g", "data": {"prompt": "a" * (MAXIMUM_FRAME_BYTES // 2)}})


async def test_ht33_a_long_text_is_read_in_steps_and_others_have_their_turn_between_them() -> None:
    long_texts, order = LongTexts(), []
    text = '{"a":"' + "x" * 20 * STEP_CHARACTERS + '"}'

    async def read(name: str) -> None:
        def steps() -> Any:
            for _ in object_in_steps(text):
                order.append(name)
                yield

        await long_texts.read(text, steps())

    async def live() -> None:
        while True:
            order.append("other")
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(live)
        async with trio.open_nursery() as readers:
            for name in ("first", "second"):
                readers.start_soon(read, name)
        nursery.cancel_scope.cancel()
    steps = [one for one in order if one != "other"]
    assert len(steps) >= 2 * 20
    assert steps == sorted(steps) or steps == sorted(steps, reverse=True), "one text after the other"
    turns = " ".join(order).split("other")
    assert max(len(turn.split()) for turn in turns) <= 2, "a turn of the loop has one step, before or after the other's"


async def test_a_short_text_is_read_at_once() -> None:
    assert await LongTexts().read('{"a":1}', object_in_steps('{"a":1}')) == {"a": 1}


async def test_ht37_who_has_lost_its_turn_meanwhile_is_not_read() -> None:
    text = '{"a":"' + "x" * STEP_CHARACTERS + '"}'

    def refuse() -> None:
        raise PermissionError

    with pytest.raises(PermissionError):
        await LongTexts().read(text, object_in_steps(text), refuse)


@pytest.mark.websocket
@pytest.mark.integration
async def test_ht35_a_long_message_before_hello_is_not_read(
    engineless_server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []

    def counted(text: str) -> Any:
        read.append(len(text))
        return command_in_steps(text)

    monkeypatch.setattr(command_reader, "command_in_steps", counted)
    for size in (COMMANDS["hello"].maximum_bytes + 1, MAXIMUM_FRAME_BYTES):
        async with engineless_server.peer(hello=False) as peer:
            await peer.websocket.send("{" + " " * (size - 1))
            assert await peer.close_code() == CloseCode.FRAME_TOO_LARGE
    assert read == []


@pytest.mark.websocket
@pytest.mark.integration
async def test_ht34_whoever_sends_nonsense_and_comes_back_is_not_read_and_others_are(
    engineless_server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten invalid messages are allowed per connection, and a new one was available at once."""
    read: list[int] = []

    def counted(text: str) -> Any:
        if len(text) > STEP_CHARACTERS:
            read.append(len(text))
        return command_in_steps(text)

    monkeypatch.setattr(command_reader, "command_in_steps", counted)
    for number in range(8):
        async with engineless_server.peer(client_id="mad") as peer:
            for _ in range(12):
                try:
                    await peer.websocket.send(LONG_NONSENSE)
                except ConnectionClosed:
                    break
            assert await peer.close_code() == CloseCode.TOO_MANY, number
    price = nonsense.UNREADABLE + len(LONG_NONSENSE) // nonsense.BYTES_A_CHARGE
    # As many as fit the allowance and its decay meanwhile; each connection would have had ten.
    assert nonsense.BURST // price + 1 <= len(read) < 10
    async with engineless_server.peer(client_id="sane") as peer:
        await peer.websocket.send(LONG_QUESTION)
        answer = await peer.receive()
        assert answer["data"]["code"] == "context_length_exceeded"
    async with engineless_server.peer(client_id="mad") as peer:
        assert (await peer.ask("ping", "p", 1))["type"] == "pong", "what is short costs nothing"


@pytest.mark.websocket
@pytest.mark.integration
async def test_ht36_after_its_last_word_the_server_reads_a_little_and_no_more(
    engineless_server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    take = WebSocketTransport._take

    async def counted(self: WebSocketTransport, message: str | bytes, *others: Any) -> None:
        if self.is_closing:
            taken.append(len(message))
        await take(self, message, *others)

    monkeypatch.setattr(WebSocketTransport, "_take", counted)
    async with raw_peer(engineless_server) as peer:
        await peer.send(*[frame(TEXT, b"{")] * (command_reader.PROTOCOL_ERRORS + 1))
        large = frame(TEXT, b" " * (MAXIMUM_FRAME_BYTES // 2), mask=bytes(4))
        # Read until it is cut: no client takes that much.
        await peer.send(*[large] * 100)
        await eventually(lambda: not engineless_server.connections())
    assert sum(taken) <= transport.IGNORED_CHARACTERS + MAXIMUM_FRAME_BYTES
