"""Computes the keys and values of a prompt once for all sequences of a batch that have the same prompt.

Clients ask for several answers to one prompt (`n`), and many ask the same at once. A sequence whose prompt is already in the
batch copies its keys and values from there; one that waits beside an equal one waits until that one is read.
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
from mlx_lm.models.cache import BatchKVCache

from actors.inference.worker.prefill import row_length
from actors.inference.worker.stepper import Row

__all__ = ["copied_prompt", "one_of_each", "shared_length"]


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
