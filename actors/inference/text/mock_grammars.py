"""Grammars for the mock engine, whose tokens are the 256 bytes and one that ends the answer."""

from __future__ import annotations

from typing import Any

from actors.inference.structured_output import Grammars

__all__ = ["END", "mock_grammars"]

END = 256


def mock_grammars() -> Grammars:
    """Blocking, some milliseconds."""
    return Grammars(_byte_tokenizer(), END + 1, [END])


def _byte_tokenizer() -> dict[str, Any]:
    """A `tokenizer.json` with a token for each byte, whose id is the byte."""
    return {
        "version": "1.0",
        "added_tokens": [
            {"id": END, "content": "<end>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
            | {"special": True}
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False},
        "model": {"type": "BPE", "vocab": _byte_characters(), "merges": []},
    }


def _byte_characters() -> dict[str, int]:
    """Characters that byte-level tokenizers write for bytes (GPT-2's `bytes_to_unicode`)."""
    shown = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    others = [byte for byte in range(END) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(END + number): byte for number, byte in enumerate(others)}
