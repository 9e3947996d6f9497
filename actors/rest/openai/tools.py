"""Tools in OpenAI's chat completions: what clients send of them, and what it means to our engine. Pure.

They are there where the loaded model's chat template has them; elsewhere each of their fields is refused by name.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from attrs import Attribute, evolve, field, frozen

from protocol.codec import unstructure
from protocol.validation import FieldFault, length, one_of

__all__ = ["CalledTool", "Tool", "as_templates_know", "turns_of"]

_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


def _function_name(_: object, attribute: Attribute[Any], value: str) -> None:
    """1 to 64 letters, digits, dashes and underscores."""
    if not 1 <= len(value) <= 64 or not _NAME_CHARACTERS.issuperset(value):
        raise FieldFault(attribute.name, "must have 1 to 64 letters, digits, dashes and underscores")


def _json_object(_: object, attribute: Attribute[Any], value: str) -> None:
    try:
        is_object = isinstance(json.loads(value), dict)
    except (ValueError, RecursionError):
        is_object = False
    if not is_object:
        raise FieldFault(attribute.name, "must be the text of a JSON object")


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
    arguments: str = field(validator=_json_object, repr=False)
    parsed_arguments: Any = field(default=None, repr=False)
    """What a client made of these, and sends back with them; nothing depends on it."""


@frozen(kw_only=True)
class CalledTool:
    """A call in a turn of the assistant."""

    id: str = field(validator=length(1, 256, "characters"))
    type: str = field(validator=one_of("function"))
    function: CalledFunction
    index: int | None = None
    """Its place in a streamed answer, which clients send back; the place in the list counts."""


def turns_of(messages: Sequence[Any]) -> list[dict[str, Any]]:
    """Messages as chat templates know them. Raises `FieldFault` for a result of no call before it."""
    turns: list[dict[str, Any]] = []
    called: dict[str, str] = {}
    for index, one in enumerate(messages):
        turn: dict[str, Any] = {"role": "system" if one.role == "developer" else one.role, "content": one.text}
        if one.tool_calls:
            turn["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    # As an object: templates write it as JSON themselves.
                    "function": {"name": call.function.name, "arguments": json.loads(call.function.arguments)},
                }
                for call in one.tool_calls
            ]
            called |= {call.id: call.function.name for call in one.tool_calls}
        if one.role == "tool":
            if one.tool_call_id not in called:
                raise FieldFault(f"messages[{index}].tool_call_id", "must be the id of a call before it")
            turn |= {"tool_call_id": one.tool_call_id, "name": called[one.tool_call_id]}
        turns.append(turn)
    return turns


def as_templates_know(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """The functions, without what was not given, and without `strict`, which is a word to us and not to the model."""
    return [unstructure(evolve(one, function=evolve(one.function, strict=None))) for one in tools]
