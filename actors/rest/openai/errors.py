"""Converts problems to the errors of OpenAI's API. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from protocol.codec import UNKNOWN_FIELD
from protocol.errors import ErrorCode

__all__ = ["as_client_calls", "no_such_route", "openai_error", "plain_words"]

_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
_NAMES = {"response_schema": "response_format"}
"""Fields of the engine's request that have another name at OpenAI."""
UNKNOWN_URL = "unknown_url"
"""OpenAI's code for an unknown route."""
_ROUTES = "/v1/models, /v1/chat/completions, /v1/completions, /v1/embeddings and /v1/responses"


def as_client_calls(place: str, names: Mapping[str, str] = _NAMES) -> str:
    """Translate a path in the engine's request, such as `response_schema/properties/a`, to an API's names; by default
    OpenAI's.
    """
    name = next((one for one in names if place.startswith(one)), "")
    return names.get(name, "") + place.removeprefix(name)


def openai_error(problem: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """Convert a problem of RFC 9457, as made by `problem`, to a body and an HTTP status."""
    # OpenAI answers every invalid field with 400, and its clients do not expect 422.
    status = 400 if problem["status"] == 422 else int(problem["status"])
    parameter = _parameter(problem.get("field"))
    code = problem["code"]
    if code == ErrorCode.NOT_FOUND.value and parameter == "model":
        code = "model_not_found"
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    if code == UNKNOWN_URL:
        kind = "invalid_request_error"
    message = plain_words(problem["detail"], _NAMES)
    return {"error": {"message": message, "type": kind, "param": parameter, "code": code}}, status


def no_such_route(problem: dict[str, Any], method: str, path: str) -> dict[str, Any]:
    """Complete the problem for an unknown path under `/v1`, since editors try routes that this server lacks."""
    detail = f"{method} {path} does not exist: of OpenAI's API this server implements {_ROUTES}"
    return {**problem, "detail": detail, "code": UNKNOWN_URL}


def plain_words(message: str, names: Mapping[str, str]) -> str:
    """Rewrite a message to begin with the field as the client wrote it; ``names`` maps fields that the client calls
    differently.
    """
    for inside in ("body.", "data."):
        if message.startswith(inside):
            name, space, rest = message.partition(" ")
            message = str(_parameter(name.rstrip(":"), names)) + (":" if name.endswith(":") else "") + space + rest
    if message.endswith(UNKNOWN_FIELD):
        message = message.removesuffix(UNKNOWN_FIELD) + "is not supported: leave it out of what the editor sends"
    return message


def _parameter(field: str | None, names: Mapping[str, str] = _NAMES) -> str | None:
    """Translate `body.messages[0].role` to the client's `messages[0].role`."""
    if field in (None, "body"):
        # The body as a whole has no name among OpenAI's parameters.
        return None
    name, dot, rest = field.removeprefix("body.").removeprefix("data.").partition(".")
    # Fields of the body already have the client's names.
    return (names.get(name, name) if field.startswith("data.") else name) + dot + rest
