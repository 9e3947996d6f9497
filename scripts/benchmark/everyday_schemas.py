"""Schemas such as people send: of Pydantic, zod, OpenAPI, tools, forms and configuration files, written for this project."""

from __future__ import annotations

from typing import Any

__all__ = ["FOLLOWED", "REFUSED"]

_TEXT = {"type": "string", "maxLength": 12}
_COUNT = {"type": "integer", "minimum": 0, "maximum": 99}


def _object(*required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


def _closed(*required: str, **properties: Any) -> dict[str, Any]:
    return {**_object(*required, **properties), "additionalProperties": False}


FOLLOWED: dict[str, Any] = {
    "free object": {"type": "object"},
    "anything": {},
    "map of numbers": {"type": "object", "additionalProperties": {"type": "number"}, "minProperties": 3},
    "map beside properties": {**_object("a", a=_COUNT), "additionalProperties": _TEXT},
    "map by pattern": {"type": "object", "patternProperties": {"^[a-c]$": _COUNT}, "additionalProperties": False},
    "map by pattern, all used up": {
        "type": "object",
        "patternProperties": {"^(on|off|[0-9]+)$": {"type": "boolean"}},
        "additionalProperties": False,
        "minProperties": 4,
    },
    "names by pattern": {"type": "object", "additionalProperties": _TEXT, "propertyNames": {"pattern": "^[a-z]+$"}},
    "names from a list": {"type": "object", "additionalProperties": _COUNT, "propertyNames": {"enum": ["x", "y"]}},
    "names of some length": {"type": "object", "propertyNames": {"minLength": 2, "maxLength": 3}, "minProperties": 3},
    "top-level integer": {"type": "integer"},
    "top-level number": {"type": "number"},
    "numbers": {"type": "array", "items": {"type": "number"}, "minItems": 3},
    "draft 4": {
        "$schema": "http://json-schema.org/draft-04/schema#",
        "id": "http://example.org/it.json",
        "definitions": {"positive": {"type": "integer", "minimum": 0, "exclusiveMinimum": True, "maximum": 9}},
        **_closed("a", a={"$ref": "#/definitions/positive"}),
    },
    "draft 7 tuple": {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "array",
        "items": [{"type": "string"}, {"type": "integer"}],
        "additionalItems": {"type": "boolean"},
        "minItems": 2,
    },
    "tuple": {"type": "array", "prefixItems": [_TEXT, _COUNT], "items": False, "minItems": 2},
    "siblings of a reference": {"$defs": {"t": _TEXT}, "$ref": "#/$defs/t", "minLength": 3, "description": "x"},
    "an anchor": {"$defs": {"t": {"$anchor": "it", **_COUNT}}, "type": "array", "items": {"$ref": "#it"}},
    "identifiers": {
        "$id": "https://example.org/root.json",
        "$defs": {"t": {"$id": "part.json", **_COUNT}},
        **_closed("a", a={"$ref": "part.json"}),
    },
    "root reference": {
        "$ref": "#/$defs/Node",
        "$defs": {"Node": _closed("v", v=_COUNT, next={"$ref": "#/$defs/Node"})},
    },
    "recursive list": {"type": "array", "items": {"$ref": "#"}},
    "recursive with null": {
        "$defs": {"Node": _closed("next", next={"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]})},
        "$ref": "#/$defs/Node",
    },
    "an endless alternative": {
        "$defs": {"Loop": _closed("next", next={"$ref": "#/$defs/Loop"})},
        "anyOf": [{"$ref": "#/$defs/Loop"}, _COUNT],
    },
    "unknown format": {"type": "string", "format": "phone", "maxLength": 8},
    "formats of numbers": _closed(
        "a", a={"type": "integer", "format": "int64"}, b={"type": "number", "format": "double"}
    ),
    "format and length": {"type": "string", "format": "uri", "maxLength": 10},
    "annotations": {
        **_closed("a", a={**_TEXT, "examples": ["x"], "deprecated": True, "example": 1, "xml": {}, "x-order": 3}),
        "x-guidance": {"item_separator": " nonsense ", "lenient": True},
        "discriminator": {"propertyName": "a"},
    },
    "x-guidance below": _closed("a", a={"type": "array", "x-guidance": {"lenient": True}, "items": _COUNT}),
    "nullable": _closed("a", a={"type": "string", "nullable": True, "maxLength": 3}),
    "union by constant": {
        "oneOf": [
            _closed("kind", "meows", kind={"const": "cat"}, meows=_COUNT),
            _closed("kind", kind={"const": "dog"}, barks={"type": "number"}),
        ]
    },
    "union of Pydantic": {
        "$defs": {
            "Cat": _object("pet_type", pet_type={"const": "cat", "type": "string"}, lives=_COUNT),
            "Dog": _object("pet_type", pet_type={"enum": ["dog", "puppy"]}),
        },
        **_object(
            "pet",
            pet={
                "oneOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}],
                "discriminator": {"propertyName": "pet_type", "mapping": {"cat": "#/$defs/Cat"}},
            },
        ),
    },
    "union by type": {
        "oneOf": [{"type": "string", "maxLength": 3}, {"type": "array", "items": _COUNT}, {"type": "null"}]
    },
    "union by required": {**_object(a=_COUNT, b=_COUNT), "oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
    "union by what is closed": {"oneOf": [_closed("a", a=_COUNT), _closed("b", b=_COUNT)]},
    "union by range": {"oneOf": [{"type": "integer", "maximum": -1}, {"type": "integer", "minimum": 1}]},
    "union of constants": {"oneOf": [{"const": "a", "title": "A"}, {"const": "b"}, {"const": 1}]},
    "union that overlaps": {"oneOf": [_object("a", a=_COUNT), _object("b", b=_COUNT)]},
    "union by length": {
        "oneOf": [{"type": "string", "maxLength": 2}, {"type": "string", "minLength": 3, "maxLength": 6}]
    },
    "exclusive constants": {"oneOf": [{"enum": ["a", "b"]}, {"type": "string", "pattern": "^[0-9]+$"}]},
    "unique words": _closed(
        "tags", tags={"type": "array", "items": {"enum": ["a", "b", "ab"]}, "uniqueItems": True, "minItems": 2}
    ),
    "unique strings": _closed("tags", tags={"type": "array", "items": _TEXT, "uniqueItems": True, "minItems": 2}),
    "unique objects": {"type": "array", "items": _closed("a", a=_COUNT), "uniqueItems": True},
    "contains": {"type": "array", "contains": {"const": 3}, "items": {"type": "integer"}, "maxItems": 4},
    "if and then": {
        **_closed("kind", kind={"enum": ["a", "b"]}, size=_COUNT),
        "if": {"properties": {"kind": {"const": "a"}}, "required": ["kind"]},
        "then": {"required": ["size"]},
    },
    "if, then and else": {
        **_object("n", n={"type": "integer", "minimum": 0, "maximum": 9}),
        "if": {"required": ["more"]},
        "then": {"properties": {"more": {"type": "boolean"}}},
        "else": {"properties": {"less": {"type": "boolean"}}, "required": ["less"]},
    },
    "dependencies": {
        **_closed(card=_TEXT, address=_TEXT, zip=_COUNT),
        "dependentRequired": {"card": ["address"]},
        "dependentSchemas": {"address": {"required": ["zip"]}},
    },
    "dependencies of draft 7": {
        "$schema": "http://json-schema.org/draft-07/schema#",
        **_closed(a=_COUNT, b=_COUNT),
        "dependencies": {"a": ["b"], "b": {"required": ["a"]}},
    },
    "not a type": {"not": {"type": ["object", "array", "string", "integer"]}},
    "not a property": {**_object("a", a=_COUNT), "not": {"required": ["b"]}},
    "not one of several": {**_object("a", a=_COUNT), "not": {"anyOf": [{"required": ["b"]}, {"required": ["c"]}]}},
    "least of properties": {**_closed(a=_COUNT, b=_COUNT, c=_COUNT), "minProperties": 2},
    "most of properties": {**_closed("a", a=_COUNT, b=_COUNT, c=_COUNT), "maxProperties": 2},
    "least and most": {**_object(a=_COUNT, b=_COUNT), "minProperties": 2, "maxProperties": 2},
    "one property at least": {**_closed(a=_COUNT, b=_COUNT), "minProperties": 1},
    "unevaluated": {"allOf": [_object("a", a=_COUNT)], "properties": {"b": _COUNT}, "unevaluatedProperties": False},
    "all of": {"allOf": [_object("a", a={"type": "integer"}), {"properties": {"a": {"minimum": 3, "maximum": 5}}}]},
    "Decimal of Pydantic": _object(
        "d", d={"anyOf": [{"type": "number"}, {"type": "string", "pattern": r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$"}]}
    ),
    "an optional property that looks ahead": _closed("a", a=_COUNT, b={"type": "string", "pattern": "^(?=x)x$"}),
    "types in a list": {"type": ["string", "null"], "maxLength": 4},
    "constants of all kinds": {"enum": [None, True, 0, -1.5, "x", [1, "a"], {"k": [None]}]},
    "multiples": {"type": "integer", "multipleOf": 5, "minimum": 10, "maximum": 60},
    "dates": _closed("d", d={"type": "string", "format": "date"}, t={"type": "string", "format": "date-time"}),
    "additionalProperties of a reference": {
        "$defs": {"t": _COUNT},
        "type": "object",
        "additionalProperties": {"$ref": "#/$defs/t"},
    },
}

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "endless": ({"$defs": {"A": _object("a", a={"$ref": "#/$defs/A"})}, "$ref": "#/$defs/A"}, "no finite value"),
    "endless array": ({"type": "array", "items": {"$ref": "#"}, "minItems": 1}, "no finite value"),
    "itself": ({"$ref": "#"}, "no finite value"),
    "elsewhere": ({"$ref": "https://example.org/x.json"}, "which is not part of the schema: nothing is fetched"),
    "nowhere": (_object(a={"$ref": "#/$defs/b"}), "/properties/a/$ref refers to '#/$defs/b'"),
    "looks ahead": ({"type": "string", "pattern": "^(?!a)"}, "/pattern uses lookahead or lookbehind"),
    "matched before": ({"type": "string", "pattern": r"^(a)\1$"}, "/pattern uses a backreference"),
    "cannot be told apart": (
        {"oneOf": [{"type": "string", "pattern": "a"}, {"type": "string", "pattern": "b"}]},
        "/oneOf has alternatives that overlap",
    ),
    "no type": ({"type": "text"}, "/type must be a type of JSON Schema"),
    "not a pattern": ({"not": {"pattern": "^a"}}, "/not is supported only for types"),
    "unique objects, two at least": (
        {"type": "array", "items": {"type": "object"}, "uniqueItems": True, "minItems": 2},
        "/uniqueItems is supported only for arrays of strings",
    ),
    "false": ({"allOf": [False]}, "no finite value"),
    "exclude each other": ({"type": "string", "minLength": 5, "maxLength": 2}, "no value satisfies it"),
    "no regular expression": ({"type": "string", "pattern": "("}, "not a valid regular expression"),
}
