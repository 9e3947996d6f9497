"""`leanvibe mcp` as an agent's program starts it, through the official SDK's client over standard streams."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from click.testing import CliRunner
from mcp import Client, StdioServerParameters
from mcp.shared.exceptions import MCPError

from actors.command_line.main import leanvibe
from tests.server_fixture import count_to, running_server
from tests.system.serving_process import REPOSITORY, ServingProcess, start_server

pytestmark = [
    pytest.mark.integration,
    # The SDK's client leaves the end of an event stream to the garbage collector.
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in. <async_generator object:pytest.PytestUnraisableExceptionWarning"
    ),
]


@asynccontextmanager
async def agent(*options: str, mode: Any = "auto") -> AsyncIterator[Client]:
    """What an agent does: it starts the command and speaks to it."""
    command = ["-m", "actors.command_line.main", *options, "mcp", "--client", "ann"]
    program = StdioServerParameters(command=sys.executable, args=command, env=dict(os.environ), cwd=str(REPOSITORY))
    async with Client(program, mode=mode) as client:
        yield client


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_mc12_an_agent_does_over_standard_streams_what_it_does_over_http(tmp_path: Path, mode: str) -> None:
    async with running_server(tmp_path) as server, agent("--url", server.about.rest_url, mode=mode) as client:
        assert len((await client.list_tools()).tools) == 10
        answer = await client.call_tool("ask", {"prompt": "count to 5", "conversation": "numbers"})
        assert answer.content[0].text == count_to(5)
        task = (await client.call_tool("add_task", {"title": "one"})).structured_content
        async with server.http() as http:
            assert (await http.get(f"/tasks/ann/{task['id']}")).json()["title"] == "one"
        wrong = await client.call_tool("add_task", {"title": ""})
        assert (wrong.is_error, wrong.structured_content["error"]["field"]) == (True, "arguments.title")
        board = await client.read_resource("leanvibe://board/default")
        assert task["id"] in board.contents[0].text
        with pytest.raises(MCPError, match="there is no tool") as raised:
            await client.call_tool("fly", {})
        assert raised.value.code == -32602


async def test_mc13_a_server_that_is_gone_is_told_and_one_that_came_back_is_found(tmp_path: Path) -> None:
    def start() -> AbstractContextManager[ServingProcess]:
        return start_server(tmp_path)

    first = start()
    await trio.to_thread.run_sync(first.__enter__)
    async with agent("--data-dir", str(tmp_path)) as client:
        assert (await client.call_tool("read_health", {})).structured_content["model"] == "mock"
        await trio.to_thread.run_sync(first.__exit__, None, None, None)
        with pytest.raises(MCPError, match="the server does not answer"):
            await client.call_tool("read_health", {})
        # It comes back at another port, of the system's choice.
        second = start()
        await trio.to_thread.run_sync(second.__enter__)
        try:
            assert (await client.call_tool("read_health", {})).structured_content["model"] == "mock"
        finally:
            await trio.to_thread.run_sync(second.__exit__, None, None, None)


def test_without_a_server_the_command_says_so(tmp_path: Path) -> None:
    result = CliRunner().invoke(leanvibe, ["--data-dir", str(tmp_path), "mcp"])
    assert (result.exit_code, result.stdout) == (3, "")
    result = CliRunner().invoke(leanvibe, ["--url", "ws://127.0.0.1:1/ws", "mcp"])
    assert (result.exit_code, result.stdout) == (2, "")
