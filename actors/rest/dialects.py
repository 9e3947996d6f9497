"""The error format of each API, chosen by path: one table for every layer that may reject a request.

An unparsable head, an invalid field and a token that expires in the middle of a stream are rejected in three
different places; clients of an API parse all of them the same way.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from attrs import frozen
from quart import Response, request
from quart_trio import QuartTrio

from actors.rest.anthropic import errors as anthropic
from actors.rest.mcp import errors as mcp
from actors.rest.ollama import errors as ollama
from actors.rest.openai import errors as openai
from actors.rest.responses import errors as responses
from protocol.codec import encode

__all__ = ["ANTHROPIC", "Dialect", "dialect_of", "dialect_of_head", "register_shaped_errors"]

NO_ROUTE = 404
_PROBLEM = "application/problem+json"


@frozen(kw_only=True)
class Dialect:
    """Error format of one API."""

    error: Callable[[dict[str, Any]], tuple[dict[str, Any], int]]
    """Converts a problem (RFC 9457) made by `problems.problem` to a body and an HTTP status."""
    no_such_route: Callable[[dict[str, Any], str, str], dict[str, Any]]
    """Completes the problem for a method and path that match no route."""
    in_stream: Callable[[bytes], bytes]
    """Wraps an error's body as the last part of a stream that has begun."""


def _as_data(body: bytes) -> bytes:
    return b"data: " + body + b"\n\n"


def _as_error_event(body: bytes) -> bytes:
    return b"event: error\ndata: " + body + b"\n\n"


def _as_responses_event(body: bytes) -> bytes:
    return _as_error_event(encode(responses.error_event(json.loads(body))))


def _as_message_event(body: bytes) -> bytes:
    return b"event: message\ndata: " + body + b"\n\n"


def _as_line(body: bytes) -> bytes:
    return body + b"\n"


OPENAI = Dialect(error=openai.openai_error, no_such_route=openai.no_such_route, in_stream=_as_data)
ANTHROPIC = Dialect(error=anthropic.anthropic_error, no_such_route=anthropic.no_such_route, in_stream=_as_error_event)

RESPONSES = Dialect(
    error=responses.responses_error, no_such_route=responses.no_such_route, in_stream=_as_responses_event
)
MCP = Dialect(error=mcp.mcp_error, no_such_route=mcp.no_such_route, in_stream=_as_message_event)
OLLAMA = Dialect(error=ollama.ollama_error, no_such_route=ollama.no_such_route, in_stream=_as_line)


def dialect_of(path: str, *, has_anthropic_version: bool = False) -> Dialect | None:
    """Return the dialect of a path; None for this server's own routes.

    Anthropic's clients also list models at `/v1/models`, and send the version of the API with each request.
    """
    if _is_at(path, "/v1/messages") or (has_anthropic_version and _is_at(path, "/v1/models")):
        return ANTHROPIC
    if _is_at(path, "/v1/responses") or _is_at(path, "/v1/conversations"):
        return RESPONSES
    if path.startswith("/v1/"):
        return OPENAI
    if _is_at(path, "/mcp"):
        return MCP
    if path.startswith("/api/"):
        return OLLAMA
    return None


def _is_at(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(f"{prefix}/")


def dialect_of_head(path: str, headers: Mapping[bytes, bytes]) -> Dialect | None:
    """Like `dialect_of`, for a request the framework has not parsed. Names of ``headers`` are in lower case."""
    return dialect_of(path, has_anthropic_version=b"anthropic-version" in headers)


def register_shaped_errors(app: QuartTrio) -> None:
    """Convert every problem on these APIs' paths to the format that their clients parse."""

    @app.after_request
    async def take_shape(response: Response) -> Response:
        dialect = dialect_of(request.path, has_anthropic_version="anthropic-version" in request.headers)
        if dialect is None:
            return response
        if dialect is ANTHROPIC:
            # Anthropic's own header, which its clients show with every error.
            response.headers["request-id"] = str(request.scope["state"].get("request_id", ""))
        if response.content_type != _PROBLEM:
            return response
        problem = json.loads(await response.get_data())
        if response.status_code == NO_ROUTE and request.url_rule is None:
            problem = dialect.no_such_route(problem, request.method, request.path)
        body, status = dialect.error(problem)
        response.set_data(encode(body))
        response.status_code = status
        response.content_type = "application/json"
        return response
