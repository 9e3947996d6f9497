"""Finds the differences between two schema documents that break clients written for the older one.

Fields may be added; a removal or a change of meaning requires a higher version. A client sends what the old
document allows and reads what it promised, so commands may only become more permissive and the server's messages only stricter.
"""

from __future__ import annotations

from typing import Any

__all__ = ["breaking_changes"]

LOWER_BOUNDS = ("minimum", "minLength", "minItems", "minProperties")
UPPER_BOUNDS = ("maximum", "maxLength", "maxItems", "maxProperties", "x-maximum-bytes")


def breaking_changes(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Describes each breaking change, naming the message and the field's path; none if the newer document has a higher version."""
    if new["version"] > old["version"]:
        return []
    problems: list[str] = []
    for name, schema in old["$defs"].items():
        if not name.startswith(("command.", "message.")):
            continue
        if name not in new["$defs"]:
            problems.append(f"{name} was removed")
            continue
        comparison = _Comparison(old["$defs"], new["$defs"], is_command=name.startswith("command."))
        comparison.compare(schema, new["$defs"][name], name)
        problems += comparison.problems
    return problems


class _Comparison:
    def __init__(self, old: dict[str, Any], new: dict[str, Any], *, is_command: bool) -> None:
        self._old = old
        self._new = new
        self._is_command = is_command
        self._seen: set[tuple[str, str]] = set()
        self.problems: list[str] = []

    def compare(self, old: dict[str, Any], new: dict[str, Any], path: str) -> None:
        """Collects the changes at ``path`` and below it."""
        references = (old.get("$ref", ""), new.get("$ref", ""))
        if references in self._seen and references != ("", ""):
            return
        self._seen.add(references)
        old, new = _resolved(old, self._old), _resolved(new, self._new)
        old_types, new_types = _kinds(old), _kinds(new)
        if self._is_narrower(old_types, new_types):
            self.problems.append(f"{path}: type {_said(old_types)} became {_said(new_types)}")
            return
        self._compare_values(old, new, path)
        self._compare_fields(old, new, path)
        for word in ("items", "additionalProperties", "x-result"):
            if isinstance(old.get(word), dict) and isinstance(new.get(word), dict):
                self.compare(old[word], new[word], f"{path}[]")
        old_parts, new_parts = old.get("anyOf", []), new.get("anyOf", [])
        for one in old_parts:
            matching = [
                part for part in new_parts if part.get("$ref") == one.get("$ref") and _kinds(part) == _kinds(one)
            ]
            if matching:
                self.compare(one, matching[0], path)
            elif self._is_command or not new_parts:
                self.problems.append(f"{path}: {one.get('$ref', one.get('type'))} is no longer possible")

    def _is_narrower(self, old: frozenset[str], new: frozenset[str]) -> bool:
        """True for a type change that breaks: a command must accept what it accepted; a message must not send new types."""
        if not old:
            # Anything was allowed: a command must keep accepting it, a message may become more specific.
            return self._is_command and bool(new)
        if not new:
            return not self._is_command
        return not (old <= new if self._is_command else new <= old)

    def _compare_values(self, old: dict[str, Any], new: dict[str, Any], path: str) -> None:
        if old.get("const") != new.get("const"):
            self.problems.append(f"{path}: {old.get('const')!r} became {new.get('const')!r}")
        missing = [one for one in old.get("enum", []) if one not in new.get("enum", old.get("enum", []))]
        if missing:
            self.problems.append(f"{path}: {', '.join(map(str, missing))} is no longer possible")
        if not self._is_command:
            return
        if "enum" in new and "enum" not in old:
            self.problems.append(f"{path}: only some values are allowed now")
        if new.get("pattern") not in (None, old.get("pattern")):
            self.problems.append(f"{path}: the pattern changed")
        for word in LOWER_BOUNDS:
            if word in new and new[word] > old.get(word, float("-inf")):
                self.problems.append(f"{path}: {word} rose to {new[word]}")
        for word in UPPER_BOUNDS:
            if word in new and new[word] < old.get(word, float("inf")):
                self.problems.append(f"{path}: {word} fell to {new[word]}")

    def _compare_fields(self, old: dict[str, Any], new: dict[str, Any], path: str) -> None:
        old_fields, new_fields = old.get("properties", {}), new.get("properties", {})
        for name, schema in old_fields.items():
            if name not in new_fields:
                self.problems.append(f"{path}.{name} was removed")
            else:
                self.compare(schema, new_fields[name], f"{path}.{name}")
        old_required, new_required = set(old.get("required", ())), set(new.get("required", ()))
        if self._is_command:
            self.problems += [f"{path}.{name} is required now" for name in sorted(new_required - old_required)]
        else:
            lost = (old_required - new_required) & set(new_fields)
            self.problems += [f"{path}.{name} may be missing now" for name in sorted(lost)]


def _resolved(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    reference = schema.get("$ref")
    if reference is None:
        return schema
    return {**definitions[reference.removeprefix("#/$defs/")], **{k: v for k, v in schema.items() if k != "$ref"}}


def _kinds(schema: dict[str, Any]) -> frozenset[str]:
    kinds = schema.get("type", [])
    found = frozenset([kinds] if isinstance(kinds, str) else kinds)
    # A schema that accepts numbers accepts integers.
    return found | {"integer"} if "number" in found else found


def _said(kinds: frozenset[str]) -> str:
    return " or ".join(sorted(kinds)) or "anything"
