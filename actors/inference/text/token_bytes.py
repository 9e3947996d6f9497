r"""Text and bytes of single tokens, for log-probabilities. No I/O.

A token may be part of a character, and its bytes say which part; decoded alone it would be U+FFFD like many others, and
SentencePiece's decoder would strip its leading space. Hence bytes are read from the vocabulary rather than the decoder.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from attrs import frozen

__all__ = ["OneToken", "TokenBytes", "name_of"]


@frozen
class OneToken:
    """A single token."""

    name: str
    """Its text; bytes that are not text are written as in Python, `\\xf0\\x9f`, as OpenAI does."""
    content: bytes | None
    """Its exact bytes; None if the tokenizer's decoder only makes text from several tokens together."""
    is_shown: bool = True
    """False for special tokens, which are not part of an answer's text."""


def name_of(content: bytes) -> str:
    """Decoded text, or the bytes in escaped form."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return "".join(chr(one) if " " <= chr(one) <= "~" else f"\\x{one:02x}" for one in content)


class TokenBytes:
    """Bytes of one tokenizer's tokens."""

    def __init__(self, tokenizer: Any) -> None:
        """``tokenizer`` is a `tokenizers.Tokenizer`; its tokens must not change afterwards."""
        self._tokenizer = tokenizer
        self._added: dict[int, Any] = dict(tokenizer.get_added_tokens_decoder())
        kinds = list(_decoders(tokenizer))
        self._is_byte_level = any(one["type"] == "ByteLevel" for one in kinds)
        self._has_byte_tokens = any(one["type"] == "ByteFallback" for one in kinds)
        self._space = next(filter(None, map(_stand_in_for_space, kinds)), None)
        is_known = self._is_byte_level or self._has_byte_tokens or self._space is not None
        self._is_known = is_known and not any(one["type"] in {"WordPiece", "BPEDecoder", "CTC"} for one in kinds)

    def of(self, token_id: int) -> OneToken:
        """A single token; ids beyond the vocabulary, with which models are padded, have no bytes."""
        added = self._added.get(token_id)
        if added is not None:
            return OneToken(added.content, added.content.encode(), is_shown=not added.special)
        piece: str | None = self._tokenizer.id_to_token(token_id)
        if piece is None:
            return OneToken(f"<[{token_id}]>", b"", is_shown=False)
        if not self._is_known:
            return OneToken(self._tokenizer.decode([token_id]), None)
        content = self._bytes_of(piece)
        return OneToken(name_of(content), content)

    def _bytes_of(self, piece: str) -> bytes:
        if self._has_byte_tokens and len(piece) == len("<0x00>") and piece.startswith("<0x") and piece.endswith(">"):
            return bytes.fromhex(piece[3:5])
        if self._is_byte_level and set(piece) <= _BYTE_OF.keys():
            return bytes(_BYTE_OF[one] for one in piece)
        return (piece if self._space is None else piece.replace(self._space, " ")).encode()


def _decoders(tokenizer: Any) -> Iterator[dict[str, Any]]:
    """The decoder's parts in the form of `tokenizer.json`."""
    waiting = [] if tokenizer.decoder is None else [json.loads(tokenizer.decoder.__getstate__())]
    while waiting:
        one = waiting.pop(0)
        waiting.extend(one.get("decoders", ()))
        yield one


def _stand_in_for_space(decoder: dict[str, Any]) -> str | None:
    """Character that SentencePiece vocabularies write for a space."""
    if decoder["type"] == "Replace" and decoder.get("content") == " ":
        text: str | None = decoder["pattern"].get("String")
        return text
    return str(decoder.get("replacement", "\u2581")) if decoder["type"] == "Metaspace" else None


def _byte_of_characters() -> dict[str, int]:
    """GPT-2's table: printable bytes map to themselves, the others to characters from U+0100 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = (byte for byte in range(256) if byte not in printable)
    return {chr(one): one for one in printable} | {chr(0x100 + place): one for place, one in enumerate(others)}


_BYTE_OF = _byte_of_characters()
