"""Requests that other services send to the encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from actors.errors import CommandError
from actors.inference.encoder.limits import CONTEXT_TOKENS, DIMENSIONS
from runtime import Request

__all__ = [
    "CONTEXT_TOKENS",
    "DIMENSIONS",
    "ENCODER_MODEL",
    "DescribeEncoder",
    "EmbedTexts",
    "Embedded",
    "EmbeddingRefused",
    "EncoderHealth",
    "is_encoder",
]

ENCODER_MODEL = "all-minilm-l6-v2"
"""Name of the only encoder."""
_NAMES = frozenset({ENCODER_MODEL, "all-minilm", f"sentence-transformers/{ENCODER_MODEL}"})


def is_encoder(name: str) -> bool:
    """True if a model name means the encoder: its own name, Ollama's or the hub's, ignoring case."""
    return name.lower() in _NAMES


class EmbeddingRefused(CommandError):
    """Texts were not embedded.

    Its field is `inputs[3]` if one text is at fault, and `model` if there is no encoder.
    """


@frozen(kw_only=True)
class Embedded:
    """Vectors in input order."""

    model: str
    vectors: tuple[bytes, ...] = field(repr=False)
    """Each a complete JSON value: an array of numbers, or a base64 string."""
    tokens: int
    """Tokens of all texts, including each one's [CLS] and [SEP]."""
    load_seconds: float
    """Time spent waiting for the encoder to be ready."""


@frozen(kw_only=True)
class EmbedTexts(Request[Embedded]):
    """Embeds texts. Refused with `EmbeddingRefused`; cancelling the ask stops the remaining work."""

    client_id: str
    caller: str = ""
    """As in `StartGeneration`."""
    inputs: tuple[str | tuple[int, ...], ...] = field(repr=False)
    """Texts, or token ids of the encoder's own vocabulary. An empty tuple only loads the encoder."""
    truncates: bool = False
    """Truncates texts that exceed the context; otherwise the whole request is refused with `context_length_exceeded`.
    """
    dimensions: int | None = None
    """Number of components to keep of each vector, which is then normalised to length 1."""
    is_base64: bool = False


@frozen(kw_only=True)
class EncoderHealth:
    """State and measurements of the encoder. None stands for values not measured yet."""

    model: str
    state: str
    """`off`, `absent` (fetched by the first request), `unloaded` (loaded by the next one), `fetching`, `loading`,
    `ready` or `failed`."""
    stage: str | None
    """Current activity, or the reason it failed."""
    worker_pid: int | None
    restarts: int
    """Workers lost so far."""
    report: Mapping[str, Any]
    """The worker's report when it became ready: files with their SHA-256, canary, threads, load time in seconds."""
    memory_bytes: float | None
    waiting: int
    """Requests waiting or being computed."""
    totals: Mapping[str, float]
    """Totals since the actor started: texts, tokens, requests by outcome."""
    context_tokens: int
    dimensions: int
    size_bytes: int
    digest: str = ""
    """SHA-256 of its weights; no others are accepted."""
    modified_seconds: float | None = None
    """Modification time of its weights, POSIX seconds; None if they are not on this machine."""


@frozen
class DescribeEncoder(Request[EncoderHealth]):
    """Asks for the encoder's state."""
