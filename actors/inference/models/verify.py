"""Look at everything that can be wrong with a checkpoint, and record what a person accepts."""

import datetime
from pathlib import Path
from typing import Any

import attrs

from actors.inference.models.catalogue import Canaries
from actors.inference.models.errors import (
    RENEW,
    CanaryDrifted,
    CanaryFailed,
    CheckpointMismatch,
    DegenerateTensors,
    ModelError,
)
from actors.inference.models.load import available_device, load_checkpoint
from actors.inference.models.manifest import MANIFEST_NAME, file_problems, read_manifest, write_manifest
from actors.inference.models.proof import prove
from actors.inference.models.provenance import (
    Check,
    Provenance,
    describe_source,
    examine_files,
    expected_canaries,
    provenance_of,
    source_check,
)
from actors.inference.models.stamp import STAMP_NAME, write_stamp

_CHECK_OF_ERROR: tuple[tuple[type[ModelError], str], ...] = (
    (CheckpointMismatch, "coverage"),
    (DegenerateTensors, "tensors"),
    (CanaryFailed, "canary_short"),
)


@attrs.frozen(kw_only=True)
class Verification:
    """What came out."""

    name: str
    """What the person called the model."""
    folder: Path
    """Where it lies."""
    provenance: Provenance
    """Whether someone vouches for the content, after `accept` if that was asked for."""
    checks: tuple[Check, ...]
    """Everything that was looked at."""

    @property
    def is_fit(self) -> bool:
        """Whether it can be served at all: nothing failed but, perhaps, that nobody vouches for it."""
        return all(check.passed for check in self.checks if check.name != "source")


def verify_model(folder: Path, name: str, *, accept: bool, adapter: Path | None = None) -> Verification:
    """Hash every file, load the model, measure both canary texts.

    With `adapter` it is the adapter's folder that is looked at and recorded, on the model in `folder`, which has to be fit
    itself.

    With `accept` a checkpoint that passes and that nobody vouches for is recorded as it is: manifest, hashes, values. A
    passing checkpoint whose manifest has no values gets them. A failing one loses its stamp and is never recorded. Takes
    some seconds for the embedded model, minutes for a large one on a CPU. Raises `ModelFileMissing` or
    `ModelFileCorrupt` where the manifest itself cannot be read; all else is in the result.
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
    checks = _file_checks(folder, manifest) if has_manifest else [_no_manifest()]
    expected = expected_canaries(folder, manifest)
    measured = None
    if all(check.passed for check in checks):
        try:
            loaded = load_checkpoint(base, available_device(), adapter=adapter)
            proof = prove(loaded, base, expected, is_known=False, with_long=True)
        except ModelError as error:
            checks.append(Check(name=_check_name(error), passed=False, detail=str(error), action=RENEW))
        else:
            checks.extend(proof.checks)
            measured = proof.canaries
    if measured is None:
        (folder / STAMP_NAME).unlink(missing_ok=True)
    else:
        if provenance == "unverified" and accept:
            provenance = "verified"
            now = datetime.datetime.now(tz=datetime.UTC)
            _record(folder, {**manifest, "provenance": "verified", "accepted": now.date().isoformat()}, measured)
        elif has_manifest and expected.long is None:
            _record(folder, manifest, measured)
        if (folder / MANIFEST_NAME).exists():
            write_stamp(folder)
    manifest = read_manifest(folder) if (folder / MANIFEST_NAME).exists() else manifest
    checks.append(source_check(name, provenance, describe_source(manifest)))
    # Whoever vouches for the manifest does not vouch for files that are not as it says.
    vouched: Provenance = "unverified" if measured is None else provenance
    return Verification(name=name, folder=folder, provenance=vouched, checks=tuple(checks))


def _file_checks(folder: Path, manifest: dict[str, Any]) -> list[Check]:
    problems = [
        Check(name="files", passed=False, detail=str(problem), action=RENEW)
        for problem in file_problems(folder, with_hashes=True)
    ]
    count = len(manifest["files"])
    return problems or [
        Check(name="files", passed=True, detail=f"{count} files are those of the manifest (hashed now)")
    ]


def _no_manifest() -> Check:
    return Check(name="files", passed=True, detail="there is no manifest to hold them against")


def _check_name(error: ModelError) -> str:
    if isinstance(error, CanaryDrifted):
        return f"canary_{error.text}"
    return next((name for kind, name in _CHECK_OF_ERROR if isinstance(error, kind)), "files")


def _record(folder: Path, manifest: dict[str, Any], measured: Canaries) -> None:
    kept = {key: value for key, value in manifest.items() if key not in ("files", "format")}
    write_manifest(folder, {**kept, **canary_fields(measured)})


def canary_fields(measured: Canaries) -> dict[str, float | None]:
    """The values as a manifest holds them."""
    return {
        "canary_nats_per_token": None if measured.short is None else round(measured.short, 4),
        "long_canary_nats_per_token": None if measured.long is None else round(measured.long, 4),
    }
