"""Conversion accounts for every tensor, changes none but as asked, and leaves a whole folder or none."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import mlx.core as mx
import numpy
import pytest

from actors.inference.checkpoints.errors import (
    CheckpointMismatch,
    DegenerateTensors,
    ModelDiskFull,
    ModelFileCorrupt,
    ModelFileMissing,
    ModelFileTruncated,
    ModelSourceMismatch,
    OutputExists,
    PickleRefused,
    UnsupportedModel,
)
from actors.inference.checkpoints.manifest import read_manifest, stamp_is_current, verify_files
from actors.inference.mlx import convert as convert_module
from actors.inference.mlx.convert import Options, convert
from actors.inference.mlx.load import load_checkpoint
from actors.inference.mlx.verify import verify_model
from tests.inference.golden.phi3_shapes import SHAPES, prompts
from tests.inference.models.small_checkpoints import rewrite_tensors, write_small

DOWN = "model.layers.1.mlp.down_proj.weight"
NO_CHANGE = Options()


def _convert(source: Path, to: Path, options: Options = NO_CHANGE) -> Path:
    return convert(source, to, options, lambda _stage, _part: None)


def _logits(folder: Path) -> Any:
    return numpy.asarray(load_checkpoint(folder, "cpu").model(mx.array([prompts("plain")[1]])))


def _nothing_is_left(folder: Path, *expected: str) -> bool:
    return sorted(entry.name for entry in folder.iterdir()) == sorted(expected)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_small(tmp_path / "source", shards=3)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_converted_checkpoint_gives_the_same_logits_bit_for_bit(tmp_path: Path, shape: str) -> None:
    source = write_small(tmp_path / "source", shards=2, shape=shape)
    made = _convert(source, tmp_path / "made")
    numpy.testing.assert_array_equal(_logits(made), _logits(source))


def test_the_output_is_whole_listed_and_says_where_it_came_from(source: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, float]] = []
    made = convert(source, tmp_path / "made", NO_CHANGE, lambda stage, part: seen.append((stage, part)))
    verify_files(made, with_hashes=True)
    manifest = read_manifest(made)
    assert manifest["provenance"] == "unverified"
    # Nobody vouches for it, and yet it is hashed once and not at every start.
    assert stamp_is_current(made)
    assert manifest["source"]["path"] == "source"
    assert set(manifest["source"]["weights_sha256"]) == {path.name for path in source.glob("model-*.safetensors")}
    assert manifest["conversion"] == {"bits": None, "group_size": 64, "dtype": None}
    assert manifest["canary_nats_per_token"] < 6
    index = json.loads((made / "model.safetensors.index.json").read_text())["weight_map"]
    for name, file in index.items():
        assert name in mx.load(str(made / file))
    assert [part for _stage, part in seen] == sorted(part for _stage, part in seen)
    assert seen[-1] == ("ready", 1.0)
    assert _nothing_is_left(tmp_path, "source", "made")


def test_a_verified_source_makes_a_verified_output_and_a_changed_one_is_refused(source: Path, tmp_path: Path) -> None:
    assert verify_model(source, "source", accept=True).provenance == "verified"
    made = _convert(source, tmp_path / "made")
    assert read_manifest(made)["provenance"] == "verified"
    (source / "tokenizer.json").write_text((source / "tokenizer.json").read_text().replace('"A"', '"\\u00a1"', 1))
    with pytest.raises((ModelFileCorrupt, ModelFileTruncated), match=r"tokenizer\.json"):
        _convert(source, tmp_path / "again")


@pytest.mark.parametrize(("bits", "tolerance"), [(8, 0.02), (4, 0.35)])
def test_quantized_weights_are_near_and_smaller(source: Path, tmp_path: Path, bits: Any, tolerance: float) -> None:
    made = _convert(source, tmp_path / "made", Options(bits=bits, group_size=32, dtype="float16"))
    config = json.loads((made / "config.json").read_text())
    assert config["quantization"] == {"group_size": 32, "bits": bits}
    assert config["dtype"] == "float16"
    expected, found = _logits(source), _logits(made)
    assert numpy.abs(found - expected).mean() < tolerance * numpy.abs(expected).mean()
    assert load_checkpoint(made, "cpu").dtype == f"{bits}-bit float32"
    assert load_checkpoint(made, "cpu", may_compile=False).dtype == "float32"
    sizes = [sum(path.stat().st_size for path in folder.glob("*.safetensors")) for folder in (made, source)]
    assert sizes[0] < sizes[1] / 2.5


def test_an_asked_for_type_is_what_is_stored(source: Path, tmp_path: Path) -> None:
    made = _convert(source, tmp_path / "made", Options(dtype="bfloat16"))
    stored = [tensor for path in made.glob("*.safetensors") for tensor in mx.load(str(path)).values()]
    assert {tensor.dtype for tensor in stored} == {mx.bfloat16}


def test_numbers_that_do_not_fit_the_asked_for_type_are_refused(source: Path, tmp_path: Path) -> None:
    for path in source.glob("*.safetensors"):
        rewrite_tensors(path, lambda tensors: tensors.update({DOWN: tensors[DOWN] * 1e6} if DOWN in tensors else {}))
    with pytest.raises(DegenerateTensors, match="down_proj"):
        _convert(source, tmp_path / "made", Options(dtype="float16"))
    assert _nothing_is_left(tmp_path, "source")


def test_memory_is_bounded_by_the_largest_shard(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Loading the result once for its values is what needs all of it; left out here.
    monkeypatch.setattr(convert_module, "load_checkpoint", _skip)
    largest = max(path.stat().st_size for path in source.glob("*.safetensors"))
    total = sum(path.stat().st_size for path in source.glob("*.safetensors"))
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    with pytest.raises(_Skipped):
        _convert(source, tmp_path / "made")
    assert mx.get_peak_memory() - before < 1.5 * largest < total


class _Skipped(Exception):
    pass


def _skip(*_arguments: object) -> None:
    raise _Skipped


@pytest.mark.parametrize(
    ("change", "field", "named"),
    [
        (lambda tensors: tensors.pop(DOWN, None), "missing", DOWN),
        (lambda tensors: tensors.update({"model.stray": mx.zeros((2,))}), "unexpected", "model.stray"),
        (lambda tensors: tensors.update({DOWN: mx.zeros((64, 97))}), "misshapen", f"{DOWN}: (64, 97)"),
    ],
)
def test_a_tensor_too_few_too_many_or_misshapen_is_listed_before_anything_is_written(
    tmp_path: Path, change: Callable[[dict[str, mx.array]], Any], field: str, named: str
) -> None:
    source = write_small(tmp_path / "source")
    rewrite_tensors(source / "model.safetensors", change)
    with pytest.raises(CheckpointMismatch) as caught:
        _convert(source, tmp_path / "made")
    (listed,) = getattr(caught.value, field)
    assert listed.startswith(named)
    assert _nothing_is_left(tmp_path, "source")


def test_a_tensor_in_two_shards_is_an_error(source: Path, tmp_path: Path) -> None:
    first, second, _third = sorted(source.glob("model-*.safetensors"))
    stolen = mx.load(str(first))
    name = next(iter(stolen))
    rewrite_tensors(second, lambda tensors: tensors.update({name: stolen[name]}))
    with pytest.raises(CheckpointMismatch, match="a second time"):
        _convert(source, tmp_path / "made")


def test_a_tied_head_written_out_and_old_position_buffers_are_left_out(tmp_path: Path) -> None:
    source = write_small(tmp_path / "source", shape="tied")
    plain = _logits(source)

    def add(tensors: dict[str, mx.array]) -> None:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] + 0
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = mx.ones((8,))

    rewrite_tensors(source / "model.safetensors", add)
    numpy.testing.assert_array_equal(_logits(_convert(source, tmp_path / "made")), plain)


def test_a_shard_of_the_index_that_is_gone_is_named(source: Path, tmp_path: Path) -> None:
    gone = sorted(source.glob("model-*.safetensors"))[1]
    gone.unlink()
    with pytest.raises(ModelFileMissing, match=gone.name):
        _convert(source, tmp_path / "made")


def test_pickles_are_refused_with_the_reason(tmp_path: Path) -> None:
    source = write_small(tmp_path / "source")
    (source / "model.safetensors").rename(source / "pytorch_model.bin")
    with pytest.raises(PickleRefused, match="runs whatever code"):
        _convert(source, tmp_path / "made")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.ckpt"])
def test_a_pickle_named_by_its_path_is_refused_with_the_reason(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"pickle")
    with pytest.raises(PickleRefused, match=rf"{name}.*runs whatever code"):
        _convert(tmp_path / name, tmp_path / "made")


def test_weights_alone_are_no_model(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="name the folder"):
        _convert(next(source.glob("*.safetensors")), tmp_path / "made")


def test_programs_of_the_source_are_neither_copied_nor_named(tmp_path: Path) -> None:
    source = write_small(tmp_path / "source", auto_map={"AutoModel": "modeling.Model"})
    (source / "modeling.py").write_text("raise SystemExit('remote code')")
    made = _convert(source, tmp_path / "made")
    assert "auto_map" not in json.loads((made / "config.json").read_text())
    assert not list(made.glob("*.py"))


def test_an_output_that_is_there_is_left_alone(source: Path, tmp_path: Path) -> None:
    kept = tmp_path / "made"
    kept.mkdir()
    (kept / "file").write_text("mine")
    with pytest.raises(OutputExists):
        _convert(source, kept)
    assert (kept / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model_type": "llama"}, "only 'phi3'"),
        ({"quantization": {"bits": 4, "group_size": 64}}, "quantized already"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "dynamic"),
    ],
)
def test_what_cannot_be_converted_is_refused_by_name(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    with pytest.raises(UnsupportedModel, match=named):
        _convert(write_small(tmp_path / "source", **changes), tmp_path / "made")


def test_a_group_size_that_does_not_divide_the_columns_is_refused_before_anything(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match=r"--group-size 64 .*down_proj.*try 32"):
        _convert(source, tmp_path / "made", Options(bits=4, group_size=64))


def test_a_disk_that_is_or_becomes_full_leaves_nothing(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(*_arguments: object, **_options: object) -> None:
        raise RuntimeError("write failed")

    monkeypatch.setattr(mx, "save_safetensors", fill)
    with pytest.raises(ModelDiskFull):
        _convert(source, tmp_path / "made")
    assert _nothing_is_left(tmp_path, "source")


class _Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_too_little_room_is_told_before_anything_is_written(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: _Usage(10, 10, 100_000))
    with pytest.raises(ModelDiskFull) as caught:
        _convert(source, tmp_path / "made")
    assert caught.value.free_bytes == 100_000 < caught.value.needed_bytes
    assert _nothing_is_left(tmp_path, "source")


def test_room_is_asked_for_in_the_type_that_is_written(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: _Usage(10, 10, 0))
    needed: dict[str, int] = {}
    for dtype in ("float32", "bfloat16"):
        with pytest.raises(ModelDiskFull) as caught:
            _convert(source, tmp_path / "made", Options(dtype=dtype))
        needed[dtype] = caught.value.needed_bytes
    assert needed["float32"] == 2 * needed["bfloat16"] > 0


def test_a_gguf_of_another_architecture_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "other.gguf"
    mx.save_gguf(str(path), {"a.weight": mx.zeros((32,))}, {"general.architecture": "mamba"})
    with pytest.raises(ModelSourceMismatch, match=r"mamba.* Of GGUF files those of Llama's .*leanvibe model pull"):
        _convert(path, tmp_path / "made")
    with pytest.raises(UnsupportedModel, match="--quantize and --dtype do not apply"):
        _convert(path, tmp_path / "made", Options(bits=4))


@pytest.mark.mlx_real_inference
def test_the_gguf_of_the_embedded_model_becomes_the_embedded_model(
    tmp_path: Path, source_gguf: Path, embedded_model: Path
) -> None:
    made = _convert(source_gguf, tmp_path / "made")
    assert read_manifest(made)["files"] == read_manifest(embedded_model)["files"]
    assert read_manifest(made)["provenance"] == "unverified"
