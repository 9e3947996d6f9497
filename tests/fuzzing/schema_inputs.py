"""Schemas, parameters of tools and patterns: at both transports, and straight to the pool of processes that judges them."""

from __future__ import annotations

import enum
import json
import random
from pathlib import Path
from typing import Any

from attrs import field, frozen

from actors.inference.messages import CallableFunction, GenerateWithTools, ToolCallConstraint
from actors.inference.text.generic_tools import GENERIC_FORMAT
from protocol.commands import ChatMessage, Generate, Role
from tests.connections.raw_peer import TEXT, frame
from tests.fuzzing.inputs import Input, draw_for
from tests.fuzzing.schemas import RandomSchemas
from tests.fuzzing.websocket_inputs import opening, ping_at_the_end

__all__ = ["SCHEMA_SECONDS", "PoolInput", "SchemaInputs", "Way", "way_of"]

SCHEMA_SECONDS = 120.0
"""A schema is judged for as long as its limits allow, behind those of others, and then an answer is made of it."""
MOST_TOKENS = {"embedded": 4, "mock": 40}
"""The mock engine follows a form for next to nothing."""
MOST_PROMPT_CHARACTERS = 3000
"""The embedded model reads what tools it may call, some hundred tokens a second on a busy machine."""


class Way(enum.Enum):
    """What an input is sent to. Its number decides, so that an input can be sent again by its number alone."""

    EMBEDDED = "embedded"
    """A server with the embedded model: one of 250, since each costs some tenths of a second."""
    MOCK = "mock"
    """A server with the mock engine, which checks and follows forms like the other: one of ten."""
    POOL = "pool"
    """The sandbox actor as the server runs it, with the embedded model's tokenizer, in the fuzzer's own process: the rest."""


def way_of(number: int) -> Way:
    """Where the input of this number goes."""
    if number % 250 == 0:
        return Way.EMBEDDED
    return Way.MOCK if number % 10 == 5 else Way.POOL


@frozen
class PoolInput:
    """A request for the sandbox."""

    number: int
    kind: str
    generate: Generate = field(repr=False)
    schemas: str
    """As JSON text, for the report."""

    def save(self, folder: Path, seed: int, reason: str) -> Path:
        """Write it to a file."""
        path = folder / f"{self.kind}-{seed}-{self.number}.json"
        content = {"reason": reason, "seed": seed, "number": self.number, "schemas": json.loads(self.schemas)}
        path.write_text(json.dumps(content, indent=1), encoding="utf-8")
        return path


class SchemaInputs:
    """`make(number)` is the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def make(self, number: int) -> Input | PoolInput:
        """The input of this number; a `PoolInput` where its way is the pool."""
        draw, way = draw_for(self.seed, number), way_of(number)
        if way is Way.POOL:
            return self._of_pool(number, draw)
        if draw.random() < 0.5:
            return self._over_websocket(number, draw, way)
        return self._over_rest(number, draw, way)

    def _of_pool(self, number: int, draw: random.Random) -> PoolInput:
        if draw.random() < 0.7:
            schema = RandomSchemas(draw).schema()
            return PoolInput(
                number, "pool-schema", Generate(prompt="x", response_schema=schema), json.dumps({"schema": schema})
            )
        parameters = [RandomSchemas(draw).schema() for _ in range(draw.choice((1, 1, 2, 4)))]
        answer_schema = RandomSchemas(draw).schema() if draw.random() < 0.2 else None
        rule = ToolCallConstraint(
            tool_call_format=GENERIC_FORMAT,
            functions=tuple(
                CallableFunction(name=f"f{at}", parameters=one, path=f"tools[{at}].function.parameters")
                for at, one in enumerate(parameters)
            ),
            is_required=answer_schema is None and draw.random() < 0.5,
            most_calls=draw.choice((1, 16)),
            source_field="tool_choice",
            answer_schema=answer_schema,
        )
        generate = GenerateWithTools(
            messages=[ChatMessage(Role.USER, "x")],
            turns=[{"role": "user", "content": "x"}],
            tools=[
                {"type": "function", "function": {"name": f"f{at}", "parameters": one}}
                for at, one in enumerate(parameters)
            ],
            tool_call_format=GENERIC_FORMAT,
            call_rule=rule,
        )
        return PoolInput(
            number, "pool-tools", generate, json.dumps({"parameters": parameters, "answer_schema": answer_schema})
        )

    def _over_websocket(self, number: int, draw: random.Random, way: Way) -> Input:
        schema = RandomSchemas(draw).schema()
        data: dict[str, Any] = {"prompt": "x", "max_tokens": MOST_TOKENS[way.value], "response_schema": schema}
        if draw.random() < 0.3:
            data |= {"temperature": 1.0, "seed": number}
        # An id of its own: a command that comes again under one that its client has used is refused unread.
        command = json.dumps({"type": "generate", "id": f"c{number}", "data": data}).encode()
        sent = opening(number) + frame(TEXT, command) + ping_at_the_end()
        return Input(number, "websocket-schema", (sent,), must_answer=True, seconds=SCHEMA_SECONDS)

    def _over_rest(self, number: int, draw: random.Random, way: Way) -> Input:
        kind = draw.choice(("format", "format", "tool", "tools", "format-and-tool", "anthropic"))
        if kind == "anthropic":
            return _posted(number, kind, "/v1/messages", self._anthropic_body(draw, way))
        body: dict[str, Any] = {
            "model": way.value,
            "messages": [{"role": "user", "content": "x"}],
            "max_tokens": MOST_TOKENS[way.value],
        }
        if draw.random() < 0.3:
            body |= {"temperature": 1.0, "seed": number}
        if draw.random() < 0.2:
            body["stream"] = True
        if kind.startswith("format"):
            schema = RandomSchemas(draw).schema()
            body["response_format"] = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
        if kind != "format":
            tools = self._tools(draw, 4 if kind == "tools" else 1)
            while way is Way.EMBEDDED and len(json.dumps(tools)) > MOST_PROMPT_CHARACTERS:
                tools = self._tools(draw, 1)
            body |= tools
        return _posted(number, kind, "/v1/chat/completions", body)

    def _anthropic_body(self, draw: random.Random, way: Way) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": way.value,
            "messages": [{"role": "user", "content": "x"}],
            "max_tokens": MOST_TOKENS[way.value],
        }
        schema = RandomSchemas(draw).schema()
        if draw.random() < 0.4 or (way is Way.EMBEDDED and len(json.dumps(schema)) > MOST_PROMPT_CHARACTERS):
            return {**body, "output_config": {"format": {"type": "json_schema", "schema": schema}}}
        choice = draw.choice(({"type": "any"}, {"type": "auto"}, {"type": "tool", "name": "f0"}))
        return {**body, "tools": [{"name": "f0", "input_schema": schema}], "tool_choice": choice}

    def _tools(self, draw: random.Random, count: int) -> dict[str, Any]:
        functions = []
        for at in range(count):
            function: dict[str, Any] = {"name": f"f{at}", "parameters": RandomSchemas(draw).schema()}
            if draw.random() < 0.2:
                function["strict"] = True
            functions.append({"type": "function", "function": function})
        body: dict[str, Any] = {"tools": functions}
        body["tool_choice"] = draw.choice(("required", "auto", {"type": "function", "function": {"name": "f0"}}))
        if draw.random() < 0.2:
            body["parallel_tool_calls"] = False
        return body


def _posted(number: int, kind: str, path: str, body: dict[str, Any]) -> Input:
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return Input(number, f"rest-schema {kind}", (head.encode() + content,), must_answer=True, seconds=SCHEMA_SECONDS)
