"""Errors as OpenAI's clients know them, made of our problems. Pure."""

from __future__ import annotations

from typing import Any

from protocol.codec import UNKNOWN_FIELD
from protocol.errors import ErrorCode

__all__ = ["no_such_route", "openai_error"]

_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
_NAMES = {"response_schema": "response_format"}
"""Fields of the engine's request that OpenAI calls otherwise."""
_ROUTES = "/v1/models, /v1/chat/completions and /v1/completions"


def openai_error(problem: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """Body and HTTP status for a problem of RFC 9457 as `problem` makes it."""
    # OpenAI answers every wrong field with 400; its clients have no name for 422 that anyone expects.
    status = 400 if problem["status"] == 422 else int(problem["status"])
    parameter = _parameter(problem.get("field"))
    code = problem["code"]
    if code == ErrorCode.NOT_FOUND.value and parameter == "model":
        code = "model_not_found"
    message = problem["detail"]
    for inside in ("body.", "data."):
        # The words shall name the field as the client wrote it, too.
        if message.startswith(inside):
            name, space, rest = message.removeprefix(inside).partition(" ")
            message = str(_parameter(name.rstrip(":"))) + (":" if name.endswith(":") else "") + space + rest
    if message.endswith(UNKNOWN_FIELD):
        message = message.removesuffix(UNKNOWN_FIELD) + "is not supported: leave it out of what the editor sends"
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": parameter, "code": code}}, status


def no_such_route(problem: dict[str, Any], method: str, path: str) -> dict[str, Any]:
    """The problem of a path under `/v1` that leads nowhere: editors know routes that this server lacks."""
    return {**problem, "detail": f"{method} {path} is not there: of OpenAI's API this server has {_ROUTES}"}


def _parameter(field: str | None) -> str | None:
    """`body.messages[0].role` is `messages[0].role` to the client."""
    if field in (None, "body"):
        # All of it has no name among OpenAI's parameters.
        return None
    path = field.removeprefix("body.").removeprefix("data.")
    name, dot, rest = path.partition(".")
    return _NAMES.get(name, name) + dot + rest
