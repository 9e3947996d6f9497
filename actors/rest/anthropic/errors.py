"""Converts problems to the errors of Anthropic's API. Pure functions.

The types are those of Anthropic's API reference ("Errors"). A status without a type of its own gets the nearest one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from actors.rest.openai.errors import as_client_calls, plain_words
from protocol.errors import ErrorCode

__all__ = ["anthropic_error", "error_body", "left_out_as_called", "no_such_route"]

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
_ROUTES = "/v1/messages, /v1/messages/count_tokens and /v1/models"
_NAMES = {"stop": "stop_sequences", "response_schema": "output_config.format", "messages": "messages"}
"""Fields of the engine's request that have another name at Anthropic."""
_TOO_LONG = re.compile(
    r"maximum context length is (\d+) tokens\. However, (?:your \w+ resulted in (\d+)|you requested \d+ tokens \((\d+))"
)
"""Matches the message of `request_rules.too_long`."""


def anthropic_error(problem: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """Convert a problem of RFC 9457, as made by `problem`, to a body and an HTTP status."""
    status = 400 if problem["status"] == 422 else int(problem["status"])
    kind = _TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
    return error_body(kind, _words(problem)), status


def error_body(kind: str, message: str) -> dict[str, Any]:
    """Build an error of this type."""
    return {"type": "error", "error": {"type": kind, "message": message}}


def left_out_as_called(places: Sequence[str]) -> list[str]:
    """Translate places in the engine's request that answers leave out to Anthropic's names."""
    return [as_client_calls(one, _NAMES) for one in places]


def no_such_route(problem: dict[str, Any], method: str, path: str) -> dict[str, Any]:
    """Complete the problem for an unknown route."""
    return {**problem, "detail": f"{method} {path} does not exist: of Anthropic's API this server implements {_ROUTES}"}


def _words(problem: dict[str, Any]) -> str:
    message = str(problem["detail"])
    if problem["code"] == ErrorCode.CONTEXT_LENGTH_EXCEEDED.value and (found := _TOO_LONG.search(message)):
        # Clients look for these words to shorten a chat and retry.
        return f"prompt is too long: {found[2] or found[3]} tokens > {found[1]} maximum"
    return plain_words(message, _NAMES)
