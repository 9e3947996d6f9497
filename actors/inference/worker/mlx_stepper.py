"""The batch on MLX: prefill in chunks, decode all rows in one forward pass, drop rows without a trace.

A loop of our own over mlx-lm's models and batched caches, because `BatchGenerator` shares one generator of
random numbers among rows, computes a token past each end, and keeps log-probabilities of the whole vocabulary.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
from attrs import define
from mlx_lm.models.cache import BatchKVCache

from actors.inference.models.canary import CANARY_CEILING_NATS, canary_negative_log_likelihood, canary_token_ids
from actors.inference.models.load import LoadedModel, available_device, load_checkpoint
from actors.inference.sampling import Sampling
from actors.inference.worker.blas import BlasReport
from actors.inference.worker.process_memory import resident_bytes
from actors.inference.worker.sampler import sample
from actors.inference.worker.stepper import Emitted, Row, StepResult

__all__ = ["MlxStepper", "load_stepper"]

PREFILL_TOKENS_PER_STEP = 256
"""Prompt tokens computed between two decode steps, all rows together."""
PREFILL_ROWS = 8
"""Prompts prefilled side by side at most."""
SIMILAR_LENGTH = 0.7
"""Prompts are prefilled together when the shortest has at least this share of the longest's length."""
POOL_BYTES = 256 * 1024 * 1024
"""What MLX may keep of freed memory for reuse."""


@define
class _Prefill:
    """Prompts that are being read, left-padded to one length."""

    rows: list[Row]
    tokens: mx.array
    """(rows, length); the padding is token 0."""
    cache: list[BatchKVCache]
    done: int = 0


class MlxStepper:
    """Owns model, caches and rows. Every call must come from the thread that made it."""

    def __init__(self, loaded: LoadedModel, report: dict[str, Any]) -> None:
        self._model = loaded.model
        self._layers = len(loaded.model.layers)
        self._report = report
        self._owner = threading.get_ident()
        self._waiting: deque[Row] = deque()
        self._prefill: _Prefill | None = None
        self._rows: list[Row] = []
        self._cache: list[BatchKVCache] = []

    def report(self) -> dict[str, Any]:
        """What was loaded and how it was checked."""
        return self._report

    def admit(self, row: Row) -> None:
        """Take a row; it waits for its prefill."""
        self._check_thread()
        if not row.prompt_ids:
            raise ValueError("an empty prompt")
        self._waiting.append(row)

    def cancel(self, row: int) -> None:
        """Drop a row from the queue, the prefill or the batch."""
        self._check_thread()
        self._waiting = deque(one for one in self._waiting if one.row != row)
        if self._prefill is not None and any(one.row == row for one in self._prefill.rows):
            self._shrink_prefill(self._prefill, [one.row != row for one in self._prefill.rows])
        self._keep([index for index, one in enumerate(self._rows) if one.row != row])

    def clear(self) -> None:
        """Drop all rows."""
        self._check_thread()
        self._waiting.clear()
        self._prefill = None
        self._keep([])

    def has_work(self) -> bool:
        """Whether a step would do anything."""
        return bool(self._rows or self._waiting or self._prefill)

    def step(self) -> StepResult:
        """One token for each row in the batch, then at most one chunk of prefill."""
        self._check_thread()
        result = StepResult()
        if self._rows:
            result.rows.extend(row.row for row in self._rows)
            last = mx.array([[row.emitted_ids[-1]] for row in self._rows])
            logits = self._model(last, cache=self._cache)[:, -1]
            self._keep(self._emit(logits, self._rows, result))
        if self._prefill is None and self._waiting:
            self._begin_prefill()
        if self._prefill is not None:
            self._advance_prefill(self._prefill, result)
        return result

    def memory(self) -> dict[str, float]:
        """Bytes by what holds them."""
        return {
            "resident": resident_bytes(),
            "mlx_active": float(mx.get_active_memory()),
            "mlx_pool": float(mx.get_cache_memory()),
            "kv": float(sum(one.nbytes for one in self._cache)),
        }

    # --- prefill ----------------------------------------------------------------------------------

    def _begin_prefill(self) -> None:
        """Take waiting rows of similar length, first come first; padding costs as much as tokens do."""
        first = self._waiting.popleft()
        group = [first]
        longest = shortest = _length(first)
        others: deque[Row] = deque()
        while self._waiting and len(group) < PREFILL_ROWS:
            row = self._waiting.popleft()
            length = _length(row)
            if min(shortest, length) >= SIMILAR_LENGTH * max(longest, length):
                group.append(row)
                longest, shortest = max(longest, length), min(shortest, length)
            else:
                others.append(row)
        self._waiting = others + self._waiting
        padding = [longest - _length(row) for row in group]
        tokens = [[0] * pad + row.prompt_ids + row.emitted_ids for pad, row in zip(padding, group, strict=True)]
        cache = [BatchKVCache(padding) for _ in range(self._layers)]
        self._prefill = _Prefill(group, mx.array(tokens), cache)

    def _advance_prefill(self, prefill: _Prefill, result: StepResult) -> None:
        """Read one chunk; at the end of the prompts emit their first tokens and join the batch."""
        length = prefill.tokens.shape[1]
        chunk = max(1, PREFILL_TOKENS_PER_STEP // len(prefill.rows))
        end = min(length, prefill.done + chunk)
        result.rows.extend(row.row for row in prefill.rows)
        inputs = prefill.tokens[:, prefill.done : end]
        is_last = end == length
        # Only the last position's scores are wanted, and the head costs more than a layer.
        hidden = self._model.model(inputs, cache=prefill.cache)
        prefill.done = end
        if not is_last:
            mx.eval([(one.keys, one.values) for one in prefill.cache])
        else:
            self._prefill = None
            logits = self._head(hidden[:, -1:])[:, -1]
            keep = self._emit(logits, prefill.rows, result)
            if keep:
                if len(keep) < len(prefill.rows):
                    _filter(prefill.cache, keep)
                self._join([prefill.rows[index] for index in keep], prefill.cache)
        result.prefilled_tokens = len(prefill.rows) * inputs.shape[1]

    def _shrink_prefill(self, prefill: _Prefill, wanted: list[bool]) -> None:
        """Take rows out of a prefill that is under way, and the padding that only they needed."""
        indexes = [index for index, keep in enumerate(wanted) if keep]
        prefill.rows = [prefill.rows[index] for index in indexes]
        if not indexes:
            self._prefill = None
            return
        padding = prefill.tokens.shape[1] - max(_length(row) for row in prefill.rows)
        if prefill.done <= padding:
            # Nothing of the others was read yet, and an empty cache cannot be filtered: begin again.
            self._waiting.extendleft(reversed(prefill.rows))
            self._prefill = None
            return
        _filter(prefill.cache, indexes)  # drops the common padding from the cache by itself
        prefill.tokens = prefill.tokens[mx.array(indexes)][:, padding:]
        prefill.done -= padding

    def _head(self, hidden: mx.array) -> Any:
        model = self._model
        if model.args.tie_word_embeddings:
            return model.model.embed_tokens.as_linear(hidden)
        return model.lm_head(hidden)

    def _join(self, rows: list[Row], cache: list[BatchKVCache]) -> None:
        if self._rows:
            for own, other in zip(self._cache, cache, strict=True):
                own.extend(other)
        else:
            self._cache = cache
        self._rows.extend(rows)

    # --- rows -------------------------------------------------------------------------------------

    def _emit(self, logits: mx.array, rows: list[Row], result: StepResult) -> list[int]:
        """Sample a token for each row; returns the indexes of rows that go on."""
        tokens, log_probabilities, failed = sample(logits, rows)
        broken = dict(failed)
        going_on: list[int] = []
        for index, row in enumerate(rows):
            if index in broken:
                result.failed.append((row.row, broken[index]))
                continue
            token = tokens[index]
            row.emitted_ids.append(token)
            finish = "stop" if token in row.stop_ids else None
            if finish is None and len(row.emitted_ids) >= row.max_tokens:
                finish = "length"
            result.emitted.append(Emitted(row.row, token, log_probabilities[index], finish))
            if finish is None:
                going_on.append(index)
        return going_on

    def _keep(self, indexes: list[int]) -> None:
        """Keep these rows of the batch and free the others' memory."""
        if len(indexes) == len(self._rows):
            return
        self._rows = [self._rows[index] for index in indexes]
        if not indexes:
            self._cache = []
            return
        _filter(self._cache, indexes)

    def _check_thread(self) -> None:
        if threading.get_ident() != self._owner:
            raise RuntimeError("MLX objects belong to the thread that made them")


def _length(row: Row) -> int:
    return len(row.prompt_ids) + len(row.emitted_ids)


def _filter(cache: list[BatchKVCache], indexes: list[int]) -> None:
    keep = mx.array(indexes)
    for one in cache:
        one.filter(keep)


def load_stepper(folder: Path, name: str, blas: BlasReport, stage: Callable[[str], None]) -> MlxStepper:
    """Load a checkpoint, prove it with the canary, warm it up. Raises what makes it unfit to serve."""
    started = time.perf_counter()
    backend = available_device()
    mx.set_cache_limit(POOL_BYTES)
    stage("loading weights")
    loaded = load_checkpoint(folder, backend)
    stage("canary")
    canary = canary_negative_log_likelihood(loaded.model, canary_token_ids(folder))
    passed = canary < CANARY_CEILING_NATS
    warnings = [blas.warning] if blas.warning else []
    if not passed:
        raise ValueError(
            f"the canary paragraph scores {canary:.2f} nats a token, over {CANARY_CEILING_NATS:g}: "
            "these weights are not a trained model's (random ones score about 10.8)"
        )
    report = {
        "model": name,
        "backend": backend,
        "blas": blas.name,
        "dtype": loaded.dtype,
        "has_pretrained_weights": loaded.every_parameter_from_checkpoint and passed,
        "canary_nll": canary,
        "parameter_bytes": loaded.parameter_bytes,
        "vocabulary_size": loaded.vocabulary_size,
        "context_tokens": loaded.context_length_tokens,
        "kv_bytes_per_token": _kv_bytes_per_token(loaded),
        "single_row_products": loaded.has_single_row_products,
        "warnings": warnings,
    }
    stage("warming up")
    stepper = MlxStepper(loaded, report)
    stepper.admit(
        Row(row=0, prompt_ids=[1, 2, 3], emitted_ids=[], max_tokens=2, stop_ids=frozenset(), sampling=Sampling())
    )
    while stepper.has_work():
        stepper.step()
    report["load_seconds"] = time.perf_counter() - started
    return stepper


def _kv_bytes_per_token(loaded: LoadedModel) -> int:
    """Bytes of keys and values for one position of one row, all layers together."""
    arguments = loaded.model.args
    heads = arguments.num_key_value_heads
    head_width = arguments.hidden_size // arguments.num_attention_heads
    width_bytes = 4 if "float32" in loaded.dtype else 2
    return int(2 * arguments.num_hidden_layers * heads * head_width * width_bytes)
