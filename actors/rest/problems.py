"""Errors over REST: RFC 9457 problem JSON with the protocol's codes."""

from __future__ import annotations

import json
from typing import Any

from quart import Response

from protocol.errors import ErrorCode

__all__ = ["HTTP_STATUS", "problem", "problem_of"]

HTTP_STATUS: dict[ErrorCode, int] = {
    ErrorCode.BAD_MESSAGE: 400,
    ErrorCode.UNKNOWN_TYPE: 404,
    ErrorCode.INVALID_FIELD: 422,
    ErrorCode.TOO_LARGE: 413,
    ErrorCode.UNAUTHORIZED: 401,
    ErrorCode.FORBIDDEN: 403,
    ErrorCode.NOT_FOUND: 404,
    ErrorCode.CONFLICT: 409,
    ErrorCode.OVERLOADED: 429,
    ErrorCode.RATE_LIMITED: 429,
    ErrorCode.CONTEXT_LENGTH_EXCEEDED: 400,
    ErrorCode.MODEL_UNAVAILABLE: 503,
    ErrorCode.ENGINE_FAILED: 502,
    ErrorCode.UNAVAILABLE: 503,
    ErrorCode.DEADLINE_EXCEEDED: 504,
    ErrorCode.SHUTTING_DOWN: 503,
    ErrorCode.ANSWER_TOO_LARGE: 500,
    ErrorCode.INTERNAL: 500,
}


def problem_of(
    code: ErrorCode,
    message: str,
    *,
    field: str | None = None,
    status: int | None = None,
    current: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Build the body of a problem. `type` stays `about:blank`; the machine-readable part is `code`."""
    body: dict[str, Any] = {
        "title": code.value.replace("_", " "),
        "status": HTTP_STATUS[code] if status is None else status,
        "detail": message,
        "code": code.value,
        "temporary": code.is_temporary,
    }
    if field is not None:
        body["field"] = field
    if current is not None:
        body["current"] = current
    return body


def problem(
    code: ErrorCode,
    message: str,
    *,
    field: str | None = None,
    retry_after_ms: int | None = None,
    status: int | None = None,
    current: dict[str, Any] | None = None,
) -> Response:
    """Build a problem as a response, with `Retry-After` if a retry time is known."""
    body = problem_of(code, message, field=field, status=status, current=current)
    response = Response(json.dumps(body), status=body["status"], content_type="application/problem+json")
    if code is ErrorCode.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    if retry_after_ms is not None:
        response.headers["Retry-After"] = str(max(1, -(-retry_after_ms // 1000)))
    return response
