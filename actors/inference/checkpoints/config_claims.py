"""Holds what a `config.json` claims against bounds and against the tensors that are there. Pure, no MLX.

A model is built from its configuration before a weight is read, so a count that no tensor answers to would be built until
memory or patience ends: a billion layers take 40 MB a second.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from actors.inference.checkpoints.errors import UnsupportedModel

_LAYER_OF = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d{1,9})\.")
_LAYER_COUNTS = frozenset({"num_hidden_layers", "num_layers", "n_layer", "n_layers"})
_MAXIMUM_DEPTH = 4
"""Configurations nest those of their parts (`text_config`, `rope_scaling`), and no deeper."""
MAXIMUM_LAYERS = 10_000
MAXIMUM_VOCABULARY = 1 << 24
MAXIMUM_POSITIONS = 1 << 31
_MAXIMUM_WIDTH = 1 << 24
_BOUNDS = {
    **dict.fromkeys(_LAYER_COUNTS, MAXIMUM_LAYERS),
    "vocab_size": MAXIMUM_VOCABULARY,
    "max_position_embeddings": MAXIMUM_POSITIONS,
    "original_max_position_embeddings": MAXIMUM_POSITIONS,
}
_COUNT = re.compile(r"(?:^|_)(?:size|dim|rank|heads?|experts|layers?|groups?|blocks)(?:_|$)")
"""Words in the names of counts and widths, of whatever family of models."""


def check_claims(folder: Path, config: Mapping[str, Any], tensor_names: Iterable[str]) -> None:
    """Raise `UnsupportedModel`, naming the field, for a count that is none, beyond its bound, or beyond the tensors there."""
    fields = list(_numbers(config, "", _MAXIMUM_DEPTH))
    for name, key, value in fields:
        bound = _BOUNDS.get(key, _MAXIMUM_WIDTH if _COUNT.search(key) else None)
        # Some families write -1 or 0 for "none".
        if bound is not None and not -1 <= value <= bound:
            raise UnsupportedModel(folder=folder, reason=f"{name} in config.json is {value:.4g}, beyond {bound:,}")
    layers = max((int(found[1]) + 1 for one in tensor_names if (found := _LAYER_OF.search(one))), default=None)
    if layers is None:
        return
    claimed = config.get("num_hidden_layers")
    if isinstance(claimed, int) and claimed > layers:
        reason = f"num_hidden_layers in config.json is {claimed:,}, and there are tensors of {layers:,} layers"
        raise UnsupportedModel(folder=folder, reason=reason)


def _numbers(config: Mapping[str, Any], prefix: str, depth: int) -> Iterator[tuple[str, str, float]]:
    """Path, key and value of every number."""
    for key, value in config.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield prefix + key, key, float(min(max(value, -(1 << 63)), 1 << 63))
        elif isinstance(value, Mapping) and depth:
            yield from _numbers(value, f"{prefix}{key}.", depth - 1)
