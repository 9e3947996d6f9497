"""The table of canary values shipped with the code, by model name. No MLX.

Each entry applies to one commit on the hub, since a model's owner may publish other weights under the same name.
Entries are written by `leanvibe model measure`, on a machine that can reach the hub; a named model without an entry is
vouched for by the hub's hashes alone, and every check says so.
"""

import json
from pathlib import Path
from types import UnionType
from typing import Any

import attrs

from actors.inference.checkpoints.catalogue import Canaries
from actors.inference.checkpoints.errors import ModelFileCorrupt

TABLE = Path(__file__).with_name("shipped_canaries.json")


@attrs.frozen(kw_only=True)
class ShippedCanaries:
    """Canary values of one model."""

    name: str
    """Hub id, or the embedded model's name."""
    revision: str | None
    """The commit measured; None for the embedded model, whose source has a fixed hash."""
    canaries: Canaries
    """Values of both texts."""
    measured: str
    """Backend and type used for the measurement."""


def shipped_canaries(table: Path | None = None) -> dict[str, ShippedCanaries]:
    """Reads the table, keyed by name. Raises `ModelFileCorrupt`."""
    path = table or TABLE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, list):
            raise TypeError("it is not an array")  # the loop would accept an object or a string too
        entries = [_entry(one) for one in content]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelFileCorrupt(path=path, reason=f"is not a table of canary values: {error}") from error
    return {entry.name: entry for entry in entries}


def write_shipped(entry: ShippedCanaries, table: Path | None = None) -> None:
    """Adds an entry to the table, replacing any of the same name. Raises `ModelFileCorrupt` or `OSError`."""
    path = table or TABLE
    entries = shipped_canaries(path) | {entry.name: entry}
    content = [
        {
            "name": one.name,
            "revision": one.revision,
            "canary_nats_per_token": one.canaries.short,
            "long_canary_nats_per_token": one.canaries.long,
            "measured": one.measured,
        }
        for _name, one in sorted(entries.items())
    ]
    making = path.with_name(f".{path.name}.making")
    making.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    making.replace(path)


def _entry(content: Any) -> ShippedCanaries:
    return ShippedCanaries(
        name=_value(content, "name", str),
        revision=_value(content, "revision", str | None),
        canaries=Canaries(
            float(_value(content, "canary_nats_per_token", int | float)),
            float(_value(content, "long_canary_nats_per_token", int | float)),
        ),
        measured=_value(content, "measured", str),
    )


def _value(content: Any, key: str, kind: type | UnionType) -> Any:
    """Raises `KeyError` if it is missing and `TypeError` if it has another type."""
    value = content[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{key} is {value!r}")
    return value
