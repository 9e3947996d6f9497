"""Parses calls whose arguments are marked up one by one, from a complete block. Pure functions.

These formats do not say whether `5` is a number or a string; the function's parameters decide, as in mlx-lm.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from attrs import frozen

from actors.inference.messages import ToolCallFormat
from actors.rest.answer_reading.loose_values import LooseValue, read_arguments

__all__ = ["BlockCall", "Schemas", "is_inside_argument", "read_block"]

Schemas = Mapping[str, Mapping[str, Any] | None]
"""Parameter schemas by function name."""

_NAME = r"(?P<name>[A-Za-z0-9_.-]{1,128})"


@frozen
class BlockCall:
    """A call in a block; ``is_whole`` is False if the text ended in the middle of it."""

    name: str
    arguments: dict[str, Any]
    is_whole: bool


@frozen
class _Marks:
    """Patterns of one format, more lenient than the form in prompts. Repetition is bounded, because texts are
    untrusted.
    """

    call: str
    """Pattern of a call's beginning, up to its arguments."""
    argument: str
    """Pattern of one argument, `key` and `value`."""
    argument_begins: str
    """Text that begins an argument."""
    argument_ends: str
    """Text that ends an argument."""
    call_ends: str
    """Text that ends a call; empty if it ends with the block."""


_READ = {
    ToolCallFormat.QWEN_CODER: _Marks(
        rf"<function=\s*{_NAME}\s*>",
        r"<parameter=\s*(?P<key>[^>\s]{1,256})\s*>\n?(?P<value>.*?)\n?</parameter>",
        "<parameter=", "</parameter>", "</function>",
    ),
    ToolCallFormat.MINIMAX: _Marks(
        rf'<invoke name="{_NAME}"\s*>', r'<parameter name="(?P<key>[^"]{1,256})"\s*>(?P<value>.*?)</parameter>',
        "<parameter ", "</parameter>", "</invoke>",
    ),
    ToolCallFormat.MUSE: _Marks(
        rf'<atem:invoke\b[^>]{{0,256}}?\bname="{_NAME}"\s*>',
        r'<atem:parameter\b[^>]{0,256}?\bname="(?P<key>[^"]{1,256})"[^>]{0,256}?>(?P<value>.*?)</atem:parameter>',
        "<atem:parameter", "</atem:parameter>", "</atem:invoke>",
    ),
    ToolCallFormat.MINICPM: _Marks(
        rf'^{_NAME}"\s*>', r'<param name="(?P<key>[^"]{1,256})"\s*>(?P<value>.*?)</param>', "<param ", "</param>", "",
    ),
    ToolCallFormat.GLM: _Marks(
        rf"^\s*{_NAME}\s*",
        r"<arg_key>(?P<key>[^<]{1,256})</arg_key>\s*<arg_value>(?P<value>.*?)</arg_value>", "<arg_value>", "</arg_value>", "",
    ),
    ToolCallFormat.LONGCAT: _Marks(
        rf"^\s*{_NAME}\s*",
        r"<longcat_arg_key>(?P<key>[^<]{1,256})</longcat_arg_key>\s*<longcat_arg_value>(?P<value>.*?)</longcat_arg_value>",
        "<longcat_arg_value>", "</longcat_arg_value>", "",
    ),
    ToolCallFormat.KIMI_K3: _Marks(
        rf'<\|open\|>call [^<]{{0,256}}?tool="{_NAME}"[^<]{{0,256}}<\|sep\|>',
        r'<\|open\|>argument [^<]{0,256}?key="(?P<key>[^"]{1,256})"(?P<more>[^<]{0,256})<\|sep\|>(?P<value>.*?)<\|close\|>argument<\|sep\|>',
        "<|open|>argument ", "<|close|>argument", "<|close|>call<|sep|>",
    ),
}  # fmt: skip
_PATTERNS = {
    form: (re.compile(marks.call, re.DOTALL), re.compile(marks.argument, re.DOTALL)) for form, marks in _READ.items()
}
_CDATA = re.compile(r"^\s*<!\[CDATA\[(.*?)\]\]>\s*$", re.DOTALL)
_PYTHONIC_NAME = re.compile(rf"\s*{_NAME}\s*\(")
_GEMMA_NAME = re.compile(rf"\s*call:{_NAME}\s*\{{")
_WRITTEN = (ToolCallFormat.PYTHONIC, ToolCallFormat.GEMMA, ToolCallFormat.FUNCTION_GEMMA)


def is_inside_argument(form: ToolCallFormat, block: str) -> bool:
    """True if ``block`` ends inside an argument, where a closing mark is content."""
    marks = _READ.get(form)
    return marks is not None and block.rfind(marks.argument_begins) > block.rfind(marks.argument_ends)


def read_block(form: ToolCallFormat, block: str, schemas: Schemas) -> list[BlockCall] | None:
    """Parse the calls between the marks of ``form``; None if it contains no call, or one calls an unknown function."""
    calls = _written_calls(form, block) if form in _WRITTEN else _marked_calls(form, block, schemas)
    if not calls or any(one.name not in schemas for one in calls):
        return None
    return calls


def _marked_calls(form: ToolCallFormat, block: str, schemas: Schemas) -> list[BlockCall]:
    call, argument = _PATTERNS[form]
    marks = _READ[form]
    found: list[BlockCall] = []
    begins = list(call.finditer(block))
    for place, head in enumerate(begins):
        end = begins[place + 1].start() if place + 1 < len(begins) else len(block)
        body = block[head.end() : end]
        schema = schemas.get(head["name"]) or {}
        arguments = {
            one["key"].strip(): _value(one, schema, trims=form is not ToolCallFormat.QWEN_CODER)
            for one in _arguments(argument, marks.argument_ends, body)
        }
        found.append(BlockCall(head["name"], arguments, is_whole=marks.call_ends in body))
    return found


def _arguments(argument: re.Pattern[str], end: str, body: str) -> Iterator[re.Match[str]]:
    """Yield each argument. Each search ends at the next closing mark, so that no text is scanned twice."""
    at = 0
    while (ends := body.find(end, at)) >= 0:
        piece = body[at : ends + len(end) + len("<|sep|>")]
        if (found := argument.search(piece)) is not None:
            yield found
        at = ends + len(end)


def _value(found: re.Match[str], schema: Mapping[str, Any], *, trims: bool) -> Any:
    text = found["value"]
    properties = schema.get("properties")
    one = properties.get(found["key"].strip()) if isinstance(properties, dict) else None
    one = one if isinstance(one, dict) else {}
    choices = [one["const"]] if "const" in one else one.get("enum")
    if isinstance(choices, list) and text in choices:
        return text
    if (inner := _CDATA.match(text)) is not None:
        text = inner[1]
    elif trims:
        text = text.strip()
    kind = one.get("type")
    more = found.groupdict().get("more") or ""
    if kind == "string" or 'type="string"' in more:
        return text
    try:
        value = json.loads(text)
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return {"True": True, "False": False, "None": None}.get(text.strip(), text)
    return value


def _written_calls(form: ToolCallFormat, block: str) -> list[BlockCall]:
    is_list = form is ToolCallFormat.PYTHONIC
    name, value, ending = (_PYTHONIC_NAME, "=", ")") if is_list else (_GEMMA_NAME, ":", "}")
    text = block.strip().removeprefix("[") if is_list else block
    found: list[BlockCall] = []
    at = 0
    while (head := name.match(text, at)) is not None:
        try:
            arguments, at = read_arguments(text, head.end(), value=value, ending=ending)
        except LooseValue:
            return [*found, BlockCall(head["name"], {}, is_whole=False)]
        found.append(BlockCall(head["name"], arguments, is_whole=True))
        while at < len(text) and text[at] in ", \n\t":
            at += 1
    return found
