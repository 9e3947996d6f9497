"""A server that is killed in mid-answer: a detached answer is made again, another is over, and no conversation is locked."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from protocol.client import Client, connect
from protocol.commands import Assist, Intent, OnDisconnect
from tests.server_fixture import count_to
from tests.system.serving_process import ServingProcess, start_server, wait_for

pytestmark = pytest.mark.integration


def with_client(server: ServingProcess, work: Callable[[Client], Awaitable[None]]) -> None:
    async def run() -> None:
        async with connect(server.about["websocket_url"], client_id="me") as client:
            await work(client)

    trio.run(run)


def ask_and_kill(server: ServingProcess, on_disconnect: OnDisconnect) -> None:
    """Ask, wait for the first token, kill the server."""

    async def work(client: Client) -> None:
        command = Assist(intent=Intent.ASK, content="count to 200", conversation="c", on_disconnect=on_disconnect)
        async with client.generate(command) as answer:
            assert await anext(answer)
            server.process.send_signal(signal.SIGKILL)
            server.process.wait(10)

    with_client(server, work)


def turns(server: ServingProcess) -> list[dict[str, Any]]:
    """The conversation's turns once it is free."""
    found: list[dict[str, Any]] = []

    async def look(client: Client) -> None:
        page = (await client.command("conversation_get", {"conversation": "c"}))["data"]
        found[:] = [] if "running" in page["conversation"] else page["turns"]

    def is_free() -> bool:
        with_client(server, look)
        return bool(found)

    wait_for(is_free, seconds=30, what="a conversation that nobody answers")
    return found


def test_a_detached_answer_is_made_again_after_a_kill(tmp_path: Path) -> None:
    with start_server(tmp_path, LEANVIBE_MOCK_STEP_SECONDS="0.005") as server:
        ask_and_kill(server, OnDisconnect.DETACH)
    with start_server(tmp_path) as server:
        found = turns(server)
        assert [(one["role"], one["content"]) for one in found] == [
            ("user", "count to 200"),
            ("assistant", count_to(200)),
        ]
        assert found[1]["is_partial"] is False


def test_an_answer_that_ends_with_its_client_is_over_after_a_kill_and_the_question_stays(tmp_path: Path) -> None:
    with start_server(tmp_path, LEANVIBE_MOCK_STEP_SECONDS="0.005") as server:
        ask_and_kill(server, OnDisconnect.CANCEL)
    with start_server(tmp_path) as server:
        assert [(one["role"], one["content"]) for one in turns(server)] == [("user", "count to 200")]

        async def go_on(client: Client) -> None:
            async with client.generate(Assist(intent=Intent.ASK, content="count to 3", conversation="c")) as answer:
                assert await answer.text() == "1 2 3"

        with_client(server, go_on)
        assert [one["content"] for one in turns(server)] == ["count to 200", "count to 3", "1 2 3"]
