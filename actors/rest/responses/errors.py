"""Errors of the Responses API: OpenAI's shape, with the names that its fields have there. Pure."""

from __future__ import annotations

import re
from typing import Any

from actors.rest.openai.errors import UNKNOWN_URL, openai_error
from protocol.errors import ErrorCode

__all__ = ["error_event", "no_such_route", "responses_error"]

_ROUTES = "/v1/responses with GET, DELETE, /cancel and /input_items, and /v1/conversations with /items"
_NAMES = (
    (re.compile(r"^data\.response_schema"), "body.text.format.schema"),
    (re.compile(r"^data\.(messages|prompt|turns)(\[\d+\])?"), "body.input"),
    (re.compile(r"^data\.max_tokens"), "body.max_output_tokens"),
    (re.compile(r"^data\."), "body."),
    (re.compile(r"^query\."), ""),
)
"""Fields of the engine's request, and of a query, as this API has them."""


def responses_error(problem: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """Body and HTTP status for a problem of RFC 9457 as `problem` makes it."""
    field = problem.get("field")
    if field is not None:
        name = _as_client_calls(field)
        detail = problem["detail"]
        if detail.startswith(field):
            detail = name + detail.removeprefix(field)
        problem = {**problem, "field": name, "detail": detail}
    body, status = openai_error(problem)
    error = body["error"]
    if problem["code"] == ErrorCode.NOT_FOUND.value and error["param"] == "previous_response_id":
        error["code"] = "previous_response_not_found"
        error["type"] = "invalid_request_error"
    if problem["code"] == ErrorCode.CONFLICT.value and error["param"] in ("conversation", "conversation_id"):
        # OpenAI's code; its clients send the request again.
        error["code"] = "conversation_locked"
    return body, status


def no_such_route(problem: dict[str, Any], method: str, path: str) -> dict[str, Any]:
    """The problem of a path that leads nowhere."""
    detail = f"{method} {path} does not exist: of OpenAI's Responses API this server has {_ROUTES}"
    return {**problem, "detail": detail, "code": UNKNOWN_URL}


def error_event(body: dict[str, Any], sequence_number: int = 0) -> dict[str, Any]:
    """An error as the last event of a stream that has begun."""
    error = body["error"]
    return {
        "type": "error",
        "sequence_number": sequence_number,
        "code": error["code"],
        "message": error["message"],
        "param": error["param"],
    }


def _as_client_calls(field: str) -> str:
    for pattern, name in _NAMES:
        if pattern.match(field):
            return pattern.sub(name, field, count=1)
    return field
