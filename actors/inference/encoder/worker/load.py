"""Loads and verifies the encoder: hashes, every tensor, canary. There is no way to load it unverified."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy
from attrs import define
from numpy.typing import NDArray
from safetensors.numpy import load_file

from actors.inference.checkpoints.encoder import ENCODER_FILES, ENCODER_NAME, EncoderFile, check_encoder_files
from actors.inference.encoder.limits import DIMENSIONS, STEP_TOKENS
from actors.inference.encoder.worker.canary import measure
from actors.inference.encoder.worker.forward import Encoder, Shape
from actors.inference.encoder.worker.tokens import Tokens

__all__ = ["EncoderFault", "LoadedEncoder", "load_encoder"]


class EncoderFault(Exception):
    """The files are intact but do not hold an encoder that this code supports."""


@define
class LoadedEncoder:
    """An encoder ready to embed."""

    tokens: Tokens
    encoder: Encoder
    report: dict[str, Any]
    """For health: files with their hashes, canary, shape, seconds."""
    stepped: Callable[[], None] = lambda: None
    """Called after each step."""

    def embed(self, ids: Sequence[Sequence[int]]) -> NDArray[numpy.float32]:
        """One vector per text, in order; texts of similar length are computed together, `STEP_TOKENS` at a time."""
        found = numpy.empty((len(ids), self.encoder.shape.hidden), numpy.float32)
        for step in steps([len(one) for one in ids]):
            found[step] = self.encoder.embed([ids[index] for index in step])
            self.stepped()
        if not numpy.isfinite(found).all():
            raise EncoderFault("the encoder computed a value that is not finite")
        return found


def load_encoder(
    folder: Path, stage: Callable[[str], None] = lambda _name: None, files: Sequence[EncoderFile] = ENCODER_FILES
) -> LoadedEncoder:
    """Loads and verifies an encoder; ``stage`` receives the name of each stage.

    Raises `ModelError` for an unknown file, `EncoderFault` for a wrong tensor, `CanaryFault`.
    """
    began = time.perf_counter()
    stage("hashing the files")
    hashes = check_encoder_files(folder, files)
    stage("loading the weights")
    config = json.loads((folder / "config.json").read_bytes())
    shape = Shape(
        layers=config["num_hidden_layers"],
        hidden=config["hidden_size"],
        heads=config["num_attention_heads"],
        epsilon=config["layer_norm_eps"],
    )
    tensors = load_file(folder / "model.safetensors")
    wrong = [name for name, one in tensors.items() if one.dtype == numpy.float32 and not numpy.isfinite(one).all()]
    if wrong:
        raise EncoderFault(f"the tensor {wrong[0]} contains a value that is not finite")
    try:
        encoder = Encoder(tensors, shape)
    except KeyError as error:
        raise EncoderFault(f"the weights have no tensor {error}") from None
    if shape.hidden != DIMENSIONS:
        raise EncoderFault(f"the vectors have {shape.hidden} numbers, not {DIMENSIONS}")
    loaded = LoadedEncoder(tokens=Tokens(folder), encoder=encoder, report={})
    stage("measuring the canary")
    canary = measure(lambda texts: loaded.embed(loaded.tokens.read(texts, truncates=False)))
    loaded.report.update(
        model=ENCODER_NAME,
        files=hashes,
        canary=canary,
        dtype="float32",
        threads=encoder.threads,
        parameters=sum(one.size for one in tensors.values() if one.dtype == numpy.float32),
        load_seconds=round(time.perf_counter() - began, 3),
    )
    return loaded


def steps(lengths: Sequence[int]) -> list[list[int]]:
    """Groups the indexes of texts into steps, the shortest first; a text longer than a step gets one of its own."""
    found: list[list[int]] = []
    room = 0
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if not found or lengths[index] > room:
            found.append([])
            room = STEP_TOKENS
        found[-1].append(index)
        room -= lengths[index]
    return found
