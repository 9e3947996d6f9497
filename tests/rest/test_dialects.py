"""Whose error shape a path has, in every layer that refuses: pure rules."""

from __future__ import annotations

import json
from typing import Any

import pytest

from actors.command_line.preparing import Preparation, refusal
from actors.rest.dialects import dialect_of
from actors.rest.problems import problem_of
from protocol.errors import ErrorCode


def shape_of(body: dict[str, Any]) -> str | None:
    if set(body) == {"type", "error"}:
        return "anthropic"
    if set(body) != {"error"}:
        return None
    return "ollama" if isinstance(body["error"], str) else "openai"


PATHS = [
    ("/v1/chat/completions", False, "openai"),
    ("/v1/models", False, "openai"),
    ("/v1/models", True, "anthropic"),
    ("/v1/models/a/b", True, "anthropic"),
    ("/v1/chat/completions", True, "openai"),
    ("/v1/messages", False, "anthropic"),
    ("/v1/messages/count_tokens", False, "anthropic"),
    ("/v1/responses", False, "openai"),
    ("/v1/responses/resp_0", True, "openai"),
    ("/v1/messages-of-others", False, "openai"),
    ("/api/chat", False, "ollama"),
    ("/apis", False, None),
    ("/ai/process", True, None),
]


@pytest.mark.parametrize(("path", "has_version", "shape"), PATHS)
@pytest.mark.parametrize("code", ErrorCode, ids=lambda code: code.value)
def test_every_problem_takes_the_shape_of_its_path(
    path: str, has_version: bool, shape: str | None, code: ErrorCode
) -> None:
    dialect = dialect_of(path, has_anthropic_version=has_version)
    if dialect is None:
        assert shape is None
        return
    problem = problem_of(code, "words", field="body.model")
    body, status = dialect.error(problem)
    assert shape_of(body) == shape
    assert status == (400 if problem["status"] == 422 else problem["status"])
    if shape == "openai":
        assert body["error"]["param"] == "model"
        assert isinstance(body["error"]["code"], str)
    lost, _ = dialect.error(dialect.no_such_route(problem, "GET", path))
    assert f"GET {path} does not exist" in json.dumps(lost)


@pytest.mark.parametrize(("path", "has_version", "shape"), PATHS)
def test_an10_a_server_that_prepares_its_model_refuses_in_the_shape_of_the_path(
    path: str, has_version: bool, shape: str | None
) -> None:
    version = b"Anthropic-Version: 2023-06-01\r\n" if has_version else b""
    answer = refusal(
        Preparation(), b"POST " + path.encode() + b"?beta=true HTTP/1.1\r\nHost: x\r\n" + version + b"\r\n"
    )
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert shape_of(json.loads(body)) == shape
    assert (b"application/problem+json" in head) == (shape is None)
    assert "preparing" in body.decode() or "prepares its model" in body.decode()
