"""Schemas, parameters of tools and patterns at both doors."""

from __future__ import annotations

import json
import random
from typing import Any

from tests.connections.raw_peer import TEXT, frame
from tests.fuzzing.inputs import Input, draw_for
from tests.fuzzing.schemas import RandomSchemas
from tests.fuzzing.websocket_inputs import opening, ping_at_the_end

__all__ = ["SCHEMA_SECONDS", "SchemaInputs"]

SCHEMA_SECONDS = 120.0
"""A schema is judged for as long as its limits allow, behind those of others, and then an answer is made of it."""
MOST_TOKENS = 4


class SchemaInputs:
    """`make(number)` is the same for the same seed; `websocket-…` kinds are for that door."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def make(self, number: int) -> Input:
        """The input of this number."""
        draw = draw_for(self.seed, number)
        schema = RandomSchemas(draw).schema()
        if draw.random() < 0.5:
            return self._over_websocket(number, draw, schema)
        return self._over_rest(number, draw, schema)

    def _over_websocket(self, number: int, draw: random.Random, schema: Any) -> Input:
        data: dict[str, Any] = {"prompt": "x", "max_tokens": MOST_TOKENS, "response_schema": schema}
        if draw.random() < 0.3:
            data |= {"temperature": 1.0, "seed": number}
        command = json.dumps({"type": "generate", "id": "c", "data": data}).encode()
        sent = opening(number) + frame(TEXT, command) + ping_at_the_end()
        return Input(number, "websocket-schema", (sent, 0.5), must_answer=True, seconds=SCHEMA_SECONDS)

    def _over_rest(self, number: int, draw: random.Random, schema: Any) -> Input:
        kind = draw.choice(("format", "tool", "tools"))
        body: dict[str, Any] = {
            "model": "embedded",
            "messages": [{"role": "user", "content": "x"}],
            "max_tokens": MOST_TOKENS,
        }
        if kind == "format":
            body["response_format"] = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
        else:
            schemas = [schema] + [RandomSchemas(draw).schema() for _ in range(0 if kind == "tool" else 3)]
            body["tools"] = [
                {"type": "function", "function": {"name": f"f{at}", "parameters": one}}
                for at, one in enumerate(schemas)
            ]
            body["tool_choice"] = draw.choice(("required", "auto", {"type": "function", "function": {"name": "f0"}}))
        content = json.dumps(body).encode()
        head = (
            "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        return Input(
            number, f"rest-schema {kind}", (head.encode() + content,), must_answer=True, seconds=SCHEMA_SECONDS
        )
