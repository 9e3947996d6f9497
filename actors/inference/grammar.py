"""JSON Schemas as token masks, by llguidance: which tokens may come next so that the answer stays valid.

llguidance was chosen because it is written in Rust, needs no PyTorch, takes about a millisecond a mask, and
leaves the mask in numpy, where plain MLX can apply it on every backend (its own Metal kernel runs on one).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy
from numpy.typing import NDArray

__all__ = ["BadSchema", "Grammars", "Matcher"]

MAXIMUM_SCHEMA_CHARACTERS = 64 * 1024
COMPACT: Any = {"whitespace_flexible": False}
"""No white space between JSON tokens: a model that is allowed some may emit it for ever."""


class BadSchema(ValueError):
    """The schema cannot be followed; the text says why."""


class Grammars:
    """Makes matchers for one model's vocabulary. Both processes have one: to check, and to mask."""

    def __init__(self, tokenizer: Path, vocabulary_size: int, stop_token_ids: Sequence[int]) -> None:
        """``tokenizer`` is the checkpoint's `tokenizer.json`; blocking, some 200 ms. Raises `ValueError`."""
        import llguidance

        self._library = llguidance
        self._vocabulary_size = vocabulary_size
        self._tokenizer = llguidance.LLTokenizer(
            str(tokenizer), n_vocab=vocabulary_size, eos_token=sorted(stop_token_ids)
        )
        # The library compiles by row items and states; these bounds keep one schema from taking the thread.
        self._limits = llguidance.LLParserLimits(
            max_items_in_row=2000,
            initial_lexer_fuel=1_000_000,
            step_lexer_fuel=200_000,
            step_max_items=50_000,
            max_lexer_states=50_000,
            max_grammar_size=100_000,
        )

    def check(self, schema: dict[str, Any]) -> None:
        """Blocking. Raises `BadSchema` for one that is wrong, too large or uses what is not supported."""
        problem = self._library.LLMatcher.validate_grammar(self._grammar(schema), self._tokenizer, limits=self._limits)
        if problem:
            raise BadSchema(" ".join(problem.split())[:300])

    def matcher(self, schema: dict[str, Any], emitted_ids: Sequence[int]) -> Matcher:
        """A matcher that stands after these tokens. Raises `BadSchema`."""
        inner = self._library.LLMatcher(self._tokenizer, self._grammar(schema), limits=self._limits)
        matcher = Matcher(inner, self._vocabulary_size)
        for token_id in emitted_ids:
            matcher.take(token_id)
        return matcher

    def _grammar(self, schema: dict[str, Any]) -> str:
        text = json.dumps(schema)
        if len(text) > MAXIMUM_SCHEMA_CHARACTERS:
            raise BadSchema(f"the schema has {len(text)} characters, over {MAXIMUM_SCHEMA_CHARACTERS}")
        try:
            grammar: str = self._library.LLMatcher.grammar_from_json_schema(text, overrides=COMPACT)
        except ValueError as error:
            raise BadSchema(str(error)[:300]) from error
        return grammar


class Matcher:
    """Follows one answer."""

    __slots__ = ("_inner", "_words")

    def __init__(self, inner: Any, vocabulary_size: int) -> None:
        self._inner = inner
        self._words = (vocabulary_size + 31) // 32

    def mask(self) -> NDArray[numpy.uint32]:
        """Bits of the tokens that may come next, 32 to a word, lowest first. Raises `BadSchema` when stuck."""
        from llguidance import numpy as masks

        bits = numpy.zeros((1, self._words), dtype=numpy.int32)
        masks.fill_next_token_bitmask(self._inner, bits, 0)
        self._raise_problem()
        allowed: NDArray[numpy.uint32] = bits[0].view(numpy.uint32)
        return allowed

    def take(self, token_id: int) -> None:
        """The answer goes on with this token. Raises `BadSchema` if the schema forbids it."""
        self._inner.consume_token(token_id)
        self._raise_problem()

    def _raise_problem(self) -> None:
        problem = self._inner.get_error()
        if problem:
            raise BadSchema(" ".join(problem.split())[:300])
