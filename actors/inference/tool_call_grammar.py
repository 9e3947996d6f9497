"""Calls of tools as a grammar: the text of an answer that calls functions in the form of one model. Pure.

The grammar is in llguidance's own language (its `docs/syntax.md`). Each function's parameters are a document of
their own in it, so that a `$ref` finds the definitions beside it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from actors.inference.json_schema import prepared_schema
from actors.inference.tools import CallableFunction, ToolCallConstraint, ToolCallFormat

__all__ = ["COMPACT", "NotAnObject", "arguments_schema", "call_grammar"]

SPACED = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""As templates write past calls, which is what models learned: one space behind comma and colon and no other."""
COMPACT: Any = {"whitespace_flexible": False}
"""No white space between JSON tokens: a model that is allowed some may emit it for ever."""
_ONLY_PROPERTIES = frozenset(
    {"type", "properties", "required", "title", "description", "$schema", "$defs", "definitions", "examples", "default"}
)


class NotAnObject(ValueError):
    """Arguments are always an object, and these parameters describe something else."""


def call_grammar(rule: ToolCallConstraint, mark: Callable[[str], str]) -> str:
    """The answer as a grammar; ``mark`` gives a mark's terminal, a quoted text or a token. Raises `NotAnObject` or `BadSchema`."""
    form = rule.tool_call_format
    opening, closing = mark(form.opening), mark(form.closing)
    more = rule.most_calls - 1
    if form is ToolCallFormat.TAGGED:
        inside = f'"\\n"? call "\\n"? {closing}'
        calls = inside + (f' ("\\n"? {opening} {inside}){{0,{more}}} "\\n"?' if more else "")
    else:
        others = f' (", " call){{0,{more}}}' if more else ""
        calls = f'"[" call{others} "]" {closing}?'
    lines = [*_start(rule, opening), f"calls: {calls}"]
    lines.append("call: " + " | ".join(f"call_{number}" for number in range(len(rule.functions))))
    for number, function in enumerate(rule.functions):
        head = json.dumps(f'{{"name": {json.dumps(function.name)}, "arguments": ')
        lines.append(f'call_{number}: {head} arguments_{number} "}}"')
        schema = {**prepared_schema(arguments_schema(function)).schema, "x-guidance": SPACED}
        lines.append(f"arguments_{number}: %json {json.dumps(schema)}")
    return "\n".join(lines) + "\n"


def arguments_schema(function: CallableFunction) -> dict[str, Any]:
    """What a function's arguments are held to: an object that its parameters allow. Raises `NotAnObject`.

    Where the parameters are a plain list of properties, the object has no others: JSON Schema would allow any, and a
    model that is allowed to make names up does.
    """
    given = {"properties": {}} if function.parameters is None else function.parameters
    kind = given.get("type", "object")
    if "object" not in (kind if isinstance(kind, list) else [kind]):
        raise NotAnObject('must describe an object: its type must be "object"')
    schema = {**given, "type": "object"}
    names, required = given.get("properties"), given.get("required", [])
    if not _ONLY_PROPERTIES.issuperset(given) or not isinstance(names, dict) or not isinstance(required, list):
        return schema
    if all(one in names for one in required if isinstance(one, str)):
        schema["additionalProperties"] = False
    return schema


def _start(rule: ToolCallConstraint, opening: str) -> list[str]:
    if rule.is_required:
        return [f"start: {opening} calls"]
    if rule.answer_schema is not None:
        schema = json.dumps({**prepared_schema(rule.answer_schema).schema, "x-guidance": COMPACT})
        return [f"start: {opening} calls | answer", f"answer: %json {schema}"]
    if not opening.startswith('"'):
        # A token of its own is no text, so text ends before it.
        return [f"start: TEXT? ({opening} calls)?", "TEXT: /(?s:.*)/"]
    text = "".join(f"\\x{byte:02x}" for byte in rule.tool_call_format.opening.encode())
    return ["start: TEXT | text_before calls", "TEXT: /(?s:.*)/", f"text_before[lazy]: /(?s:.*){text}/"]
