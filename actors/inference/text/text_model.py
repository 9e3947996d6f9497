"""The text side of a model: encodes prompts to token ids, and decodes answers incrementally."""

from __future__ import annotations

import codecs
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import jinja2

from actors.inference.checkpoints.config_fields import MAXIMUM_POSITIONS, MAXIMUM_VOCABULARY, end_tokens_problem
from actors.inference.checkpoints.stop_tokens import stop_token_ids
from actors.inference.schema_bounds import check_bounds
from actors.inference.schema_errors import BadSchema
from actors.inference.text.chat_template import ChatTemplate, TemplateRefused
from actors.inference.text.checkpoint_files import (
    chat_templates,
    read_object,
    read_tokenizer,
    special_tokens,
    tokenizer_content,
)
from actors.inference.text.form_detection import visible_marks
from actors.inference.text.generic_tools import GENERIC_FORMAT
from actors.inference.text.special_texts import Guard, PromptTokenizer, SpecialTextRefused
from actors.inference.text.token_bytes import OneToken, name_of
from actors.inference.text.token_text import TokenText, decoding_json, without_panics
from actors.inference.tools import GenerateWithTools, ReasoningForm, ToolCallConstraint, ToolCallFormat, is_held
from protocol.generation import ChatMessage, Generate

if TYPE_CHECKING:
    from actors.inference.structured_output import Grammars

__all__ = ["CheckpointText", "Detokenizer", "MockText", "TextModel"]


class Detokenizer(Protocol):
    """Turns one answer's token ids into text; never splits a character."""

    def feed(self, token_id: int) -> str:
        """Returns the text that this token completes, possibly empty."""

    def finish(self) -> str:
        """Returns the remaining text; an incomplete character becomes U+FFFD."""


class TextModel(Protocol):
    """A model's text side, as used by the inference actor."""

    vocabulary_size: int
    context_tokens: int
    """Maximum length of prompt and answer together."""
    stop_token_ids: frozenset[int]
    tool_call_format: ToolCallFormat
    """Tool-call format."""
    has_tools: bool
    """True if the model's own chat template supports tools; otherwise they are described to it in a generic form."""
    reasoning: ReasoningForm
    """How it marks its reasoning."""

    def encode(self, request: Generate) -> list[int]:
        """Checks the schema and encodes the prompt. Blocking CPU work. Raises `TemplateRefused` or `BadSchema`."""

    def token_text(self, token_id: int) -> OneToken:
        """Text and bytes of a single token."""

    def detokenizer(self) -> Detokenizer:
        """Returns a new one for each answer."""


class CheckpointText(TokenText):
    """Text side of a checkpoint folder: `tokenizer.json`, `config.json` and the chat template.

    Only the `tokenizers` library is used: transformers would take seconds and hundreds of megabytes. Templates and
    tokenizers are the checkpoint's own programs and may never return, so the server uses this class only in child
    processes (`sandbox/`).
    """

    def __init__(self, folder: Path) -> None:
        """Reads the files. Blocking. Raises `OSError` or `ValueError` naming the file at fault."""
        config = read_object(folder / "config.json")
        tokenizer_path = folder / "tokenizer.json"
        content = read_tokenizer(tokenizer_path)
        settings = read_object(folder / "tokenizer_config.json", is_optional=True)
        named = special_tokens(folder, settings)
        sources = chat_templates(folder, settings)
        tokens = frozenset(_added_texts(tokenizer_path, content))
        self._template = _template(folder, sources["default"], named, tokens)
        self._template_with_tools = _template(folder, sources.get("tool_use", sources["default"]), named, tokens)
        self.tool_call_format = self._template_with_tools.tool_call_format
        self.has_tools = self._template_with_tools.has_tools
        self.reasoning = self._template_with_tools.reasoning
        try:
            content = tokenizer_content(content, settings, named)
            marks = frozenset((*self.tool_call_format.marks, *visible_marks(self.reasoning.marks)))
            special_texts = _special_texts(content, marks)
            content = _with_visible_marks(content, marks)
            super().__init__(without_panics(_tokenizer, content))
            self._prompts = PromptTokenizer(self._tokenizer, content, special_texts)
        except Exception as error:
            raise ValueError(f"{tokenizer_path.name} in {folder} is not a tokenizer: {error}") from error
        self._content = content
        self.vocabulary_size = _count(folder, config, "vocab_size", MAXIMUM_VOCABULARY)
        self.context_tokens = _count(folder, config, "max_position_embeddings", MAXIMUM_POSITIONS)
        # Read only for its errors: a damaged one would silently lose a stop token.
        generation = read_object(folder / "generation_config.json", is_optional=True)
        for name, read in (("config.json", config), ("generation_config.json", generation)):
            problem = end_tokens_problem(read.get("eos_token_id"))
            if problem is not None:
                raise ValueError(f"eos_token_id of {name} in {folder} {problem}")
        self.stop_token_ids = stop_token_ids(folder, config)
        self._tokenizer_path = tokenizer_path
        self._grammars: Grammars | None = None
        self._grammars_lock = threading.Lock()

    def encode(self, request: Generate) -> list[int]:
        """Checks the schema and encodes the prompt. Blocking. Raises `TemplateRefused` or `BadSchema`."""
        self.check_form(request)
        return self.encode_prompt(request)

    def check_form(self, request: Generate, tell_field: Callable[[str], None] = lambda _: None) -> list[str]:
        """Checks the schema or tools of the answer. Returns the locations that answers leave out. Blocking. Raises
        `BadSchema`.

        ``tell_field`` is called with the name of each part before native code works on it.
        """
        return _check_form(request, tell_field, self.load_grammars)

    def encode_prompt(self, request: Generate, tell_step: Callable[[str], None] = lambda _: None) -> list[int]:
        """Encodes the prompt without checking the schema. Blocking; releases the GIL. Raises `TemplateRefused`.

        ``tell_step`` is called with `template` and `tokenizer` before each begins.
        """
        if isinstance(request, GenerateWithTools):
            tell_step("template")
            guard = self._guard_for(request.turns, request.tools)
            text, adds_special = self._template_with_tools.render_with_tools(request, guard), False
        elif request.messages is not None:
            tell_step("template")
            guard = self._guard_for([one.content for one in request.messages])
            # The template writes the special tokens itself.
            text = self._template.render(request.messages, guard, answer_is_held=is_held(request))
            adds_special = False
        else:
            # A prompt without a template may contain the marks itself.
            guard, text, adds_special = None, request.prompt or "", True
        tell_step("tokenizer")
        return without_panics(partial(self._prompts.encode, text, guard, adds_special=adds_special))

    def _guard_for(self, *data: Any) -> Guard | None:
        try:
            return without_panics(self._prompts.guard_for, *data)
        except SpecialTextRefused as error:
            raise TemplateRefused(str(error)) from error

    def load_grammars(self, source_field: str) -> Grammars:
        """Grammars for checking schemas, cached. Raises `BadSchema` for a tokenizer that the grammar library does not
        support."""
        # Imports numpy, which the server itself does not need.
        from actors.inference.structured_output import Grammars

        # Several encoding threads may arrive at once, and creation takes a fifth of a second.
        with self._grammars_lock:
            if self._grammars is None:
                stop_ids = sorted(self.stop_token_ids)
                try:
                    self._grammars = without_panics(Grammars, self._tokenizer_path, self.vocabulary_size, stop_ids)
                except ValueError as error:
                    problem = f"this model's answers cannot be constrained: its tokenizer is not supported ({error})"
                    raise BadSchema(problem, field=source_field) from error
            return self._grammars

    def decoding_json(self) -> str:
        """Input of `TokenText.of_json`. Raises `ValueError`."""
        try:
            return decoding_json(self._content)
        except ValueError as error:
            raise ValueError(f"{self._tokenizer_path.name} in {self._tokenizer_path.parent}: {error}") from None


class MockText:
    """Bytes as tokens, for the mock engine: 256 bytes and one token that ends the answer."""

    END = 256
    tool_call_format: ToolCallFormat = GENERIC_FORMAT
    has_tools = False
    """It has no template."""
    reasoning = ReasoningForm()

    def __init__(self, context_tokens: int = 8192) -> None:
        """``context_tokens`` counts bytes here."""
        self._grammars: Grammars | None = None
        self._grammars_lock = threading.Lock()
        self.vocabulary_size = 257
        self.context_tokens = context_tokens
        self.stop_token_ids = frozenset({self.END})

    def encode(self, request: Generate) -> list[int]:
        """UTF-8 bytes of the last message or the prompt. Raises `BadSchema`, and `TemplateRefused` for another call
        format."""
        self.check_form(request)
        return self.encode_prompt(request)

    def check_form(self, request: Generate, tell_field: Callable[[str], None] = lambda _: None) -> list[str]:
        """As in `CheckpointText.check_form`."""
        return _check_form(request, tell_field, self.load_grammars)

    def encode_prompt(self, request: Generate, tell_step: Callable[[str], None] = lambda _: None) -> list[int]:
        """UTF-8 bytes, without checking the schema. Raises `TemplateRefused` for another call format."""
        tell_step("tokenizer")
        if isinstance(request, GenerateWithTools) and request.tool_call_format is not self.tool_call_format:
            raise TemplateRefused("the mock engine calls tools in another format")
        messages: Sequence[ChatMessage] = request.messages or ()
        return list((messages[-1].content if messages else request.prompt or "").encode()) or [0]

    def load_grammars(self, source_field: str) -> Grammars:
        """Grammars for checking schemas, cached."""
        with self._grammars_lock:
            if self._grammars is None:
                from actors.inference.text.mock_grammars import mock_grammars

                self._grammars = mock_grammars()
            return self._grammars

    def decoding_json(self) -> str:
        """Empty: bytes need no tokenizer."""
        return ""

    def token_text(self, token_id: int) -> OneToken:
        """A single byte."""
        content = bytes([token_id]) if token_id < self.END else b"<|end|>"
        return OneToken(name_of(content), content, is_shown=token_id < self.END)

    def detokenizer(self) -> Detokenizer:
        """Returns a new one for each answer."""
        return _ByteDetokenizer()


class _ByteDetokenizer:
    __slots__ = ("_decoder",)

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token_id: int) -> str:
        return self._decoder.decode(bytes([token_id])) if token_id < MockText.END else ""

    def finish(self) -> str:
        return self._decoder.decode(b"", True)


def _check_form(request: Generate, tell_field: Callable[[str], None], grammars: Callable[[str], Grammars]) -> list[str]:
    """Checks limits first, then runs native code, announcing each part to ``tell_field`` before."""
    left_out: list[str] = []
    if request.response_schema is not None:
        tell_field("response_schema")
        check_bounds(request.response_schema)
        places = grammars("response_schema").check(request.response_schema)
        left_out += [f"response_schema{place}" for place in places]
    rule = request.call_rule if isinstance(request, GenerateWithTools) else None
    if rule is not None:
        _check_bounds_of(rule)
        tell_field(rule.source_field)
        left_out += grammars(rule.source_field).check_calls(rule, tell_field)
    return left_out


def _check_bounds_of(rule: ToolCallConstraint) -> None:
    for function in rule.functions:
        check_bounds(function.parameters, field=function.path)
    check_bounds(rule.answer_schema)


def _special_texts(content: dict[str, Any], marks: frozenset[str]) -> list[str]:
    """Texts that messages may not write: special tokens, and the marks of calls and reasoning that are tokens."""
    return [one["content"] for one in content["added_tokens"] if one.get("special") or one["content"] in marks]


def _with_visible_marks(content: dict[str, Any], marks: frozenset[str]) -> dict[str, Any]:
    """Makes the marks ordinary tokens, since special ones would never appear in the text."""
    added = [{**one, "special": one["special"] and one["content"] not in marks} for one in content["added_tokens"]]
    return {**content, "added_tokens": added}


def _tokenizer(content: dict[str, Any]) -> Any:
    import tokenizers

    return tokenizers.Tokenizer.from_str(json.dumps(content))


def _added_texts(path: Path, content: Mapping[str, Any]) -> list[str]:
    added = content.get("added_tokens") or []
    if not isinstance(added, list) or not all(isinstance(one, dict) for one in added):
        raise ValueError(f"{path.name} in {path.parent} is not a tokenizer: its added_tokens are not a list of objects")
    return [str(one.get("content")) for one in added]


def _count(folder: Path, config: dict[str, Any], name: str, maximum: int) -> int:
    value = config.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= maximum:
        raise ValueError(f"config.json in {folder} has no whole number {name} from 1 to {maximum:,}")
    return value


def _template(folder: Path, source: str, named: dict[str, str], tokens: frozenset[str]) -> ChatTemplate:
    try:
        return ChatTemplate(source, named, tokens)
    except jinja2.TemplateSyntaxError as error:
        raise ValueError(f"the chat template in {folder} is damaged: line {error.lineno}: {error.message}") from error
    except (SyntaxError, ValueError, RecursionError, ArithmeticError) as error:
        # Raised by the generated Python code: a `break` outside a loop, deep nesting, a constant of too many digits.
        raise ValueError(f"the chat template in {folder} cannot be compiled: {error}") from error
