"""An MCP server on standard streams that asks another one over HTTP: the running LeanVibe.

Each side settles the protocol's version for itself. Every request has a connection of its own, so a server that was started
again in between is simply asked at its new place.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import httpx2
import trio
from attrs import field, frozen
from mcp import Client, types
from mcp.client.streamable_http import streamable_http_client
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.shared.exceptions import MCPError

from actors.command_line.credentials import Credentials
from actors.version import VERSION

__all__ = ["Target", "serve_standard_streams"]

Result = TypeVar("Result")

CONNECT_SECONDS = 10.0
READ_SECONDS = 630.0
"""A little longer than the server's longest answer."""
INTERNAL = -32603


@frozen
class Target:
    """The server that is asked."""

    url: str
    client_id: str
    credentials: Credentials = field(repr=False)


def serve_standard_streams(target: Callable[[], Target]) -> None:
    """Answer until standard input ends. ``target`` says where the server is now; blocking, called in a thread."""

    async def serve() -> None:
        server = make_relay(target)
        async with stdio_server() as (read_stream, write_stream):
            await server.run(read_stream, write_stream, server.create_initialization_options())

    trio.run(serve)


def make_relay(target: Callable[[], Target]) -> Server[Any]:
    """Return an MCP server that relays every request to another."""

    async def list_tools(_: Any, params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        return await _asked(target, lambda client: client.list_tools(cursor=_cursor(params)))

    async def call_tool(_: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        return await _asked(target, lambda client: client.call_tool(params.name, params.arguments))

    async def list_resources(_: Any, params: types.PaginatedRequestParams | None) -> types.ListResourcesResult:
        return await _asked(target, lambda client: client.list_resources(cursor=_cursor(params)))

    async def list_templates(_: Any, params: types.PaginatedRequestParams | None) -> types.ListResourceTemplatesResult:
        return await _asked(target, lambda client: client.list_resource_templates(cursor=_cursor(params)))

    async def read_resource(_: Any, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
        return await _asked(target, lambda client: client.read_resource(str(params.uri)))

    return Server(
        "leanvibe",
        version=VERSION,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_resources=list_resources,
        on_list_resource_templates=list_templates,
        on_read_resource=read_resource,
    )


async def _asked(target: Callable[[], Target], ask: Callable[[Client], Awaitable[Result]]) -> Result:
    """Relay a request. Raises `MCPError`: the server's own, or that it does not answer. If cancelled, the request is cancelled too."""
    refused: MCPError | None = None
    try:
        async with _speaking(await trio.to_thread.run_sync(target)) as client:
            try:
                return await ask(client)
            except MCPError as error:
                # Told outside, where no nursery of the client makes a group of it.
                refused = error
    except Exception as error:  # noqa: BLE001  isolation border: whatever fails below is one failed question
        if refused is None:
            raise MCPError(INTERNAL, f"the server does not answer: {_reason(error)}") from None
    assert refused is not None
    raise refused


@contextlib.asynccontextmanager
async def _speaking(target: Target) -> AsyncIterator[Client]:
    timeout = httpx2.Timeout(CONNECT_SECONDS, read=READ_SECONDS)
    headers = {**target.credentials.headers, "X-Client-Id": target.client_id}
    verify: Any = True if target.credentials.tls is None else target.credentials.tls
    # The environment's proxy is for the world; this address is the server's own.
    async with (
        httpx2.AsyncClient(headers=headers, timeout=timeout, verify=verify, trust_env=False) as http,
        Client(streamable_http_client(target.url, http_client=http)) as client,
    ):
        yield client


def _cursor(params: types.PaginatedRequestParams | None) -> str | None:
    return None if params is None else params.cursor


def _reason(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__
