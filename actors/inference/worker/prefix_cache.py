"""Keys and values of finished rows, kept for prompts that begin alike."""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
from mlx_lm.models.cache import BatchKVCache

from actors.inference.worker.radix_tree import RadixTree

__all__ = ["PrefixCache"]

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
