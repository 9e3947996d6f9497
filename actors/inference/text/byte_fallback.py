"""Detokenizer for vocabularies that spell missing characters byte by byte, such as Llama's and Phi-3's.

Their decoder (SentencePiece's byte fallback) looks at a whole run of byte tokens: if the run is not valid UTF-8, each
of its bytes becomes U+FFFD, including those that were text while the run was shorter. A line break is such a token, so
a line break and half an emoji suffice, and `tokenizers`' `DecodeStream` raises an exception. Here bytes are decoded as
they come and emitted text stays: the result is that of all bytes in sequence, with one U+FFFD per incomplete character.
"""

from __future__ import annotations

import codecs
from collections.abc import Collection, Mapping
from typing import Any

from attrs import frozen

__all__ = ["ByteFallback", "ByteFallbackDetokenizer"]

BYTES = 256
FIRST_OF_SEVERAL = 0x80
"""From here on a byte is not a character by itself (RFC 3629)."""
LINE_BREAK = "\n"
_EXAMPLE = "é"


@frozen
class ByteFallback:
    """The byte tokens of one tokenizer."""

    tokenizer: Any
    """A `tokenizers.Tokenizer`."""
    byte_of: Mapping[int, int]
    """The byte of each token that stands for one."""
    line_break_id: int
    """The byte token of a line break."""
    special_ids: Collection[int]
    """Tokens that are not text."""

    @classmethod
    def of(cls, tokenizer: Any) -> ByteFallback | None:
        """Byte tokens of a tokenizer; None if it does not decode bytes this way."""
        ids = [tokenizer.token_to_id(f"<0x{byte:02X}>") for byte in range(BYTES)]
        if None in ids:
            return None
        decoded = tokenizer.decode([ids[byte] for byte in _EXAMPLE.encode()], skip_special_tokens=True)
        if decoded != _EXAMPLE:
            return None
        added = tokenizer.get_added_tokens_decoder()
        return cls(
            tokenizer=tokenizer,
            byte_of={token_id: byte for byte, token_id in enumerate(ids)},
            line_break_id=ids[ord(LINE_BREAK)],
            special_ids=frozenset(token_id for token_id, token in added.items() if token.special),
        )


class ByteFallbackDetokenizer:
    """Text of one answer. Shows the library's stream a line break in place of each byte that it could fail on."""

    __slots__ = ("_fallback", "_shown", "_stream", "_streamed", "_utf8")

    def __init__(self, fallback: ByteFallback, stream: Any) -> None:
        """``stream`` is a new `DecodeStream` that skips special tokens."""
        self._fallback, self._stream = fallback, stream
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._shown: list[int] = []
        self._streamed = 0

    def feed(self, token_id: int) -> str:
        """Returns the text that this token completes, possibly empty."""
        fallback = self._fallback
        byte = fallback.byte_of.get(token_id)
        if byte is not None and byte >= FIRST_OF_SEVERAL:
            # The line break takes the byte's place, so that a following space is not taken for the first of the text.
            held = self._show(fallback.line_break_id).removesuffix(LINE_BREAK)
            return held + self._utf8.decode(bytes([byte]))
        # Vocabularies are padded: a model has more logits than its tokenizer has tokens.
        if token_id in fallback.special_ids or fallback.tokenizer.id_to_token(token_id) is None:
            return ""
        return self._utf8.decode(b"", True) + self._show(token_id)

    def finish(self) -> str:
        """Returns the remaining text; an incomplete character becomes U+FFFD."""
        held: str = self._fallback.tokenizer.decode(self._shown, skip_special_tokens=True)[self._streamed :]
        return held + self._utf8.decode(b"", True)

    def _show(self, token_id: int) -> str:
        self._shown.append(token_id)
        piece: str = self._stream.step(self._fallback.tokenizer, token_id) or ""
        self._streamed += len(piece)
        return piece
