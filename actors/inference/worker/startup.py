"""Start-up of the MLX engine: check a checkpoint's files, load it, verify that it is trained, warm it up, report."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import mlx.core as mx

from actors.inference.checkpoints.manifest import clear_failure, write_stamp
from actors.inference.checkpoints.provenance import Check, examine_files
from actors.inference.mlx.load import LoadedModel, available_device, load_checkpoint, serve_long_context, waits_for_code
from actors.inference.mlx.proof import prove, prove_short
from actors.inference.structured_output import Grammars, GrammarsAtNeed
from actors.inference.text.token_text import without_panics
from actors.inference.worker.blas import BlasReport
from actors.inference.worker.mlx_stepper import MlxStepper
from actors.inference.worker.speculative_decoding import DRAFT_TOKENS, SpeculativeDecoder
from actors.inference.worker.stepper import warm_up

__all__ = ["load_stepper"]


POOL_BYTES = 256 * 1024 * 1024
"""Freed memory that MLX may hold for reuse."""
PIECE_BYTES = 16 * 1024 * 1024
PIECES = 3
UNMEASURED_BYTES = 1 << 30
"""Weights of a model whose first step takes seconds at most, so warm-up may be skipped; larger models are always measured."""


def load_stepper(
    folder: Path,
    name: str,
    blas: BlasReport,
    stage: Callable[[str], None],
    *,
    prefix_bytes: int,
    drafts: bool = False,
    adapter: Path | None = None,
    long_context: bool = False,
    is_memory_bounded: bool = False,
    may_compile: bool = True,
    compiles_beside: bool = False,
    grammars_at_need: bool = False,
    warms_up: bool = True,
) -> MlxStepper:
    """Loads a checkpoint into a stepper ready to serve. Raises the error that makes it unfit, naming the file or check.

    A checkpoint without a trusted manifest is still served, with `provenance: unverified` and without the claim of
    pretrained weights. With `long_context` a longrope model uses its long factors at every length, after its recorded values
    were reproduced with the factors that they were recorded with. Hashes are only computed for files without a stamp (see
    `checkpoints/stamp.py`). With `compiles_beside` a small model whose kernels are not compiled yet runs on MLX, and reports
    `kernels: compiling`. With `grammars_at_need` the grammar tables are built for the first row that follows a schema, and
    others wait for it. Without `warms_up` the step times of a small model are unknown, and `warm_steps` is empty.
    A checkpoint that failed its last verification must pass the full verification before it is served as verified again.
    """
    started = time.perf_counter()
    backend = available_device()
    mx.set_cache_limit(POOL_BYTES)
    stage("checking files")
    found = examine_files(folder, name)
    added = None if adapter is None else examine_files(adapter, f"{name} --adapter {adapter}")
    stage("loading weights")
    loaded = load_checkpoint(
        folder,
        backend,
        adapter=adapter,
        is_memory_bounded=is_memory_bounded,
        # Checked again: the code may have appeared since this process started importing.
        may_compile=may_compile
        and not (waits := compiles_beside and backend == "cpu" and waits_for_code(folder, adapter, is_memory_bounded)),
    )
    stage("canary")
    parts = [(found, folder)] if added is None or adapter is None else [(found, folder), (added, adapter)]
    # The expected values with the adapter are in the adapter's manifest, the last one.
    proven, proven_folder = parts[-1]
    proof = prove(
        loaded,
        folder,
        proven.expected,
        is_known=all(part.is_stamped for part, _folder in parts),
        # The long text takes a minute on a busy machine and belongs to adding or verifying a model; here the hashes prove
        # that nothing changed since. They cannot clear a check that failed with these very hashes.
        with_long=any(part.failed for part, _folder in parts),
        progress=lambda _fraction: stage("canary"),
    )
    if proven.failed:
        clear_failure(proven_folder)
        parts[-1] = (attrs.evolve(proven, failed=None), proven_folder)
    positions, faithful = int(loaded.config["max_position_embeddings"]), loaded.context_length_tokens
    long_checks: tuple[Check, ...] = ()
    if long_context and faithful < positions:
        loaded = serve_long_context(loaded)
        long_checks = (prove_short(loaded, folder, "canary_long_context"),)
    served = loaded.context_length_tokens
    is_verified = all(part.provenance == "verified" for part, _folder in parts) and not any(
        part.failed for part, _folder in parts
    )
    for part, where in parts:
        if part.has_manifest and not part.is_stamped and not part.failed:
            write_stamp(where)
    checks = (*(check for part, _folder in parts for check in part.checks), *proof.checks, *long_checks)
    # A check that passed with advice proves less than it could.
    told = {check.action: check for check in reversed(checks) if check.action}
    warnings = [f"{check.detail}: {action}" for action, check in reversed(told.items())]
    if loaded.uncompiled is not None:
        warnings.append(f"runs several times slower than with compiled code ({loaded.uncompiled})")
    if found.failed and added is not None:
        # The recorded values are those of model and adapter together.
        warnings.append(
            f"{name} failed {found.failed} when it was last verified without its adapter: served as unverified until "
            f"`leanvibe model verify {name}` passes"
        )
    if served < positions:
        warnings.append(
            f"served up to {served:,} of {positions:,} tokens: longer texts need other position factors; the setting "
            "long_context serves the full length"
        )
    if long_checks:
        warnings.append(
            f"long_context: served up to {served:,} tokens with the factors for long sequences at every length; up to {faithful:,} "
            "tokens its text differs from the reference"
        )
    report: dict[str, Any] = {
        "model": name,
        "backend": backend,
        "blas": blas.name,
        "dtype": loaded.dtype,
        "has_pretrained_weights": loaded.every_parameter_from_checkpoint and is_verified,
        "provenance": "verified" if is_verified else "unverified",
        "adapter": None if adapter is None else adapter.name,
        "checks": [attrs.asdict(check) for check in checks],
        "canary_nll": proof.canaries.short,
        "parameter_bytes": loaded.parameter_bytes,
        "vocabulary_size": loaded.vocabulary_size,
        "context_tokens": loaded.context_length_tokens,
        "kv_bytes_per_token": _kv_bytes_per_token(loaded),
        "pool_bytes": POOL_BYTES,
        "prefix_bytes": prefix_bytes,
        "draft_tokens": DRAFT_TOKENS if drafts else 0,
        "compiled": loaded.threads is not None,
        "kernels": "compiling" if may_compile and waits else "uncompiled" if loaded.threads is None else "compiled",
        "single_row_products": loaded.has_single_row_products,
        "warnings": [*([blas.warning] if blas.warning else []), *warnings],
    }
    grammars: Grammars | GrammarsAtNeed | None
    if grammars_at_need:
        grammars = GrammarsAtNeed(lambda: _made_grammars(folder, loaded))
    else:
        grammars = _grammars(folder, loaded, report["warnings"])
    stepper = MlxStepper(
        loaded, report, grammars, prefix_bytes=prefix_bytes, drafter=SpeculativeDecoder() if drafts else None
    )
    measured: list[tuple[float, int, int]] = []
    if warms_up or loaded.parameter_bytes > UNMEASURED_BYTES:
        stage("warming up")
        measured = _warmed_up(stepper, served)
    # A GPU compiles kernels when a shape first needs them, so its warm-up says little about the first requests.
    report["warm_steps"] = measured if backend == "cpu" else []
    report["allocation_bytes_per_second"] = allocation_bytes_per_second() if backend == "cpu" else None
    report["load_seconds"] = time.perf_counter() - started
    return stepper


def _warmed_up(stepper: MlxStepper, served_tokens: int) -> list[tuple[float, int, int]]:
    """Measures steps on this machine: seconds, rows, prompt tokens of each."""
    warm_up(stepper, [1, 2, 3])  # the first products of a process are far slower than all later ones
    measured = warm_up(stepper, [1, 2, 3] * min(8, served_tokens // 6))
    stepper.forget_prefixes()
    return measured


def _grammars(folder: Path, loaded: LoadedModel, warnings: list[str]) -> Grammars | None:
    """Builds the grammars that enforce schemas; a model whose tokenizer the library cannot read is served without."""
    try:
        grammars = _made_grammars(folder, loaded)
        # Now, so that the first row with a schema does not make others wait.
        grammars.make_tables()
    except ValueError as error:
        warnings.append(f"structured output does not work with this model's tokenizer ({error})")
        return None
    return grammars


def _made_grammars(folder: Path, loaded: LoadedModel) -> Grammars:
    tokenizer, stop_ids = folder / "tokenizer.json", sorted(loaded.stop_token_ids)
    made: Grammars = without_panics(Grammars, tokenizer, loaded.vocabulary_size, stop_ids)
    return made


def _kv_bytes_per_token(loaded: LoadedModel) -> int:
    """Bytes of keys and values per position of one row, over all layers."""
    arguments = loaded.model.args
    head_width = getattr(arguments, "head_dim", None) or arguments.hidden_size // arguments.num_attention_heads
    width_bytes = 4 if "float32" in loaded.dtype else 2
    return int(2 * arguments.num_hidden_layers * arguments.num_key_value_heads * head_width * width_bytes)


def allocation_bytes_per_second() -> float:
    """Measures allocation bandwidth: the slowest of a few blocks held at the same time, so that none reuses another's pages.

    In a virtual machine the host may have to find fresh memory first. Blocks for some 50 ms.
    """
    mx.clear_cache()
    held: list[mx.array] = []
    slowest = float("inf")
    for _ in range(PIECES):
        began = time.perf_counter()
        held.append(mx.zeros((PIECE_BYTES,), mx.uint8))
        mx.eval(held[-1])
        slowest = min(slowest, PIECE_BYTES / (time.perf_counter() - began))
    del held
    mx.clear_cache()
    return slowest
