"""Answers whose every token was drawn from those that a grammar allows: a harsher proof than what a model would write."""

from __future__ import annotations

import contextlib
import json
import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import numpy

from actors.inference.answer_scan import AnswerScan
from actors.inference.structured_output import Grammars
from actors.inference.text.text_model import CheckpointText

__all__ = ["RandomAnswers", "judge"]

HURRIES_AFTER = 120
"""Tokens after which an answer is brought to its end where it may be."""


class RandomAnswers:
    """Draws answers at random from one checkpoint's vocabulary."""

    def __init__(self, folder: Path) -> None:
        """``folder`` has the tokenizer; blocking."""
        self.text = CheckpointText(folder)
        self._stops = sorted(self.text.stop_token_ids)
        self.end = self._stops[0]
        """A token that ends an answer."""
        self.grammars = Grammars(folder / "tokenizer.json", self.text.vocabulary_size, self._stops)
        contents = [self.text.token_text(one).content or b"" for one in range(self.text.vocabulary_size)]
        self._contents = contents
        self._closing = {
            is_in_string: numpy.array([one[:1] in ((b'"',) if is_in_string else (b"}", b"]")) for one in contents])
            for is_in_string in (False, True)
        }
        self._plain = numpy.array([0 < len(one) <= 4 and one.isascii() for one in contents])

    def answer(self, followed: Any, seed: int, most_tokens: int = 1500) -> tuple[str, bool]:
        """The text, and whether it came to its end."""
        draw = random.Random(seed)
        matcher = self.grammars.matcher(followed, [])
        detokenizer, told, scan = self.text.detokenizer(), "", AnswerScan()
        for count in range(most_tokens):
            allowed = numpy.unpackbits(matcher.mask().view(numpy.uint8), bitorder="little")[: len(self._contents)] == 1
            may_stop = [one for one in self._stops if allowed[one]]
            ids = self._worth(allowed, draw, scan.is_in_string, is_late=count > HURRIES_AFTER)
            if may_stop and (count > HURRIES_AFTER or draw.random() < 0.4 or not ids):
                return told + detokenizer.finish(), True
            token_id = draw.choice(ids)
            matcher.take(token_id)
            scan.take(self._contents[token_id])
            told += detokenizer.feed(token_id)
        return told, False

    def _worth(self, allowed: Any, draw: random.Random, is_in_string: bool, *, is_late: bool) -> Sequence[int]:
        """Tokens to draw from: mostly such as bring the answer on, now and then any."""
        allowed = allowed.copy()
        allowed[self._stops] = False
        closing = allowed & self._closing[is_in_string]
        if closing.any() and (is_late or draw.random() < 0.3):
            return list(closing.nonzero()[0].tolist())
        plain = allowed & self._plain
        chosen = plain if plain.any() and draw.random() < 0.8 else allowed
        return list(chosen.nonzero()[0].tolist())


def judge(schema: dict[str, Any], text: str) -> str | None:
    """Return the first error that an independent validator finds in an answer, or None."""
    try:
        value = json.loads(text, object_pairs_hook=_once)
        msgspec.json.decode(text)
    except ValueError as error:
        return f"no JSON: {error}"
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    readable = {one: _where_readable(kind.VALIDATORS[one]) for one in ("pattern", "patternProperties")}
    problem = next(jsonschema.validators.extend(kind, readable)(schema).iter_errors(value), None)
    return None if problem is None else f"{problem.json_path}: {problem.message[:200]}"


def _where_readable(keyword: Any) -> Any:
    """The same keyword, silent about patterns that Python's `re` cannot read (`\\p{L}`)."""

    def check(*arguments: Any) -> Iterator[Any]:
        with contextlib.suppress(re.error):
            yield from keyword(*arguments) or ()

    return check


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key twice")
    return made
