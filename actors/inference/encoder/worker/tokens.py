"""Tokenizes texts with the checkpoint's own tokenizer, and truncates or rejects those that are too long."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from actors.inference.encoder.limits import CONTEXT_TOKENS

__all__ = ["Tokens", "TooLong", "UnknownId"]


class TooLong(Exception):
    """A text has more tokens than the model accepts."""

    def __init__(self, index: int, tokens: int) -> None:
        super().__init__(f"text {index} has {tokens} tokens")
        self.index = index
        self.tokens = tokens


class UnknownId(Exception):
    """A token id is not in the vocabulary."""

    def __init__(self, index: int, token_id: int) -> None:
        super().__init__(f"text {index} has the token id {token_id}")
        self.index = index
        self.token_id = token_id


class Tokens:
    """The tokenizer of one checkpoint."""

    def __init__(self, folder: Path) -> None:
        """Reads `tokenizer.json`, ignoring its padding and truncation."""
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        vocabulary = json.loads((folder / "tokenizer.json").read_bytes())["model"]["vocab"]
        self._size = len(vocabulary)
        self._begin, self._end = vocabulary["[CLS]"], vocabulary["[SEP]"]

    def read(self, inputs: Sequence[str | Sequence[int]], *, truncates: bool) -> list[list[int]]:
        """Returns the ids of each input, between [CLS] and [SEP]; ids may be given with or without these two.

        Raises `TooLong` if one exceeds `CONTEXT_TOKENS` and must not be truncated, and `UnknownId`.
        """
        texts = [one for one in inputs if isinstance(one, str)]
        encoded = iter(self._tokenizer.encode_batch(texts) if len(texts) > 1 else map(self._tokenizer.encode, texts))
        found = []
        for index, one in enumerate(inputs):
            ids = next(encoded).ids if isinstance(one, str) else self._framed(index, one)
            if len(ids) > CONTEXT_TOKENS:
                if not truncates:
                    raise TooLong(index, len(ids))
                ids = [*ids[: CONTEXT_TOKENS - 1], self._end]
            found.append(ids)
        return found

    def _framed(self, index: int, ids: Sequence[int]) -> list[int]:
        for one in ids:
            if not 0 <= one < self._size:
                raise UnknownId(index, one)
        if len(ids) > 1 and ids[0] == self._begin and ids[-1] == self._end:
            return list(ids)
        return [self._begin, *ids, self._end]
