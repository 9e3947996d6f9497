"""Proves that a loaded model is the trained one: coverage, tensors, canary texts.

A model without knowledge predicts uniformly: ln(vocabulary) nats per token, 10.80 for 49,152 tokens, which is just what
random or shuffled weights measure. The embedded checkpoint measures about 4 on a paragraph like the short one, and
larger models less. The ceiling is in the wide gap between, so that neither a coarser quantization nor another tokenizer
exceeds it, and no random model gets below: to do so it would have to know the distribution of English words.

If the value of a checkpoint is known, it must be reproduced within `CANARY_TOLERANCE_NATS`. Over some fifty tokens
that takes a tenth of a second and is done at every start. Over a thousand it takes six seconds for the embedded model on
two idle cores and a minute on two busy ones, and is done when a model is installed or verified: it detects errors that a
short text cannot, such as a wrong base of the rotary embedding, which hardly matters between neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal, cast

import attrs
import mlx.core as mx
from mlx import nn
from mlx.utils import tree_flatten
from mlx_lm.models.cache import BatchKVCache
from tokenizers import Tokenizer

from actors.inference.checkpoints.catalogue import Canaries
from actors.inference.checkpoints.errors import (
    CanaryDrifted,
    CanaryFailed,
    DegenerateTensors,
    ModelFileCorrupt,
    ModelFileMissing,
)
from actors.inference.checkpoints.provenance import Check, ExpectedCanaries
from actors.inference.mlx.load import LoadedModel

CANARY_CEILING_NATS = 6.0
"""Maximum nats per token of a pretrained model on the short paragraph."""
CANARY_TOLERANCE_NATS = 0.02
"""Permitted difference from the recorded value: kernels, BLAS and batch shapes change it by less than a tenth of this.
"""
CANARY_TEXT = (
    "The small library at the end of our street opens at nine in the morning. On most days an old man is already "
    "waiting at the door with two books under his arm. He gives them back, walks slowly along the shelves, and takes "
    "home something new before lunch."
)
"""Written for this purpose, hence not verbatim in any training set, and free of names, numbers and rare words."""
LONG_CANARY_TOKENS = 1000
"""Tokens predicted in the long text, out of its first 1,001."""
_CHUNK_TOKENS = 128


@attrs.frozen(kw_only=True)
class Proof:
    """Measurements and checks, all passed."""

    canaries: Canaries
    """Values of the texts; `long` is None if it was not requested."""
    checks: tuple[Check, ...]
    """Checks carried out."""


def prove(
    loaded: LoadedModel,
    folder: Path,
    expected: ExpectedCanaries,
    *,
    is_known: bool,
    with_long: bool,
    progress: Callable[[float], None] = lambda _fraction: None,
) -> Proof:
    """Checks a loaded model, cheapest checks first.

    With `is_known` these very files passed before, and their tensors are not read again. `with_long` adds the text of a
    thousand tokens, some seconds for a small model and minutes for a large one on a CPU; `progress` receives its
    fraction. Raises `ModelFileMissing` or `ModelFileCorrupt` for the tokenizer, `DegenerateTensors`, `CanaryFailed` or
    `CanaryDrifted`. Call it in the thread that loaded the model.
    """
    checks = [
        Check(name="coverage", passed=True, detail=f"all {loaded.parameter_count:,} parameters are from the checkpoint")
    ]
    if not is_known:
        bad = degenerate_tensors(loaded)
        if bad:
            raise DegenerateTensors(folder=folder, names=bad)
        checks.append(Check(name="tensors", passed=True, detail="all are finite and none is all zero"))
    short = _short_canary(loaded, folder)
    checks.append(_check_value(folder, "short", short, expected))
    long = None
    if with_long:
        ids = long_canary_token_ids(folder, loaded.context_length_tokens)
        long = canary_negative_log_likelihood(loaded.model, ids, progress)
        checks.append(_check_value(folder, "long", long, expected))
    return Proof(canaries=Canaries(short, long), checks=tuple(checks))


def prove_short(loaded: LoadedModel, folder: Path, name: str) -> Check:
    """Checks that a proven model still models English when run in another way, for which no value is known.

    Raises `CanaryFailed`.
    """
    nats = _short_canary(loaded, folder)
    return Check(
        name=name,
        passed=True,
        detail=f"{nats:.4f} nats per token, under the {CANARY_CEILING_NATS:g} of a trained model",
    )


def degenerate_tensors(loaded: LoadedModel) -> tuple[str, ...]:
    """Names of parameters that are all zero, or contain infinities or NaN. Quantized ones are judged by their scales."""
    return tuple(
        name
        for name, tensor in tree_flatten(loaded.model.parameters())
        # A group's offset may legitimately be zero everywhere.
        if mx.issubdtype(tensor.dtype, mx.floating) and not name.endswith(".biases") and not _is_sound(tensor)
    )


def canary_negative_log_likelihood(
    model: Any, token_ids: Sequence[int], progress: Callable[[float], None] = lambda _fraction: None
) -> float:
    """Mean negative log-likelihood of the tokens after the first, in nats per token, under teacher forcing.

    `model` is called with ids `(1, length)` and returns logits `(1, length, vocabulary)`. Up to 128 tokens are read in
    one forward pass; more are read in chunks with a key-value cache, as in serving, so that the logits of a thousand
    tokens are never in memory together, and `progress` receives the fraction read. NaN, from broken weights, is
    returned as infinity, so that comparisons work.
    """
    if len(token_ids) < 2:
        raise ValueError("at least two tokens are needed to predict one")
    ids = mx.array([list(token_ids)])
    inputs, targets = ids[:, :-1], ids[:, 1:]
    length = inputs.shape[1]
    cache = [BatchKVCache([0]) for _ in model.layers] if length > _CHUNK_TOKENS else None
    total_nats = 0.0
    for start in range(0, length, _CHUNK_TOKENS):
        part = slice(start, start + _CHUNK_TOKENS)
        logits = model(inputs[:, part], cache=cache) if cache is not None else model(inputs)
        total_nats += nn.losses.cross_entropy(logits.astype(mx.float32), targets[:, part], reduction="sum").item()
        progress(min(1.0, (start + _CHUNK_TOKENS) / length))
    nats = total_nats / length
    return float("inf") if math.isnan(nats) else float(nats)


def canary_token_ids(folder: Path) -> list[int]:
    """Token ids of the short paragraph for the checkpoint in `folder` (its `tokenizer.json`), without special tokens."""
    return _token_ids(folder, CANARY_TEXT)


def long_canary_token_ids(folder: Path, context_length_tokens: int) -> list[int]:
    """Token ids of the long text: the first 1,001, or as many as fit into the model's context."""
    text = resources.files("actors.inference.mlx").joinpath("canary_paragraph.md").read_text(encoding="utf-8")
    return _token_ids(folder, text)[: min(LONG_CANARY_TOKENS + 1, context_length_tokens)]


def _short_canary(loaded: LoadedModel, folder: Path) -> float:
    nats = canary_negative_log_likelihood(loaded.model, _read_canary(folder))
    if not nats < CANARY_CEILING_NATS:
        raise CanaryFailed(folder=folder, nats_per_token=nats, ceiling_nats=CANARY_CEILING_NATS)
    return nats


def _is_sound(tensor: mx.array) -> bool:
    # The maximum magnitude is 0, infinite or NaN in just these cases. Evaluated one by one: MLX allocates everything it
    # is to compute together up front, and the magnitudes are as large as the model.
    largest = cast("float", mx.abs(tensor).max().item())
    return math.isfinite(largest) and largest > 0


def _check_value(folder: Path, text: Literal["short", "long"], nats: float, expected: ExpectedCanaries) -> Check:
    name, value = f"canary_{text}", expected.short if text == "short" else expected.long
    found = f"{nats:.4f} nats per token"
    if value is None:
        # The ceiling applies to the short text.
        under = f", under the {CANARY_CEILING_NATS:g} of a trained model" if text == "short" else ""
        return Check(name=name, passed=True, detail=f"{found}{under}; {expected.lack}", action=expected.action)
    if not abs(nats - value) <= CANARY_TOLERANCE_NATS:
        raise CanaryDrifted(
            folder=folder, text=text, nats_per_token=nats, expected_nats=value, tolerance_nats=CANARY_TOLERANCE_NATS
        )
    detail = f"{found}, expected {value:.4f} ± {CANARY_TOLERANCE_NATS:g} ({expected.basis})"
    return Check(name=name, passed=True, detail=detail, action=expected.action)


def _read_canary(folder: Path) -> list[int]:
    """Token ids of the short paragraph. Raises the error of a bad tokenizer."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ModelFileMissing(path=path)
    try:
        return canary_token_ids(folder)
    except Exception as error:  # tokenizers raises bare Exception for a file that it cannot read
        raise ModelFileCorrupt(path=path, reason=f"cannot be read: {error}") from error


def _token_ids(folder: Path, text: str) -> list[int]:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    # Left over from training; prompts are not tokenized with them either.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids
