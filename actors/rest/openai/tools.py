"""Tools in OpenAI's chat completions: parsing, and conversion to the form of chat templates. Pure functions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from attrs import Attribute, evolve, field, frozen

from protocol.codec import unstructure
from protocol.json_text import MAXIMUM_NESTING
from protocol.validation import FieldFault, length, one_of

__all__ = [
    "CalledFunction",
    "CalledTool",
    "Function",
    "Tool",
    "as_templates_know",
    "readable_calls",
    "readable_tools",
    "turns_of",
]

_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


def _function_name(_: object, attribute: Attribute[Any], value: str) -> None:
    """Check for 1 to 64 letters, digits, dashes and underscores."""
    if not 1 <= len(value) <= 64 or not _NAME_CHARACTERS.issuperset(value):
        raise FieldFault(attribute.name, "must have 1 to 64 letters, digits, dashes and underscores")


def _json_object(_: object, attribute: Attribute[Any], value: str) -> None:
    """Accept the text of a JSON object, or invalid JSON, which a truncated answer contains when it is sent back."""
    try:
        is_other = not isinstance(_read(value), dict)
    except (ValueError, RecursionError):
        is_other = False
    if is_other:
        raise FieldFault(attribute.name, "must be the text of a JSON object")


def _read(text: str) -> Any:
    """Parse JSON that a template can serialize again. Raises `ValueError` or `RecursionError` otherwise.

    This excludes infinities (1e999), lone surrogates, and nesting so deep that it can be parsed but not serialized.
    """
    value = json.loads(text)
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    if _depth(value) > MAXIMUM_NESTING:
        raise ValueError("nested too deep")
    return value


def _depth(value: Any) -> int:
    """Nesting depth of arrays and objects, counted up to one more than the limit."""
    depth, below = 0, [value]
    while depth <= MAXIMUM_NESTING and (containers := [one for one in below if isinstance(one, (dict, list))]):
        depth += 1
        below = [inner for one in containers for inner in (one.values() if isinstance(one, dict) else one)]
    return depth


@frozen(kw_only=True)
class Function:
    """A function that the model may call."""

    name: str = field(validator=_function_name)
    description: str | None = None
    parameters: dict[str, Any] | None = None
    """JSON Schema of its arguments. The model reads it; it is enforced if a call is required or the function is
    strict.
    """
    strict: bool | None = None
    """Enforce the parameters even if the model is free to call or not."""


@frozen(kw_only=True)
class Tool:
    """An entry of `tools`."""

    type: str = field(validator=one_of("function"))
    function: Function


@frozen(kw_only=True)
class CalledFunction:
    """The function and arguments of a call by the assistant."""

    name: str = field(validator=_function_name)
    arguments: str = field(default="", validator=_json_object, repr=False)
    """JSON text of an object; empty if there are no arguments, truncated if the answer was."""

    @property
    def value(self) -> Any:
        """The parsed object, or the model's text if it is not one."""
        try:
            value = _read(self.arguments) if self.arguments.strip() else {}
        except (ValueError, RecursionError):
            return self.arguments
        return value if isinstance(value, dict) else self.arguments


@frozen(kw_only=True)
class CalledTool:
    """A call in a turn of the assistant."""

    id: str = field(validator=length(1, 256, "characters"))
    type: str = field(default="function", validator=one_of("function"))
    function: CalledFunction


def readable_calls(calls: list[Any]) -> list[Any]:
    """Keep the known fields of calls that a client sends back."""
    return [_only(one, {"id", "type", "function"}, {"name", "arguments"}) for one in calls]


def readable_tools(tools: Any) -> tuple[Any, list[str]]:
    """Keep the known fields of tools, and return the paths of unknown ones."""
    if not isinstance(tools, list):
        return tools, []
    outer, inner = {"type", "function"}, {"name", "description", "parameters", "strict"}
    ignored: dict[str, None] = {}
    for one in tools:
        if isinstance(one, dict):
            ignored |= {f"tools[].{name}": None for name in one.keys() - outer}
            if isinstance(function := one.get("function"), dict):
                ignored |= {f"tools[].function.{name}": None for name in function.keys() - inner}
    return [_only(one, outer, inner) for one in tools], sorted(ignored)


def _only(entry: Any, outer: set[str], inner: set[str]) -> Any:
    """Keep the given fields of an entry and of its function."""
    if not isinstance(entry, dict):
        return entry
    kept = {name: value for name, value in entry.items() if name in outer and not (name == "type" and value is None)}
    if isinstance(function := kept.get("function"), dict):
        kept["function"] = {name: value for name, value in function.items() if name in inner}
    return kept


def turns_of(messages: Sequence[Any]) -> list[dict[str, Any]]:
    """Convert messages to the turns of chat templates. Raises `FieldFault` for a result without a preceding call."""
    turns: list[dict[str, Any]] = []
    called: dict[str, str] = {}
    for index, one in enumerate(messages):
        turn: dict[str, Any] = {"role": "system" if one.role == "developer" else one.role, "content": one.text}
        if one.name is not None:
            turn["name"] = one.name
        if one.calls:
            turn["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    # An object, because templates serialize it themselves.
                    "function": {"name": call.function.name, "arguments": call.function.value},
                }
                for call in one.calls
            ]
            called |= {call.id: call.function.name for call in one.calls}
        if one.role == "tool":
            if one.tool_call_id not in called:
                raise FieldFault(f"messages[{index}].tool_call_id", "must be the id of a call before it")
            turn |= {"tool_call_id": one.tool_call_id, "name": called[one.tool_call_id]}
        if one.role == "function":
            if (call_id := f"call_{one.name}") not in called:
                raise FieldFault(f"messages[{index}].name", "must be the function of a function_call before it")
            turn |= {"role": "tool", "tool_call_id": call_id}
        turns.append(turn)
    return turns


def as_templates_know(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """Convert functions to the form of chat templates, without unset fields and without `strict`, which concerns only
    the server.
    """
    return [unstructure(evolve(one, function=evolve(one.function, strict=None))) for one in tools]
