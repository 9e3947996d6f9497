"""Decodes token ids into text: the half of a model's text side that runs in the server, once per token.

It needs a vocabulary and a decoder and nothing else of `tokenizer.json`. `decoding_tokenizer` reduces a tokenizer to
these two, so that no pattern, normalizer or merge rule of a checkpoint is ever compiled or run in the server process.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from attrs import field, frozen

from actors.inference.text.byte_fallback import ByteFallback, ByteFallbackDetokenizer
from actors.inference.text.token_bytes import OneToken, TokenBytes
from actors.inference.tools import ReasoningForm, ToolCallFormat
from protocol.generation import Generate

__all__ = [
    "NativePanic",
    "SandboxedText",
    "TextReport",
    "TokenText",
    "decoding_json",
    "decoding_tokenizer",
    "without_panics",
]

Result = TypeVar("Result")
PLAIN_DECODERS = frozenset(
    {"BPEDecoder", "ByteFallback", "ByteLevel", "CTC", "Fuse", "Metaspace", "Sequence", "Strip", "WordPiece"}
)
"""Decoders of `tokenizers` that take linear time. `Replace` is one if its pattern is a plain string."""


class NativePanic(ValueError):
    """Native code panicked because of its input; the rest of the process is unaffected."""


def without_panics(function: Callable[..., Result], *args: Any) -> Result:
    """Calls native code and turns panics into `NativePanic`: pyo3 raises a `BaseException`, which would end the server."""
    try:
        return function(*args)
    except BaseException as error:
        if type(error).__name__ == "PanicException":
            raise NativePanic(str(error)[:200]) from None
        raise


class TokenText:
    """Decodes the answers of one model."""

    def __init__(self, tokenizer: Any) -> None:
        """``tokenizer`` is a `tokenizers.Tokenizer`, complete or reduced by `decoding_tokenizer`."""
        import tokenizers

        self._tokenizer = tokenizer
        self._decoders = tokenizers.decoders
        self._byte_fallback = ByteFallback.of(tokenizer)
        self._bytes = TokenBytes(tokenizer)

    @staticmethod
    def of_json(text: str) -> TokenText:
        """Loads the result of `decoding_tokenizer`. Blocking. Raises `ValueError`."""
        import tokenizers

        try:
            return without_panics(lambda: TokenText(tokenizers.Tokenizer.from_str(text)))
        except Exception as error:
            raise ValueError(f"its vocabulary is damaged: {error}") from error

    def detokenizer(self) -> ByteFallbackDetokenizer | _StreamDetokenizer:
        """Returns a new one for each answer. It raises `NativePanic` if the library panics."""
        if self._byte_fallback is not None:
            return ByteFallbackDetokenizer(self._byte_fallback, self._decoders.DecodeStream(skip_special_tokens=True))
        return _StreamDetokenizer(self)

    def token_text(self, token_id: int) -> OneToken:
        """Text and bytes of a single token."""
        return without_panics(self._bytes.of, token_id)

    def decode(self, ids: Sequence[int]) -> str:
        """Whole text of an answer."""
        return without_panics(self._decode, ids)

    def _decode(self, ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        return text


@frozen(kw_only=True)
class TextReport:
    """Facts that the fork server read from a checkpoint."""

    vocabulary_size: int
    context_tokens: int
    stop_token_ids: frozenset[int]
    tool_call_format: ToolCallFormat
    has_tools: bool
    reasoning: ReasoningForm
    decoding: str = field(repr=False)
    """Input of `TokenText.of_json`."""


class SandboxedText(TokenText):
    """A `TextModel` whose prompts are encoded by the sandbox."""

    def __init__(self, folder: Path, report: TextReport) -> None:
        """Blocking. Raises `ValueError`."""
        super().__init__(TokenText.of_json(report.decoding)._tokenizer)
        self.folder = folder
        self.vocabulary_size = report.vocabulary_size
        self.context_tokens = report.context_tokens
        self.stop_token_ids = report.stop_token_ids
        self.tool_call_format, self.has_tools = report.tool_call_format, report.has_tools
        self.reasoning = report.reasoning

    def encode(self, request: Generate) -> list[int]:
        """Never called: `PromptEncoder` asks the sandbox."""
        raise RuntimeError("prompts of checkpoints are encoded in the sandbox")


def decoding_json(content: dict[str, Any]) -> str:
    """`decoding_tokenizer` as JSON, for `TokenText.of_json`."""
    return json.dumps(decoding_tokenizer(content), ensure_ascii=False)


def decoding_tokenizer(content: dict[str, Any]) -> dict[str, Any]:
    """Part of a `tokenizer.json` needed for decoding. Raises `ValueError` for a decoder that might never return."""
    decoder, model = content.get("decoder"), content.get("model")
    if decoder is not None:
        _check_decoder(decoder)
    if not isinstance(model, dict):
        raise ValueError("it has no model")
    vocabulary = model.get("vocab")
    if isinstance(vocabulary, dict):
        # Decoding only looks up ids, so merges and scores are dead weight.
        model = {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": content.get("added_tokens") or [],
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": decoder,
        "model": model,
    }


def _check_decoder(decoder: Any) -> None:
    kind = decoder.get("type") if isinstance(decoder, dict) else None
    if kind == "Replace" and isinstance(decoder.get("pattern"), dict) and "String" in decoder["pattern"]:
        return
    if kind not in PLAIN_DECODERS:
        raise ValueError(f"its decoder {str(kind)[:40]} is not supported")
    for one in decoder.get("decoders") or ():
        _check_decoder(one)


class _StreamDetokenizer:
    __slots__ = ("_emitted", "_ids", "_stream", "_text")

    def __init__(self, text: TokenText) -> None:
        self._text = text
        self._stream = text._decoders.DecodeStream(skip_special_tokens=True)
        self._ids: list[int] = []
        self._emitted = 0

    def feed(self, token_id: int) -> str:
        self._ids.append(token_id)
        try:
            piece: str | None = without_panics(self._stream.step, self._text._tokenizer, token_id)
        except NativePanic:
            raise
        except Exception:  # noqa: BLE001  tokenizers raises nothing more specific if a token changes text decoded before it
            piece = self._text.decode(self._ids)[self._emitted :]
            self._stream = self._text._decoders.DecodeStream(ids=self._ids, skip_special_tokens=True)
        if piece is None:
            return ""
        self._emitted += len(piece)
        return piece

    def finish(self) -> str:
        # Bytes of an incomplete character are still in the stream; in the whole text they become U+FFFD.
        return self._text.decode(self._ids)[self._emitted :]
