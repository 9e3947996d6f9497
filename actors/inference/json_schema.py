"""Rewrites a client's JSON Schema in terms that the grammar engine supports. No I/O.

Every answer that the rewritten schema allows is valid under the client's schema. Parts that the engine does not support
are narrowed (an `if` with its `then`, `oneOf` with mutually exclusive branches), left out where the schema permits (an
alternative, an optional property), or rejected with their location. Annotations are dropped, and an unknown `format` is
an annotation, as in JSON Schema 2020-12 (validation, 7.2.1). References are resolved here, so nothing is fetched.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from attrs import define, field, frozen

from actors.inference.schema_apart import Apart
from actors.inference.schema_bounds import within_64_bits, within_width
from actors.inference.schema_errors import BadSchema, NotSupported
from actors.inference.schema_facts import Facts, types_of
from actors.inference.schema_properties import checked_pattern, counted, named, pointer_part
from actors.inference.schema_references import References
from actors.inference.text_arguments import PATTERNS_OF_FORMATS

__all__ = ["PreparedSchema", "prepared_schema"]

FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"})
"""Formats supported by the engine."""
ENDLESS_FORMATS = frozenset({"date-time", "time", "duration", "email", "hostname", "uri"})
"""Formats that the engine lets continue without end, by digits, labels or parts, so that a model may write until its
length runs out."""
MAXIMUM_WORK = 20_000
"""Maximum number of schemas visited; self-referential ones multiply when alternatives are separated."""
MAXIMUM_TOLD = 32
"""Maximum number of left-out locations reported."""
MAXIMUM_DEPENDENCIES = 3
"""Up to this many dependencies become alternatives; with more, all dependent properties are required."""
_TYPES = frozenset({"null", "boolean", "object", "array", "number", "string", "integer"})
_KEPT = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties", "multipleOf", "required")
_KEYS_OF_CONTENT = frozenset({"patternProperties", "propertyNames", "uniqueItems"})


@frozen
class PreparedSchema:
    """The schema as passed to the engine."""

    schema: dict[str, Any]
    has_narrow_strings: bool
    """True if keys or unique strings may be so few that they can all be used up."""
    unique_keys: frozenset[str]
    """Properties whose arrays contain each string only once."""
    left_out: tuple[str, ...] = ()
    """JSON pointers of allowed parts that the answer will not have, because the engine does not support them."""


def prepared_schema(schema: dict[str, Any]) -> PreparedSchema:
    """Rewrites a schema. Raises `BadSchema` with the location (a JSON pointer) of an unsupported part."""
    references = References(schema)
    work = _Preparation(references, Apart(references))
    try:
        root = work.prepare(schema, "")
    except NotSupported as problem:
        raise BadSchema(str(problem)) from None
    except RecursionError:
        raise BadSchema("the schema is nested too deeply") from None
    facts = Facts(work.definitions)
    if not facts.is_finite(root):
        raise BadSchema("the schema has no finite value: every answer would be endless")
    definitions = {name: facts.finite_part(one) for name, one in work.definitions.items()}
    whole = facts.finite_part(root)
    if isinstance(whole, bool):
        whole = {} if whole else {"not": {}}
    if definitions:
        whole = {**whole, "$defs": definitions}
    return PreparedSchema(
        within_64_bits(whole), work.has_narrow_strings, frozenset(work.unique_keys), tuple(work.left_out)
    )


@define
class _Preparation:
    references: References
    apart: Apart
    definitions: dict[str, Any] = field(init=False, factory=dict)
    names: dict[str, str] = field(init=False, factory=dict)
    has_narrow_strings: bool = field(init=False, default=False)
    unique_keys: set[str] = field(init=False, factory=set)
    left_out: dict[str, None] = field(init=False, factory=dict)
    work_left: int = field(init=False, default=MAXIMUM_WORK)
    _bad: dict[str, NotSupported] = field(init=False, factory=dict)

    def prepare(self, schema: Any, path: str) -> Any:
        """Rewrites a schema and all its subschemas. Raises `NotSupported`."""
        self.work_left -= 1
        if self.work_left < 0:
            raise BadSchema("the schema is too large")
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, dict):
            raise BadSchema(f"{path or 'the schema'} must be an object, true or false")
        if _KEYS_OF_CONTENT & schema.keys():
            self.has_narrow_strings = True
        made: dict[str, Any] = {name: schema[name] for name in _KEPT if name in schema}
        made |= self._types_and_values(schema, path)
        made |= self._numbers(schema)
        made |= self._text(schema, path)
        made |= self._items(schema, path)
        made |= self._properties(schema, path)
        return self._combined({name: one for name, one in made.items() if one is not None}, schema, path)

    # --- values -----------------------------------------------------------------------------------

    def _types_and_values(self, schema: dict[str, Any], path: str) -> dict[str, Any]:
        made: dict[str, Any] = {name: schema[name] for name in ("enum", "const") if name in schema}
        if "enum" in schema and not isinstance(schema["enum"], list):
            raise BadSchema(f"{path}/enum must be an array")
        kinds = schema.get("type")
        if kinds is None:
            return made
        for kind in kinds if isinstance(kinds, list) else [kinds]:
            if not isinstance(kind, str) or kind not in _TYPES:
                raise BadSchema(f"{path}/type must be a type of JSON Schema or a list of these, not {str(kind)[:40]!r}")
        return {**made, "type": kinds}

    def _numbers(self, schema: dict[str, Any]) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for name, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
            bound, excluded = schema.get(name), schema.get(exclusive)
            # In draft 4 this is a boolean next to the bound.
            if excluded is True and bound is not None:
                made[exclusive] = bound
                continue
            made |= {name: bound} if bound is not None else {}
            made |= {exclusive: excluded} if excluded is not None and not isinstance(excluded, bool) else {}
        return within_width(schema, made)

    def _text(self, schema: dict[str, Any], path: str) -> dict[str, Any]:
        made: dict[str, Any] = {}
        pattern, form = schema.get("pattern"), schema.get("format")
        form = form if isinstance(form, str) else None
        if pattern is not None:
            made["pattern"] = checked_pattern(pattern, f"{path}/pattern")
        # A format combined with other rules may allow nothing. It is an annotation, the other rules are not.
        elif form in FORMATS and not {"minLength", "maxLength", "enum", "const"} & schema.keys():
            if form in ENDLESS_FORMATS:
                made["pattern"] = f"^(?:{PATTERNS_OF_FORMATS[form]})$"
            else:
                made["format"] = form
        return made

    # --- arrays -----------------------------------------------------------------------------------

    def _items(self, schema: dict[str, Any], path: str) -> dict[str, Any]:
        items, first, name = schema.get("items"), schema.get("prefixItems"), "items"
        if isinstance(items, list):
            # Drafts before 2020-12.
            first, items, name = items, schema.get("additionalItems"), "additionalItems"
        made: dict[str, Any] = {}
        if isinstance(first, list):
            made["prefixItems"] = [self.prepare(one, f"{path}/items/{place}") for place, one in enumerate(first)]
        if items is not None:
            made["items"] = self._or_nothing(items, f"{path}/{name}", schema.get("minItems", 0) == 0)
        if schema.get("unevaluatedItems") is not None and items is None:
            if _applicators(schema):
                raise NotSupported(f"{path}/unevaluatedItems", "is not supported together with other keywords")
            made["items"] = self.prepare(schema["unevaluatedItems"], f"{path}/unevaluatedItems")
        if "contains" in schema:
            made |= self._contains(schema, made, path)
        if schema.get("uniqueItems") is True:
            made |= self._unique(schema, made, path)
        return made

    def _contains(self, schema: dict[str, Any], made: dict[str, Any], path: str) -> dict[str, Any]:
        least = schema.get("minContains", 1)
        if least == 0 and "maxContains" not in schema:
            return {}
        if "maxContains" in schema or "prefixItems" in made or not isinstance(least, int):
            raise NotSupported(f"{path}/contains", "is not supported together with other keywords for items")
        # Requiring it of all items is stricter than asked.
        wanted = self.prepare(schema["contains"], f"{path}/contains")
        items = wanted if "items" not in made else {"allOf": [made["items"], wanted]}
        given = schema.get("minItems", 0)
        return {"items": items, "minItems": max(least, given if isinstance(given, int) else 0)}

    def _unique(self, schema: dict[str, Any], made: dict[str, Any], path: str) -> dict[str, Any]:
        if schema.get("maxItems", 2) <= 1:
            return {}
        key = path.rpartition("/")[2]
        of_strings = types_of(made.get("items", {}), self.definitions) <= {"string"}
        is_property = path.rpartition("/")[0].endswith("/properties")
        if of_strings and is_property and "prefixItems" not in made:
            self.unique_keys.add(key.replace("~1", "/").replace("~0", "~"))
            return {}
        if schema.get("minItems", 0) > 1:
            raise NotSupported(f"{path}/uniqueItems", "is supported only for arrays of strings")
        # A single item is always unique.
        self._leave_out(f"{path}/uniqueItems")
        return {"maxItems": 1}

    # --- objects ----------------------------------------------------------------------------------

    def _properties(self, schema: dict[str, Any], path: str) -> dict[str, Any]:
        given, required = schema.get("properties", {}), schema.get("required", [])
        if not isinstance(given, dict) or not isinstance(required, list):
            raise BadSchema(
                f"{path}/{'required' if isinstance(given, dict) else 'properties'} must be {'an array' if isinstance(given, dict) else 'an object'}"
            )
        made: dict[str, Any] = {}
        if "properties" in schema:
            made["properties"] = {
                name: self._or_nothing(one, f"{path}/properties/{pointer_part(name)}", name not in required)
                for name, one in given.items()
            }
        patterns = schema.get("patternProperties")
        if isinstance(patterns, dict) and patterns:
            made["patternProperties"] = {
                checked_pattern(pattern, f"{path}/patternProperties"): self._or_nothing(
                    one, f"{path}/patternProperties/{pointer_part(pattern)}", True
                )
                for pattern, one in patterns.items()
            }
        if "additionalProperties" in schema:
            made["additionalProperties"] = self._or_nothing(
                schema["additionalProperties"], f"{path}/additionalProperties", True
            )
        if "unevaluatedProperties" in schema and "additionalProperties" not in schema:
            others = self._or_nothing(schema["unevaluatedProperties"], f"{path}/unevaluatedProperties", True)
            # Names that occur only in an alternative are left out.
            known = {name: True for one in self.references.conjuncts(schema) for name in one.get("properties") or ()}
            made |= {"properties": {**known, **made.get("properties", {})}, "additionalProperties": others}
        if "propertyNames" in schema:
            names = self.references.followed(schema["propertyNames"], f"{path}/propertyNames")
            made |= named(names, made, required, f"{path}/propertyNames")
        return made | counted(schema, made)

    def _or_nothing(self, schema: Any, path: str, is_optional: bool) -> Any:
        """Returns False, which forbids the value, if it is optional and cannot be supported."""
        try:
            return self.prepare(schema, path)
        except NotSupported:
            if not is_optional:
                raise
            self._leave_out(path)
            return False

    def _leave_out(self, path: str) -> None:
        if len(self.left_out) < MAXIMUM_TOLD:
            self.left_out[path] = None

    # --- combinations -----------------------------------------------------------------------------

    def _combined(self, made: dict[str, Any], schema: dict[str, Any], path: str) -> Any:
        all_of: list[Any] = [
            self.prepare(one, f"{path}/allOf/{place}") for place, one in _listed(schema, "allOf", path)
        ]
        references = [name for name in ("$ref", "$dynamicRef", "$recursiveRef") if name in schema]
        all_of.extend(self._reference(schema[name], f"{path}/{name}") for name in references)
        if "anyOf" in schema:
            all_of.append({"anyOf": self._alternatives(schema, "anyOf", path)})
        if "oneOf" in schema:
            all_of.append(self._one_of(schema, path))
        if "not" in schema:
            all_of.append(self._not(schema["not"], f"{path}/not"))
        if "if" in schema and ("then" in schema or "else" in schema):
            all_of.append(self._if(schema, path))
        all_of.extend(self._dependencies(schema, path))
        if any(one is False for one in all_of):
            return False
        all_of = [one for one in all_of if one is not True and one != {}]
        if not all_of:
            return made
        if not made and len(all_of) == 1:
            return all_of[0]
        only = all_of[0] if len(all_of) == 1 else None
        if isinstance(only, dict) and len(only) == 1 and not made.keys() & only.keys():
            return {**made, **only}
        return {**made, "allOf": all_of}

    def _alternatives(self, schema: dict[str, Any], name: str, path: str) -> list[Any]:
        """Alternatives that are supported. Raises `NotSupported` if none is."""
        made, problem = [], None
        unsupported: list[str] = []
        for place, one in _listed(schema, name, path):
            try:
                made.append(self.prepare(one, f"{path}/{name}/{place}"))
            except NotSupported as error:
                problem = problem or error
                unsupported.append(f"{path}/{name}/{place}")
        if not made:
            raise problem or BadSchema(f"{path}/{name} must be a non-empty array")
        for one in unsupported:
            self._leave_out(one)
        return made

    def _one_of(self, schema: dict[str, Any], path: str) -> Any:
        """Alternatives that each exclude all others, including the unsupported ones."""
        branches = _listed(schema, "oneOf", path)
        base = {name: value for name, value in schema.items() if name != "oneOf"}
        fitting: list[Any] = []
        unsupported: list[str] = []
        problem: NotSupported | None = None
        for place, one in branches:
            try:
                made = self.prepare(one, f"{path}/oneOf/{place}")
            except NotSupported as error:
                problem = problem or error
                unsupported.append(f"{path}/oneOf/{place}")
                continue
            more = self.apart.exclusions(base, one, [other for at, other in branches if at != place])
            if made is not False and more is not None:
                fitting.append({"allOf": [made, *more]} if more else made)
            elif made is not False:
                unsupported.append(f"{path}/oneOf/{place}")
        if self.apart.is_exhausted:
            raise NotSupported(f"{path}/oneOf", "has too many alternatives to separate")
        if not fitting:
            raise problem or NotSupported(
                f"{path}/oneOf", "has alternatives that overlap: an answer could match several of them"
            )
        for one in unsupported:
            self._leave_out(one)
        return fitting[0] if len(fitting) == 1 else {"anyOf": fitting}

    def _not(self, schema: Any, path: str) -> Any:
        schema = self.references.followed(schema, path)
        if isinstance(schema, bool):
            return not schema
        if not isinstance(schema, dict):
            raise BadSchema(f"{path} must be an object, true or false")
        names = schema.keys() - {"description", "title", "$comment"}
        if not names:
            return False
        if names == {"type"}:
            kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
            # Non-integer numbers cannot be separated from integers.
            left = _TYPES - {"integer"} - set(kinds) - ({"number"} if "integer" in kinds else set())
            return {"type": sorted(left)} if left else False
        if names <= {"required", "type"} and schema.get("type", "object") == "object" and schema.get("required"):
            return {"type": "object", "properties": {str(schema["required"][0]): False}}
        if names == {"anyOf"} and isinstance(schema["anyOf"], list):
            return {"allOf": [self._not(one, f"{path}/anyOf/{place}") for place, one in enumerate(schema["anyOf"])]}
        if names == {"not"}:
            return self.prepare(schema["not"], f"{path}/not")
        raise NotSupported(path, "is supported only for types and required properties")

    def _if(self, schema: dict[str, Any], path: str) -> Any:
        ways: list[Any] = []
        problem: NotSupported | None = None
        try:
            both = [schema["if"], *([schema["then"]] if "then" in schema else [])]
            ways.append(
                {
                    "allOf": [
                        self.prepare(one, f"{path}/{name}") for one, name in zip(both, ("if", "then"), strict=False)
                    ]
                }
            )
        except NotSupported as error:
            problem = error
        try:
            otherwise = [self._not(schema["if"], f"{path}/if")]
            otherwise += [self.prepare(schema["else"], f"{path}/else")] if "else" in schema else []
            ways.append({"allOf": otherwise})
        except NotSupported as error:
            problem = problem or error
        if not ways:
            assert problem is not None
            raise problem
        if problem is not None:
            self._leave_out(f"{path}/if")
        return ways[0] if len(ways) == 1 else {"anyOf": ways}

    def _dependencies(self, schema: dict[str, Any], path: str) -> Iterator[Any]:
        rules: list[tuple[str, Any, str]] = []
        for name in ("dependencies", "dependentRequired", "dependentSchemas"):
            given = schema.get(name)
            for key, one in (given if isinstance(given, dict) else {}).items():
                rules.append((key, one, f"{path}/{name}/{pointer_part(key)}"))
        for key, one, place in rules:
            without = {"properties": {key: False}}
            try:
                wanted = {"required": one} if isinstance(one, list) else self.prepare(one, place)
            except NotSupported:
                self._leave_out(place)
                yield without
                continue
            yield wanted if len(rules) > MAXIMUM_DEPENDENCIES else {"anyOf": [wanted, without]}

    # --- references -------------------------------------------------------------------------------

    def _reference(self, reference: Any, path: str) -> Any:
        pointer = self.references.pointer_of(reference, path)
        name = self.names.get(pointer)
        if name is None:
            name = self.names[pointer] = f"d{len(self.names)}"
            # A definition in progress is already known by its name.
            self.prepare_definition(pointer, name)
        if name in self._bad:
            raise self._bad[name]
        return {"$ref": f"#/$defs/{name}"}

    def prepare_definition(self, pointer: str, name: str) -> None:
        try:
            self.definitions[name] = self.prepare(self.references.at(pointer), pointer)
        except NotSupported as error:
            self._bad[name] = error
            self.definitions[name] = False


def _listed(schema: dict[str, Any], name: str, path: str) -> list[tuple[int, Any]]:
    given = schema.get(name, [])
    if not isinstance(given, list):
        raise BadSchema(f"{path}/{name} must be an array")
    return list(enumerate(given))


def _applicators(schema: dict[str, Any]) -> bool:
    """True if other schemas apply to the same value."""
    return not {"allOf", "anyOf", "oneOf", "$ref", "$dynamicRef", "if", "dependentSchemas"}.isdisjoint(schema)
