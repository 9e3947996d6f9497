"""Serializes a request for a sandbox job: only the fields that determine its prompt and its grammar.

The format is JSON, as at every process boundary here, read by Python's own parser, so that numbers beyond 64 bits, infinities in past
arguments and lone surrogates arrive unchanged.
"""

from __future__ import annotations

import json
from typing import Any

from actors.inference.tools import GenerateWithTools, ToolCallConstraint, ToolCallFormat
from protocol.generation import ChatMessage, Generate, Role

__all__ = ["request_of", "text_of"]


def text_of(generate: Generate) -> bytes:
    """Serializes a request for `request_of`."""
    content: dict[str, Any] = {
        "prompt": generate.prompt,
        "messages": None if generate.messages is None else [[one.role.value, one.content] for one in generate.messages],
        "response_schema": generate.response_schema,
    }
    if isinstance(generate, GenerateWithTools):
        content["with_tools"] = {
            "turns": generate.turns,
            "tools": generate.tools,
            "tool_call_format": generate.tool_call_format.name,
            "thinks": generate.thinks,
            "reasoning_effort": generate.reasoning_effort,
            "call_rule": None if generate.call_rule is None else generate.call_rule.as_text(),
        }
    return json.dumps(content, separators=(",", ":")).encode("ascii")


def request_of(text: bytes) -> Generate:
    """Parses the output of `text_of`; fields that affect neither prompt nor grammar have their defaults."""
    content = json.loads(text)
    fields: dict[str, Any] = {
        "prompt": content["prompt"],
        "response_schema": content["response_schema"],
        "messages": (
            None
            if content["messages"] is None
            else [ChatMessage(Role(role), said) for role, said in content["messages"]]
        ),
    }
    with_tools = content.get("with_tools")
    if with_tools is None:
        return Generate(**fields)
    rule = with_tools["call_rule"]
    return GenerateWithTools(
        **fields,
        turns=with_tools["turns"],
        tools=with_tools["tools"],
        tool_call_format=ToolCallFormat[with_tools["tool_call_format"]],
        thinks=with_tools["thinks"],
        reasoning_effort=with_tools["reasoning_effort"],
        call_rule=None if rule is None else ToolCallConstraint.from_text(rule),
    )
