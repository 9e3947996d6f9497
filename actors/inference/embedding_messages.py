"""What others may ask of the encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from actors.inference.encoder.limits import CONTEXT_TOKENS, DIMENSIONS
from actors.refusals import CommandRefused
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
"""The name of the one encoder."""
_NAMES = frozenset({ENCODER_MODEL, "all-minilm", f"sentence-transformers/{ENCODER_MODEL}"})


def is_encoder(name: str) -> bool:
    """Whether a model's name means the encoder: its own, Ollama's, or the hub's, in whatever case."""
    return name.lower() in _NAMES


class EmbeddingRefused(CommandRefused):
    """Texts were not embedded. Its field is `inputs[3]` where one text is at fault, and `model` where there is no encoder."""


@frozen(kw_only=True)
class Embedded:
    """The vectors, in order."""

    model: str
    vectors: tuple[bytes, ...] = field(repr=False)
    """Each a whole JSON value: an array of numbers, or a string in base64."""
    tokens: int
    """Of all texts together, [CLS] and [SEP] of each among them."""
    load_seconds: float
    """What it waited for the encoder to be ready."""


@frozen(kw_only=True)
class EmbedTexts(Request[Embedded]):
    """Embed texts. Refused with `EmbeddingRefused`; an asker that leaves ends what is not computed yet."""

    client_id: str
    caller: str = ""
    """As of `StartGeneration`."""
    inputs: tuple[str | tuple[int, ...], ...] = field(repr=False)
    """Texts, or token ids of the encoder's own vocabulary. None at all only has it loaded."""
    truncates: bool = False
    """Whether a text over the context is cut; else the whole request is refused with `context_length_exceeded`."""
    dimensions: int | None = None
    """How many numbers of each vector; they are brought back to length 1."""
    is_base64: bool = False


@frozen(kw_only=True)
class EncoderHealth:
    """The encoder as measured. None where nothing was measured yet."""

    model: str
    state: str
    """`off`, `absent` (fetched by the first request), `unloaded` (loaded by the next one), `fetching`, `loading`, `ready` or `failed`."""
    stage: str | None
    """What it is doing, or why it failed."""
    worker_pid: int | None
    restarts: int
    """Workers that were lost."""
    report: Mapping[str, Any]
    """What the worker said when it was ready: files with their SHA-256, canary, threads, seconds of the load."""
    memory_bytes: float | None
    waiting: int
    """Requests that wait or are computed."""
    totals: Mapping[str, float]
    """Since the actor started: texts, tokens, requests by outcome."""
    context_tokens: int
    dimensions: int
    size_bytes: int
    digest: str = ""
    """SHA-256 of its weights, which are loaded with no other."""
    modified_seconds: float | None = None
    """When its weights were last written, POSIX seconds; None where they are not here."""


@frozen
class DescribeEncoder(Request[EncoderHealth]):
    """How the encoder is."""
