"""Reuse of keys and values: a cache of finished rows' prefixes, and copies from rows of the batch with the same prompt.

Clients request several answers to one prompt (`n`), and many send the same prompt at once. A row whose prompt is already
in the batch copies its keys and values from there; of several waiting rows with the same
prompt, one is prefilled first and the others copy from it.
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
from mlx_lm.models.cache import BatchKVCache

from actors.inference.worker.prefill import row_length
from actors.inference.worker.radix_tree import RadixTree
from actors.inference.worker.stepper import Row

__all__ = ["PrefixCache", "copied_prompt", "one_of_each", "shared_length"]


MINIMUM_TOKENS = 16
"""Shorter prefixes cost more to cache than to compute."""


class PrefixCache:
    """Radix cache of prefixes, owned by the step loop's thread like every MLX array. A block is (2 × layers, heads, tokens,
    width)."""

    def __init__(self, maximum_bytes: int) -> None:
        self._index: RadixTree[mx.array] = RadixTree(maximum_bytes, size_of=lambda one: one.nbytes, cut=_cut)

    @property
    def bytes(self) -> int:
        """Bytes actually held: every block is evaluated when it is cached, so none keeps a batch alive."""
        return self._index.bytes

    def known(self, domain: str, tokens: Sequence[int]) -> int:
        """Length of the prefix that `find` would return; 0 if too little is cached."""
        length = self._index.known(domain, tokens, len(tokens) - 1)
        return 0 if length < MINIMUM_TOKENS else length

    def find(self, domain: str, tokens: Sequence[int]) -> mx.array | None:
        """The longest cached prefix, always short of the last token: (2 × layers, heads, tokens, width).

        The first half of the first axis holds the keys of each layer, the second half the values. None if too little
        is cached.
        """
        pieces, length = self._index.find(domain, tokens, len(tokens) - 1)
        if length < MINIMUM_TOKENS:
            return None
        return mx.concatenate(pieces, axis=2) if len(pieces) > 1 else pieces[0]

    def keep(self, domain: str, tokens: Sequence[int], caches: list[BatchKVCache], row: int, length: int) -> None:
        """Caches the first ``length`` positions of one row of a batch; ``tokens`` are its ids."""
        if length < MINIMUM_TOKENS:
            return
        padding = int(caches[0].left_padding[row].item())

        def make(start: int, stop: int) -> mx.array:
            begin, end = padding + start, padding + stop
            arrays = [one.keys[row, :, begin:end] for one in caches] + [one.values[row, :, begin:end] for one in caches]
            # Evaluate now: a lazy slice would keep the whole batch's keys and values alive.
            piece = mx.stack(arrays)
            mx.eval(piece)
            return piece

        self._index.insert(domain, tokens[:length], make)

    def shrink(self, maximum_bytes: int) -> None:
        """Evicts blocks until no more than this is held."""
        self._index.shrink(max(0, maximum_bytes))


def _cut(piece: mx.array, start: int, stop: int) -> mx.array:
    part = mx.contiguous(piece[:, :, start:stop])
    mx.eval(part)
    return part


def shared_length(row: Row, batch: Sequence[Row]) -> int:
    """Tokens of a row that can be copied from a row of the batch with the same prompt; always short of its last token."""
    return _copied_length(row) if any(one.prompt_key == row.prompt_key for one in batch) else 0


def copied_prompt(row: Row, batch: Sequence[Row], cache: Sequence[BatchKVCache]) -> mx.array | None:
    """Copies those keys and values, (2 × layers, heads, tokens, width) like `PrefixCache.find`; None if no row has the
    prompt."""
    index = next((index for index, one in enumerate(batch) if one.prompt_key == row.prompt_key), None)
    if index is None:
        return None
    begin = int(cache[0].left_padding[index].item())
    end = begin + _copied_length(row)
    copied = mx.stack(
        [one.keys[index, :, begin:end] for one in cache] + [one.values[index, :, begin:end] for one in cache]
    )
    # Evaluate now: a lazy slice would keep the whole batch alive, and compiled code writes into it in place.
    mx.eval(copied)
    return copied


def one_of_each(waiting: Sequence[Row], known: Sequence[int]) -> list[int]:
    """Indexes of the rows that may be read now: only the first of equal prompts that are not cached yet."""
    seen: set[bytes] = set()
    chosen = []
    for index, (row, tokens) in enumerate(zip(waiting, known, strict=True)):
        if tokens >= _copied_length(row) or row.prompt_key not in seen:
            chosen.append(index)
        seen.add(row.prompt_key)
    return chosen


def _copied_length(row: Row) -> int:
    return min(len(row.prompt_ids), row_length(row) - 1)
