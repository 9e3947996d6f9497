"""Errors of the Responses API: OpenAI's format with the field names of this API. Pure functions."""

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
"""Maps fields of the engine's request, and of a query, to this API's names."""


def responses_error(problem: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """Convert a problem of RFC 9457, as made by `problem`, to a body and an HTTP status."""
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
        # OpenAI's code; its clients retry.
        error["code"] = "conversation_locked"
    return body, status


def no_such_route(problem: dict[str, Any], method: str, path: str) -> dict[str, Any]:
    """Complete the problem for an unknown route."""
    detail = f"{method} {path} does not exist: of OpenAI's Responses API this server implements {_ROUTES}"
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
