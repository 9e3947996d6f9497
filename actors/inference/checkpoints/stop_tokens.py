"""Which tokens end an answer, from everything a checkpoint says about it. No MLX and no tokenizer library here.

Published models spread it: Phi-3's `config.json` names `<|endoftext|>` alone, its `generation_config.json` also `<|end|>`,
which ends every answer of a chat, and copies of it often come without that file. So the special tokens that are nothing
else than an end, by their text, count wherever the tokenizer has them.
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
"""Texts of special tokens that end a turn or a text and stand for nothing else, in every model that has them."""


def stop_token_ids(folder: Path, config: Mapping[str, Any]) -> frozenset[int]:
    """Ids of `config.json` (its content is `config`), `generation_config.json`, and the end tokens of `tokenizer.json`.

    A file that is missing or cannot be read adds nothing: it is for others to complain about it.
    """
    ids: set[int] = set()
    for value in (config.get("eos_token_id"), _read(folder / "generation_config.json").get("eos_token_id")):
        listed = value if isinstance(value, list) else [value]
        # -1 is what some write for none.
        ids.update(one for one in listed if isinstance(one, int) and not isinstance(one, bool) and one >= 0)
    eos = _read(folder / "tokenizer_config.json").get("eos_token")
    # Some configurations write a token as an object.
    named = eos.get("content") if isinstance(eos, dict) else eos
    for token in _added_tokens(folder / "tokenizer.json"):
        if token.special and (token.content in END_TOKENS or token.content == named):
            ids.add(token.id)
    return frozenset(ids)


class _AddedToken(msgspec.Struct):
    """What is needed here of a token that was added to the vocabulary."""

    id: int
    content: str
    special: bool = False


class _TokenizerFile(msgspec.Struct):
    """What is needed here of `tokenizer.json`; the rest of its megabytes is passed over."""

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
