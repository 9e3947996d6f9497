"""A synthetic Phi-3 of two layers, served through worker, pipe and both actors: for all that needs a model and no text."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from actors.inference.text.text_model import CheckpointText
from tests.inference.models.small_checkpoints import rewrite_tensors, write_tokenizer
from tests.inference.service_kit import InferenceService, inference_service
from tests.inference.tiny_model import write_tiny_phi3

PREFIX_BYTES = 8 * 2**20


def _quieten(tensors: dict[str, Any]) -> None:
    tensors["lm_head.weight"] = tensors["lm_head.weight"] * 0.25


@asynccontextmanager
async def served_phi3(folder: Path, **arguments: Any) -> AsyncIterator[InferenceService]:
    """The inference service with this model; one character of a prompt is one token. Prompts and answers fit into 2,048."""
    write_tokenizer(write_tiny_phi3(folder / "tiny"))
    # Quiet at the end, so that the canary finds text about as likely as by chance; which token is best stays the same.
    rewrite_tensors(folder / "tiny" / "model.safetensors", _quieten)
    (folder / "tiny" / "chat_template.jinja").write_text("{% for one in messages %}{{ one['content'] }}{% endfor %}")
    async with inference_service(
        **{
            "engine": "mlx",
            "checkpoint": folder / "tiny",
            "cache_folder": folder,
            "blas": "shipped",  # the model is too small for another to matter
            "load_text": partial(CheckpointText, folder / "tiny"),
            "prefix_bytes": PREFIX_BYTES,
            "patience_seconds": 60,
            **arguments,
        }
    ) as service:
        yield service
