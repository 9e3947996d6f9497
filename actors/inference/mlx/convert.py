"""Converts foreign checkpoints for use here: safetensors in PyTorch's layout, or a Llama GGUF.

A sharded checkpoint is read and written shard by shard, lazily: memory is bounded by the largest shard before and
after. Only the proof at the end loads the whole result, as serving does; without enough memory for that, conversion
does not start. All headers are read first, so that every missing, unknown or misshapen tensor is reported before
anything is written. No code from the source is executed: pickle files are refused, and its programs are not copied. The
output is written under another name and renamed once it is complete and has been loaded.
"""

import errno
import json
import math
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, cast

import attrs
import mlx.core as mx

from actors.inference.checkpoints.errors import (
    CanaryFailed,
    CheckpointMismatch,
    DegenerateTensors,
    ModelDiskFull,
    ModelFileCorrupt,
    ModelFileMissing,
    ModelSourceMismatch,
    OutputExists,
    PickleRefused,
    UnsupportedModel,
)
from actors.inference.checkpoints.gguf_header import check_gguf
from actors.inference.checkpoints.gguf_tokenizer import write_tokenizer
from actors.inference.checkpoints.hub import CHECKPOINT_FILES
from actors.inference.checkpoints.manifest import (
    MANIFEST_NAME,
    file_sha256,
    fraction_hashed,
    listed_bytes,
    read_manifest,
    safetensors_shapes,
    verify_files,
    verify_safetensors_size,
    write_manifest,
    write_stamp,
)
from actors.inference.checkpoints.phi3_config import ConversionTable, Shape, phi3_table
from actors.inference.checkpoints.provenance import NOTHING_EXPECTED, provenance_of
from actors.inference.checkpoints.reading import read_checkpoint_json
from actors.inference.checkpoints.weight_format import FLOAT32_BYTES
from actors.inference.mlx.gguf_probe import probe_gguf
from actors.inference.mlx.gguf_repack import repack_gguf
from actors.inference.mlx.load import available_device, check_memory, load_checkpoint
from actors.inference.mlx.proof import prove
from actors.inference.mlx.verify import canary_fields

NOTHING_WRITTEN = "nothing was written: look for another copy of the model"
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt")
GGUF_HINT = (
    "Of GGUF files those of Llama's architecture with a byte-level tokenizer can be converted, as F32, F16, Q4_0, Q4_1 or Q8_0; "
    "other models are taken from their .safetensors files, which `leanvibe model pull OWNER/NAME` fetches"
)
INDEX_NAME = "model.safetensors.index.json"
DTYPES = {"float32": mx.float32, "float16": mx.float16, "bfloat16": mx.bfloat16}

# Fractions of the whole at which the stages end, roughly by duration.
_HASHED, _CONVERTED = 0.15, 0.7

Progress = Callable[[str, float], None]
"""Progress callback: stage and fraction of the whole, 0 to 1, never decreasing."""


@attrs.frozen(kw_only=True)
class Options:
    """Conversion options."""

    bits: Literal[4, 8] | None = None
    """Bits of a quantized weight; None does not quantize."""
    group_size: int = 64
    """Columns of a row that share a scale and an offset."""
    dtype: str | None = None
    """Type of unquantized tensors, a key of `DTYPES`; None keeps the checkpoint's own."""


def convert(source: Path, to: Path, options: Options, progress: Progress) -> Path:
    """Converts a checkpoint folder or a GGUF file to a new folder `to`, and returns it.

    The output's manifest is verified only if the source's files match a verified manifest. Raises `OutputExists`,
    `PickleRefused`, `UnsupportedModel`, `ModelSourceMismatch`, `ModelFileMissing`, `ModelFileTruncated`,
    `ModelFileCorrupt`, `CheckpointMismatch` with every tensor at fault, `DegenerateTensors`, `CanaryFailed`,
    `ModelTooLarge` or `ModelDiskFull`; after an error or interrupt there is no folder `to`.
    """
    if to.exists():
        raise OutputExists(folder=to)
    needed_bytes = _needed_bytes(source, options)
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(to.parent).free < needed_bytes:
            raise _disk_full(to.parent, needed_bytes)
        with tempfile.TemporaryDirectory(dir=to.parent, prefix=".making-", ignore_cleanup_errors=True) as making:
            made = Path(making) / to.name
            made.mkdir()
            describe = _from_gguf if source.is_file() else _from_folder
            description = describe(source, made, options, progress)
            progress("verify", _CONVERTED)
            loaded = load_checkpoint(made, available_device())
            try:
                proof = prove(
                    loaded, made, NOTHING_EXPECTED, is_known=False, with_long=True,
                    progress=lambda part: progress("verify", _CONVERTED + (1 - _CONVERTED) * part),
                )  # fmt: skip
            except (CanaryFailed, DegenerateTensors) as error:
                # The result has been deleted by now, and its fault was in the source.
                raise attrs.evolve(error, folder=source, remedy=NOTHING_WRITTEN) from error
            manifest = {
                "name": to.name, **description, "conversion": attrs.asdict(options),
                "parameter_count": loaded.parameter_count, **canary_fields(proof.canaries),
            }  # fmt: skip
            del loaded
            write_manifest(made, manifest)
            made.replace(to)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise _disk_full(to.parent, needed_bytes) from error
    write_stamp(to)
    progress("ready", 1.0)
    return to


def _needed_bytes(source: Path, options: Options) -> int:
    """Upper bound of the result's size."""
    files = _source_files(source)
    if source.is_file() or options.bits is not None or options.dtype is None:
        return sum(path.stat().st_size for path in files)
    numbers = sum(math.prod(shape) for path in files for shape in safetensors_shapes(path).values())
    return numbers * DTYPES[options.dtype].size


def _source_files(source: Path) -> list[Path]:
    if source.is_file():
        if source.suffix in PICKLE_SUFFIXES:
            raise PickleRefused(source=str(source.parent), files=(source.name,))
        if source.suffix == ".safetensors":
            reason = "has only the weights, without their configuration and tokenizer: name the folder that contains all of them"
            raise UnsupportedModel(folder=source, reason=reason)
        return [source]
    shards = sorted(source.glob("model*.safetensors"))
    if not shards:
        pickles = sorted(path.name for suffix in PICKLE_SUFFIXES for path in source.glob(f"*{suffix}"))
        if pickles:
            raise PickleRefused(source=str(source), files=tuple(pickles))
        raise ModelFileMissing(path=source / "model.safetensors")
    return shards


# --- from a folder --------------------------------------------------------------------------------


def _from_folder(source: Path, made: Path, options: Options, progress: Progress) -> dict[str, Any]:
    config = _read_config(source)
    try:
        table = phi3_table(config)
    except KeyError as error:
        raise UnsupportedModel(folder=source, reason=f"config.json has no {error}") from error
    except ValueError as error:
        raise UnsupportedModel(folder=source, reason=str(error)) from error
    shards = _source_files(source)
    where = _account_for_all(source, shards, table)
    _check_group_size(source, table, options)
    if not (source / "tokenizer.json").is_file():
        raise ModelFileMissing(path=source / "tokenizer.json")
    _check_memory(source, table)
    is_vouched_for, hashes = _hash_source(source, shards, progress)
    written: dict[str, str] = {}
    converted_count = 0

    def count() -> None:
        nonlocal converted_count
        converted_count += 1
        progress("convert", _HASHED + (_CONVERTED - _HASHED) * converted_count / len(where))

    for number, shard in enumerate(shards, start=1):
        name = "model.safetensors" if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
        wanted = {tensor: target for tensor, target in where.items() if target[0] == shard}
        for tensor in _convert_shard(
            shard, made / name, {old: new for old, (_, new) in wanted.items()}, table, options, count
        ):
            written[tensor] = name
    if len(shards) > 1:
        index = {"metadata": {}, "weight_map": dict(sorted(written.items()))}
        (made / INDEX_NAME).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    _write_config(made, config, options)
    for name in CHECKPOINT_FILES:
        if name not in ("config.json", INDEX_NAME) and (source / name).is_file():
            shutil.copyfile(source / name, made / name)
    return {
        "source": _describe_source(source) | {"weights_sha256": hashes},
        "provenance": "verified" if is_vouched_for else "unverified",
    }


def _check_memory(source: Path, table: ConversionTable) -> None:
    """The result is loaded once, which on a CPU takes more memory than the files do."""
    device = available_device()
    if device == "cpu":
        check_memory(source, FLOAT32_BYTES * sum(math.prod(shape) for shape in table.shapes.values()), device)


def _read_config(source: Path) -> dict[str, Any]:
    config = read_checkpoint_json(source / "config.json")
    kind = config.get("model_type")
    if kind != "phi3":
        raise UnsupportedModel(folder=source, reason=f"model_type is {kind!r}, and only 'phi3' can be converted")
    if config.get("quantization") or config.get("quantization_config"):
        raise UnsupportedModel(
            folder=source, reason="it is quantized already: convert the original, or use it as it is"
        )
    return config


def _account_for_all(source: Path, shards: list[Path], table: ConversionTable) -> dict[str, tuple[Path, str]]:
    """Location and new name of each wanted tensor, after checking every tensor of every shard."""
    where: dict[str, tuple[Path, str]] = {}
    found: dict[str, Shape] = {}
    unexpected: list[str] = []
    for shard in shards:
        verify_safetensors_size(shard)
        for name, shape in safetensors_shapes(shard).items():
            try:
                target = table.target(name)
            except KeyError:
                unexpected.append(name)
                continue
            if target is not None:
                if target in found:
                    unexpected.append(f"{name} (a second time, in {shard.name})")
                where[name] = (shard, target)
                found[target] = shape
    missing = tuple(sorted(table.shapes.keys() - found.keys()))
    misshapen = tuple(
        f"{name}: {found[name]}, expected {table.shapes[name]}"
        for name in sorted(found)
        if found[name] != table.shapes[name]
    )
    _check_index(source, shards)
    if missing or unexpected or misshapen:
        raise CheckpointMismatch(
            folder=source, missing=missing, unexpected=tuple(sorted(unexpected)), misshapen=misshapen
        )
    return where


def _check_index(source: Path, shards: list[Path]) -> None:
    """A shard missing from the index's list makes a better message than its hundred missing tensors."""
    path = source / INDEX_NAME
    if not path.is_file():
        return
    try:
        listed = set(read_checkpoint_json(path)["weight_map"].values())
    except (KeyError, AttributeError, TypeError) as error:
        raise ModelFileCorrupt(path=path, reason="has no weight_map") from error
    gone = sorted(str(name) for name in listed - {shard.name for shard in shards})
    if gone:
        raise ModelFileMissing(path=source / gone[0])


def _check_group_size(source: Path, table: ConversionTable, options: Options) -> None:
    if options.bits is None:
        return
    odd = [name for name, shape in table.shapes.items() if len(shape) == 2 and shape[1] % options.group_size]
    if odd:
        reason = f"--group-size {options.group_size} does not divide the columns of {', '.join(odd[:4])}"
        raise UnsupportedModel(folder=source, reason=f"{reason}; try 32")


def _convert_shard(
    source: Path,
    target: Path,
    names: Mapping[str, str],
    table: ConversionTable,
    options: Options,
    count: Callable[[], None],
) -> list[str]:
    """Writes one shard; returns the names written."""
    try:
        stored = cast("dict[str, mx.array]", mx.load(str(source)))
    except (RuntimeError, ValueError) as error:
        raise ModelFileCorrupt(path=source, reason=str(error)) from error
    result: dict[str, mx.array] = {}
    bad: list[str] = []
    for old, new in names.items():
        tensor = stored.pop(old)
        if options.dtype is not None:
            tensor = tensor.astype(DTYPES[options.dtype])
        largest = mx.abs(tensor).max().item()
        # False also for NaN; infinite if a number does not fit into the requested type.
        if not 0 < cast("float", largest) < float("inf"):
            bad.append(new)
        if options.bits is None or len(table.shapes[new]) < 2:
            result[new] = tensor
        else:
            module = new.removesuffix(".weight")
            parts = mx.quantize(tensor, group_size=options.group_size, bits=options.bits)
            for part, array in zip(("weight", "scales", "biases"), parts, strict=True):
                result[f"{module}.{part}"] = array
        mx.eval([result[name] for name in result if name.startswith(new.removesuffix(".weight"))])
        count()
    if bad:
        raise DegenerateTensors(folder=source.parent, names=tuple(sorted(bad)), remedy=NOTHING_WRITTEN)
    _save(target, result)
    written = list(result)
    del stored, result
    mx.clear_cache()
    return written


def _save(target: Path, tensors: dict[str, mx.array]) -> None:
    try:
        mx.save_safetensors(str(target), tensors, metadata={"format": "mlx"})
    except RuntimeError as error:
        # MLX does not say why a write failed; it can hardly be anything else here.
        raise OSError(errno.ENOSPC, "no room") from error


def _write_config(made: Path, config: Mapping[str, Any], options: Options) -> None:
    # auto_map refers to programs of the source's author.
    content = {key: value for key, value in config.items() if key not in ("auto_map", "torch_dtype")}
    dtype = options.dtype or config.get("dtype", config.get("torch_dtype"))
    if dtype is not None:
        content["dtype"] = dtype
    if options.bits is not None:
        content["quantization"] = {"group_size": options.group_size, "bits": options.bits}
    (made / "config.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _hash_source(source: Path, shards: list[Path], progress: Progress) -> tuple[bool, dict[str, str]]:
    """Returns whether the files match a verified manifest, and the shards' hashes. Raises the error of the first file
    that does not match."""
    manifest = read_manifest(source) if (source / MANIFEST_NAME).exists() else None
    total_bytes = sum(shard.stat().st_size for shard in shards) if manifest is None else listed_bytes(manifest)
    count = fraction_hashed(total_bytes, lambda part: progress("hash", _HASHED * part))
    if manifest is None:
        return False, {shard.name: file_sha256(shard, count) for shard in shards}
    verify_files(source, with_hashes=True, hashed=count)
    listed = {entry["name"]: entry["sha256"] for entry in manifest["files"]}
    return provenance_of(manifest) == "verified", {shard.name: listed[shard.name] for shard in shards}


def _describe_source(source: Path) -> dict[str, Any]:
    if (source / MANIFEST_NAME).exists():
        known = read_manifest(source).get("source")
        if isinstance(known, dict):
            return {key: known[key] for key in ("hub_id", "revision", "path") if key in known}
    return {"path": source.name}


def _disk_full(folder: Path, needed_bytes: int) -> ModelDiskFull:
    return ModelDiskFull(folder=folder, needed_bytes=needed_bytes, free_bytes=shutil.disk_usage(folder).free)


# --- from a GGUF ----------------------------------------------------------------------------------


def _from_gguf(source: Path, made: Path, options: Options, progress: Progress) -> dict[str, Any]:
    if options.bits is not None or options.dtype is not None:
        raise UnsupportedModel(
            folder=source, reason="a GGUF keeps its weights as they are: --quantize and --dtype do not apply"
        )
    try:
        check_gguf(source)
        progress("convert", 0.0)
        probe_gguf(source)
        repacked = repack_gguf(source)
    except ModelSourceMismatch as error:
        raise attrs.evolve(error, hint=GGUF_HINT) from error
    (made / "config.json").write_text(json.dumps(repacked.config, indent=2) + "\n", encoding="utf-8")
    _save(made / "model.safetensors", repacked.tensors)
    try:
        write_tokenizer(made, repacked.metadata, source)
    except ModelSourceMismatch as error:
        raise attrs.evolve(error, hint=GGUF_HINT) from error
    return {"source": {"path": source.name, "sha256": file_sha256(source)}, "provenance": "unverified"}
