"""Separates the alternatives of `oneOf`: finds additional conditions on one, so that no other matches its values. No
I/O.

It works on the client's own schemas and relies only on the keywords that it understands. Others may allow anything, so
two alternatives count as disjoint only if that is certain.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from actors.inference.schema_facts import ALL_TYPES, type_of
from actors.inference.schema_references import References

__all__ = ["Apart"]

DEPTH = 5
MAXIMUM_WORK = 100_000
"""Schemas visited per top-level schema: a quarter of a second."""
Conjuncts = tuple[Any, ...]
"""Schemas that all apply to one value; False matches none."""


class Apart:
    """Separates one schema's alternatives. Those that would take too long are not separated."""

    def __init__(self, references: References) -> None:
        self._references = references
        self._work_left = MAXIMUM_WORK

    @property
    def is_exhausted(self) -> bool:
        """True if it gave up, so that alternatives reported as overlapping may in fact be disjoint."""
        return self._work_left < 0

    def exclusions(self, base: Any, own: Any, others: Iterable[Any]) -> list[dict[str, Any]] | None:
        """Conditions that ``own`` must also meet, given ``base``, so that no other matches; None if no condition
        suffices."""
        more: list[dict[str, Any]] = []
        others = list(others)
        if self._are_constants([own, *others]):
            return more
        for other in others:
            mine, theirs = self._all(base, own, *more), self._all(base, other)
            if self.are_apart(mine, theirs):
                continue
            excluding = self._excluding(mine, self._all(other))
            if excluding is None:
                return None
            more.append(excluding)
        return more

    def _are_constants(self, schemas: list[Any]) -> bool:
        """True if all enumerate disjoint sets of strings, a fast path for long lists of names."""
        seen: set[str] = set()
        for one in schemas:
            values = _values([one]) if isinstance(one, dict) else None
            if values is None or not all(isinstance(value, str) for value in values) or not seen.isdisjoint(values):
                return False
            seen.update(values)
        return True

    def _excluding(self, mine: Conjuncts, theirs: Conjuncts) -> dict[str, Any] | None:
        mine_required = _required(mine)
        for name in _required(theirs):
            if name not in mine_required:
                return {"type": "object", "properties": {name: False}}
        left = _types(mine) - _types(theirs)
        return {"type": sorted(left)} if left else None

    def _all(self, *schemas: Any) -> Conjuncts:
        if any(one is False for one in schemas):
            return (False,)
        found = [one for schema in schemas for one in self._references.conjuncts(schema)]
        if any(inner is False for one in found for inner in one.get("allOf") or ()):
            return (False,)
        return tuple(found)

    def are_apart(self, first: Conjuncts, second: Conjuncts, depth: int = DEPTH) -> bool:
        """True if it is certain that no value matches both."""
        self._work_left -= len(first) + len(second)
        if False in first or False in second:
            return True
        if depth == 0 or self._work_left < 0:
            return False
        both = _types(first) & _types(second)
        if not both:
            return True
        for mine, theirs in ((first, second), (second, first)):
            values = _values(mine)
            if values is not None and not any(self._may_fit(theirs, one, depth) for one in values):
                return True
        if both == {"object"} and self._objects_apart(first, second, depth):
            return True
        for mine, theirs in ((first, second), (second, first)):
            if self._all_alternatives_apart(mine, theirs, depth):
                return True
        if both == {"number"}:
            return _bounds_apart(first, second, "minimum", "maximum") or _bounds_apart(
                second, first, "minimum", "maximum"
            )
        if both == {"array"}:
            return _bounds_apart(first, second, "minItems", "maxItems") or _bounds_apart(
                second, first, "minItems", "maxItems"
            )
        if both == {"string"}:
            return _bounds_apart(first, second, "minLength", "maxLength") or _bounds_apart(
                second, first, "minLength", "maxLength"
            )
        return False

    def _all_alternatives_apart(self, mine: Conjuncts, theirs: Conjuncts, depth: int) -> bool:
        for place, one in enumerate(mine):
            for name in ("anyOf", "oneOf"):
                listed = one.get(name)
                if not isinstance(listed, list) or not listed:
                    continue
                rest = (*mine[:place], {key: value for key, value in one.items() if key != name}, *mine[place + 1 :])
                if all(self._is_branch_apart(rest, branch, theirs, depth - 1) for branch in listed):
                    return True
        return False

    def _is_branch_apart(self, rest: Conjuncts, branch: Any, theirs: Conjuncts, depth: int) -> bool:
        if self._work_left < 0:
            return False
        more = self._all(branch)
        return False in more or self.are_apart((*rest, *more), theirs, depth)

    def _objects_apart(self, first: Conjuncts, second: Conjuncts, depth: int) -> bool:
        names = [*_required(first), *_required(second)]
        return any(
            self.are_apart(self._property(first, name), self._property(second, name), depth - 1)
            for name in dict.fromkeys(names)
        )

    def _property(self, schemas: Conjuncts, name: str) -> Conjuncts:
        found: list[Any] = []
        for one in schemas:
            properties = one.get("properties")
            if isinstance(properties, dict) and name in properties:
                found.append(properties[name])
            elif one.get("additionalProperties") is False and not one.get("patternProperties"):
                found.append(False)
        return self._all(*found)

    def _may_fit(self, schemas: Conjuncts, value: Any, depth: int) -> bool:
        self._work_left -= 1
        if depth == 0 or self._work_left < 0:
            return True
        return all(self._may_fit_one(one, value, depth) for one in schemas)

    def _may_fit_one(self, schema: Any, value: Any, depth: int) -> bool:
        if schema is False:
            return False
        kind = type_of(value)
        if kind not in _types((schema,)):
            return False
        if "const" in schema and not _is_same(schema["const"], value):
            return False
        if isinstance(schema.get("enum"), list) and not any(_is_same(one, value) for one in schema["enum"]):
            return False
        for name in ("anyOf", "oneOf"):
            listed = schema.get(name)
            if isinstance(listed, list) and not any(self._may_fit(self._all(one), value, depth - 1) for one in listed):
                return False
        if kind == "string":
            return _text_may_fit(schema, value)
        if kind == "object":
            required = schema.get("required")
            if isinstance(required, list) and any(name not in value for name in required):
                return False
            return all(self._may_fit(self._property((schema,), name), one, depth - 1) for name, one in value.items())
        return True


def _types(schemas: Sequence[Any]) -> frozenset[str]:
    found = ALL_TYPES
    for one in schemas:
        kinds = one.get("type")
        if kinds is not None:
            found &= {
                "number" if kind == "integer" else kind for kind in (kinds if isinstance(kinds, list) else [kinds])
            }
        if "const" in one:
            found &= {type_of(one["const"])}
        if isinstance(one.get("enum"), list):
            found &= {type_of(value) for value in one["enum"]}
        for name in ("anyOf", "oneOf"):
            listed = one.get(name)
            if isinstance(listed, list) and all(isinstance(inner, dict) and "type" in inner for inner in listed):
                found &= frozenset().union(*(_types((inner,)) for inner in listed))
    return found


def _values(schemas: Sequence[Any]) -> list[Any] | None:
    """All possible values, if they are enumerated."""
    for one in schemas:
        if "const" in one:
            return [one["const"]]
        if isinstance(one.get("enum"), list):
            return list(one["enum"])
    return None


def _required(schemas: Sequence[Any]) -> list[str]:
    return [name for one in schemas for name in one.get("required") or () if isinstance(name, str)]


def _is_same(first: Any, second: Any) -> bool:
    """Equality in JSON: 1 equals 1.0, and true is not a number."""
    return type_of(first) == type_of(second) and bool(first == second)


def _text_may_fit(schema: dict[str, Any], value: str) -> bool:
    if not _at_least(schema.get("minLength", 0), len(value)) or not _at_least(
        len(value), schema.get("maxLength", len(value))
    ):
        return False
    pattern = schema.get("pattern")
    # Pattern dialects differ only beyond ASCII and in the meaning of these characters.
    if (
        not isinstance(pattern, str)
        or not pattern.isascii()
        or "\\" in pattern
        or "(?" in pattern
        or "$" in pattern[:-1]
    ):
        return True
    try:
        return len(value) > 1000 or re.search(pattern, value) is not None
    except re.error:
        return True


def _at_least(low: Any, high: Any) -> bool:
    return not isinstance(low, (int, float)) or not isinstance(high, (int, float)) or low <= high


def _bounds_apart(first: Sequence[Any], second: Sequence[Any], least: str, most: str) -> bool:
    lows = [one[least] for one in first if isinstance(one.get(least), (int, float))]
    highs = [one[most] for one in second if isinstance(one.get(most), (int, float))]
    return any(low > high for low in lows for high in highs)
