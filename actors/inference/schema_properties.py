"""Names and number of an object's properties, rewritten in terms that the grammar engine supports. Pure functions."""

from __future__ import annotations

import re
from typing import Any

from actors.inference.schema_errors import BadSchema, NotSupported

__all__ = ["checked_pattern", "counted", "named", "pointer_part"]

_LOOKAROUND = re.compile(r"(?<!\\)(?:\\\\)*\(\?(?:[=!]|<[=!])")
_BACKREFERENCE = re.compile(r"(?<!\\)(?:\\\\)*\\(?:[1-9]|k<)")
_SAY_NOTHING = frozenset({"type", "description", "title", "$comment"})
_RULES_OF_NAMES = _SAY_NOTHING | {"pattern", "enum", "const", "minLength", "maxLength", "format"}


def named(names: Any, made: dict[str, Any], required: list[Any], path: str) -> dict[str, Any]:
    """Turns `propertyNames` into properties and patterns, combined with those of ``made``. Raises `NotSupported`."""
    if names is True or (isinstance(names, dict) and not names.keys() - _SAY_NOTHING):
        return {}
    if not isinstance(names, dict) or names.keys() - _RULES_OF_NAMES:
        raise NotSupported(path, "with such keywords is not supported")
    if made.get("patternProperties"):
        raise NotSupported(path, "together with patternProperties is not supported")
    properties, others = made.get("properties", {}), made.get("additionalProperties", True)
    unfit = [one for one in (*properties, *required) if not _is_name(one, names)]
    if set(unfit) & set(required):
        raise NotSupported(path, f"forbids the required property {unfit[0]!r}")
    kept = {name: one if name not in unfit else False for name, one in properties.items()}
    listed = names.get("enum", [names["const"]] if "const" in names else None)
    if listed is not None:
        more = {one: others for one in listed if isinstance(one, str) and one not in kept and _is_name(one, names)}
        return {"properties": {**kept, **more}, "additionalProperties": False}
    pattern = checked_pattern(names["pattern"], f"{path}/pattern") if "pattern" in names else None
    if "minLength" in names or "maxLength" in names:
        if pattern is not None:
            raise NotSupported(path, "with both a pattern and a length is not supported")
        pattern = f"^[^\\n]{{{names.get('minLength', 0)},{names.get('maxLength', '')}}}$"
    if pattern is None:
        return {}
    return {"properties": kept, "patternProperties": {pattern: others}, "additionalProperties": False}


def counted(schema: dict[str, Any], made: dict[str, Any]) -> dict[str, Any]:
    """Turns property counts into lists of required and forbidden properties, because the engine counts properties of
    maps only."""
    least, most = schema.get("minProperties", 0), schema.get("maxProperties")
    properties, required = dict(made.get("properties", {})), list(schema.get("required", []))
    optional = [name for name, one in properties.items() if name not in required and one is not False]
    if not optional or not isinstance(least, int) or not (most is None or isinstance(most, int)):
        return {}
    missing = max(0, least - len(required))
    room = len(optional) if most is None else max(0, most - len(required))
    kept = optional[: max(room, 0)]
    rules: dict[str, Any] = {"minProperties": 0}
    if missing:
        rules["required"] = [*required, *kept[:missing]]
        rules["minProperties"] = least if missing > len(kept) else 0
    if most is not None:
        rules["maxProperties"] = most
        rules["properties"] = {
            name: one if name in required or name in kept else False for name, one in properties.items()
        }
        if len(required) + len(kept) <= most and kept:
            # The engine does not count optional properties; those named are few enough.
            rules["additionalProperties"] = False
            rules["maxProperties"] = None
            rules.pop("patternProperties", None)
    return rules


def checked_pattern(pattern: Any, path: str) -> str:
    """Returns the pattern if the engine supports it. Raises `BadSchema` and `NotSupported`."""
    if not isinstance(pattern, str):
        raise BadSchema(f"{path} must be a string")
    if _LOOKAROUND.search(pattern):
        raise NotSupported(path, "uses lookahead or lookbehind, which is not supported")
    if _BACKREFERENCE.search(pattern):
        raise NotSupported(path, "uses a backreference, which is not supported")
    return pattern


def pointer_part(name: str) -> str:
    """Escapes a name for a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")


def _is_name(name: str, rules: dict[str, Any]) -> bool:
    try:
        fits = re.search(str(rules.get("pattern", "")), name) is not None
    except re.error:
        return False
    fits &= rules.get("minLength", 0) <= len(name) <= rules.get("maxLength", len(name))
    return fits and name in rules.get("enum", [name]) and name == rules.get("const", name)
