"""Tools and `tool_choice` of Anthropic's API, and the constraints that follow for an answer. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from attrs import frozen

from actors.inference.messages import CallableFunction, ToolCallConstraint, ToolCallFormat
from actors.rest.openai.tool_choice import MOST_CALLS
from protocol.json_text import json_type
from protocol.validation import FieldFault

__all__ = ["Tool", "ToolChoice", "as_templates_know", "call_rule", "callable_names", "read_choice", "read_tools"]

_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}")
_READ = frozenset({"type", "name", "description", "input_schema", "strict"})
_PASSED_OVER = frozenset(
    {"cache_control", "eager_input_streaming", "input_examples", "defer_loading", "allowed_callers"}
)
MAXIMUM_TOOLS = 1024


@frozen(kw_only=True)
class Tool:
    """A function that the model may call."""

    name: str
    description: str | None
    input_schema: dict[str, Any]
    is_strict: bool


@frozen(kw_only=True)
class ToolChoice:
    """The model's freedom to call tools."""

    kind: str
    """`auto`, `any`, `tool` or `none`."""
    name: str | None = None
    """The function that must be called, if one is named."""
    is_parallel: bool = True
    """True if the answer may contain several calls."""

    @property
    def must_call(self) -> bool:
        """True if the answer must consist of calls."""
        return self.kind in ("any", "tool")


def read_tools(tools: Any) -> tuple[list[Tool], list[str]]:
    """Parse tools, and return the paths of unknown fields. Raises `FieldFault`."""
    if tools is None:
        return [], []
    if not isinstance(tools, list) or len(tools) > MAXIMUM_TOOLS:
        raise FieldFault("tools", f"must be an array of at most {MAXIMUM_TOOLS} tools")
    ignored: dict[str, None] = {}
    read: list[Tool] = []
    for index, one in enumerate(tools):
        path = f"tools[{index}]"
        if not isinstance(one, dict):
            raise FieldFault(path, f"must be an object, not {json_type(one)}")
        kind = one.get("type", "custom")
        if kind not in (None, "custom"):
            raise FieldFault(f"{path}.type", "must be custom: tools defined by Anthropic are not supported")
        name, schema, description = one.get("name"), one.get("input_schema"), one.get("description")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise FieldFault(f"{path}.name", "must have 1 to 128 letters, digits, dashes and underscores")
        if any(name == other.name for other in read):
            raise FieldFault(f"{path}.name", "is a duplicate")
        if not isinstance(schema, dict):
            raise FieldFault(f"{path}.input_schema", "must be a JSON Schema of an object")
        if schema.get("type") != "object":
            raise FieldFault(f"{path}.input_schema.type", "must be object")
        if description is not None and not isinstance(description, str):
            raise FieldFault(f"{path}.description", "must be a string")
        ignored |= {f"tools[].{field}": None for field in one if field not in _READ | _PASSED_OVER}
        is_strict = one.get("strict") is True
        read.append(Tool(name=name, description=description, input_schema=schema, is_strict=is_strict))
    return read, list(ignored)


def read_choice(choice: Any, tools: Sequence[Tool]) -> ToolChoice:
    """Parse the tool choice. Raises `FieldFault`, also if choice and tools are inconsistent."""
    if choice is None:
        return ToolChoice(kind="auto")
    if not isinstance(choice, dict):
        raise FieldFault("tool_choice", f"must be an object, not {json_type(choice)}")
    kind = choice.get("type")
    if kind not in ("auto", "any", "tool", "none"):
        raise FieldFault("tool_choice.type", "must be auto, any, tool or none")
    if kind in ("any", "tool") and not tools:
        raise FieldFault("tool_choice", "may only be given with tools")
    name = choice.get("name")
    if kind == "tool" and name not in [one.name for one in tools]:
        raise FieldFault("tool_choice.name", "must be one of the tools")
    disabled = choice.get("disable_parallel_tool_use")
    if disabled not in (None, False, True):
        raise FieldFault("tool_choice.disable_parallel_tool_use", "must be a boolean")
    return ToolChoice(kind=kind, name=name if kind == "tool" else None, is_parallel=not disabled)


def callable_names(tools: Sequence[Tool], choice: ToolChoice) -> list[str]:
    """Names of the functions that the answer may call."""
    return [] if choice.kind == "none" else [one.name for one in tools if choice.name in (None, one.name)]


def call_rule(
    tools: Sequence[Tool],
    choice: ToolChoice,
    tool_call_format: ToolCallFormat,
    *,
    answer_schema: dict[str, Any] | None,
) -> ToolCallConstraint | None:
    """Build the constraint on the answer's calls; None if the model is free. Other answers follow ``answer_schema``,
    if given.
    """
    names = callable_names(tools, choice)
    if not names:
        return None
    strict = next((index for index, one in enumerate(tools) if one.is_strict), None)
    if choice.must_call:
        source_field = "tool_choice"
    elif not choice.is_parallel:
        source_field = "tool_choice.disable_parallel_tool_use"
    elif strict is not None:
        source_field = f"tools[{strict}].strict"
    elif answer_schema is not None:
        source_field = "output_config.format"
    else:
        return None
    return ToolCallConstraint(
        tool_call_format=tool_call_format,
        functions=tuple(
            CallableFunction(name=one.name, parameters=one.input_schema, path=f"tools[{index}].input_schema")
            for index, one in enumerate(tools)
            if one.name in names
        ),
        is_required=choice.must_call,
        most_calls=MOST_CALLS if choice.is_parallel and choice.name is None else 1,
        source_field=source_field,
        answer_schema=answer_schema,
    )


def as_templates_know(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """Convert the functions to OpenAI's form, which chat templates expect."""
    return [
        {
            "type": "function",
            "function": {
                "name": one.name,
                **({} if one.description is None else {"description": one.description}),
                "parameters": one.input_schema,
            },
        }
        for one in tools
    ]
