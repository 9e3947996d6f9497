"""Converts problems to the errors of Ollama's API, a text under `error`. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from actors.rest.openai.errors import as_client_calls, plain_words

__all__ = ["left_out_as_called", "no_such_route", "ollama_error"]

_NAMES = {
    "response_schema": "format",
    "stop": "options.stop",
    "top_k": "options.top_k",
    "max_tokens": "options.num_predict",
}
"""Fields of the engine's request that have another name at Ollama."""
_ROUTES = "version, tags, ps, show, chat, generate, embed, pull and delete"


def ollama_error(problem: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """Convert a problem of RFC 9457, as made by `problem`, to a body and an HTTP status."""
    status = 400 if problem["status"] == 422 else int(problem["status"])
    return {"error": plain_words(str(problem["detail"]), _NAMES)}, status


def left_out_as_called(places: Sequence[str]) -> list[str]:
    """Translate places in the engine's request that answers leave out to Ollama's names."""
    return [as_client_calls(one, _NAMES) for one in places]


def no_such_route(problem: dict[str, Any], method: str, path: str) -> dict[str, Any]:
    """Complete the problem for an unknown path under `/api`."""
    return {**problem, "detail": f"{method} {path} does not exist: of Ollama's API this server implements {_ROUTES}"}
