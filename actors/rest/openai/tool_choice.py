"""Which tools an answer may, must or must not call: `tool_choice`, `parallel_tool_calls` and `strict`. Pure.

The meanings are those of OpenAI's API reference. `required` and a named function hold the whole answer to calls; a
function with `strict`, or `parallel_tool_calls: false`, leaves the model free to answer with text, and holds what it
calls to its parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import Attribute

from actors.inference.messages import CallableFunction, CallRule, ToolCallFormat
from actors.rest.openai.tools import Tool
from protocol.validation import FieldFault

__all__ = ["call_rule", "callable_names", "check_choice", "is_tool_choice", "named_function"]

_WORDS = ("none", "auto", "required")
MOST_CALLS = 16
"""In one answer that is held to a form: a small model that may go on calling finds no end."""


def is_tool_choice(_: object, attribute: Attribute[Any], value: Any) -> None:
    """Validator: none, auto, required, or `{"type": "function", "function": {"name": …}}`; None passes."""
    name = attribute.name
    if value is None or (isinstance(value, str) and value in _WORDS):
        return
    if not isinstance(value, dict):
        raise FieldFault(name, "must be none, auto, required or an object that names a function")
    if value.get("type") != "function":
        raise FieldFault(f"{name}.type", "must be function")
    function = value.get("function")
    if not isinstance(function, dict):
        raise FieldFault(f"{name}.function", "must be an object with the name of a function")
    if not isinstance(function.get("name"), str):
        raise FieldFault(f"{name}.function.name", "must be a string")
    for inside, known, path in ((value, {"type", "function"}, name), (function, {"name"}, f"{name}.function")):
        for other in inside.keys() - known:
            raise FieldFault(f"{path}.{other}", "is not a field of a choice")


def named_function(choice: Any) -> str | None:
    """The function that a valid choice names."""
    return str(choice["function"]["name"]) if isinstance(choice, dict) else None


def callable_names(tools: Sequence[Tool], choice: Any) -> list[str]:
    """The functions that the answer may call."""
    named = named_function(choice)
    if choice == "none":
        return []
    return [one.function.name for one in tools if named in (None, one.function.name)]


def check_choice(tools: Sequence[Tool], choice: Any) -> None:
    """Raises `FieldFault` where tools and choice do not go together."""
    names = [one.function.name for one in tools]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise FieldFault(f"tools[{index}].function.name", "is there twice")
    # Clients send `auto` where they have no tools today.
    if not names and choice not in (None, "none", "auto"):
        raise FieldFault("tool_choice", "may only be given with tools")
    named = named_function(choice)
    if named is not None and named not in names:
        raise FieldFault("tool_choice.function.name", "must be one of the tools")


def call_rule(
    tools: Sequence[Tool],
    choice: Any,
    parallel_tool_calls: bool | None,
    tool_call_format: ToolCallFormat,
    *,
    answer_schema: dict[str, Any] | None = None,
) -> CallRule | None:
    """What the answer's calls are held to; None where the model is free. The choice was checked.

    With ``answer_schema`` an answer that calls nothing follows that.
    """
    names = callable_names(tools, choice)
    functions = tuple(
        CallableFunction(
            name=one.function.name, parameters=one.function.parameters, path=f"tools[{index}].function.parameters"
        )
        for index, one in enumerate(tools)
        if one.function.name in names
    )
    strict = next((index for index, one in enumerate(tools) if one.function.strict), None)
    is_named = named_function(choice) is not None
    is_required = is_named or choice == "required"
    if is_required:
        asked_by = "tool_choice"
    elif parallel_tool_calls is False:
        asked_by = "parallel_tool_calls"
    elif strict is not None:
        asked_by = f"tools[{strict}].function.strict"
    elif answer_schema is not None:
        asked_by = "response_format"
    else:
        return None
    if not functions:
        return None
    return CallRule(
        tool_call_format=tool_call_format,
        functions=functions,
        is_required=is_required,
        # A named function is called once, as OpenAI does it.
        most_calls=1 if is_named or parallel_tool_calls is False else MOST_CALLS,
        asked_by=asked_by,
        answer_schema=answer_schema,
    )
