"""Structured output: turns JSON Schemas and tool calls into token masks with llguidance, so that every answer stays
valid.

llguidance was chosen because it is written in Rust, does not need PyTorch, takes about a millisecond per mask, and
leaves the mask in numpy, where plain MLX can apply it on every backend (its own Metal kernel runs on one).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
from numpy.typing import NDArray

from actors.inference.answer_forms import ARGUMENT_SYNTAXES
from actors.inference.answer_guard import AnswerGuard, TokenTables
from actors.inference.answer_scan import AnswerScan
from actors.inference.argument_guard import ArgumentGuard, ArgumentPlaces
from actors.inference.free_calls import NAMED, FreeCallMatcher, seen_marks
from actors.inference.grammar_tokenizer import grammar_tokenizer
from actors.inference.json_schema import PreparedSchema, prepared_schema
from actors.inference.schema_errors import BadSchema, words_of
from actors.inference.tool_call_grammar import COMPACT, NotAnObject, arguments_schema, call_grammar
from actors.inference.tools import ToolCallConstraint, ToolCallFormat

__all__ = ["AnyMatcher", "BadSchema", "Grammars", "GrammarsAtNeed", "Matcher"]

MAXIMUM_SCHEMA_CHARACTERS = 64 * 1024
MAXIMUM_GRAMMAR_SIZE = 10_000
"""Symbols of a schema's grammar: an optional integer property takes four. At this size a matcher is made in a tenth of
a second and its slowest mask takes some 30 ms, the longest that other rows have to wait."""
MAXIMUM_ITEMS_IN_ROW = 2 * MAXIMUM_GRAMMAR_SIZE
"""Parser items at one position of the answer. No schema tried needed more than its grammar's size (thousands of
optional properties, unions of objects, nested arrays), so an accepted schema does not fail half-way."""


class Grammars:
    """Makes matchers for one model's vocabulary. The server's sandbox uses it to check, the worker to mask."""

    def __init__(
        self, tokenizer: Path | Mapping[str, Any], vocabulary_size: int, stop_token_ids: Sequence[int]
    ) -> None:
        """``tokenizer`` is the checkpoint's `tokenizer.json` or its content. Blocking, some 200 ms. Raises
        `ValueError`."""
        import llguidance

        self._library = llguidance
        self._vocabulary_size = vocabulary_size
        content = json.loads(tokenizer.read_bytes()) if isinstance(tokenizer, Path) else tokenizer
        of_text = grammar_tokenizer(content)
        self._token_tables: TokenTables | None = None
        self._mark_ids, self._changes_text = of_text.mark_ids, of_text.changes_text
        self._tokenizer = llguidance.LLTokenizer(
            of_text.source, n_vocab=vocabulary_size, eos_token=sorted(stop_token_ids)
        )
        # The library compiles by row items and states; these limits keep one schema from occupying the thread.
        self._limits = llguidance.LLParserLimits(
            max_items_in_row=MAXIMUM_ITEMS_IN_ROW,
            initial_lexer_fuel=1_000_000,
            step_lexer_fuel=200_000,
            step_max_items=50_000,
            max_lexer_states=50_000,
            max_grammar_size=MAXIMUM_GRAMMAR_SIZE,
        )

    def check(self, schema: dict[str, Any]) -> tuple[str, ...]:
        """Checks a schema and returns the locations that answers leave out. Blocking.

        Raises `BadSchema` if it is invalid, too large or not supported.
        """
        prepared = self._prepared(schema)
        self._validate(self._grammar(schema, prepared))
        return prepared.left_out

    def check_calls(self, rule: ToolCallConstraint, tell_field: Callable[[str], None] = lambda _: None) -> list[str]:
        """Does the same for the parameters of functions. Blocking. Raises `BadSchema` naming the function at fault.

        ``tell_field`` is called with that name before native code works on it.
        """
        length = 0
        left_out: list[str] = []
        for function in rule.functions:
            tell_field(function.path)
            try:
                schema = arguments_schema(function)
                left_out += [f"{function.path}{place}" for place in self.check(schema)]
            except (NotAnObject, BadSchema) as error:
                raise BadSchema(str(error), field=function.path) from None
            length += len(json.dumps(schema))
        if rule.answer_schema is not None:
            tell_field("response_schema")
            left_out += [f"response_schema{place}" for place in self.check(rule.answer_schema)]
        if length > MAXIMUM_SCHEMA_CHARACTERS:
            problem = f"all parameters together have {length} characters, over {MAXIMUM_SCHEMA_CHARACTERS}"
            raise BadSchema(problem, field="tools")
        tell_field("tools")
        try:
            grammar = self._grammar_of_calls(rule, self._check_text)
        except NotAnObject as error:
            raise BadSchema(str(error), field=error.path) from None
        self._validate(grammar, field="tools")
        return left_out

    def matcher(self, followed: dict[str, Any] | ToolCallConstraint, emitted_ids: Sequence[int]) -> Matcher:
        """Returns a matcher for a schema or for calls, advanced over the tokens emitted so far. Raises `BadSchema`."""
        if isinstance(followed, ToolCallConstraint):
            schemas = [arguments_schema(one) for one in followed.functions]
            schemas += [followed.answer_schema] if followed.answer_schema is not None else []
            prepared = [prepared_schema(one) for one in schemas]
            grammar = self._grammar_of_calls(followed)
        else:
            prepared = [self._prepared(followed)]
            grammar = self._grammar(followed, prepared[0])
        inner = self._library.LLMatcher(self._tokenizer, grammar, limits=self._limits)
        guard = self._guard(prepared, followed if isinstance(followed, ToolCallConstraint) else None)
        matcher = Matcher(inner, self._vocabulary_size, guard, self._begins_at(followed))
        for token_id in emitted_ids:
            matcher.take(token_id)
        return matcher

    def free_calls(self, form: ToolCallFormat, emitted_ids: Sequence[int]) -> FreeCallMatcher:
        """Returns a matcher for an answer with optional calls, of which only the arguments are constrained."""
        tables = self.make_tables()
        prepared = [prepared_schema({"type": "object"})]
        unread: dict[str, Any] = {}

        def new_holder(grammar: str, read: bytes) -> Matcher:
            if grammar not in unread:
                unread[grammar] = self._library.LLMatcher(self._tokenizer, grammar, limits=self._limits)
            begins_at = (None, b":") if grammar == NAMED else None
            holder = Matcher(unread[grammar].deep_copy(), self._vocabulary_size, self._guard(prepared), begins_at)
            for token_id in self._tokenizer.tokenize_bytes(read):
                holder.take(token_id)
            return holder

        marks = {self._mark_ids[one]: one.encode() for one in seen_marks(form) if one in self._mark_ids}
        matcher = FreeCallMatcher(form, marks, tables.contents.__getitem__, new_holder)
        for token_id in emitted_ids:
            matcher.take(token_id)
        return matcher

    def _guard(self, prepared: Sequence[PreparedSchema], rule: ToolCallConstraint | None = None) -> AnswerGuard:
        """Guard for what the grammar cannot express; for tool calls it follows ``rule``."""
        unique_keys = frozenset[str]().union(*(one.unique_keys for one in prepared))
        scan = AnswerScan(unique_keys)
        has_narrow_strings = any(one.has_narrow_strings for one in prepared)
        if rule is None or rule.tool_call_format not in ARGUMENT_SYNTAXES:
            return AnswerGuard(self.make_tables(), scan, has_narrow_strings=has_narrow_strings)
        marks = {self._mark_ids[one]: one.encode() for one in rule.tool_call_format.marks if one in self._mark_ids}
        return ArgumentGuard(
            self.make_tables(), scan, has_narrow_strings=has_narrow_strings, places=ArgumentPlaces(rule), marks=marks
        )

    def _begins_at(self, followed: dict[str, Any] | ToolCallConstraint) -> tuple[int | None, bytes] | None:
        """Token and text of the mark that begins an optional call; before it the answer is free text."""
        if not isinstance(followed, ToolCallConstraint) or followed.is_required or followed.answer_schema is not None:
            return None
        opening = followed.tool_call_format.opening
        return self._mark_ids.get(opening), opening.encode()

    def make_tables(self) -> TokenTables:
        """Token tables for guards, cached. Blocking, some 200 ms for 50,000 tokens."""
        if self._token_tables is None:
            tokenizer = self._tokenizer
            self._token_tables = TokenTables(
                [
                    b"" if tokenizer.is_special_token(one) else tokenizer.decode_bytes([one])
                    for one in range(self._vocabulary_size)
                ]
            )
        return self._token_tables

    @staticmethod
    def _prepared(schema: dict[str, Any]) -> PreparedSchema:
        length = len(json.dumps(schema))
        if length > MAXIMUM_SCHEMA_CHARACTERS:
            raise BadSchema(f"the schema has {length} characters, over {MAXIMUM_SCHEMA_CHARACTERS}")
        return prepared_schema(schema)

    def _grammar(self, schema: dict[str, Any], prepared: PreparedSchema) -> str:
        return f"{self._options(schema)}start: %json {json.dumps({**prepared.schema, 'x-guidance': COMPACT})}\n"

    def _check_text(self, place: str, terminal: str) -> None:
        """Rejects a text that no string can match, since an answer would end in the middle of the call."""
        engine = self._library.LLMatcher(self._tokenizer, f"start: T\nT: {terminal}\n", limits=self._limits)
        try:
            Matcher(engine, self._vocabulary_size).mask()
        except BadSchema as error:
            raise NotAnObject(f"{place}: {error}") from None

    def _grammar_of_calls(
        self, rule: ToolCallConstraint, tell_text: Callable[[str, str], None] = lambda _, __: None
    ) -> str:
        fixed = [rule.answer_schema, *(one.parameters for one in rule.functions)]
        return self._options(fixed) + call_grammar(rule, self._mark, tell_text)

    def _options(self, fixed: Any) -> str:
        """Lets the tokenizer spell fixed text with its own tokens, unless that would change the text."""
        # Lone surrogates cannot occur in an answer and are rejected when the grammar is parsed.
        text = json.dumps(fixed, ensure_ascii=False).encode(errors="replace").decode()
        # A pattern may contain a character's code.
        has_numbers = self._changes_text and ("\\\\u" in text or "\\\\x" in text)
        is_spelled = (
            not has_numbers and self._tokenizer.decode_bytes(self._tokenizer.tokenize_str(text)) == text.encode()
        )
        return "" if is_spelled else '%llguidance {"no_forcing": true}\n'

    def _validate(self, grammar: str, *, field: str = "response_schema") -> None:
        problem = self._library.LLMatcher.validate_grammar(grammar, self._tokenizer, limits=self._limits)
        if problem:
            raise BadSchema(words_of(problem), field=field)
        try:
            # Some limits take effect only when the first token is chosen.
            Matcher(
                self._library.LLMatcher(self._tokenizer, grammar, limits=self._limits), self._vocabulary_size
            ).mask()
        except BadSchema as error:
            raise BadSchema(str(error), field=field) from None

    def _mark(self, text: str) -> str:
        """Terminal of a mark: its token if the model has one, since the model learned that; spelled out it would be
        another text."""
        token_id = self._mark_ids.get(text)
        return json.dumps(text) if token_id is None else f"<[{token_id}]>"


class GrammarsAtNeed:
    """Creates `Grammars` when the first answer needs them. Thread-safe."""

    def __init__(self, make: Callable[[], Grammars]) -> None:
        """``make`` may raise `ValueError`, every time it is needed."""
        self._make = make
        self._made: Grammars | None = None
        self._lock = threading.Lock()

    def matcher(self, followed: dict[str, Any] | ToolCallConstraint, emitted_ids: Sequence[int]) -> Matcher:
        """As in `Grammars.matcher`."""
        return self._grammars().matcher(followed, emitted_ids)

    def free_calls(self, form: ToolCallFormat, emitted_ids: Sequence[int]) -> FreeCallMatcher | None:
        """As in `Grammars.free_calls`; None if the tokenizer cannot be read, and such calls are not constrained at all."""
        try:
            return self._grammars().free_calls(form, emitted_ids)
        except ValueError:
            return None

    def _grammars(self) -> Grammars:
        with self._lock:
            if self._made is None:
                self._made = self._make()
            return self._made


class Matcher:
    """Follows one answer."""

    __slots__ = ("_begins_at", "_guard", "_inner", "_tail", "_words")

    def __init__(
        self,
        inner: Any,
        vocabulary_size: int,
        guard: AnswerGuard | None = None,
        begins_at: tuple[int | None, bytes] | None = None,
    ) -> None:
        """``guard`` enforces what the grammar cannot, from ``begins_at`` on if JSON begins only there."""
        self._inner = inner
        self._words = (vocabulary_size + 31) // 32
        self._guard, self._begins_at = guard, begins_at
        self._tail = b""

    def mask(self) -> NDArray[numpy.uint32]:
        """Bit mask of the tokens that may come next, 32 per word, lowest first. Raises `BadSchema` if none is left."""
        allowed = self._mask_of(self._inner)
        if self._guard is None or self._begins_at is not None:
            return allowed
        return self._guard.guarded(allowed, self._inner, self._allowed_after)

    @property
    def is_complete(self) -> bool:
        """True if the answer may end here."""
        return bool(self._inner.is_accepting())

    def take(self, token_id: int) -> None:
        """Appends a token to the answer. Raises `BadSchema` if the schema forbids it."""
        self._inner.consume_token(token_id)
        _raise_problem(self._inner)
        if self._guard is None:
            return
        if self._begins_at is None:
            self._guard.take(token_id)
            return
        mark_id, mark = self._begins_at
        self._tail = (self._tail + self._guard.content(token_id))[-2 * len(mark) - 100 :]
        if token_id == mark_id or mark in self._tail:
            self._begins_at = None
            # The token that completes the mark may also begin the text after it.
            self._guard.read(self._tail.partition(mark)[2])

    def _mask_of(self, engine: Any) -> NDArray[numpy.uint32]:
        from llguidance import numpy as masks

        bits = numpy.zeros((1, self._words), dtype=numpy.int32)
        masks.fill_next_token_bitmask(engine, bits, 0)
        _raise_problem(engine)
        allowed: NDArray[numpy.uint32] = bits[0].view(numpy.uint32)
        return allowed

    def _allowed_after(self, engine: Any, token_id: int) -> tuple[Any, NDArray[numpy.uint32]] | None:
        """Copies the engine, advances the copy by a token, and returns it with its mask; None if no token may follow."""
        copy = engine.deep_copy()
        copy.consume_token(token_id)
        try:
            return copy, self._mask_of(copy)
        except BadSchema:
            return None


def _raise_problem(engine: Any) -> None:
    problem = engine.get_error()
    if problem:
        raise BadSchema(words_of(problem))


AnyMatcher = Matcher | FreeCallMatcher
"""Matcher of a whole answer, or of its calls' arguments only."""
