"""Proves that a loaded model is the trained one: coverage, tensors, canary texts."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Literal, cast

import attrs
import mlx.core as mx
from mlx.utils import tree_flatten

from actors.inference.checkpoints.catalogue import Canaries
from actors.inference.checkpoints.errors import (
    CanaryDrifted,
    CanaryFailed,
    DegenerateTensors,
    ModelFileCorrupt,
    ModelFileMissing,
)
from actors.inference.checkpoints.provenance import Check, ExpectedCanaries
from actors.inference.mlx.canary import (
    CANARY_CEILING_NATS,
    CANARY_TOLERANCE_NATS,
    canary_negative_log_likelihood,
    canary_token_ids,
    long_canary_token_ids,
)
from actors.inference.mlx.load import LoadedModel


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


def _short_canary(loaded: LoadedModel, folder: Path) -> float:
    nats = canary_negative_log_likelihood(loaded.model, _read_canary(folder))
    if not nats < CANARY_CEILING_NATS:
        raise CanaryFailed(folder=folder, nats_per_token=nats, ceiling_nats=CANARY_CEILING_NATS)
    return nats


def degenerate_tensors(loaded: LoadedModel) -> tuple[str, ...]:
    """Names of parameters that are all zero, or contain infinities or NaN. Quantized ones are judged by their scales."""
    return tuple(
        name
        for name, tensor in tree_flatten(loaded.model.parameters())
        # A group's offset may legitimately be zero everywhere.
        if mx.issubdtype(tensor.dtype, mx.floating) and not name.endswith(".biases") and not _is_sound(tensor)
    )


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
