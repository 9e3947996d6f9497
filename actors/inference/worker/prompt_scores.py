"""Log-probabilities of a prompt's own tokens, returned along with the answer (`echo` with `logprobs` of the completions API).

Reading a prompt provides everything needed: the hidden state at each token yields the scores of the next. Only the head
has to be computed for every position instead of the last, a few positions at a time, so that the scores of a whole chunk
over the whole vocabulary never exist at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx

from actors.inference.worker.prefill import Prefill, row_length
from actors.inference.worker.sampler import LEAST_LOG_PROBABILITY, array_library, normalizers
from actors.inference.worker.stepper import Row
from actors.inference.worker_frames import ScoredPrompt

__all__ = ["scored"]

PLACES = 64
"""Positions scored at a time: 12 MB for a vocabulary of 49,152."""


def scored(prefill: Prefill, first: int, hidden: mx.array, head: Callable[[mx.array], Any]) -> list[ScoredPrompt]:
    """Scores the columns from ``first`` on, for rows that request it. ``hidden`` is (rows, columns, width); ``head`` maps
    (places, width) to (places, vocabulary).
    """
    found: list[ScoredPrompt] = []
    for index, row in enumerate(prefill.rows):
        if row.prompt_alternatives is None:
            continue
        # All rows end with their last token; anything before the first is padding.
        offset = row_length(row) - prefill.columns
        begin = max(0, first + offset)
        end = min(first + int(hidden.shape[1]) + offset, len(row.prompt_ids) - 1)
        for place in range(begin, end, PLACES):
            upto = min(place + PLACES, end)
            column = place - offset - first
            states = hidden[index, column : column + upto - place]
            found.append(_scores(row, place + 1, head(states).astype(mx.float32)))
    return found


def _scores(row: Row, begin: int, logits: mx.array) -> ScoredPrompt:
    library, count = array_library(), int(logits.shape[0])
    scores = library.asarray(logits) - library.asarray(normalizers(logits))[:, None]
    # Clamp NaN to the least log-probability that can be reported; the answer of such a row fails separately.
    scores = library.where(scores >= LEAST_LOG_PROBABILITY, scores, LEAST_LOG_PROBABILITY)
    ids = library.array(row.prompt_ids[begin : begin + count])
    own = library.take_along_axis(scores, ids[:, None], axis=-1)[:, 0].tolist()
    wanted = row.prompt_alternatives or 0
    if wanted == 0:
        return ScoredPrompt(row.row, begin, own, [[] for _ in range(count)])
    best = library.argpartition(-scores, wanted - 1, axis=-1)[:, :wanted]
    values = library.take_along_axis(scores, best, axis=-1).tolist()
    pairs = [
        sorted(zip(some, theirs, strict=True), key=lambda pair: (-pair[1], pair[0]))
        for some, theirs in zip(best.tolist(), values, strict=True)
    ]
    return ScoredPrompt(row.row, begin, own, pairs)
