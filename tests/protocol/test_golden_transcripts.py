"""P14: golden transcripts are of the protocol, and replay on both sides."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from trio.testing import MockClock

from protocol.client import Backoff, CommandFailed, connect
from protocol.codec import decode_command
from protocol.commands import Generate
from protocol.reading import read_message_data
from protocol.schema import schemas
from protocol.server_messages import SERVER_MESSAGES
from tests.protocol.scripted_server import scripted
from tests.protocol.transcripts import TRANSCRIPTS, read_transcript, replaying

DEFINITIONS = schemas()["$defs"]


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_p14_every_line_of_a_transcript_is_of_the_protocol(path: Path) -> None:
    said = 0
    for who, what in read_transcript(path):
        if who == "client":
            assert decode_command(json.dumps(what)).type == what["type"]
        elif who == "server" and what["type"] in SERVER_MESSAGES:
            schema = {"$ref": f"#/$defs/message.{what['type']}", "$defs": DEFINITIONS}
            Draft202012Validator(schema).validate(what)
            read_message_data(what["type"], what["data"])
        said += 1
    assert said > 10


async def test_p14_a_transcript_replays_on_the_python_client(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts = replaying(TRANSCRIPTS[0])
    async with (
        scripted(monkeypatch, *scripts),
        connect("ws://scripted/ws", client_id="golden", reconnect=True, backoff=Backoff()) as client,
    ):
        payload = ["grüße", {"a": None}]
        assert await client.ping(payload) == payload
        async with client.generate(Generate(prompt="count to 5")) as answer:
            assert await answer.text() == "1 2 3 4 5"
            assert answer.result is not None
            assert answer.result.usage.completion_tokens == 9
        with pytest.raises(CommandFailed) as caught:
            await client.cancel(answer.command_id)
        assert caught.value.code == "rate_limited"
