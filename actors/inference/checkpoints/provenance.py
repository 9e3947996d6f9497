"""Provenance of a checkpoint: checks its files against its manifest, and the origin of the manifest itself. No MLX.

A manifest is *verified* if its hashes are those of a trusted source: the hub's listing, the hash of the embedded model
in this code, or a person who ran `leanvibe model verify NAME --accept`. A folder without a manifest, or with one made
from files that nobody vouched for, is *unverified*: it is served, but never reported as having pretrained weights.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import attrs

from actors.inference.checkpoints.catalogue import EMBEDDED_MODEL_NAME, short_names
from actors.inference.checkpoints.errors import ModelFileCorrupt
from actors.inference.checkpoints.fetch import GGUF_SHA256
from actors.inference.checkpoints.manifest import (
    MANIFEST_NAME,
    failed_check,
    read_manifest,
    stamp_is_current,
    verify_files,
)
from actors.inference.checkpoints.shipped_canaries import shipped_canaries

Provenance = Literal["verified", "unverified"]

RECORD_VALUES = "`leanvibe model verify` records what it measures, so that later changes show"
NO_SHIPPED_VALUES = "it can be used as it is; values to ship are made in a checkout with `leanvibe model measure`"
"""Part of the check's text only: users of an installation need not act on it and are not warned."""


@attrs.frozen(kw_only=True)
class Check:
    """Result of one check."""

    name: str
    """`files`, `source`, `coverage`, `tensors`, `canary_short`, `canary_long`, or `canary_long_context`: the short text
    read with the setting `long_context`."""
    passed: bool
    """True if nothing is wrong."""
    detail: str
    """Description of the finding."""
    action: str = ""
    """Advice for the user; empty if nothing needs to be done."""


@attrs.frozen(kw_only=True)
class ExpectedCanaries:
    """Expected values of the canary texts, and what they prove."""

    short: float | None = None
    """Nats per token of the short text; None if unknown."""
    long: float | None = None
    """The same for the long text."""
    basis: str = ""
    """Origin of the values, and what that proves."""
    lack: str = "no recorded value to compare with"
    """Text for a value that is unknown."""
    action: str = ""
    """Advice on how to get a better proof; empty if there is none."""


NOTHING_EXPECTED = ExpectedCanaries(lack="recorded now, so that later changes show")
"""Used when values are measured in order to be recorded."""


@attrs.frozen(kw_only=True)
class FileFindings:
    """Facts about a checkpoint known before anything of it is loaded."""

    provenance: Provenance
    """`verified` if someone vouches for the content."""
    checks: tuple[Check, ...]
    """Checks carried out."""
    expected: ExpectedCanaries
    """Expected values of the canary texts."""
    has_manifest: bool
    """True if there is a manifest, verified or not."""
    is_stamped: bool
    """True if the hashes were right earlier and nothing has been written since."""
    failed: str | None
    """Name of the check that failed at the last verification; None if none did."""


def examine_files(folder: Path, name: str) -> FileFindings:
    """Checks the files of a checkpoint, hashing them unless sizes and modification times match an earlier check.

    `name` is the user's name for the model, for the advice. Raises `ModelFileMissing`, `ModelFileTruncated` or
    `ModelFileCorrupt` for the first file that differs from the manifest.
    """
    failed = failed_check(folder)
    if not (folder / MANIFEST_NAME).exists():
        checks = (
            Check(name="files", passed=True, detail="there is no manifest to compare them with"),
            source_check(name, "unverified", "nothing says what the files should be"),
        )
        return FileFindings(
            provenance="unverified", checks=checks, expected=expected_canaries(folder, {}), has_manifest=False,
            is_stamped=False, failed=failed,
        )  # fmt: skip
    is_stamped = failed is None and stamp_is_current(folder)
    verify_files(folder, with_hashes=not is_stamped)
    manifest = read_manifest(folder)
    provenance = provenance_of(manifest)
    how = "hashed before and unchanged since" if is_stamped else "hashed now"
    count = len(manifest["files"])
    checks = (
        Check(name="files", passed=True, detail=f"{count} files match the manifest ({how})"),
        source_check(name, provenance, describe_source(manifest)),
    )
    return FileFindings(
        provenance=provenance, checks=checks, expected=expected_canaries(folder, manifest), has_manifest=True,
        is_stamped=is_stamped, failed=failed,
    )  # fmt: skip


def provenance_of(manifest: Mapping[str, Any]) -> Provenance:
    """Provenance recorded in a manifest."""
    said = manifest.get("provenance")
    if said is None and manifest.get("name") == EMBEDDED_MODEL_NAME:
        # Manifests of the embedded model predate the field.
        return "verified" if _source_of(manifest).get("sha256") == GGUF_SHA256 else "unverified"
    return "verified" if said == "verified" else "unverified"


def expected_canaries(folder: Path, manifest: Mapping[str, Any]) -> ExpectedCanaries:
    """Values shipped for the model and commit that a manifest names, or else those in the manifest.

    Raises `ModelFileCorrupt` for a value that is not a number.
    """
    name, revision = manifest.get("name"), _source_of(manifest).get("revision")
    shipped = shipped_canaries().get(name) if isinstance(name, str) else None
    if shipped is not None and shipped.revision in (None, revision):
        return ExpectedCanaries(
            short=shipped.canaries.short, long=shipped.canaries.long, basis="shipped with this version"
        )
    values = [manifest.get("canary_nats_per_token"), manifest.get("long_canary_nats_per_token")]
    if not all(value is None or isinstance(value, int | float) for value in values):
        raise ModelFileCorrupt(path=folder / MANIFEST_NAME, reason="has a canary value that is not a number")
    measured = manifest.get("canary_measured")
    when = f" on {measured}" if isinstance(measured, str) else ""
    expected = ExpectedCanaries(
        short=values[0], long=values[1], basis=f"recorded{when}, so that changes since then show",
        action=RECORD_VALUES if manifest and values[0] is None else "",
    )  # fmt: skip
    if shipped is not None:
        return _without_shipped(expected, f"the values of this version are for commit {str(shipped.revision)[:12]}")
    if name in short_names().values():
        why = "this version ships none for this model, so the hashes of its source are what proves it"
        return _without_shipped(expected, why)
    return expected


def _without_shipped(expected: ExpectedCanaries, why: str) -> ExpectedCanaries:
    said = f"{why}; {NO_SHIPPED_VALUES}"
    return attrs.evolve(expected, basis=f"{expected.basis}; {said}", lack=f"{expected.lack}; {said}")


def describe_source(manifest: Mapping[str, Any]) -> str:
    """Short description of a checkpoint's origin."""
    source = _source_of(manifest)
    where = source.get("hub_id") or source.get("requirement") or source.get("path") or "an unknown source"
    revision = source.get("revision")
    text = f"from {where}" + (f" at {str(revision)[:12]}" if revision else "")
    if "accepted" in manifest:
        text += f", accepted by hand on {manifest['accepted']}"
    return text


def source_check(name: str, provenance: Provenance, detail: str) -> Check:
    """Check that someone vouches for the content, with advice if nobody does."""
    if provenance == "verified":
        return Check(name="source", passed=True, detail=detail)
    action = (
        f"if you trust these files, record them as they are with `leanvibe model verify {name} --accept`; "
        "until then the model is served as unverified"
    )
    return Check(
        name="source", passed=False, detail=f"{detail}; the content has no reference to compare with", action=action
    )


def _source_of(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    source = manifest.get("source")
    return source if isinstance(source, Mapping) else {}
