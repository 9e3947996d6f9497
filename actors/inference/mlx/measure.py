"""Measures the canary values to ship with the code, on files proven by the hub's own hashes."""

from collections.abc import Callable
from pathlib import Path

from actors.inference.checkpoints.catalogue import Canaries
from actors.inference.checkpoints.errors import ModelNotVouchedFor
from actors.inference.checkpoints.manifest import fraction_hashed, listed_bytes, read_manifest, verify_files
from actors.inference.checkpoints.provenance import NOTHING_EXPECTED, provenance_of
from actors.inference.checkpoints.shipped_canaries import ShippedCanaries
from actors.inference.mlx.load import available_device, load_checkpoint
from actors.inference.mlx.proof import prove

Progress = Callable[[str, float], None]
"""Progress callback: stage and fraction of the whole, 0 to 1, never decreasing."""

_HASHED, _LOADED = 0.15, 0.3


def measure_for_shipping(folder: Path, progress: Progress) -> ShippedCanaries:
    """Hashes every file, loads the model and measures both texts; records nothing.

    Raises `ModelNotVouchedFor` for a folder that is not an unmodified pull from the hub, and all errors of
    `verify_files`, `load_checkpoint` and `prove`, so that neither noise nor a damaged file ever gets a value.
    """
    manifest = read_manifest(folder)
    source = manifest.get("source")
    if not isinstance(source, dict) or not {"hub_id", "revision"} <= source.keys() or "conversion" in manifest:
        raise ModelNotVouchedFor(folder=folder, reason="its manifest names no model of the hub with its commit")
    if provenance_of(manifest) != "verified" or "accepted" in manifest:
        raise ModelNotVouchedFor(folder=folder, reason="a person accepted it, and not the hub's hashes")
    count = fraction_hashed(listed_bytes(manifest), lambda part: progress("hash", _HASHED * part))
    verify_files(folder, with_hashes=True, hashed=count)
    device = available_device()
    progress("load", _HASHED)
    loaded = load_checkpoint(folder, device)
    progress("verify", _LOADED)
    measured = prove(
        loaded, folder, NOTHING_EXPECTED, is_known=False, with_long=True,
        progress=lambda part: progress("verify", _LOADED + (1 - _LOADED) * part),
    ).canaries  # fmt: skip
    assert measured.short is not None
    assert measured.long is not None
    return ShippedCanaries(
        name=str(source["hub_id"]),
        revision=str(source["revision"]),
        canaries=Canaries(round(measured.short, 4), round(measured.long, 4)),
        measured=f"{device}, {loaded.dtype}",
    )
