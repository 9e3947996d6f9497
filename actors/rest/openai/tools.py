"""Tools in OpenAI's chat completions: what clients send of them, and what it means to our engine. Pure."""

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
    """1 to 64 letters, digits, dashes and underscores."""
    if not 1 <= len(value) <= 64 or not _NAME_CHARACTERS.issuperset(value):
        raise FieldFault(attribute.name, "must have 1 to 64 letters, digits, dashes and underscores")


def _json_object(_: object, attribute: Attribute[Any], value: str) -> None:
    """Text of an object, or what is no JSON at all: an answer that ended too early left it so, and is sent back."""
    try:
        is_other = not isinstance(_read(value), dict)
    except (ValueError, RecursionError):
        is_other = False
    if is_other:
        raise FieldFault(attribute.name, "must be the text of a JSON object")


def _read(text: str) -> Any:
    """The value of a JSON text that a template can write again. Raises `ValueError` or `RecursionError` for any other.

    That leaves out infinities (1e999), half of a surrogate pair (an escape without its other half), and what is
    nested so deep that it can be read and not written.
    """
    value = json.loads(text)
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    if _depth(value) > MAXIMUM_NESTING:
        raise ValueError("nested too deep")
    return value


def _depth(value: Any) -> int:
    """How deep arrays and objects are nested, up to one more than is allowed."""
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
    """JSON Schema of its arguments; the model reads it, and a call that must be made, or is strict, follows it."""
    strict: bool | None = None
    """Whether calls are held to the parameters where the model is free to call or not."""


@frozen(kw_only=True)
class Tool:
    """An entry of `tools`."""

    type: str = field(validator=one_of("function"))
    function: Function


@frozen(kw_only=True)
class CalledFunction:
    """What the assistant wanted called."""

    name: str = field(validator=_function_name)
    arguments: str = field(default="", validator=_json_object, repr=False)
    """JSON of an object; nothing where it takes none, and part of it where the answer that called ended too early."""

    @property
    def value(self) -> Any:
        """The object; what is none stays the text that the model once wrote."""
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
    """Calls as a client sends them back, with the fields that are read: not its own and not those of other servers."""
    return [_only(one, {"id", "type", "function"}, {"name", "arguments"}) for one in calls]


def readable_tools(tools: Any) -> tuple[Any, list[str]]:
    """Tools with the fields that are read, and paths of those that nobody knows."""
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
    """An entry with these fields, and its function with those."""
    if not isinstance(entry, dict):
        return entry
    kept = {name: value for name, value in entry.items() if name in outer and not (name == "type" and value is None)}
    if isinstance(function := kept.get("function"), dict):
        kept["function"] = {name: value for name, value in function.items() if name in inner}
    return kept


def turns_of(messages: Sequence[Any]) -> list[dict[str, Any]]:
    """Messages as chat templates know them. Raises `FieldFault` for a result of no call before it."""
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
                    # As an object: templates write it as JSON themselves.
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
    """The functions, without what was not given, and without `strict`, which is a word to us and not to the model."""
    return [unstructure(evolve(one, function=evolve(one.function, strict=None))) for one in tools]
