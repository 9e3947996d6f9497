"""Distinguishes pretrained parameters from noise by their likelihood of two English texts.

A model without knowledge predicts uniformly: ln(vocabulary) nats per token, 10.80 for 49,152 tokens, which is just what
random or shuffled weights measure. The embedded checkpoint measures about 4 on a paragraph like the short one, and
larger models less. The ceiling is in the wide gap between, so that neither a coarser quantization nor another tokenizer
exceeds it, and no random model gets below: to do so it would have to know the distribution of English words.

If the value of a checkpoint is known, it must be reproduced within `CANARY_TOLERANCE_NATS`. Over some fifty tokens that
takes a tenth of a second and is done at every start. Over a thousand it takes six seconds for the embedded model on two
idle cores and a minute on two busy ones, and is done when a model is installed or verified: it detects errors that a
short text cannot, such as a wrong base of the rotary embedding, which hardly matters between neighbours.
"""

import math
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx import nn
from mlx_lm.models.cache import BatchKVCache
from tokenizers import Tokenizer

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


def canary_token_ids(folder: Path) -> list[int]:
    """Token ids of the short paragraph for the checkpoint in `folder` (its `tokenizer.json`), without special tokens."""
    return _token_ids(folder, CANARY_TEXT)


def long_canary_token_ids(folder: Path, context_length_tokens: int) -> list[int]:
    """Token ids of the long text: the first 1,001, or as many as fit into the model's context."""
    text = resources.files("actors.inference.mlx").joinpath("canary_paragraph.md").read_text(encoding="utf-8")
    return _token_ids(folder, text)[: min(LONG_CANARY_TOKENS + 1, context_length_tokens)]


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


def _token_ids(folder: Path, text: str) -> list[int]:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    # Left over from training; prompts are not tokenized with them either.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids
