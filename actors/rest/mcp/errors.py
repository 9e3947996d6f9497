"""Errors for MCP clients: JSON-RPC errors for invalid requests, and results for rejected tool calls. Pure functions.

The codes are JSON-RPC 2.0's. A rejected tool call is not a protocol error, since the model is to read it and correct
its call (MCP, "Tools", "Error Handling").
"""

from __future__ import annotations

from typing import Any

from actors.errors import CommandError
from protocol.errors import ErrorCode

__all__ = ["INTERNAL", "INVALID_PARAMS", "as_arguments", "mcp_error", "no_such_route", "refused_call"]

PARSE = -32700
INVALID_REQUEST = -32600
INVALID_PARAMS = -32602
INTERNAL = -32603
_PREFIXES = ("data.", "body.", "arguments.")


def mcp_error(problem: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """Convert a problem of RFC 9457, as made by `problem`, to a body and an HTTP status."""
    status = 400 if problem["status"] == 422 else int(problem["status"])
    if problem["code"] == ErrorCode.BAD_MESSAGE.value and status == 400:
        code = PARSE
    else:
        code = INTERNAL if status >= 500 else INVALID_REQUEST
    data = {name: problem[name] for name in ("code", "field") if problem.get(name) is not None}
    error = {"code": code, "message": str(problem["detail"]), "data": data}
    return {"jsonrpc": "2.0", "id": None, "error": error}, status


def no_such_route(problem: dict[str, Any], method: str, path: str) -> dict[str, Any]:
    """Complete the problem for an unknown route."""
    return {**problem, "detail": f"{method} {path} does not exist: MCP is served at POST /mcp"}


def refused_call(refusal: CommandError) -> dict[str, Any]:
    """Describe a rejected call to the model."""
    told: dict[str, Any] = {"code": refusal.code.value, "message": as_arguments(refusal.message)}
    if refusal.field is not None:
        told["field"] = as_arguments(refusal.field)
    if refusal.retry_after_ms is not None:
        told["retry_after_ms"] = refusal.retry_after_ms
    if refusal.current is not None:
        told["current"] = refusal.current
    return {"error": told}


def as_arguments(text: str) -> str:
    """Replace the prefix of a message or path with the arguments of the call."""
    for prefix in _PREFIXES:
        if text.startswith(prefix):
            return f"arguments.{text.removeprefix(prefix)}"
    return text
