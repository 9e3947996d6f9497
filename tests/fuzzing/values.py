"""Hostile JSON: values of a schema with something wrong in them, and texts that are hardly JSON at all."""

from __future__ import annotations

import json
import random
from typing import Any

__all__ = ["HostileValues"]

TEXTS = (
    "", " ", "a", "\0", "a\0b", "\ud800", "\udfff\ud800", "\u202e", "\ufeff", "\u2028", "\x1b[2J", "\r\n", "é", "e\u0301", "😀",
    "ﷺ", "null", "true", "NaN", "1e999", "../../etc/passwd", "..%2f..", "%00", "%", "{{7*7}}", "' OR 1=1 --", "<script>",
    "<|im_end|>", "</tool_call>", "me", "others", "*", "0", "-1", "2026-02-30T25:61:61Z", "9999-12-31T23:59:59.999999+23:59",
    "0001-01-01T00:00:00+14:00", "0b0f1c8e-6f0c-4c7e-9d6b-0c6f3f1f2a11", "00000000-0000-0000-0000-000000000000", "Europe/Berlin",
)  # fmt: skip
NUMBERS = (
    0, -0.0, 1, -1, 2, 5e-324, 0.5, 1e-9, 1e15, 1e16, 1e308, -1e308, 2**31 - 1, 2**31, 2**32, 2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**64,
    -(2**63), -(2**63) - 1, 10**30, 10**300,
)  # fmt: skip
RAW = (
    b"", b" ", b"{", b"[", b"}", b"{}", b"[]", b"null", b"NaN", b"Infinity", b"-", b"1e999", b"0x10", b"01", b'"', b'"\\ud800"', b'"\\u0000"',
    b'{"a":1,"a":2}', b'{"title":1,"title":"x"}', b"\xff\xfe{\x00}\x00", b"\xef\xbb\xbf{}", b"\xc0\x80", b"\xed\xa0\x80", b'{"\xff":1}',
    b"/**/{}", b"{'a':1}", b'{"a":1,}', b'{"__class__":"x"}', b"1" * 5000, b'{"a":' + b"9" * 5000 + b"}", b"[" * 50_000, b'{"a":' * 20_000,
    b"[" * 400 + b"]" * 400, b"[" + b"0," * 100_000 + b"0]", b'"' + b"a" * 300_000 + b'"', b'{"a":"' + b"\\u0041" * 20_000 + b'"}',
)  # fmt: skip
LONGEST_REPEAT = 40_000


class HostileValues:
    """Every draw comes from the generator it was given. ``definitions`` are those that `$ref` leads to."""

    def __init__(self, draw: random.Random, definitions: dict[str, Any]) -> None:
        self._draw = draw
        self._definitions = definitions

    def text(self) -> str:
        """Any string, lone surrogates among them."""
        draw, kind = self._draw, self._draw.random()
        if kind < 0.7:
            return draw.choice(TEXTS)
        if kind < 0.85:
            return draw.choice((*TEXTS[:16], "ab ", "{", "[")) * draw.choice((2, 65, 256, 1025, LONGEST_REPEAT // 8))
        return "".join(
            chr(draw.choice((draw.randrange(128), draw.randrange(0x110000)))) for _ in range(draw.choice((1, 5, 40)))
        )

    def number(self) -> float:
        """Any number, edges of machine types before all."""
        return self._draw.choice(NUMBERS) if self._draw.random() < 0.7 else self._draw.randint(-(10**12), 10**12)

    def anything(self, depth: int = 3) -> Any:
        """Any JSON value."""
        draw = self._draw
        kind = draw.randrange(8 if depth > 0 else 5)
        if kind < 3:
            return draw.choice((None, True, False, [], {}))
        if kind < 5:
            return self.number() if draw.random() < 0.5 else self.text()
        if kind == 5:
            return [self.anything(depth - 1) for _ in range(draw.choice((0, 1, 3, 20)))]
        if kind == 6:
            return {self.text(): self.anything(depth - 1) for _ in range(draw.choice((0, 1, 3, 10)))}
        nested: Any = 0
        for _ in range(draw.choice((10, 60, 70, 200))):
            nested = [nested] if draw.random() < 0.5 else {"a": nested}
        return nested

    def of(self, schema: dict[str, Any], *, wrong: float) -> Any:
        """A value of the schema in which each part is another with this probability."""
        draw = self._draw
        if draw.random() < wrong:
            return self.anything()
        if "$ref" in schema:
            return self.of(self._definitions[schema["$ref"].rpartition("/")[2]], wrong=wrong)
        for keyword in ("oneOf", "anyOf"):
            if keyword in schema:
                return self.of(draw.choice(schema[keyword]), wrong=wrong)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return draw.choice(schema["enum"])
        kind = schema.get("type")
        if isinstance(kind, list):
            kind = draw.choice(kind)
        if kind == "object":
            return self._object(schema, wrong)
        if kind == "array":
            count = draw.choice((schema.get("minItems", 0), 1, 2, min(schema.get("maxItems", 3), 3)))
            return [self.of(schema.get("items", {}), wrong=wrong) for _ in range(count)]
        if kind in ("integer", "number"):
            low, high = schema.get("minimum", -10), schema.get("maximum", 10)
            return draw.choice((low, high, min(high, max(low, draw.randint(0, 10)))))
        if kind == "boolean":
            return draw.random() < 0.5
        if kind == "null":
            return None
        if kind == "string":
            return self._fitting_text(schema)
        return self.anything(2)

    def raw(self, value: Any) -> bytes:
        """The value as JSON, or what is none of it."""
        draw = self._draw
        if draw.random() < 0.12:
            return draw.choice(RAW)
        data = json.dumps(value, ensure_ascii=draw.random() < 0.5).encode("utf-8", "surrogatepass")
        if draw.random() < 0.1:
            at = draw.randrange(len(data))
            data = (
                data[:at]
                + draw.choice((b"", b"\0", b"\xff", b"{", b"9" * 400, draw.choice(RAW)[:2000]))
                + data[at + draw.choice((0, 1)) :]
            )
        return data

    def _object(self, schema: dict[str, Any], wrong: float) -> dict[str, Any]:
        draw = self._draw
        properties = schema.get("properties", {})
        required = schema.get("required", ())
        made = {}
        for name, one in properties.items():
            chance = 1 - wrong / 2 if name in required else 0.3
            if draw.random() < chance:
                made[name] = self.of(one, wrong=wrong)
        if draw.random() < wrong / 2:
            made[self.text()] = self.anything()
        if not properties and isinstance(schema.get("additionalProperties"), dict):
            for _ in range(draw.randint(0, 3)):
                made[self.text()] = self.of(schema["additionalProperties"], wrong=wrong)
        return made

    def _fitting_text(self, schema: dict[str, Any]) -> str:
        draw = self._draw
        longest = min(schema.get("maxLength", 40), LONGEST_REPEAT)
        if draw.random() < 0.15:
            return draw.choice(("a", "é", "😀", "\\")) * (longest + draw.choice((-1, 0, 1)))
        if schema.get("format") == "date-time":
            return "2026-12-01T10:00:00.000Z"
        if schema.get("format") == "uuid":
            return "0b0f1c8e-6f0c-4c7e-9d6b-0c6f3f1f2a11"
        return draw.choice(("me", "a", "count to 3", "x" * max(1, schema.get("minLength", 1)), "https://example.org/a"))
