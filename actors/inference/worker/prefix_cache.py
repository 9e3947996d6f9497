"""Keys and values of finished rows, kept for prompts that begin alike."""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
from mlx_lm.models.cache import BatchKVCache

from actors.inference.worker.prefill import row_length
from actors.inference.worker.radix_tree import RadixTree
from actors.inference.worker.stepper import Row

__all__ = ["PrefixCache", "copied_prompt", "one_of_each", "shared_length"]


MINIMUM_TOKENS = 16
"""Shorter beginnings cost more to keep than to compute."""


class PrefixCache:
    """Owned by the step loop's thread, like every MLX array. A piece is (2 × layers, heads, tokens, width)."""

    def __init__(self, maximum_bytes: int) -> None:
        self._index: RadixTree[mx.array] = RadixTree(maximum_bytes, size_of=lambda one: one.nbytes, cut=_cut)

    @property
    def bytes(self) -> int:
        """Bytes that are really held: every piece was evaluated when it was kept, so none pins a batch."""
        return self._index.bytes

    def known(self, domain: str, tokens: Sequence[int]) -> int:
        """Tokens of the longest known beginning as `find` would give it; 0 when too little is known."""
        length = self._index.known(domain, tokens, len(tokens) - 1)
        return 0 if length < MINIMUM_TOKENS else length

    def find(self, domain: str, tokens: Sequence[int]) -> mx.array | None:
        """The longest known beginning, always short of the last token: (2 × layers, heads, tokens, width).

        The first half of the first axis holds the keys of each layer, the second the values. None when too little
        is known.
        """
        pieces, length = self._index.find(domain, tokens, len(tokens) - 1)
        if length < MINIMUM_TOKENS:
            return None
        return mx.concatenate(pieces, axis=2) if len(pieces) > 1 else pieces[0]

    def keep(self, domain: str, tokens: Sequence[int], caches: list[BatchKVCache], row: int, length: int) -> None:
        """Keep the first ``length`` positions of one row of a batch, of which ``tokens`` are the ids."""
        if length < MINIMUM_TOKENS:
            return
        padding = int(caches[0].left_padding[row].item())

        def make(start: int, stop: int) -> mx.array:
            begin, end = padding + start, padding + stop
            arrays = [one.keys[row, :, begin:end] for one in caches] + [one.values[row, :, begin:end] for one in caches]
            # Evaluated at once: a lazy slice would keep the whole batch's keys and values alive.
            piece = mx.stack(arrays)
            mx.eval(piece)
            return piece

        self._index.insert(domain, tokens[:length], make)

    def shrink(self, maximum_bytes: int) -> None:
        """Give memory back until no more than this is held."""
        self._index.shrink(max(0, maximum_bytes))


def _cut(piece: mx.array, start: int, stop: int) -> mx.array:
    part = mx.contiguous(piece[:, :, start:stop])
    mx.eval(part)
    return part


def shared_length(row: Row, batch: Sequence[Row]) -> int:
    """How many tokens of a row are in the batch because another there has its prompt; always short of its last token."""
    return _copied_length(row) if any(one.prompt_key == row.prompt_key for one in batch) else 0


def copied_prompt(row: Row, batch: Sequence[Row], cache: Sequence[BatchKVCache]) -> mx.array | None:
    """Their keys and values, (2 × layers, heads, tokens, width) as `PrefixCache.find` gives them; None where there are none."""
    index = next((index for index, one in enumerate(batch) if one.prompt_key == row.prompt_key), None)
    if index is None:
        return None
    begin = int(cache[0].left_padding[index].item())
    end = begin + _copied_length(row)
    copied = mx.stack(
        [one.keys[index, :, begin:end] for one in cache] + [one.values[index, :, begin:end] for one in cache]
    )
    # Evaluated at once: a lazy slice would keep the whole batch alive, and compiled code writes into it in place.
    mx.eval(copied)
    return copied


def one_of_each(waiting: Sequence[Row], known: Sequence[int]) -> list[int]:
    """Indexes of the rows that may be read now: of equal prompts that are not known yet the first alone."""
    seen: set[bytes] = set()
    chosen = []
    for index, (row, tokens) in enumerate(zip(waiting, known, strict=True)):
        if tokens >= _copied_length(row) or row.prompt_key not in seen:
            chosen.append(index)
        seen.add(row.prompt_key)
    return chosen


def _copied_length(row: Row) -> int:
    return min(len(row.prompt_ids), row_length(row) - 1)
