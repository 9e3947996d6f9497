"""Cheap limits on JSON Schemas, checked before native code sees them. No I/O.

No schema of practical use is refused here. A schema that may merely take long is left to the limits of the process that
compiles it (`sandbox/`); this module catches what is known to crash the grammar engine, or what it never supports.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from actors.inference.schema_errors import BadSchema

__all__ = ["MAXIMUM_INTEGER", "MAXIMUM_REFERENCES", "check_bounds", "within_64_bits", "within_width"]

MAXIMUM_INTEGER = 2**63 - 1
"""Largest magnitude of an integer; the engine uses 64 bits."""
MAXIMUM_COUNT = 2**31 - 1
"""Largest length of a string or an array in a schema."""
MAXIMUM_REFERENCES = 500
"""Longest chain of references: the engine uses at least one stack frame for each."""
_COUNTS = (
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "minContains",
    "maxContains",
)
_BOUNDS = {"minimum": -1, "maximum": 1, "exclusiveMinimum": -1, "exclusiveMaximum": 1}
"""Keywords that bound an integer, with the side they bound."""
_WIDTHS = {
    **{f"int{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32)},
    **{f"uint{bits}": (0, 2**bits - 1) for bits in (8, 16, 32)},
    "uint64": (0, MAXIMUM_INTEGER),
}
"""Minimum and maximum of OpenAPI's integer formats; every integer in an answer fits into `int64`."""
_DATA = frozenset({"const", "enum", "default", "examples", "example"})
"""Keywords whose values are data rather than schemas."""


def check_bounds(schema: Any, *, field: str = "response_schema") -> None:
    """Raises `BadSchema`, naming ``field``, for a schema beyond the limits. Takes time proportional to its size."""
    try:
        for one in _schemas(schema):
            _check_numbers(one)
        _check_references(schema)
    except BadSchema as error:
        raise BadSchema(str(error), field=field) from None


def _schemas(root: Any) -> Iterator[dict[str, Any]]:
    """Every object that may be a schema, that is, all but those inside data."""
    waiting = [root]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield one
            waiting.extend(value for key, value in one.items() if key not in _DATA)
        elif isinstance(one, list):
            waiting.extend(one)


def _check_numbers(schema: dict[str, Any]) -> None:
    for name in _COUNTS:
        count = _number(schema.get(name))
        if count is not None and not 0 <= count <= MAXIMUM_COUNT:
            raise BadSchema(f"{name} must be between 0 and {MAXIMUM_COUNT}, not {count:g}")
    divisor = _number(schema.get("multipleOf"))
    if divisor is not None and not 0 < divisor <= MAXIMUM_INTEGER:
        raise BadSchema(f"multipleOf must be above 0 and at most {MAXIMUM_INTEGER}, not {divisor:g}")
    if not _allows_integers_alone(schema.get("type")):
        return
    for name, sign in _BOUNDS.items():
        # A bound beyond 64 bits is narrowed to them; one that leaves no value within them is refused.
        _check_integer(name, schema.get(name), side=-sign)
    _check_integer("const", schema.get("const"))
    values = schema.get("enum")
    for value in values if isinstance(values, list) else ():
        _check_integer("enum", value)


def within_64_bits(schema: Any) -> Any:
    """Narrows integer bounds beyond 64 bits to 64 bits, so that every remaining value is valid under the original
    schema."""
    if isinstance(schema, list):
        return [within_64_bits(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    narrowed = {name: one if name in _DATA else within_64_bits(one) for name, one in schema.items()}
    if _allows_integers_alone(schema.get("type")):
        for name, sign in _BOUNDS.items():
            number = _number(schema.get(name))
            if number is not None and sign * number > MAXIMUM_INTEGER:
                narrowed[name] = sign * MAXIMUM_INTEGER
    return narrowed


def within_width(schema: dict[str, Any], bounds: dict[str, Any]) -> dict[str, Any]:
    """Adds to ``bounds`` those of an integer `format` such as OpenAPI's `int32`, if the schema has one.

    A format that would leave no value together with the other rules is ignored, like any `format`.
    """
    width = schema.get("format")
    kinds = schema.get("type")
    listed = kinds if isinstance(kinds, list) else [kinds]
    if not isinstance(width, str) or width not in _WIDTHS or "integer" not in listed or "number" in listed:
        return bounds
    if {"enum", "const"} & schema.keys():
        return bounds
    made = dict(bounds)
    for name, exclusive, limit, sign in (
        ("minimum", "exclusiveMinimum", _WIDTHS[width][0], -1),
        ("maximum", "exclusiveMaximum", _WIDTHS[width][1], 1),
    ):
        far = _WIDTHS[width][0 if sign == 1 else 1]
        for one in (name, exclusive):
            number = _number(made.get(one))
            if number is not None and sign * number <= sign * far:
                return bounds
            if number is not None and sign * number > sign * limit:
                del made[one]
        if _number(made.get(name)) is None and _number(made.get(exclusive)) is None:
            made[name] = limit
    return made


def _check_integer(name: str, value: Any, *, side: int | None = None) -> None:
    """``side`` is the side that is limited, 1 or -1; None limits both."""
    number = _number(value)
    if number is not None and (abs(number) if side is None else side * number) >= MAXIMUM_INTEGER:
        raise BadSchema(f"{name} of an integer must lie within 64 bits, not at {number:g}")


def _allows_integers_alone(kind: Any) -> bool:
    return kind == "integer" or (isinstance(kind, list) and "integer" in kind)


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _check_references(root: Any) -> None:
    """Checks the longest chain of references, including references anywhere below their targets."""
    targets: dict[str, list[str]] = {}
    waiting = _references_below(root)
    while waiting:
        reference = waiting.pop()
        if reference not in targets:
            targets[reference] = _references_below(_target(root, reference))
            waiting.extend(targets[reference])
    lengths: dict[str, int] = {}
    for start in targets:
        _measure_chain(start, targets, lengths)


def _measure_chain(start: str, targets: dict[str, list[str]], lengths: dict[str, int]) -> None:
    """Records the longest chain from each reference, depth first without recursion. A cycle is followed once."""
    stack = [(start, iter(targets[start]))] if start not in lengths else []
    entered = {start}
    while stack:
        name, below = stack[-1]
        following = next((one for one in below if one not in lengths and one not in entered), None)
        if following is not None:
            entered.add(following)
            stack.append((following, iter(targets[following])))
            continue
        stack.pop()
        lengths[name] = 1 + max((lengths.get(one, 0) for one in targets[name]), default=0)
        if lengths[name] > MAXIMUM_REFERENCES:
            raise BadSchema(f"a chain of more than {MAXIMUM_REFERENCES} references")


def _references_below(schema: Any) -> list[str]:
    """Local references in a schema, without those in its definitions, which count where they are referenced."""
    found: list[str] = []
    waiting = [schema]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            reference = one.get("$ref")
            if isinstance(reference, str) and reference.startswith("#"):
                found.append(reference)
            waiting.extend(
                value for key, value in one.items() if key not in _DATA and key not in ("$defs", "definitions")
            )
        elif isinstance(one, list):
            waiting.extend(one)
    return found


def _target(root: Any, reference: str) -> Any:
    """Target of a local reference; None if it does not exist."""
    found = root
    for part in reference.removeprefix("#").split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict):
            found = found.get(key)
        elif isinstance(found, list) and key.isdecimal() and int(key) < len(found):
            found = found[int(key)]
        else:
            return None
    return found
