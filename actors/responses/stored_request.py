"""Serializes engine requests, including tools, so that an answer can be generated again after a restart. Pure
functions.
"""

from __future__ import annotations

import json
from typing import Any

import attrs

from actors.inference.messages import GenerateWithTools, ToolCallConstraint, ToolCallFormat
from protocol.codec import structure, unstructure
from protocol.commands import Generate

__all__ = ["request_from_text", "request_to_text"]

_PLAIN = frozenset(one.name for one in attrs.fields(Generate))


def request_to_text(generate: Generate) -> str:
    """Serialize to ASCII JSON. Integers in a schema may have any length."""
    data: dict[str, Any] = unstructure(generate)
    if isinstance(generate, GenerateWithTools):
        data["tool_call_format"] = generate.tool_call_format.name
        data["call_rule"] = None if generate.call_rule is None else generate.call_rule.as_text()
    return json.dumps(data)


def request_from_text(text: str) -> Generate:
    """Parse a request. Raises `InvalidField` if the text was not written by `request_to_text`."""
    data = json.loads(text)
    with_tools = {name: data.pop(name) for name in list(data) if name not in _PLAIN}
    generate: Generate = structure(data, Generate, prefix="restart")
    if not with_tools:
        return generate
    rule = with_tools.pop("call_rule")
    return GenerateWithTools(
        **{name: getattr(generate, name) for name in _PLAIN},
        **{
            **with_tools,
            "tool_call_format": ToolCallFormat[with_tools["tool_call_format"]],
            "call_rule": None if rule is None else ToolCallConstraint.from_text(rule),
        },
    )
