"""Gives problems the shape of the API whose path was asked."""

from __future__ import annotations

import json

from quart import Response, request
from quart_trio import QuartTrio

from actors.rest.dialects import ANTHROPIC, dialect_of
from protocol.codec import encode

__all__ = ["register_shaped_errors"]

NO_ROUTE = 404
_PROBLEM = "application/problem+json"


def register_shaped_errors(app: QuartTrio) -> None:
    """Give every problem of these APIs' paths the shape that their clients read."""

    @app.after_request
    async def take_shape(response: Response) -> Response:
        dialect = dialect_of(request.path, has_anthropic_version="anthropic-version" in request.headers)
        if dialect is None:
            return response
        if dialect is ANTHROPIC:
            # Anthropic's name of it, which their clients show with every error.
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
