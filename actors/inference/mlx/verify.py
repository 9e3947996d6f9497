"""Runs every check on a checkpoint, records what a person accepts, and measures the canary values that ship with the code."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from actors.inference.checkpoints.catalogue import Canaries
from actors.inference.checkpoints.errors import (
    RENEW,
    CanaryDrifted,
    CanaryFailed,
    CheckpointMismatch,
    DegenerateTensors,
    ModelError,
    ModelNotVouchedFor,
    ModelTooLarge,
)
from actors.inference.checkpoints.manifest import (
    MANIFEST_NAME,
    clear_failure,
    file_problems,
    fraction_hashed,
    listed_bytes,
    read_manifest,
    verify_files,
    write_failure,
    write_manifest,
    write_stamp,
)
from actors.inference.checkpoints.provenance import (
    NOTHING_EXPECTED,
    Check,
    ExpectedCanaries,
    Provenance,
    describe_source,
    examine_files,
    expected_canaries,
    provenance_of,
    source_check,
)
from actors.inference.checkpoints.shipped_canaries import ShippedCanaries
from actors.inference.mlx.load import available_device, load_checkpoint
from actors.inference.mlx.proof import prove

Progress = Callable[[str, float], None]
"""Progress callback: stage and fraction of the whole, 0 to 1, never decreasing."""
# Fractions of the whole at which the stages end, roughly by duration.
_HASHED, _LOADED = 0.15, 0.3
_CHECK_OF_ERROR: tuple[tuple[type[ModelError], str], ...] = (
    (CheckpointMismatch, "coverage"),
    (DegenerateTensors, "tensors"),
    (CanaryFailed, "canary_short"),
)


@attrs.frozen(kw_only=True)
class Verification:
    """Result of a verification."""

    name: str
    """The user's name for the model."""
    folder: Path
    """Folder of the checkpoint or adapter."""
    provenance: Provenance
    """`verified` if someone vouches for the content, after `accept` if that was given."""
    checks: tuple[Check, ...]
    """All checks carried out."""

    @property
    def is_fit(self) -> bool:
        """True if it can be served: no check failed, except perhaps that nobody vouches for it."""
        return all(check.passed for check in self.checks if check.name != "source")


def verify_model(
    folder: Path,
    name: str,
    *,
    accept: bool,
    adapter: Path | None = None,
    progress: Progress = lambda _stage, _fraction: None,
) -> Verification:
    """Hashes every file, loads the model and measures both canary texts.

    With `adapter` the adapter's folder is checked and recorded, applied to the model in `folder`, which must itself be
    fit.

    With `accept` a passing checkpoint that nobody vouches for is recorded as it is: manifest, hashes, values. A passing
    checkpoint whose manifest has no values gets them. A failing one loses its stamp, is marked as failed for `leanvibe
    model list`, and is never recorded. Takes some seconds for the embedded model, minutes for a large one on a CPU.
    Raises `ModelFileMissing` or `ModelFileCorrupt` if the manifest itself cannot be read, and `ModelTooLarge`; all
    other problems are in the result.
    """
    base = folder
    unlisted: dict[str, Any] = {"name": name, "source": {"path": folder.name}}
    if adapter is not None:
        examine_files(base, name)
        folder = adapter
        unlisted = {"name": adapter.name, "source": {"path": adapter.name}, "base": name}
    has_manifest = (folder / MANIFEST_NAME).exists()
    manifest = read_manifest(folder) if has_manifest else unlisted
    provenance = provenance_of(manifest) if has_manifest else "unverified"
    checks = _file_checks(folder, manifest, progress) if has_manifest else [_no_manifest()]
    expected = expected_canaries(folder, manifest)
    records_values = (has_manifest or accept) and expected.long is None
    if records_values:
        lack = expected.lack.replace(ExpectedCanaries().lack, NOTHING_EXPECTED.lack)
        expected = attrs.evolve(expected, lack=lack, action="")
    measured = None
    if all(check.passed for check in checks):
        try:
            progress("load", _HASHED)
            loaded = load_checkpoint(base, available_device(), adapter=adapter)
            progress("verify", _LOADED)
            proof = prove(
                loaded, base, expected, is_known=False, with_long=True,
                progress=lambda part: progress("verify", _LOADED + (1 - _LOADED) * part),
            )  # fmt: skip
        except ModelTooLarge:
            # It says nothing about the checkpoint.
            raise
        except ModelError as error:
            checks.append(Check(name=_check_name(error), passed=False, detail=str(error), action=RENEW))
        else:
            checks.extend(proof.checks)
            measured = proof.canaries
    if measured is None:
        write_failure(folder, next(check.name for check in checks if not check.passed))
    else:
        clear_failure(folder)
        if provenance == "unverified" and accept:
            provenance = "verified"
            now = datetime.datetime.now(tz=datetime.UTC)
            _record(folder, {**manifest, "provenance": "verified", "accepted": now.date().isoformat()}, measured)
        elif records_values:
            _record(folder, manifest, measured)
        if (folder / MANIFEST_NAME).exists():
            write_stamp(folder)
    manifest = read_manifest(folder) if (folder / MANIFEST_NAME).exists() else manifest
    source = source_check(name, provenance, describe_source(manifest))
    # A checkpoint that failed cannot be accepted, and is not served.
    checks.append(attrs.evolve(source, action="") if measured is None else source)
    # Vouching for a manifest does not cover files that differ from it.
    vouched: Provenance = "unverified" if measured is None else provenance
    return Verification(name=name, folder=folder, provenance=vouched, checks=tuple(checks))


def measure_for_shipping(folder: Path, progress: Progress) -> ShippedCanaries:
    """Hashes every file, loads the model and measures both texts; records nothing.

    Raises `ModelNotVouchedFor` for a folder that is not an unmodified pull from the hub, and all errors of
    `verify_files`, `load_checkpoint` and `prove`, so that neither noise nor a damaged file ever gets a value.
    """
    manifest = read_manifest(folder)
    source = manifest.get("source")
    if not isinstance(source, dict) or not {"hub_id", "revision"} <= source.keys() or "conversion" in manifest:
        raise ModelNotVouchedFor(folder=folder, reason="its manifest does not name a hub model and commit")
    if provenance_of(manifest) != "verified" or "accepted" in manifest:
        raise ModelNotVouchedFor(folder=folder, reason="it was accepted by a person, not proven by the hub's hashes")
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


def canary_fields(measured: Canaries) -> dict[str, float | str | None]:
    """Canary values in the form of a manifest."""
    return {
        "canary_nats_per_token": None if measured.short is None else round(measured.short, 4),
        "long_canary_nats_per_token": None if measured.long is None else round(measured.long, 4),
        "canary_measured": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
    }


def _file_checks(folder: Path, manifest: dict[str, Any], progress: Progress) -> list[Check]:
    count = fraction_hashed(listed_bytes(manifest), lambda part: progress("hash", _HASHED * part))
    problems = [
        Check(name="files", passed=False, detail=str(problem), action=RENEW)
        for problem in file_problems(folder, with_hashes=True, hashed=count)
    ]
    number = len(manifest["files"])
    return problems or [Check(name="files", passed=True, detail=f"{number} files match the manifest (hashed now)")]


def _no_manifest() -> Check:
    return Check(name="files", passed=True, detail="there is no manifest to compare them with")


def _check_name(error: ModelError) -> str:
    if isinstance(error, CanaryDrifted):
        return f"canary_{error.text}"
    return next((name for kind, name in _CHECK_OF_ERROR if isinstance(error, kind)), "files")


def _record(folder: Path, manifest: dict[str, Any], measured: Canaries) -> None:
    kept = {key: value for key, value in manifest.items() if key not in ("files", "format")}
    write_manifest(folder, {**kept, **canary_fields(measured)})
