"""The text side of one model: prompt in, token ids out, and back again piece by piece."""

from __future__ import annotations

import codecs
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import jinja2

from actors.inference.grammar import BadSchema, Grammars
from actors.inference.models.stop_tokens import stop_token_ids
from actors.inference.text.byte_fallback import ByteFallback, ByteFallbackDetokenizer
from actors.inference.text.chat_template import ChatTemplate, TemplateRefused
from actors.inference.tools import GenerateWithTools, ToolCallFormat
from protocol.commands import ChatMessage, Generate

__all__ = ["CheckpointText", "Detokenizer", "MockText", "TextModel"]


class Detokenizer(Protocol):
    """Turns one answer's token ids into text; never splits a character."""

    def feed(self, token_id: int) -> str:
        """The text that this token completes, perhaps none."""

    def finish(self) -> str:
        """What is left when no token follows; an incomplete character becomes U+FFFD."""


class TextModel(Protocol):
    """What the inference actor needs to know about a model's text."""

    vocabulary_size: int
    context_tokens: int
    """Prompt and answer together fit in this."""
    stop_token_ids: frozenset[int]
    tool_call_format: ToolCallFormat | None
    """How the model writes calls of tools; None where its chat template has none."""

    def encode(self, request: Generate) -> list[int]:
        """Prompt token ids, the schema checked too. Blocking CPU work. Raises `TemplateRefused` or `BadSchema`."""

    def token_text(self, token_id: int) -> str:
        """The text of one token alone; an incomplete character is U+FFFD."""

    def detokenizer(self) -> Detokenizer:
        """A fresh one for each answer."""


class CheckpointText:
    """Text of a checkpoint folder: `tokenizer.json`, `config.json` and the chat template beside them.

    Only the `tokenizers` library is used: transformers would cost seconds and hundreds of megabytes.
    """

    def __init__(self, folder: Path) -> None:
        """Reads the files; blocking. Raises `OSError` or `ValueError` naming the file that is wrong."""
        import tokenizers

        config = _read_json(folder / "config.json")
        tokenizer_path = folder / "tokenizer.json"
        if not tokenizer_path.is_file():
            raise FileNotFoundError(f"{tokenizer_path.name} is missing in {folder}")
        settings = _read_json(folder / "tokenizer_config.json", optional=True)
        self._template = _template(folder, settings)
        self.tool_call_format = self._template.tool_call_format
        try:
            self._tokenizer = _tokenizer(tokenizer_path, self.tool_call_format)
        except Exception as error:
            raise ValueError(f"{tokenizer_path.name} in {folder} is not a tokenizer: {error}") from error
        self._decoders = tokenizers.decoders
        self._byte_fallback = ByteFallback.of(self._tokenizer)
        self.vocabulary_size = _whole_number(folder, config, "vocab_size")
        self.context_tokens = _whole_number(folder, config, "max_position_embeddings")
        # Read for its errors alone: a damaged one would silently cost a stop token.
        _read_json(folder / "generation_config.json", optional=True)
        self.stop_token_ids = stop_token_ids(folder, config)
        self._tokenizer_path = tokenizer_path
        self._grammars: Grammars | None = None
        self._grammars_lock = threading.Lock()

    def encode(self, request: Generate) -> list[int]:
        """Prompt token ids; blocking, releases the GIL. Raises `TemplateRefused` or `BadSchema`."""
        if request.response_schema is not None:
            self._made_grammars("response_schema").check(request.response_schema)
        if isinstance(request, GenerateWithTools):
            if request.call_rule is not None:
                self._made_grammars(request.call_rule.asked_by).check_calls(request.call_rule)
            text, adds_special = self._template.render_with_tools(request), False
        elif request.messages is not None:
            # The template writes the special tokens itself.
            text, adds_special = self._template.render(request.messages), False
        else:
            text, adds_special = request.prompt or "", True
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=adds_special).ids
        return ids

    def detokenizer(self) -> Detokenizer:
        """A fresh one for each answer."""
        if self._byte_fallback is not None:
            return ByteFallbackDetokenizer(self._byte_fallback, self._decoders.DecodeStream(skip_special_tokens=True))
        return _StreamDetokenizer(self)

    def token_text(self, token_id: int) -> str:
        """The text of one token alone; an incomplete character is U+FFFD."""
        return self.decode([token_id])

    def _made_grammars(self, asked_by: str) -> Grammars:
        """Raises `BadSchema` for a tokenizer that the library of grammars cannot read."""
        # Several encoding threads may come first at once, and making it costs a fifth of a second.
        with self._grammars_lock:
            if self._grammars is None:
                stop_ids = sorted(self.stop_token_ids)
                try:
                    self._grammars = Grammars(self._tokenizer_path, self.vocabulary_size, stop_ids)
                except ValueError as error:
                    problem = f"this model's answers cannot be held to a form, its tokenizer is not known ({error})"
                    raise BadSchema(problem, field=asked_by) from error
            return self._grammars

    def decode(self, ids: Sequence[int]) -> str:
        """The whole text of an answer."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        return text


class _StreamDetokenizer:
    __slots__ = ("_emitted", "_ids", "_stream", "_text")

    def __init__(self, text: CheckpointText) -> None:
        self._text = text
        self._stream = text._decoders.DecodeStream(skip_special_tokens=True)
        self._ids: list[int] = []
        self._emitted = 0

    def feed(self, token_id: int) -> str:
        self._ids.append(token_id)
        try:
            piece: str | None = self._stream.step(self._text._tokenizer, token_id)
        except Exception:  # noqa: BLE001  tokenizers raises nothing else where a token changes what was decoded before it
            piece = self._text.decode(self._ids)[self._emitted :]
            self._stream = self._text._decoders.DecodeStream(ids=self._ids, skip_special_tokens=True)
        if piece is None:
            return ""
        self._emitted += len(piece)
        return piece

    def finish(self) -> str:
        # Bytes of an incomplete character never left the stream; the whole text ends in U+FFFD for them.
        return self._text.decode(self._ids)[self._emitted :]


class MockText:
    """Bytes as tokens, for the mock engine: 256 bytes and one token that ends the answer."""

    END = 256
    tool_call_format: ToolCallFormat | None = None
    """It has no template; a test may say otherwise."""

    def __init__(self, context_tokens: int = 8192) -> None:
        self.vocabulary_size = 257
        self.context_tokens = context_tokens
        self.stop_token_ids = frozenset({self.END})

    def encode(self, request: Generate) -> list[int]:
        """UTF-8 bytes of the last message or the prompt. Raises `BadSchema`: it follows none; `TemplateRefused` for tools."""
        if isinstance(request, GenerateWithTools) and request.tool_call_format is not self.tool_call_format:
            raise TemplateRefused("the mock engine has no tools")
        if isinstance(request, GenerateWithTools) and request.call_rule is not None:
            raise BadSchema("the mock engine forces no calls into a form", field=request.call_rule.asked_by)
        if request.response_schema is not None:
            raise BadSchema("the mock engine follows no schemas")
        messages: Sequence[ChatMessage] = request.messages or ()
        return list((messages[-1].content if messages else request.prompt or "").encode()) or [0]

    def token_text(self, token_id: int) -> str:
        """One byte as text; an incomplete character is U+FFFD."""
        return bytes([token_id]).decode("utf-8", "replace") if token_id < self.END else ""

    def detokenizer(self) -> Detokenizer:
        """A fresh one for each answer."""
        return _ByteDetokenizer()


class _ByteDetokenizer:
    __slots__ = ("_decoder",)

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token_id: int) -> str:
        return self._decoder.decode(bytes([token_id])) if token_id < MockText.END else ""

    def finish(self) -> str:
        return self._decoder.decode(b"", True)


def _read_json(path: Path, *, optional: bool = False) -> dict[str, Any]:
    if optional and not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path.name} is missing in {path.parent}") from None
    except ValueError as error:
        raise ValueError(f"{path.name} in {path.parent} is damaged: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} in {path.parent} is not a JSON object")
    return content


def _tokenizer(path: Path, tool_call_format: ToolCallFormat | None) -> Any:
    """The tokenizer, its marks of tool calls ordinary tokens: special ones would never be seen in the text."""
    import tokenizers

    if tool_call_format is None:
        return tokenizers.Tokenizer.from_file(str(path))
    content = _read_json(path)
    for token in content.get("added_tokens") or ():
        if token.get("content") in tool_call_format.value:
            token["special"] = False
    return tokenizers.Tokenizer.from_str(json.dumps(content))


def _whole_number(folder: Path, config: dict[str, Any], name: str) -> int:
    value = config.get(name)
    if not isinstance(value, int):
        raise ValueError(f"config.json in {folder} has no whole number {name}")
    return value


def _template(folder: Path, settings: dict[str, Any]) -> ChatTemplate:
    path = folder / "chat_template.jinja"
    source = path.read_text(encoding="utf-8") if path.is_file() else settings.get("chat_template")
    if not isinstance(source, str):
        raise ValueError(f"{folder} has no chat template (chat_template.jinja, or in tokenizer_config.json)")
    try:
        return ChatTemplate(source, _special_tokens(settings))
    except jinja2.TemplateSyntaxError as error:
        raise ValueError(f"the chat template in {folder} is damaged: line {error.lineno}: {error.message}") from error


def _special_tokens(settings: dict[str, Any]) -> dict[str, str]:
    """The names that templates use, from plain strings or added-token objects."""
    tokens: dict[str, str] = {}
    for name in ("bos_token", "eos_token", "unk_token", "pad_token"):
        value = settings.get(name)
        if isinstance(value, dict):
            value = value.get("content")
        tokens[name] = value if isinstance(value, str) else ""
    return tokens
