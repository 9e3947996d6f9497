"""One vectorised sampler for the whole batch, with a key for each row.

Nothing of one row reaches another: penalties touch its own scores, truncation finds its own threshold, and
its noise comes from a key made of its seed and position. So a row draws the same tokens alone or in company.
"""

from __future__ import annotations

import mlx.core as mx

from actors.inference.sampling import Sampling, position_key
from actors.inference.worker.stepper import Row

__all__ = ["sample"]


def sample(logits: mx.array, rows: list[Row]) -> tuple[list[int], list[float], list[tuple[int, str]]]:
    """Choose the next token of each row.

    ``logits`` is (rows, vocabulary), float. Returns token ids, their log-probabilities under the model's own
    distribution, and ``(index, reason)`` of rows whose settings raised (their token is the likeliest one and
    must not be used).
    """
    logits = logits.astype(mx.float32)
    normalizer = mx.logsumexp(logits, axis=-1)
    scores, failed = _adjusted(logits, rows)
    is_cold = all(row.sampling.temperature == 0 for row in rows)
    chosen = mx.argmax(scores, axis=-1) if is_cold else _drawn(scores, rows)
    own = mx.take_along_axis(logits, chosen[:, None], axis=-1)[:, 0] - normalizer
    mx.eval(chosen, own)
    return chosen.tolist(), own.tolist(), failed  # type: ignore[return-value]


def _adjusted(logits: mx.array, rows: list[Row]) -> tuple[mx.array, list[tuple[int, str]]]:
    """Penalties and biases, on the rows that have them; each row's trouble stays its own."""
    failed: list[tuple[int, str]] = []
    changed: dict[int, mx.array] = {}
    for index, row in enumerate(rows):
        if row.sampling.changes_logits:
            try:
                changed[index] = _penalized(logits[index], row, row.sampling)
            except Exception as error:  # noqa: BLE001  isolation border between rows
                failed.append((index, f"{type(error).__name__}: {error}"))
    if not changed:
        return logits, failed
    return mx.stack([changed.get(index, logits[index]) for index in range(len(rows))]), failed


def _penalized(scores: mx.array, row: Row, sampling: Sampling) -> mx.array:
    """One row's scores (vocabulary,) with its penalties.

    Repetition divides positive and multiplies negative scores of tokens in prompt or answer (CTRL, Keskar et
    al. 2019); presence and frequency subtract for tokens of the answer alone, as OpenAI's API defines them.
    """
    if sampling.repetition_penalty != 1.0:
        seen = mx.array(sorted({*row.prompt_ids, *row.emitted_ids}))
        old = scores[seen]
        penalty = sampling.repetition_penalty
        scores[seen] = mx.where(old > 0, old / penalty, old * penalty)
    if (sampling.presence_penalty or sampling.frequency_penalty) and row.emitted_ids:
        counts: dict[int, int] = {}
        for token in row.emitted_ids:
            counts[token] = counts.get(token, 0) + 1
        tokens = mx.array(list(counts))
        taken = mx.array([sampling.presence_penalty + sampling.frequency_penalty * count for count in counts.values()])
        scores[tokens] = scores[tokens] - taken
    if sampling.logit_bias:
        tokens = mx.array(list(sampling.logit_bias))
        scores[tokens] = scores[tokens] + mx.array(list(sampling.logit_bias.values()))
    return scores


def _drawn(scores: mx.array, rows: list[Row]) -> mx.array:
    """Gumbel-max draws for hot rows, the likeliest token for cold ones."""
    settings = [row.sampling for row in rows]
    temperatures = mx.array([one.temperature if one.temperature > 0 else 1.0 for one in settings])
    scaled = scores / temperatures[:, None]
    if any(one.top_k or one.top_p < 1 or one.min_p > 0 for one in settings if one.temperature > 0):
        scaled = mx.where(scaled >= _thresholds(scaled, settings)[:, None], scaled, -mx.inf)
    vocabulary = scores.shape[-1]
    noise = mx.stack(
        [
            mx.random.gumbel((vocabulary,), key=mx.random.key(position_key(row.sampling.seed, len(row.emitted_ids))))
            if row.sampling.temperature > 0
            else mx.zeros((vocabulary,))
            for row in rows
        ]
    )
    return mx.argmax(scaled + noise, axis=-1)


def _thresholds(scaled: mx.array, settings: list[Sampling]) -> mx.array:
    """The lowest score that each row keeps: top_k, top_p and min_p all keep a prefix of the sorted scores."""
    vocabulary = scaled.shape[-1]
    ordered = -mx.sort(-scaled, axis=-1)
    probabilities = mx.softmax(ordered, axis=-1)
    before = mx.cumsum(probabilities, axis=-1) - probabilities
    top_p = mx.array([one.top_p for one in settings])[:, None]
    top_k = mx.array([one.top_k or vocabulary for one in settings])[:, None]
    min_p = mx.array([one.min_p for one in settings])[:, None]
    kept = (before < top_p) & (mx.arange(vocabulary)[None] < top_k) & (probabilities >= min_p * probabilities[:, :1])
    last = mx.maximum(mx.sum(kept, axis=-1), 1) - 1
    return mx.take_along_axis(ordered, last[:, None], axis=-1)[:, 0]
