"""MCP over streamable HTTP with the official SDK's client, of both eras of the protocol, and what it is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from actors.access.messages import CreateToken, MadeToken
from actors.rest.mcp.tools import TOOLS
from tests.server_fixture import PATIENCE_SECONDS, RunningServer, count_to, eventually, running_server

# The SDK's client leaves the end of an event stream to the garbage collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <async_generator object:pytest.PytestUnraisableExceptionWarning"
)
ERAS = ("legacy", "auto")
CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "ask", "arguments": {"prompt": "x"}}}
HEADERS = {"Accept": "application/json, text/event-stream"}


@asynccontextmanager
async def speaking(
    server: RunningServer, mode: Any = "auto", *, token: str | None = None, client_id: str | None = None
) -> AsyncIterator[Client]:
    """The SDK's client, connected."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    if client_id is not None:
        headers["X-Client-Id"] = client_id
    async with httpx2.AsyncClient(headers=headers, timeout=PATIENCE_SECONDS, trust_env=False) as http:
        transport = streamable_http_client(f"{server.about.rest_url}/mcp", http_client=http)
        async with Client(transport, mode=mode) as client:
            yield client


async def call(client: Client, name: str, **arguments: Any) -> dict[str, Any]:
    """Call a tool that does what it is asked."""
    result = await client.call_tool(name, arguments)
    assert not result.is_error, result
    found: dict[str, Any] = result.structured_content
    return found


async def refused(client: Client, name: str, **arguments: Any) -> dict[str, Any]:
    """Call one that does not, and return its error."""
    result = await client.call_tool(name, arguments)
    assert result.is_error, result
    assert json.loads(result.content[0].text) == result.structured_content
    error: dict[str, Any] = result.structured_content["error"]
    return error


async def token_for(server: RunningServer, client: str, role: str = "user") -> str:
    made: MadeToken = await server.system.reference("access").ask(
        CreateToken(client_ids=(client,), roles=(role,)), timeout=60
    )
    return made.token


@pytest.mark.integration
@pytest.mark.parametrize("mode", ERAS)
async def test_mc6_the_sdks_client_does_all_that_there_is(tmp_path: Path, mode: str) -> None:
    async with running_server(tmp_path) as server, speaking(server, mode) as client:
        assert client.server_info is not None
        assert client.server_info.name == "leanvibe"
        assert "Claim a task" in str(client.instructions)
        listed = {one.name: one for one in (await client.list_tools()).tools}
        assert list(listed) == list(TOOLS)
        assert listed["move_task"].input_schema["required"] == ["task_id", "version", "status"]
        assert listed["read_tree"].annotations is not None
        assert listed["read_tree"].annotations.read_only_hint is True

        answer = await client.call_tool("ask", {"prompt": "count to 5", "conversation": "numbers"})
        assert answer.content[0].text == count_to(5)
        assert answer.structured_content["finish_reason"] == "stop"
        hits = (await call(client, "search_conversations", text="4 5"))["hits"]
        assert [(one["conversation"], one["role"]) for one in hits] == [("numbers", "assistant")]
        assert (await call(client, "search_conversations", text="COUNT TO"))["hits"][0]["number"] == 1
        assert (await call(client, "search_conversations", text="100%"))["hits"] == []

        task = await call(client, "add_task", title="write it down", tags=["mcp"])
        lease = await call(client, "claim_task", task_id=task["id"], holder="agent", lease_seconds=60)
        assert (lease["task"]["status"], lease["task"]["assignee"]) == ("in_progress", "agent")
        renewed = await call(client, "claim_task", task_id=task["id"], holder="agent", lease=lease["lease"])
        assert renewed["expires"] > lease["expires"]
        back = await call(client, "release_task", task_id=task["id"], lease=lease["lease"])
        assert back["status"] == "todo"
        moved = await call(client, "move_task", task_id=task["id"], version=back["version"], status="done")
        page = await call(client, "list_tasks", status=["done"])
        assert page["tasks"] == [moved]

        assert "notification_id" in await call(client, "notify", title="done", body="all of it")
        assert (await call(client, "read_health"))["status"] == "mock"
        tree = await call(client, "read_tree")
        assert {one["path"] for one in tree["children"]} >= {"inference", "tasks", "rest"}

        addresses = [str(one.uri) for one in (await client.list_resources()).resources]
        assert addresses == ["leanvibe://board/default", "leanvibe://conversations/numbers"]
        templates = (await client.list_resource_templates()).resource_templates
        assert [one.name for one in templates] == ["conversation", "board"]
        board = await client.read_resource(addresses[0])
        assert moved in [one for column in json.loads(board.contents[0].text)["columns"] for one in column["tasks"]]
        turns = json.loads((await client.read_resource(addresses[1])).contents[0].text)["turns"]
        assert [one["content"] for one in turns] == ["count to 5", count_to(5)]


@pytest.mark.integration
@pytest.mark.parametrize("mode", ERAS)
async def test_mc7_what_is_wrong_is_told_in_mcps_own_shape(engineless_server: RunningServer, mode: str) -> None:
    async with speaking(engineless_server, mode) as client:
        error = await refused(client, "add_task", title="")
        assert (error["code"], error["field"]) == ("invalid_field", "arguments.title")
        assert error["message"].startswith("arguments.title ")
        assert (await refused(client, "add_task", title="x", colour="red"))["field"] == "arguments.colour"
        assert (await refused(client, "list_tasks", limit="many"))["field"] == "arguments.limit"
        nobody = "00000000-0000-4000-8000-000000000000"
        error = await refused(client, "claim_task", task_id=nobody, holder="agent")
        assert (error["code"], error["field"]) == ("not_found", "arguments.task_id")
        task = await call(client, "add_task", title="x")
        stale = await refused(client, "move_task", task_id=task["id"], version=9, status="done")
        assert (stale["code"], stale["current"]["version"]) == ("conflict", 1)
        for attempt, words in (
            (client.call_tool("fly", {}), "there is no tool 'fly'"),
            (client.read_resource("leanvibe://conversations/none"), "does not exist"),
            (client.read_resource("leanvibe://elsewhere/none"), "there is no resource"),
            (client.read_resource("file:///etc/passwd"), "there is no resource"),
            (client.list_resources(cursor="no/name"), "cursor"),
        ):
            with pytest.raises(MCPError, match=words) as raised:
                await attempt
            assert raised.value.code == -32602


@pytest.mark.integration
async def test_mc8_the_door_is_that_of_every_route(engineless_server: RunningServer) -> None:
    async with engineless_server.http(headers=HEADERS) as http:
        for headers, status in (({"Origin": "http://evil.example"}, 403), ({"Host": "evil.example"}, 403)):
            response = await http.post("/mcp", json=CALL, headers=headers)
            assert (response.status_code, response.json()["error"]["code"]) == (status, -32600)
            assert response.json()["id"] is None
        assert (await http.post("/mcp?token=x", json=CALL)).status_code == 403
        for body in ("{", "[1]", '{"a": 1, "a": 2}'):
            response = await http.post("/mcp", content=body, headers={"Content-Type": "application/json"})
            assert (response.status_code, response.json()["error"]["code"]) == (400, -32700), response.text
        response = await http.post("/mcp", content=b" " * 1_100_000, headers={"Content-Type": "application/json"})
        assert (response.status_code, response.json()["error"]["data"]["code"]) == (413, "too_large")
        for method in ("GET", "DELETE"):
            response = await http.request(method, "/mcp")
            assert (response.status_code, set(response.headers["Allow"].split(", "))) == (405, {"OPTIONS", "POST"})
            assert response.json()["error"]["code"] == -32600
        assert (
            (await http.post("/mcp/x", json=CALL)).json()["error"]["message"].startswith("POST /mcp/x does not exist")
        )
        await token_for(engineless_server, "ann")
        response = await http.post("/mcp", json=CALL)
        assert (response.status_code, response.json()["error"]["data"]["code"]) == (401, "unauthorized")
        assert response.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.integration
@pytest.mark.parametrize("mode", ERAS)
async def test_mc9_a_tool_is_for_the_roles_that_may_call_it(engineless_server: RunningServer, mode: str) -> None:
    ann, root = await token_for(engineless_server, "ann"), await token_for(engineless_server, "root", "operator")
    async with speaking(engineless_server, mode, token=ann) as client:
        assert "read_tree" not in {one.name for one in (await client.list_tools()).tools}
        error = await refused(client, "read_tree")
        assert (error["code"], "role operator" in error["message"]) == ("forbidden", True)
        task = await call(client, "add_task", title="ann's")
    async with speaking(engineless_server, mode, token=root) as client:
        assert (await call(client, "read_tree"))["children"]
        # What belongs to another client is not there, also for an operator.
        error = await refused(client, "claim_task", task_id=task["id"], holder="root")
        assert error["code"] == "not_found"
        assert (await call(client, "list_tasks"))["tasks"] == []


@pytest.mark.integration
async def test_mc10_who_leaves_is_answered_no_further(tmp_path: Path) -> None:
    # A whole answer would take a quarter of an hour.
    async with running_server(tmp_path, mock_step_seconds=1) as server:
        async with speaking(server) as client, trio.open_nursery() as nursery:
            nursery.start_soon(client.call_tool, "ask", {"prompt": "count to 1000000"})

            async def runs() -> bool:
                return (await server.snapshot("inference/inference"))["running"] == 1

            await eventually(runs, what="the question runs")
            nursery.cancel_scope.cancel()
        await server.until_no_row_is_taken()


@pytest.mark.integration
async def test_mc11_more_calls_than_are_answered_at_once_are_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.rest.mcp.routes.CALLS_AT_ONCE", 1)
    long = {**CALL, "params": {"name": "ask", "arguments": {"prompt": "count to 1000000"}}}
    listing = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}
    async with (
        running_server(tmp_path, mock_step_seconds=0.05) as server,
        server.http(headers=HEADERS) as http,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(partial(http.post, "/mcp", json=long))

        async def runs() -> bool:
            return (await server.snapshot("inference/inference"))["running"] == 1

        await eventually(runs, what="the question runs")
        refused_one = await http.post("/mcp", json=listing)
        assert refused_one.status_code == 429
        assert refused_one.json()["error"]["data"] == {"code": "overloaded"}
        assert refused_one.headers["Retry-After"] == "1"
        nursery.cancel_scope.cancel()


def test_a_server_to_which_nobody_speaks_mcp_does_not_import_it() -> None:
    program = "import sys, actors.rest.all_routes; print([one for one in ('mcp', 'pydantic', 'starlette') if one in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
