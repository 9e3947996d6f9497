"""Progress of a generation without a token yet, queried over the WebSocket as a spinner does."""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest

from actors.command_line.chat_session import waiting_words
from protocol.client import connect
from protocol.commands import Generate, GetProgress
from protocol.events import ProgressData, ProgressState
from tests.server_fixture import eventually, running_server

PROMPT = "count to 20 " + "x" * 3000


async def test_te31_a_client_hears_how_far_its_question_is(tmp_path: Path) -> None:
    limits = {"commands_per_second": 1000, "command_burst": 1000}
    seen: list[ProgressData] = []
    async with running_server(tmp_path, mock_step_seconds=0.1, max_rows=1, **limits) as server:
        url = server.about.websocket_url
        async with connect(url, client_id="me") as client, connect(url, client_id="else") as stranger:

            async def is_at(stream: str, state: ProgressState) -> bool:
                seen.append(await client.ask(GetProgress(stream)))
                return seen[-1].state is state

            async with AsyncExitStack() as stack:
                async with client.generate(Generate(prompt="count to 900")):
                    second = await stack.enter_async_context(client.generate(Generate(prompt=PROMPT)))
                    await eventually(partial(is_at, second.stream, ProgressState.WAITING))
                    assert (seen[-1].waiting, seen[-1].prompt_tokens, seen[-1].read_tokens) == (1, len(PROMPT), 0)
                    assert (await stranger.ask(GetProgress(second.stream))).state is ProgressState.OVER
                # The first was cancelled, which frees its sequence.
                await eventually(partial(is_at, second.stream, ProgressState.ANSWERING))
                assert any(0 < one.read_tokens < len(PROMPT) for one in seen), seen
                assert [one.read_tokens for one in seen] == sorted(one.read_tokens for one in seen)
                await second.text()
                assert await client.ask(GetProgress(second.stream)) == await client.ask(GetProgress("none"))


@pytest.mark.parametrize(
    ("state", "waiting", "read", "words"),
    [
        (ProgressState.WAITING, 1, 0, "queued"),
        (ProgressState.WAITING, 2, 0, "queued with 1 other"),
        (ProgressState.WAITING, 9, 0, "queued with 8 others"),
        (ProgressState.READING, 0, 1200, "reading 1,200 of 4,000 tokens"),
        (ProgressState.READING, 0, 4000, "answering"),
        (ProgressState.OVER, 0, 4000, "answering"),
    ],
)
def test_te31_the_spinner_says_it_in_a_few_words(state: ProgressState, waiting: int, read: int, words: str) -> None:
    assert waiting_words(ProgressData(state=state, waiting=waiting, prompt_tokens=4000, read_tokens=read)) == words
