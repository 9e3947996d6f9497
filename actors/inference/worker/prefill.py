"""Reads prompts as one padded batch, each after its cached prefix.

Rows are right-aligned: shorter prompts are padded on the left, first within the cached part and then, if nothing of the
prompt is cached, within the tokens that are read.
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
from attrs import define
from mlx_lm.models.cache import BatchKVCache

from actors.inference.worker.stepper import Row

__all__ = ["Prefill", "begin_prefill", "drop_rows", "row_ids", "row_length"]


def row_ids(row: Row) -> list[int]:
    """All tokens of a row that must be in the cache before it continues, and its last token."""
    return row.prompt_ids + row.emitted_ids


def row_length(row: Row) -> int:
    """Number of tokens in `row_ids`."""
    return len(row.prompt_ids) + len(row.emitted_ids)


@define
class Prefill:
    """A batch of rows whose prompts are being read."""

    rows: list[Row]
    tokens: mx.array
    """(rows, columns): the tokens unread at the start; the padding is token 0."""
    cache: list[BatchKVCache]
    """One for each layer."""
    known: list[int]
    """Cached tokens of each row, which are not read again."""
    done: int = 0
    """Columns of ``tokens`` read so far."""
    chunks: int = 0

    @property
    def columns(self) -> int:
        """Number of columns of ``tokens``."""
        return int(self.tokens.shape[1])


def begin_prefill(rows: list[Row], kept: Sequence[mx.array | None], layers: int) -> Prefill:
    """Starts reading these rows after their cached prefixes: (2 × layers, heads, tokens, width) each, shorter than the row.

    If a row has more cached than its neighbours leave room for, the surplus is dropped: reading a few tokens again costs
    less than reading the row separately. The cached arrays are not modified.
    """
    known = [0 if one is None else int(one.shape[2]) for one in kept]
    columns = max(row_length(row) - tokens for row, tokens in zip(rows, known, strict=True))
    known = [max(0, row_length(row) - columns) for row in rows]
    kept_columns = max(known)
    padding = [kept_columns + columns - row_length(row) for row in rows]
    tokens = []
    for row, tokens_known in zip(rows, known, strict=True):
        unread = row_ids(row)[tokens_known:]
        tokens.append([0] * (columns - len(unread)) + unread)
    cache = [BatchKVCache(padding) for _ in range(layers)]
    if kept_columns:
        _fill(cache, kept, known, kept_columns)
    return Prefill(rows, mx.array(tokens), cache, known)


def _fill(cache: list[BatchKVCache], kept: Sequence[mx.array | None], known: Sequence[int], kept_columns: int) -> None:
    """Writes each row's cached tokens at the right edge of the cached columns."""
    layers = len(cache)
    some = next(one for one in kept if one is not None)
    aligned = []
    for one, tokens in zip(kept, known, strict=True):
        if one is None or tokens == 0:
            heads, width = some.shape[1], some.shape[3]
            aligned.append(mx.zeros((2 * layers, heads, kept_columns, width), some.dtype))
            continue
        missing = kept_columns - tokens
        aligned.append(
            mx.pad(one[:, :, :tokens], [(0, 0), (0, 0), (missing, 0), (0, 0)]) if missing else one[:, :, :tokens]
        )
    for layer, own in enumerate(cache):
        own.keys = mx.stack([one[layer] for one in aligned])
        own.values = mx.stack([one[layers + layer] for one in aligned])
        own.offset = own.offset + kept_columns
        own._idx = kept_columns


def drop_rows(prefill: Prefill, indexes: list[int]) -> bool:
    """Continues with these rows alone, without the padding that only the others needed.

    Returns False if nothing of these rows was read or cached: they have to start over, because an empty cache cannot be cut.
    """
    prefill.rows = [prefill.rows[index] for index in indexes]
    prefill.known = [prefill.known[index] for index in indexes]
    # Padding among the unread tokens: none while a prefix of the longest row is cached.
    padding = max(0, prefill.columns - max(row_length(row) for row in prefill.rows))
    if prefill.done <= padding and not any(prefill.known):
        return False
    keep = mx.array(indexes)
    for one in prefill.cache:
        one.filter(keep)  # also drops the padding common to all rows
    prefill.tokens = prefill.tokens[keep][:, padding:]
    prefill.done -= padding
    return True
