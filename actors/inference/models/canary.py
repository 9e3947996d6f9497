"""Tell pretrained parameters from noise, by how likely they make a paragraph of plain English.

A model that knows nothing spreads its belief evenly: ln(vocabulary) nats per token, 10.80 for 49,152 tokens, and random
or shuffled weights measure just that. The embedded checkpoint measures about 3 on a paragraph like this one, and larger
models less. The ceiling lies in the wide gap between, so that neither a worse quantization nor another tokenizer trips
it, and no random model slips under: to get there it would have to know the distribution of English words.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx import nn
from tokenizers import Tokenizer

CANARY_CEILING_NATS = 6.0
"""The most nats per token that a pretrained model may need for the paragraph."""

CANARY_TEXT = (
    "The small library at the end of our street opens at nine in the morning. On most days an old man is already "
    "waiting at the door with two books under his arm. He gives them back, walks slowly along the shelves, and takes "
    "home something new before lunch."
)
"""Written for this purpose, so in no training set word for word, and free of names, numbers and rare words."""


def canary_token_ids(folder: Path) -> list[int]:
    """The paragraph in the tokens of the checkpoint in `folder` (its `tokenizer.json`), without special tokens."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids: list[int] = tokenizer.encode(CANARY_TEXT, add_special_tokens=False).ids
    return ids


def canary_negative_log_likelihood(model: Any, token_ids: Sequence[int]) -> float:
    """Mean negative log-likelihood of the tokens after the first, in nats per token, under teacher forcing.

    `model` is called with ids `(1, length)` and gives logits `(1, length, vocabulary)`. One forward pass. NaN, from
    broken weights, comes back as infinity, so that comparing with the ceiling is always right.
    """
    if len(token_ids) < 2:
        raise ValueError("at least two tokens are needed to predict one")
    ids = mx.array([list(token_ids)])
    logits = model(ids[:, :-1]).astype(mx.float32)
    nats = nn.losses.cross_entropy(logits, ids[:, 1:], reduction="mean").item()
    return float("inf") if math.isnan(nats) else float(nats)
