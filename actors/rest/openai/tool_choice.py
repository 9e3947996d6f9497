"""Constraints on tool calls: `tool_choice`, `parallel_tool_calls` and `strict`. Pure functions.

The semantics are those of OpenAI's API reference. `required` and a named function restrict the whole answer to calls.
A function with `strict`, or `parallel_tool_calls: false`, leaves the model free to answer with text, but enforces the
parameters of its calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import Attribute

from actors.inference.messages import CallableFunction, ToolCallConstraint, ToolCallFormat
from actors.rest.openai.tools import Tool
from protocol.validation import FieldFault

__all__ = [
    "call_rule",
    "callable_names",
    "check_choice",
    "is_function_call",
    "is_tool_choice",
    "must_call",
    "named_function",
]

_WORDS = ("none", "auto", "required")
MOST_TOOLS = 128
MOST_CALLS = 16
"""Calls in one constrained answer: a small model that may go on calling does not stop."""


def is_tool_choice(_: object, attribute: Attribute[Any], value: Any) -> None:
    """Validate none, auto, required, one function, or `allowed_tools`; None passes."""
    name = attribute.name
    if value is None or (isinstance(value, str) and value in _WORDS):
        return
    if not isinstance(value, dict):
        raise FieldFault(name, "must be none, auto, required or an object that names a function")
    kind = value.get("type")
    if kind not in ("function", "allowed_tools"):
        raise FieldFault(f"{name}.type", "must be function or allowed_tools")
    if kind == "function":
        _check_named(value, name)
    _only(value, {"type", kind}, name)
    if kind == "function":
        return
    allowed, path = value.get(kind), f"{name}.{kind}"
    if not isinstance(allowed, dict):
        raise FieldFault(path, "must be an object with a mode and tools")
    if allowed.get("mode") not in ("auto", "required"):
        raise FieldFault(f"{path}.mode", "must be auto or required")
    tools = allowed.get("tools")
    if not isinstance(tools, list) or not 1 <= len(tools) <= MOST_TOOLS:
        raise FieldFault(f"{path}.tools", f"must be an array of 1 to {MOST_TOOLS} functions")
    _only(allowed, {"mode", "tools"}, path)
    for index, one in enumerate(tools):
        place = f"{path}.tools[{index}]"
        if not isinstance(one, dict) or one.get("type") != "function":
            raise FieldFault(place, "must be an object of the type function")
        _only(one, {"type", "function"}, place)
        _check_named(one, place)


def is_function_call(_: object, attribute: Attribute[Any], value: Any) -> None:
    """Validate the older form: none, auto, or an object with the name of a function; None passes."""
    if value is None or (isinstance(value, str) and value in ("none", "auto")):
        return
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise FieldFault(attribute.name, "must be none, auto or an object with the name of a function")
    _only(value, {"name"}, attribute.name)


def _check_named(value: dict[str, Any], path: str) -> None:
    function = value.get("function")
    if not isinstance(function, dict):
        raise FieldFault(f"{path}.function", "must be an object with the name of a function")
    if not isinstance(function.get("name"), str):
        raise FieldFault(f"{path}.function.name", "must be a string")
    _only(function, {"name"}, f"{path}.function")


def _only(value: dict[str, Any], known: set[str], path: str) -> None:
    for other in value.keys() - known:
        raise FieldFault(f"{path}.{other}", "is not a field of a tool choice")


def named_function(choice: Any) -> str | None:
    """Return the function that a valid choice names, if it names one."""
    return str(choice["function"]["name"]) if isinstance(choice, dict) and choice["type"] == "function" else None


def must_call(choice: Any) -> bool:
    """True if the answer must consist of calls."""
    if isinstance(choice, dict):
        return bool(choice["type"] == "function" or choice["allowed_tools"]["mode"] == "required")
    return bool(choice == "required")


def _named(choice: Any) -> list[str] | None:
    """Return the functions that a choice names, or None if it names none."""
    if not isinstance(choice, dict):
        return None
    if choice["type"] == "function":
        return [choice["function"]["name"]]
    return [one["function"]["name"] for one in choice["allowed_tools"]["tools"]]


def callable_names(tools: Sequence[Tool], choice: Any) -> list[str]:
    """Names of the functions that the answer may call."""
    if choice == "none":
        return []
    named = _named(choice)
    return [one.function.name for one in tools if named is None or one.function.name in named]


def check_choice(tools: Sequence[Tool], choice: Any) -> None:
    """Raise `FieldFault` if tools and choice are inconsistent."""
    names = [one.function.name for one in tools]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise FieldFault(f"tools[{index}].function.name", "is a duplicate")
    # Some clients send `auto` even without tools.
    if not names and choice not in (None, "none", "auto"):
        raise FieldFault("tool_choice", "may only be given with tools")
    for index, named in enumerate(_named(choice) or ()):
        if named not in names:
            is_one = named_function(choice) is not None
            place = "" if is_one else f"allowed_tools.tools[{index}]."
            raise FieldFault(f"tool_choice.{place}function.name", "must be one of the tools")


def call_rule(
    tools: Sequence[Tool],
    choice: Any,
    parallel_tool_calls: bool | None,
    tool_call_format: ToolCallFormat,
    *,
    answer_schema: dict[str, Any] | None = None,
) -> ToolCallConstraint | None:
    """Build the constraint on the answer's calls; None if the model is free. The choice must have been checked.

    With ``answer_schema``, an answer without calls follows that schema.
    """
    names = callable_names(tools, choice)
    functions = tuple(
        CallableFunction(
            name=one.function.name, parameters=one.function.parameters, path=f"tools[{index}].function.parameters"
        )
        for index, one in enumerate(tools)
        if one.function.name in names
    )
    strict = next(
        (index for index, one in enumerate(tools) if one.function.strict and one.function.name in names), None
    )
    is_named = named_function(choice) is not None
    is_required = must_call(choice)
    if is_required:
        source_field = "tool_choice"
    elif parallel_tool_calls is False:
        source_field = "parallel_tool_calls"
    elif strict is not None:
        source_field = f"tools[{strict}].function.strict"
    elif answer_schema is not None:
        source_field = "response_format"
    else:
        return None
    if not functions:
        return None
    return ToolCallConstraint(
        tool_call_format=tool_call_format,
        functions=functions,
        is_required=is_required,
        # A named function is called once, as at OpenAI.
        most_calls=1 if is_named or parallel_tool_calls is False else MOST_CALLS,
        source_field=source_field,
        answer_schema=answer_schema,
    )
