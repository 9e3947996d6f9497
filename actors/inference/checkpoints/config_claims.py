"""Checks the values in a `config.json` against limits and against the existing tensors. Pure functions, no MLX.

A model is built from its configuration before any weight is read, so a count without matching tensors would be built
until memory or patience runs out: a billion layers take 40 MB a second.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from actors.inference.checkpoints.config_fields import (
    MAXIMUM_ENTRIES,
    MAXIMUM_LAYERS,
    MAXIMUM_POSITIONS,
    MAXIMUM_VOCABULARY,
    MAXIMUM_WIDTH,
    field_problems,
)
from actors.inference.checkpoints.errors import UnsupportedModel

_LAYER_OF = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d{1,9})\.")
_LAYER_COUNTS = frozenset({"num_hidden_layers", "num_layers", "n_layer", "n_layers"})
_MAXIMUM_DEPTH = 4
"""Configurations nest those of their parts (`text_config`, `rope_scaling`), and no deeper."""
_BOUNDS = {
    **dict.fromkeys(_LAYER_COUNTS, MAXIMUM_LAYERS),
    "vocab_size": MAXIMUM_VOCABULARY,
    "max_position_embeddings": MAXIMUM_POSITIONS,
    "original_max_position_embeddings": MAXIMUM_POSITIONS,
}
_COUNT = re.compile(r"(?:^|_)(?:size|dim|rank|heads?|experts|layers?|groups?|blocks)(?:_|$)")
"""Words in the names of counts and widths, in all families of models."""


def check_claims(folder: Path, config: Mapping[str, Any], tensor_names: Iterable[str]) -> None:
    """Raises `UnsupportedModel`, naming the field, for a value that its field cannot have or that the tensors
    contradict."""
    for problem in field_problems(config):
        raise UnsupportedModel(folder=folder, reason=problem)
    for name, key, value in _values(config, "", _MAXIMUM_DEPTH):
        if isinstance(value, str | list):
            if len(value) > MAXIMUM_ENTRIES:
                what = "characters" if isinstance(value, str) else "entries"
                reason = f"{name} in config.json has {len(value):,} {what}, beyond {MAXIMUM_ENTRIES:,}"
                raise UnsupportedModel(folder=folder, reason=reason)
            continue
        bound = _BOUNDS.get(key, MAXIMUM_WIDTH if _COUNT.search(key) else None)
        # Some families write -1 or 0 for "none".
        if math.isnan(value) or (bound is not None and not -1 <= value <= bound):
            beyond = "no number" if math.isnan(value) else f"{value:.4g}, beyond {bound:,}"
            raise UnsupportedModel(folder=folder, reason=f"{name} in config.json is {beyond}")
    layers = max((int(found[1]) + 1 for one in tensor_names if (found := _LAYER_OF.search(one))), default=None)
    if layers is None:
        return
    parts = {"": config, "text_config.": config.get("text_config") or {}}
    for prefix, claimed in ((prefix, part.get("num_hidden_layers")) for prefix, part in parts.items()):
        if claimed is not None and claimed > layers:
            reason = (
                f"{prefix}num_hidden_layers in config.json is {claimed:,}, and there are tensors of {layers:,} layers"
            )
            raise UnsupportedModel(folder=folder, reason=reason)


def _values(config: Mapping[str, Any], prefix: str, depth: int) -> Iterator[tuple[str, str, float | str | list[Any]]]:
    """Path, key and value of every number, string and list, including those of objects in lists."""
    for key, value in config.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield prefix + key, key, float(min(max(value, -(1 << 63)), 1 << 63))
        elif isinstance(value, str):
            yield prefix + key, key, value
        elif isinstance(value, list):
            yield prefix + key, key, value
            for at, one in enumerate(value[:MAXIMUM_ENTRIES] if depth else ()):
                if isinstance(one, Mapping):
                    yield from _values(one, f"{prefix}{key}[{at}].", depth - 1)
        elif isinstance(value, Mapping) and depth:
            yield from _values(value, f"{prefix}{key}.", depth - 1)
