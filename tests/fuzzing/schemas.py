"""Random JSON Schemas made of what costs a grammar engine most, and of what has ended one.

``RandomSchemas(random.Random(seed))`` gives the same schemas for the same seed. They are at most 64 deep and within the
bounds of a frame, so that they reach the engine; many are nonsense on purpose, and four in ten are meant to be sound, so that
enough of them are followed to the answer's end.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

__all__ = ["RandomSchemas"]

MOST_CHARACTERS = 60_000
NUMBERS = (
    0, 1, -1, 2, 3, 7, 10, 97, 100, 255, 1000, 9_973, 65_536, 99_991, 999_983, 1_000_003, 2**31 - 1, 2**32, 2**53, -(2**53),
    0.1, 0.01, 1e-9, 1e-300, -0.0, 3.14159, 99.991, 1e15, 1e16, 1e100, 1e308, -1e308, 1.7976931348623157e308,
)  # fmt: skip
"""Edges of machine integers and doubles, primes, and what people write."""
COUNTS = (0, 1, 2, 3, 5, 10, 50, 100, 1000, 4096, 10_000, 100_000, 10**6, 10**9, 2**31 - 1, 2**31, 2**53, -1)
FORMATS = (
    "date",
    "date-time",
    "time",
    "duration",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "uri",
    "uuid",
    "regex",
    "unheard",
)
NAMES = ("a", "b", "c", "id", "name", "value", "items", "$ref", "minimum", "", "a/b", "~", "é", "😀", "x" * 50)
ATOMS = (
    "a", "b", ".", "\\w", "\\d", "\\s", "[a-z]", "[^a]", "\\p{L}", "\\p{Greek}", "é", "(a|b)", "(a|ab)", "(?:x+x+)", "^", "$",
    "\\b", "(?=a)", "\\1", "[", ")", "\\", "(?i:a)", "[\\s\\S]",
)  # fmt: skip
SOUND_NUMBERS = (0, 1, -1, 2, 7, 10, 100, 255, 1000, 65_536, 0.5, 0.01, -2.5)
SOUND_COUNTS = (0, 1, 2, 3, 5, 10, 50)
SOUND_ATOMS = ("a", "b", ".", "[a-z]", "[^a]", "[0-9]", "é", "(a|b)", "(?:ab)", "\\w", "\\d")
SOUND_REPEATS = ("", "", "", "*", "+", "?", "{2}", "{1,3}", "{0,20}")
REPEATS = (
    "",
    "",
    "",
    "*",
    "+",
    "?",
    "{2}",
    "{1,3}",
    "{50}",
    "{0,200}",
    "{1000}",
    "{1,5000}",
    "{100000}",
    "+?",
    "{3,1}",
)


class RandomSchemas:
    """An endless supply of schemas. Every draw comes from the one generator it was given."""

    def __init__(self, generator: random.Random) -> None:
        self._random = generator
        self._definitions = 0
        self._is_sound = False

    def schema(self) -> dict[str, Any]:
        """The next one: an object of JSON, at most `MOST_CHARACTERS` long."""
        while True:
            self._is_sound = self._random.random() < 0.4
            made = self._random.choices((self._ordinary, self._large), weights=(9, 1))[0]()
            if not self._is_sound and self._random.random() < 0.6:
                made = self._broken(made)
            if len(json.dumps(made)) <= MOST_CHARACTERS:
                return made

    # --- whole schemas ----------------------------------------------------------------------------

    def _ordinary(self) -> dict[str, Any]:
        self._definitions = self._random.choice((0, 0, 1, 2, 5))
        made = self._any(self._random.choice((1, 2, 3, 4)))
        if self._definitions:
            names = [str(number) for number in range(self._definitions)]
            made["$defs"] = {name: self._any(2) for name in names}
        return made

    def _large(self) -> dict[str, Any]:
        """One thing, very often."""
        makers: tuple[Callable[[int], dict[str, Any]], ...] = (
            self._chain,
            lambda count: {"enum": [self._string() + str(number) for number in range(count)]},
            lambda count: {"enum": [self._number() for _ in range(count)]},
            lambda count: {"anyOf": [self._any(0) for _ in range(min(count, 300))]},
            lambda count: {"oneOf": [self._any(1) for _ in range(min(count, 60))]},
            lambda count: {"allOf": [self._any(1) for _ in range(min(count, 40))]},
            lambda count: {"type": "object", "properties": {f"p{number}": self._any(0) for number in range(count)}},
            lambda count: {"type": "object", "patternProperties": {self._pattern(): {} for _ in range(min(count, 30))}},
            lambda count: {"type": "array", "prefixItems": [self._any(0) for _ in range(count)]},
            lambda count: {"const": [self._data(2) for _ in range(min(count, 100))]},
            lambda _: self._nested(self._random.randint(10, 30)),
        )
        return self._random.choice(makers)(self._random.choice((5, 40, 300, 1300)))

    def _chain(self, length: int) -> dict[str, Any]:
        link = self._random.choice(("$ref", "oneOf", "anyOf", "allOf", "items", "properties", "not"))
        definitions: dict[str, Any] = {}
        for number in range(length):
            target: Any = {"$ref": f"#/$defs/{(number + 1) % (length + self._random.choice((0, 1)) or 1)}"}
            definitions[str(number)] = (
                target
                if link == "$ref"
                else {link: [target] if link.endswith("Of") else {"a": target} if link == "properties" else target}
            )
        definitions[str(length)] = self._any(0)
        return {"$ref": "#/$defs/0", "$defs": definitions}

    def _nested(self, depth: int) -> dict[str, Any]:
        made = self._any(0)
        for _ in range(depth):
            made = self._random.choice(
                (
                    {"type": "array", "items": made, "minItems": self._random.choice((0, 1, 50))},
                    {"type": "object", "properties": {"a": made}, "required": ["a"]},
                    {"anyOf": [made, {"type": "null"}]},
                    {"allOf": [made]},
                )
            )
        return made

    def _broken(self, schema: dict[str, Any]) -> dict[str, Any]:
        """The same with a keyword from somewhere else."""
        keyword = self._random.choice(
            (
                "type",
                "minimum",
                "multipleOf",
                "pattern",
                "$ref",
                "enum",
                "items",
                "required",
                "allOf",
                "format",
                "minLength",
            )
        )
        return {
            **schema,
            keyword: self._random.choice((self._data(1), self._number(), self._pattern(), None, "#", [{}])),
        }

    # --- parts ------------------------------------------------------------------------------------

    def _any(self, depth: int) -> dict[str, Any]:
        leaves: tuple[Callable[[], dict[str, Any]], ...] = (
            self._integer,
            self._float,
            self._text,
            self._fixed,
            self._reference,
        )
        if depth <= 0:
            return self._random.choice(leaves)()
        branches: tuple[Callable[[int], dict[str, Any]], ...] = (self._array, self._object, self._combined)
        if self._random.random() < 0.4:
            return self._random.choice(leaves)()
        return self._random.choice(branches)(depth - 1)

    def _integer(self) -> dict[str, Any]:
        return self._numeric(self._random.choice(("integer", "integer", ["integer", "null"])))

    def _float(self) -> dict[str, Any]:
        return self._numeric(self._random.choice(("number", "number", ["number", "string"])))

    def _numeric(self, kind: Any) -> dict[str, Any]:
        made: dict[str, Any] = {"type": kind}
        for keyword in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "const"):
            if self._random.random() < (0.5 if keyword == "multipleOf" else 0.3):
                made[keyword] = self._number()
        if self._random.random() < 0.2:
            made["allOf"] = [
                {self._random.choice(("minimum", "maximum", "multipleOf")): self._number()} for _ in range(2)
            ]
        return made

    def _text(self) -> dict[str, Any]:
        made: dict[str, Any] = {"type": "string"}
        for keyword in ("minLength", "maxLength"):
            if self._random.random() < 0.4:
                made[keyword] = self._count()
        if self._random.random() < 0.5:
            made["pattern"] = self._pattern()
        if self._random.random() < 0.2:
            made["format"] = self._random.choice(FORMATS[:-2] if self._is_sound else FORMATS)
        if self._random.random() < 0.1:
            made["allOf"] = [{"pattern": self._pattern()} for _ in range(self._random.randint(1, 3))]
        return made

    def _fixed(self) -> dict[str, Any]:
        if self._random.random() < 0.5:
            return {"const": self._data(2)}
        return {"enum": [self._data(1) for _ in range(self._random.choice((0, 1, 3, 20)))]}

    def _reference(self) -> dict[str, Any]:
        known = str(self._random.randrange(self._definitions)) if self._definitions else "0"
        if self._is_sound:
            return {"$ref": f"#/$defs/{known}"} if self._definitions else {"type": "boolean"}
        targets = (f"#/$defs/{known}",) * 6 + (
            "#",
            "#/$defs/none",
            "#/properties/a",
            "http://example.org/a.json",
            "#/$defs/0/items",
        )
        return {"$ref": self._random.choice(targets)}

    def _array(self, depth: int) -> dict[str, Any]:
        made: dict[str, Any] = {"type": "array", "items": self._any(depth)}
        for keyword, chance in (("minItems", 0.4), ("maxItems", 0.4), ("minContains", 0.05)):
            if self._random.random() < chance:
                made[keyword] = self._count()
        if self._random.random() < 0.2:
            made["prefixItems"] = [self._any(depth) for _ in range(self._random.randint(1, 4))]
        if self._random.random() < 0.15:
            made["uniqueItems"] = True
        if self._random.random() < 0.05:
            made["contains"] = self._any(0)
        return made

    def _object(self, depth: int) -> dict[str, Any]:
        names = self._random.sample(NAMES, self._random.randint(0, 5))
        made: dict[str, Any] = {"type": "object", "properties": {name: self._any(depth) for name in names}}
        if self._random.random() < 0.6:
            made["required"] = [name for name in names if self._random.random() < 0.5] + self._random.choice(
                ([], [], [] if self._is_sound else ["missing"])
            )
        if self._random.random() < 0.4:
            made["additionalProperties"] = self._random.choice((False, True, self._any(0)))
        if self._random.random() < 0.15:
            made["patternProperties"] = {self._pattern(): self._any(0) for _ in range(self._random.randint(1, 4))}
        for keyword, chance in (("minProperties", 0.1), ("maxProperties", 0.1), ("unevaluatedProperties", 0.03)):
            if self._random.random() < chance:
                made[keyword] = self._count()
        return made

    def _combined(self, depth: int) -> dict[str, Any]:
        keyword = self._random.choice(
            ("anyOf", "oneOf") if self._is_sound else ("anyOf", "oneOf", "allOf", "not", "if")
        )
        if keyword == "not":
            return {"not": self._any(depth)}
        if keyword == "if":
            return {"if": self._any(depth), "then": self._any(depth), "else": self._any(depth)}
        return {keyword: [self._any(depth) for _ in range(self._random.randint(1, 5))]}

    # --- values -----------------------------------------------------------------------------------

    def _number(self) -> float:
        if self._is_sound:
            return self._random.choice(SOUND_NUMBERS)
        kind = self._random.random()
        if kind < 0.5:
            return self._random.choice(NUMBERS)
        if kind < 0.7:
            return self._random.randint(-(2**53), 2**53)
        if kind < 0.9:
            return self._random.randint(0, 10 ** self._random.randint(1, 12))
        return self._random.uniform(-1, 1) * 10 ** self._random.randint(-20, 300)

    def _count(self) -> int:
        if self._is_sound:
            return self._random.choice(SOUND_COUNTS)
        return self._random.choice(COUNTS)

    def _string(self) -> str:
        letters = 'ab cß😀"\\\n</tool_call><|im_end|>0'
        return "".join(self._random.choices(letters, k=self._random.choice((0, 1, 3, 20, 200))))

    def _pattern(self) -> str:
        if not self._is_sound and self._random.random() < 0.03:
            opened = self._random.choice((50, 300, 5000))
            return "(" * opened + "a" + ")" * opened
        made = ""
        atoms, repeats = (SOUND_ATOMS, SOUND_REPEATS) if self._is_sound else (ATOMS, REPEATS)
        for _ in range(self._random.choice((1, 2, 4, 8))):
            atom = self._random.choice(atoms)
            if self._random.random() < 0.25:
                atom = f"({atom}{self._random.choice(repeats)}|{self._random.choice(atoms)})"
            made += atom + self._random.choice(repeats)
        return made

    def _data(self, depth: int) -> Any:
        kind = self._random.random()
        if depth > 0 and kind < 0.2:
            return [self._data(depth - 1) for _ in range(self._random.randint(0, 3))]
        if depth > 0 and kind < 0.4:
            return {name: self._data(depth - 1) for name in self._random.sample(NAMES, 2)}
        return self._random.choice((None, True, False, self._number(), self._string(), ""))
