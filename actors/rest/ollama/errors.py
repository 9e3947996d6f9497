"""Errors as Ollama's clients know them, made of our problems: one text under `error`. Pure."""

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
"""Fields of the engine's request that Ollama calls otherwise."""
_ROUTES = "version, tags, ps, show, chat, generate, embed, pull and delete"


def ollama_error(problem: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """Body and HTTP status for a problem of RFC 9457 as `problem` makes it."""
    status = 400 if problem["status"] == 422 else int(problem["status"])
    return {"error": plain_words(str(problem["detail"]), _NAMES)}, status


def left_out_as_called(places: Sequence[str]) -> list[str]:
    """Places in the engine's request that answers leave out, as Ollama's clients call them."""
    return [as_client_calls(one, _NAMES) for one in places]


def no_such_route(problem: dict[str, Any], method: str, path: str) -> dict[str, Any]:
    """The problem of a path under `/api` that leads nowhere."""
    return {**problem, "detail": f"{method} {path} does not exist: of Ollama's API this server has {_ROUTES}"}
