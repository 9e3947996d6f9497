"""Turns the schema of a string argument written verbatim, without quotation marks, into a grammar terminal. No I/O.

JSON strings are constrained by the grammar engine's own JSON support. A verbatim string is not JSON, so its schema is
rewritten here as a regular expression in the engine's language (its `docs/syntax.md`), which has intersection and
complement: `oneOf` and `not` are exact.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from actors.inference.schema_errors import BadSchema, NotSupported
from actors.inference.schema_properties import checked_pattern
from actors.inference.schema_references import References

__all__ = ["PATTERNS_OF_FORMATS", "TextArguments", "choices_of", "quoted_pattern"]

ANY = "/(?s:.*)/"
NONE = "(/a/ & /b/)"
MAXIMUM_DEPTH = 16
"""Nesting depth of alternatives; self-referential schemas exceed it."""
MAXIMUM_APART = 16
"""Alternatives that are separated from each other, unless all are constants."""
MAXIMUM_WORK = 2000
"""Schemas visited for one string."""
_UNKNOWN = ("$dynamicRef", "$recursiveRef")
_BEYOND_FORMAT = frozenset({"minLength", "maxLength", "enum", "const"})
"""Combined with these a `format` is ignored, as in JSON answers."""

_HOUR = r"(?:[01][0-9]|2[0-3])"
_TIME = rf"{_HOUR}:[0-5][0-9]:[0-5][0-9](?:\.[0-9]{{1,9}})?(?:Z|[+-]{_HOUR}:[0-5][0-9])"
_LEAP_YEAR = "(?:[12][0-9](?:0[48]|[2468][048]|[13579][26])|(?:1[26]|2[048])00)"
_DATE = (
    "(?:[12][0-9]{3}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    f"|02-(?:0[1-9]|1[0-9]|2[0-8]))|{_LEAP_YEAR}-02-29)"
)
_LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,20}[A-Za-z0-9])?"
_HOST = rf"{_LABEL}(?:\.{_LABEL}){{0,7}}"
_SIGN = "[A-Za-z0-9._~!$&'()*+,;=:@-]"
_PART = f"(?:{_SIGN}|%[0-9A-Fa-f]{{2}})"
_BYTE = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
PATTERNS_OF_FORMATS = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f"{_DATE}T{_TIME}",
    "duration": r"P(?:[0-9]{1,4}W|[0-9]{1,4}D(?:T[0-9]{1,4}H)?|T[0-9]{1,4}(?:H|M|S))",
    "email": rf"[A-Za-z0-9_+-]{{1,32}}(?:\.[A-Za-z0-9_+-]{{1,16}}){{0,3}}@{_HOST}",
    "hostname": _HOST,
    "ipv4": rf"{_BYTE}(?:\.{_BYTE}){{3}}",
    "ipv6": "[0-9a-f]{1,4}(?::[0-9a-f]{1,4}){7}",
    "uuid": "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    "uri": (
        rf"[a-z][a-z0-9+.-]{{1,15}}:(?://{_HOST}(?::[1-9][0-9]{{0,3}})?(?:/{_PART}{{0,96}}){{0,12}}|{_PART}{{1,128}})"
        rf"(?:\?(?:{_PART}|[/?]){{1,256}})?(?:#(?:{_PART}|[/?]){{1,96}})?"
    ),
}
"""Pattern generated for each format that the engine supports: a subset of the format."""


class TextArguments:
    """Terminals for the strings in one function's parameters."""

    def __init__(self, parameters: dict[str, Any]) -> None:
        """``parameters`` is the schema that `$ref` resolves in."""
        self._references = References(parameters)
        self._work_left = 0

    def terminal(self, schema: dict[str, Any], path: str, *, without: Sequence[str], is_trimmed: bool) -> str:
        """Terminal of the strings that the schema at ``path`` allows and that contain none of the marks in ``without``.

        If the parser strips white space (``is_trimmed``), strings neither begin nor end with it unless the schema
        enumerates them. Raises `BadSchema` and `NotSupported`.
        """
        self._work_left = MAXIMUM_WORK
        parts = [self._of(schema, path, 0, is_asserted=True)]
        parts += [f"~/(?s:.*){quoted_pattern(mark)}(?s:.*)/" for mark in without]
        if is_trimmed and choices_of(schema) is None:
            parts.append(r"~/[\s\x1c-\x1f](?s:.*)|(?s:.*)[\s\x1c-\x1f]/")
        return " & ".join(parts)

    def _of(self, schema: Any, path: str, depth: int, *, is_asserted: bool) -> str:
        """With ``is_asserted`` a subset of the strings suffices; a negated schema must be exact."""
        if isinstance(schema, bool):
            return ANY if schema else NONE
        if not isinstance(schema, dict):
            raise BadSchema(f"{path} must be an object, true or false")
        self._work_left -= 1
        if depth > MAXIMUM_DEPTH or self._work_left < 0:
            raise NotSupported(path, "is nested too deeply for a string, or has too many alternatives")
        if unknown := next((one for one in _UNKNOWN if one in schema), None):
            raise NotSupported(f"{path}/{unknown}", "is not supported for a string")

        def of(one: Any, place: str, *, is_asserted: bool = is_asserted) -> str:
            return self._of(one, f"{path}/{place}", depth + 1, is_asserted=is_asserted)

        parts = self._own(schema, path, is_asserted=is_asserted)
        parts += [of(one, f"allOf/{place}") for place, one in enumerate(schema.get("allOf", ()))]
        if "anyOf" in schema:
            parts.append(_or([of(one, f"anyOf/{place}") for place, one in enumerate(schema["anyOf"])]))
        if "oneOf" in schema:
            parts.append(_exactly_one(schema["oneOf"], of, f"{path}/oneOf"))
        if "not" in schema:
            parts.append(f"~({of(schema['not'], 'not', is_asserted=False)})")
        if "if" in schema:
            first = of(schema["if"], "if", is_asserted=False)
            then, otherwise = of(schema.get("then", True), "then"), of(schema.get("else", True), "else")
            parts.append(f"(({first} & {then}) | (~({first}) & {otherwise}))")
        if "$ref" in schema:
            pointer = self._references.pointer_of(schema["$ref"], f"{path}/$ref")
            parts.append(self._of(self._references.at(pointer), pointer, depth + 1, is_asserted=is_asserted))
        return f"({' & '.join(parts)})" if parts else ANY

    def _own(self, schema: dict[str, Any], path: str, *, is_asserted: bool) -> list[str]:
        """Conditions from the schema's own keywords."""
        parts: list[str] = []
        kinds = schema.get("type", "string")
        if "string" not in (kinds if isinstance(kinds, list) else [kinds]):
            parts.append(NONE)
        for name, listed in (("enum", schema.get("enum")), ("const", [schema["const"]] if "const" in schema else None)):
            if listed is None:
                continue
            if not isinstance(listed, list):
                raise BadSchema(f"{path}/{name} must be an array")
            # Quoted without mark tokens: text that looks like a mark is still text.
            parts.append(_or([json.dumps(one) for one in listed if isinstance(one, str)]))
        pattern, form = schema.get("pattern"), schema.get("format")
        if pattern is not None:
            parts.append(_found(checked_pattern(pattern, f"{path}/pattern"), f"{path}/pattern"))
        elif isinstance(form, str) and form in PATTERNS_OF_FORMATS and not _BEYOND_FORMAT & schema.keys():
            if not is_asserted:
                raise NotSupported(f"{path}/format", "is not supported in a negated schema for a string")
            parts.append(f"/{_escaped(PATTERNS_OF_FORMATS[form])}/")
        least, most = schema.get("minLength", 0), schema.get("maxLength")
        if least or most is not None:
            bounds = [_count(least, f"{path}/minLength"), "" if most is None else _count(most, f"{path}/maxLength")]
            parts.append("/(?s:.{" + ",".join(bounds) + "})/")
        return parts


def choices_of(schema: dict[str, Any]) -> list[Any] | None:
    """Values that the schema itself enumerates; None if it does not."""
    listed = [schema["const"]] if "const" in schema else schema.get("enum")
    return listed if isinstance(listed, list) else None


def quoted_pattern(text: str) -> str:
    """Regular expression that matches exactly this text."""
    return "".join(f"\\x{byte:02x}" for byte in text.encode())


def _or(alternatives: list[str]) -> str:
    return f"({' | '.join(alternatives)})" if alternatives else NONE


def _exactly_one(schemas: list[Any], of: Callable[..., str], path: str) -> str:
    """Strings that match exactly one of the schemas."""
    made = [of(one, f"oneOf/{place}") for place, one in enumerate(schemas)]
    if len(made) == 1:
        return made[0]
    if all(isinstance(one, dict) and "const" in one for one in schemas):
        # Of two equal constants neither is allowed.
        return _or([one for one in made if made.count(one) == 1])
    if len(made) > MAXIMUM_APART:
        raise NotSupported(path, "has too many alternatives to separate")
    # The schemas to exclude are built again exactly, because a subset would not suffice.
    whole = [of(one, f"oneOf/{place}", is_asserted=False) for place, one in enumerate(schemas)]
    return _or([f"({one} & ~({_or(whole[:at] + whole[at + 1 :])}))" for at, one in enumerate(made)])


def _count(value: Any, path: str) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0 or value != int(value):
        raise BadSchema(f"{path} must be a whole number, 0 or more")
    return str(int(value))


def _found(pattern: str, path: str) -> str:
    """Strings that contain a match of a JSON Schema pattern. Raises `NotSupported` if it has an anchor in the middle."""
    alternatives = []
    for one in _alternatives(pattern):
        body = one.removeprefix("^")
        before = "" if body != one else "(?s:.*)"
        ends = body.endswith("$") and not _is_escaped(body, len(body) - 1)
        behind, body = ("", body[:-1]) if ends else ("(?s:.*)", body)
        if _has_anchor(body):
            raise NotSupported(path, "has ^, $ or \\b in the middle, which is not supported for a string")
        alternatives.append(f"{before}(?:{_escaped(body)}){behind}")
    return f"/{'|'.join(alternatives)}/"


def _is_escaped(text: str, at: int) -> bool:
    return (at - len(text[:at].rstrip("\\"))) % 2 == 1


def _alternatives(pattern: str) -> list[str]:
    """Splits a pattern at each `|` outside groups and character classes."""
    parts, depth, in_class, at, begun = [], 0, False, 0, 0
    while at < len(pattern):
        character = pattern[at]
        if character == "\\":
            at += 1
        elif in_class:
            in_class = character != "]"
        elif character == "[":
            in_class = True
        elif character in "()":
            depth += 1 if character == "(" else -1
        elif character == "|" and depth == 0:
            parts.append(pattern[begun:at])
            begun = at + 1
        at += 1
    return [*parts, pattern[begun:]]


def _has_anchor(pattern: str) -> bool:
    at, in_class = 0, False
    while at < len(pattern):
        character = pattern[at]
        if character == "\\":
            if not in_class and pattern[at + 1 : at + 2] in tuple("bBAzZ"):
                return True
            at += 1
        elif in_class:
            in_class = character != "]"
        elif character == "[":
            in_class = True
        elif character in "^$":
            return True
        at += 1
    return False


def _escaped(pattern: str) -> str:
    """Escapes a pattern for use between slashes on one line."""
    made, at = [], 0
    while at < len(pattern):
        character = pattern[at]
        if character == "\\" and at + 1 < len(pattern):
            at += 1
            made.append("\\" + pattern[at])
        elif character == "/":
            made.append("\\/")
        else:
            made.append({"\n": "\\n", "\r": "\\r"}.get(character, character))
        at += 1
    return "".join(made)
