"""A labelled set: questions, and what a right answer has. Pure."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

from attrs import Attribute, field, frozen

from protocol.codec import structure
from protocol.errors import ProtocolFault
from protocol.validation import FieldFault, length

__all__ = ["BadSet", "Check", "Item", "parse_set"]

_BLOCK = re.compile(r"^ {0,3}```[^\n]*\n(.*?)(?:^ {0,3}```|\Z)", re.MULTILINE | re.DOTALL)


class BadSet(ValueError):
    """A line of a set is wrong; the text says which and how."""


def _compiles(_: object, attribute: Attribute[Any], value: str | None) -> None:
    try:
        re.compile(value or "")
    except re.error as error:
        raise FieldFault(attribute.name, f"is no regular expression: {error}") from None


@frozen(kw_only=True)
class Check:
    """Condition of a correct answer; exactly one field is set."""

    contains: str | None = field(default=None, validator=length(1, 1000, "characters"))
    """This text, in upper or lower case."""
    regex: str | None = field(default=None, validator=[length(1, 1000, "characters"), _compiles])
    """Something that Python's `re.search` finds, in upper or lower case."""
    python_parses: bool | None = None
    """True: its first code block, or the whole answer without one, must parse as Python."""

    def __attrs_post_init__(self) -> None:
        given = [self.contains is not None, self.regex is not None, self.python_parses is not None]
        if sum(given) != 1 or self.python_parses is False:
            raise FieldFault("contains", "or regex or python_parses (true) must be given, and one alone")

    def is_right(self, answer: str) -> bool:
        """Return whether the answer passes."""
        if self.contains is not None:
            return self.contains.casefold() in answer.casefold()
        if self.regex is not None:
            return re.search(self.regex, answer, re.IGNORECASE) is not None
        block = _BLOCK.search(answer)
        code = answer if block is None else block[1]
        try:
            return bool(ast.parse(code).body)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return False


@frozen(kw_only=True)
class Item:
    """A line of a set."""

    prompt: str = field(validator=length(1, 8000, "characters"))
    check: Check


def parse_set(text: str) -> list[Item]:
    """The items of a JSONL file; empty lines are passed over. Raises `BadSet`."""
    items: list[Item] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            content = json.loads(line)
            if not isinstance(content, dict):
                raise BadSet(f"line {number} is not a JSON object")
            items.append(structure(content, Item, prefix="item"))
        except ProtocolFault as fault:
            raise BadSet(f"line {number}: {fault}") from None
        except json.JSONDecodeError as error:
            raise BadSet(f"line {number} is not JSON: {error}") from None
    return items
