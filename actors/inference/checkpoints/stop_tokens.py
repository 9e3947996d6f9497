"""Finds the tokens that end an answer, from all files of a checkpoint. No MLX and no tokenizer library.

Published models spread this information: Phi-3's `config.json` names `<|endoftext|>` alone, its
`generation_config.json` also `<|end|>`, which ends every answer of a chat, and copies of it often lack that file. So
special tokens whose text can only mean an end always count if the tokenizer has them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from actors.inference.checkpoints.reading import (
    MAXIMUM_TOKENIZER_BYTES,
    UnreadableFile,
    decode_json,
    read_json_object,
    read_regular_file,
)

END_TOKENS = frozenset({"<|end|>", "<|endoftext|>", "<|im_end|>", "<|eot_id|>", "<|end_of_text|>", "<end_of_turn>"})
"""Special tokens that end a turn or a text and mean nothing else, in every model that has them."""


def stop_token_ids(folder: Path, config: Mapping[str, Any]) -> frozenset[int]:
    """Ids in `config.json` (its content is `config`) and `generation_config.json`, and the end tokens of
    `tokenizer.json`.

    A file that is missing or cannot be read contributes nothing; other code reports it.
    """
    ids: set[int] = set()
    for value in (config.get("eos_token_id"), _read(folder / "generation_config.json").get("eos_token_id")):
        listed = value if isinstance(value, list) else [value]
        # Some configurations write -1 for none.
        ids.update(one for one in listed if isinstance(one, int) and not isinstance(one, bool) and one >= 0)
    eos = _read(folder / "tokenizer_config.json").get("eos_token")
    # Some configurations write tokens as objects.
    named = eos.get("content") if isinstance(eos, dict) else eos
    for token in _added_tokens(folder / "tokenizer.json"):
        if token.special and (token.content in END_TOKENS or token.content == named):
            ids.add(token.id)
    return frozenset(ids)


class _AddedToken(msgspec.Struct):
    """Fields used of an added token."""

    id: int
    content: str
    special: bool = False


class _TokenizerFile(msgspec.Struct):
    """Fields used of `tokenizer.json`; the rest of its megabytes is skipped."""

    added_tokens: list[_AddedToken] = msgspec.field(default_factory=list)


def _added_tokens(path: Path) -> list[_AddedToken]:
    try:
        return decode_json(read_regular_file(path, MAXIMUM_TOKENIZER_BYTES), _TokenizerFile).added_tokens
    except (OSError, UnreadableFile):
        return []


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_json_object(path)
    except (OSError, UnreadableFile):
        return {}
