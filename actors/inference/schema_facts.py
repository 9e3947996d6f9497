"""Properties of rewritten schemas: the types they allow, and whether they have a finite value. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["ALL_TYPES", "Facts", "type_of", "types_of"]

ALL_TYPES = frozenset({"null", "boolean", "object", "array", "number", "string"})
"""Integers count as numbers."""
_SCALARS = ALL_TYPES - {"object", "array"}


def type_of(value: Any) -> str:
    """JSON type of a value."""
    if value is None:
        return "null"
    kinds = {bool: "boolean", str: "string", list: "array", dict: "object"}
    return kinds.get(type(value), "number")


def types_of(schema: Any, definitions: Mapping[str, Any]) -> frozenset[str]:
    """Types that a rewritten schema allows, possibly more; a self-referential schema may have any."""
    return _types_of(schema, definitions, 0)


def _types_of(schema: Any, definitions: Mapping[str, Any], depth: int) -> frozenset[str]:
    if schema is False:
        return frozenset()
    if not isinstance(schema, dict) or depth > 8:
        return ALL_TYPES
    kinds = schema.get("type", list(ALL_TYPES))
    found = frozenset("number" if one == "integer" else one for one in (kinds if isinstance(kinds, list) else [kinds]))
    if "const" in schema:
        found &= {type_of(schema["const"])}
    if "enum" in schema:
        found &= {type_of(one) for one in schema["enum"]}
    for one in schema.get("allOf", ()):
        found &= _types_of(one, definitions, depth + 1)
    if "anyOf" in schema:
        found &= frozenset().union(*(_types_of(one, definitions, depth + 1) for one in schema["anyOf"]))
    if "$ref" in schema:
        found &= _types_of(definitions.get(_name_in(schema), True), definitions, depth + 1)
    return found


def _name_in(schema: Mapping[str, Any]) -> str:
    return str(schema["$ref"]).rpartition("/")[2]


class Facts:
    """Analyses schemas that refer to these definitions."""

    def __init__(self, definitions: Mapping[str, Any]) -> None:
        self._definitions = definitions
        self._finite: set[str] = set()
        # Finiteness spreads from schemas that are finite by themselves.
        has_grown = True
        while has_grown:
            more = {name for name, one in definitions.items() if name not in self._finite and self.is_finite(one)}
            self._finite |= more
            has_grown = bool(more)

    def is_finite(self, schema: Any) -> bool:
        """True if the schema allows some finite value."""
        if not isinstance(schema, dict):
            return schema is not False
        if not all(self.is_finite(one) for one in schema.get("allOf", ())):
            return False
        if "anyOf" in schema and not any(self.is_finite(one) for one in schema["anyOf"]):
            return False
        if "$ref" in schema and _name_in(schema) not in self._finite:
            return False
        if "const" in schema or "enum" in schema:
            return bool(schema.get("enum", [None]))
        kinds = types_of(schema, self._definitions)
        return bool(
            kinds & _SCALARS
            or ("object" in kinds and self._has_finite_object(schema))
            or ("array" in kinds and self._has_finite_array(schema))
        )

    def _has_finite_object(self, schema: dict[str, Any]) -> bool:
        properties, others = schema.get("properties", {}), schema.get("additionalProperties", True)
        # Patterns may allow properties that are not named.
        otherwise = True if schema.get("patternProperties") else others
        return all(self.is_finite(properties.get(name, otherwise)) for name in schema.get("required", ()))

    def _has_finite_array(self, schema: dict[str, Any]) -> bool:
        least, first = schema.get("minItems", 0), schema.get("prefixItems", [])
        needed = [*first[:least], *([schema.get("items", True)] if least > len(first) else [])]
        return all(self.is_finite(one) for one in needed)

    def finite_part(self, schema: Any) -> Any:
        """The schema without its infinite parts: alternatives, properties and items without a finite value."""
        if not isinstance(schema, dict):
            return schema
        made = dict(schema)
        for name in ("properties", "patternProperties"):
            if name in made:
                made[name] = {key: self._ending(one) for key, one in made[name].items()}
        for name in ("items", "additionalProperties"):
            if name in made:
                made[name] = self._ending(made[name])
        if "prefixItems" in made:
            made["prefixItems"] = [self._ending(one) for one in made["prefixItems"]]
        if "allOf" in made:
            made["allOf"] = [self.finite_part(one) for one in made["allOf"]]
        if "anyOf" in made:
            made["anyOf"] = [self.finite_part(one) for one in made["anyOf"] if self.is_finite(one)]
        return made

    def _ending(self, schema: Any) -> Any:
        return self.finite_part(schema) if self.is_finite(schema) else False
