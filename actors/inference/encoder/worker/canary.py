"""Verifies weights, tokenizer and arithmetic by cosines known from the reference.

Hashes verify the files; this verifies the results computed from them on this machine. The cosines are those that
`sentence-transformers` computes with the same files (printed by `scripts/make_embedding_goldens`). Random weights give cosines near 1
for all pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy
from attrs import frozen
from numpy.typing import NDArray

__all__ = ["PAIRS", "TOLERANCE", "CanaryFault", "CanaryPair", "measure"]

TOLERANCE = 1e-3
"""Processors differ in the seventh decimal; wrong weights in the first."""


@frozen
class CanaryPair:
    """Two texts and the cosine of their vectors."""

    one: str
    other: str
    cosine: float


PAIRS = (
    CanaryPair("A man is eating food.", "A man is eating a piece of bread.", 0.755337),
    CanaryPair("A woman is playing the violin.", "The stock market fell sharply on Monday.", -0.027488),
    CanaryPair("How do I reset my password?", "I forgot my login credentials and cannot sign in.", 0.675609),
    CanaryPair("def add(a, b): return a + b", "A function that adds two numbers", 0.637795),
    CanaryPair("The weather is lovely today.", "It's so sunny outside!", 0.665955),
)


class CanaryFault(Exception):
    """The vectors are not the encoder's."""


def measure(embed: Callable[[Sequence[str]], NDArray[numpy.float32]]) -> dict[str, float]:
    """Embeds the pairs. Returns their number and the largest error of a cosine. Raises `CanaryFault` beyond `TOLERANCE`."""
    vectors = embed([text for pair in PAIRS for text in (pair.one, pair.other)])
    cosines = (vectors[0::2] * vectors[1::2]).sum(axis=1)
    off = numpy.abs(cosines - numpy.array([pair.cosine for pair in PAIRS], numpy.float32))
    worst = float(off.max())
    # `not <=`, so that a NaN fails too.
    if not worst <= TOLERANCE:
        found = ", ".join(f"{cosine:.4f} for {pair.cosine:.4f}" for cosine, pair in zip(cosines, PAIRS, strict=True))
        raise CanaryFault(f"the encoder's canary fails: its cosines are {found}")
    return {"pairs": len(PAIRS), "worst_difference": worst, "tolerance": TOLERANCE}
