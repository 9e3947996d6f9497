"""The official SDK's server with our tools and resources. Imported on first use, because importing it takes a second.

Each request gets its own server without a session. As nothing is kept between requests, there is nothing to limit,
nothing to hijack, and nothing to lose in a restart.
"""

from __future__ import annotations

import logging
from typing import Any

import structlog
from mcp import types
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.exceptions import MCPError

from actors.errors import CommandError, error_from_fault
from actors.rest.mcp import resources
from actors.rest.mcp.errors import INTERNAL, INVALID_PARAMS, refused_call
from actors.rest.mcp.tools import TOOLS, Asker, Tool
from actors.version import VERSION
from protocol.codec import encode, structure
from protocol.commands import MAXIMUM_FRAME_BYTES
from protocol.errors import ErrorCode, ProtocolFault
from runtime import RuntimeFault

__all__ = ["answer", "make_server"]

_log = structlog.get_logger("mcp")
# It logs each request at `info`.
logging.getLogger("mcp").setLevel(logging.WARNING)

INSTRUCTIONS = (
    "LeanVibe keeps a Kanban board, conversations and notifications for one person, and runs a local model. Claim a task "
    "before you work on it, renew the lease while you do, and move the task on when it is done."
)
JSON = "application/json"


async def answer(asker: Asker, scope: Any, receive: Any, send: Any) -> None:
    """Answer one POST in ASGI form. Returns when the answer is complete; cancellation cancels what it began."""
    manager = StreamableHTTPSessionManager(
        app=make_server(asker), stateless=True, max_request_body_size=MAXIMUM_FRAME_BYTES
    )
    async with manager.run():
        await manager.handle_request(scope, receive, send)


def make_server(asker: Asker) -> Server[Any]:
    """Build the server for this client. Tools that its token's role does not allow are not listed, and are rejected."""

    async def list_tools(_: Any, __: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[_listed(one) for one in TOOLS.values() if one.is_for(asker.who)])

    async def call_tool(_: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        tool = TOOLS.get(params.name)
        if tool is None:
            raise MCPError(INVALID_PARAMS, f"there is no tool {params.name[:64]!r}; there are {', '.join(TOOLS)}")
        return await _called(asker, tool, params.arguments or {})

    async def list_resources(_: Any, params: types.PaginatedRequestParams | None) -> types.ListResourcesResult:
        try:
            page, following = await resources.list_page(asker, None if params is None else params.cursor)
        except (CommandError, ProtocolFault, RuntimeFault) as fault:
            raise _as_error(fault) from None
        listed = [
            types.Resource(uri=one.uri, name=one.name, description=one.description, mime_type=JSON) for one in page
        ]
        return types.ListResourcesResult(resources=listed, next_cursor=following)

    async def list_templates(_: Any, __: Any) -> types.ListResourceTemplatesResult:
        return types.ListResourceTemplatesResult(
            resource_templates=[
                types.ResourceTemplate(uri_template=uri, name=name, description=description, mime_type=JSON)
                for uri, name, description in resources.TEMPLATES
            ]
        )

    async def read_resource(_: Any, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
        uri = str(params.uri)
        try:
            found = await resources.read(asker, uri)
        except (CommandError, ProtocolFault, RuntimeFault) as fault:
            raise _as_error(fault) from None
        text = encode(found).decode()
        return types.ReadResourceResult(contents=[types.TextResourceContents(uri=uri, mime_type=JSON, text=text)])

    return Server(
        "leanvibe",
        version=VERSION,
        instructions=INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_resources=list_resources,
        on_list_resource_templates=list_templates,
        on_read_resource=read_resource,
    )


def _listed(tool: Tool) -> types.Tool:
    return types.Tool(
        name=tool.name,
        description=tool.description,
        input_schema=tool.schema(),
        annotations=types.ToolAnnotations(
            read_only_hint=tool.reads_only, destructive_hint=False, open_world_hint=False
        ),
    )


async def _called(asker: Asker, tool: Tool, arguments: dict[str, Any]) -> types.CallToolResult:
    """Run the call. Rejections are results too, which the calling model can read."""
    try:
        if not tool.is_for(asker.who):
            raise CommandError(ErrorCode.FORBIDDEN, f"{tool.name} needs a token with the role {tool.role}")
        told = await tool.run(asker, structure(arguments, tool.arguments, prefix="arguments"))
    except (CommandError, ProtocolFault, RuntimeFault) as fault:
        return _result(refused_call(_refusal(fault, writes=not tool.reads_only)), is_error=True)
    return _result(told)


def _result(told: dict[str, Any], *, is_error: bool = False) -> types.CallToolResult:
    # As text too: clients from before 2025-06-18 read nothing else, and a model is best shown an answer as it is.
    text = told["answer"] if "answer" in told else encode(told).decode()
    return types.CallToolResult(
        content=[types.TextContent(type="text", text=text)], structured_content=told, is_error=is_error
    )


def _refusal(fault: CommandError | ProtocolFault | RuntimeFault, *, writes: bool) -> CommandError:
    if isinstance(fault, CommandError):
        return fault
    if isinstance(fault, ProtocolFault):
        return CommandError(fault.code, fault.message, field=fault.field)
    found = error_from_fault(fault, writes=writes)
    if found is None:
        _log.error("call failed", exc_info=fault)
        return CommandError(ErrorCode.INTERNAL, "the server failed to carry this out")
    return found


def _as_error(fault: CommandError | ProtocolFault | RuntimeFault) -> MCPError:
    """Convert to an error, for requests whose results have no error field."""
    refusal = _refusal(fault, writes=False)
    is_ours = refusal.code in (ErrorCode.INTERNAL, ErrorCode.UNAVAILABLE, ErrorCode.DEADLINE_EXCEEDED)
    return MCPError(INTERNAL if is_ours else INVALID_PARAMS, refusal.message, refused_call(refusal)["error"])
