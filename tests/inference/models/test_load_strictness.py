"""A checkpoint is loaded whole or not at all, and the refusal names the tensor or the file."""

import json
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy
import pytest

from actors.inference.checkpoints.errors import (
    CheckpointMismatch,
    ModelFileCorrupt,
    ModelFileMissing,
    ModelFileTruncated,
    ModelTooLarge,
    UnsupportedModel,
)
from actors.inference.checkpoints.manifest import MANIFEST_NAME, verify_files, write_manifest
from actors.inference.checkpoints.weight_format import loaded_bytes
from actors.inference.mlx import load as load_module
from actors.inference.mlx.convert import Options, convert
from actors.inference.mlx.load import load_checkpoint
from actors.inference.mlx.proof import degenerate_tensors
from tests.inference.models.small_checkpoints import rewrite_tensors, write_small

MakeCheckpoint = Callable[..., Path]
DOWN = "model.layers.0.mlp.down_proj.weight"


def test_a_whole_checkpoint_loads_with_every_parameter_from_it(tiny_checkpoint: MakeCheckpoint) -> None:
    loaded = load_checkpoint(tiny_checkpoint(), "cpu")
    assert loaded.every_parameter_from_checkpoint
    assert loaded.dtype == "float32"
    assert loaded.context_length_tokens == 128
    assert loaded.vocabulary_size == 96
    assert loaded.stop_token_ids == {2}
    assert loaded.parameter_bytes == 4 * loaded.parameter_count


def test_a_missing_tensor_is_named(tiny_checkpoint: MakeCheckpoint) -> None:
    folder = tiny_checkpoint(lambda tensors: tensors.pop(DOWN))
    with pytest.raises(CheckpointMismatch) as caught:
        load_checkpoint(folder, "cpu")
    assert caught.value.missing == (DOWN,)
    assert caught.value.unexpected == ()
    assert DOWN in str(caught.value)


def test_an_unexpected_tensor_is_named(tiny_checkpoint: MakeCheckpoint) -> None:
    folder = tiny_checkpoint(lambda tensors: tensors.update({"model.stray.weight": mx.zeros((2, 2))}))
    with pytest.raises(CheckpointMismatch) as caught:
        load_checkpoint(folder, "cpu")
    assert caught.value.unexpected == ("model.stray.weight",)


def test_a_misshapen_tensor_is_named_with_both_shapes(tiny_checkpoint: MakeCheckpoint) -> None:
    folder = tiny_checkpoint(lambda tensors: tensors.update({DOWN: mx.zeros((64, 95))}))
    with pytest.raises(CheckpointMismatch) as caught:
        load_checkpoint(folder, "cpu")
    assert caught.value.misshapen == (f"{DOWN}: (64, 95), expected (64, 96)",)


def test_a_truncated_weights_file_is_named_without_a_manifest(tiny_checkpoint: MakeCheckpoint) -> None:
    folder = tiny_checkpoint()
    path = folder / "model.safetensors"
    whole_bytes = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelFileTruncated) as caught:
        load_checkpoint(folder, "cpu")
    assert (caught.value.path, caught.value.expected_bytes) == (path, whole_bytes)
    assert "model.safetensors" in str(caught.value)


@pytest.mark.parametrize("kept_bytes", [0, 4, 20])
def test_weights_cut_in_their_header_are_named(tiny_checkpoint: MakeCheckpoint, kept_bytes: int) -> None:
    folder = tiny_checkpoint()
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept_bytes])
    with pytest.raises((ModelFileTruncated, ModelFileCorrupt), match=r"model\.safetensors"):
        load_checkpoint(folder, "cpu")


def test_no_weights_at_all_is_a_missing_file(tiny_checkpoint: MakeCheckpoint) -> None:
    folder = tiny_checkpoint()
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelFileMissing, match=r"model\.safetensors"):
        load_checkpoint(folder, "cpu")


def test_a_manifest_finds_missing_truncated_and_changed_files(tiny_checkpoint: MakeCheckpoint) -> None:
    folder = tiny_checkpoint()
    extra = folder / "tokenizer.json"
    extra.write_text("{}")
    write_manifest(folder, {"name": "tiny"})
    verify_files(folder, with_hashes=True)
    extra.write_text("[]")
    verify_files(folder)
    with pytest.raises(ModelFileCorrupt, match=r"tokenizer\.json"):
        verify_files(folder, with_hashes=True)
    extra.write_text("{")
    with pytest.raises(ModelFileTruncated, match=r"tokenizer\.json"):
        load_checkpoint(folder, "cpu")
    extra.unlink()
    with pytest.raises(ModelFileMissing, match=r"tokenizer\.json"):
        load_checkpoint(folder, "cpu")


@pytest.mark.parametrize(
    ("model_type", "reason"),
    [
        ("no_such_model", "mlx_lm has no model_type 'no_such_model'"),
        ("../phi3", "model_type '../phi3' is not a name"),
        ("os.path", "model_type 'os.path' is not a name"),
    ],
)
def test_a_model_type_without_a_class_is_unsupported(
    tiny_checkpoint: MakeCheckpoint, model_type: str, reason: str
) -> None:
    folder = tiny_checkpoint(model_type=model_type)
    with pytest.raises(UnsupportedModel) as caught:
        load_checkpoint(folder, "cpu")
    assert caught.value.reason == reason


def test_a_configuration_that_is_not_json_is_named(tiny_checkpoint: MakeCheckpoint) -> None:
    folder = tiny_checkpoint()
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelFileCorrupt, match=r"config\.json"):
        load_checkpoint(folder, "cpu")


def _quantize(tensors: dict[str, mx.array]) -> None:
    for name in [name for name in tensors if tensors[name].ndim == 2]:
        bits = 8 if "embed" in name else 4
        module = name.removesuffix(".weight")
        parts = mx.quantize(tensors[name], group_size=32, bits=bits)
        tensors.update(zip((name, f"{module}.scales", f"{module}.biases"), parts, strict=True))


def test_quantized_and_dequantized_forms_give_the_same_logits(tiny_checkpoint: MakeCheckpoint) -> None:
    folder = tiny_checkpoint(_quantize)
    config = json.loads((folder / "config.json").read_text())
    config["quantization"] = {"group_size": 32, "bits": 4, "model.embed_tokens": {"group_size": 32, "bits": 8}}
    (folder / "config.json").write_text(json.dumps(config))
    full = load_checkpoint(folder, "cpu", may_compile=False)
    packed = load_checkpoint_packed_on_the_cpu(folder)
    assert (full.dtype, packed.dtype) == ("float32", "4-bit float32")
    assert full.parameter_count == packed.parameter_count
    assert packed.parameter_bytes < full.parameter_bytes / 3
    ids = mx.array([[1, 5, 9]])
    numpy.testing.assert_allclose(
        numpy.asarray(full.model(ids)), numpy.asarray(packed.model(ids)), rtol=1e-3, atol=1e-3
    )


def load_checkpoint_packed_on_the_cpu(folder: Path):  # type: ignore[no-untyped-def]
    """Load as for Metal, but with MLX's default device left alone, so that any machine can run it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mx, "set_default_device", lambda _device: None)
        return load_checkpoint(folder, "metal")


def test_a_model_is_in_memory_once_while_it_is_loaded_and_looked_at(
    tiny_checkpoint: MakeCheckpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = 24

    def deep(tensors: dict[str, mx.array]) -> None:
        for name, tensor in list(tensors.items()):
            if ".layers.0." in name:
                for layer in range(layers):
                    wide = mx.random.normal((8192, 64) if "gate_up" in name else (64, 4096), key=mx.random.key(layer))
                    is_wide = "mlp" in name
                    tensors[name.replace("layers.0", f"layers.{layer}")] = (wide if is_wide else tensor).astype(
                        mx.bfloat16
                    )

    folder = tiny_checkpoint(deep, num_hidden_layers=layers, intermediate_size=4096)
    monkeypatch.setattr(load_module, "_AT_ONCE_BYTES", 1)
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    loaded = load_checkpoint(folder, "cpu")
    assert degenerate_tensors(loaded) == ()
    peak_bytes = mx.get_peak_memory() - before
    assert loaded.parameter_bytes > 70_000_000
    assert peak_bytes < 1.2 * loaded.parameter_bytes


def test_what_does_not_fit_into_memory_is_told_with_need_and_have_before_it_is_read(
    tiny_checkpoint: MakeCheckpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_checkpoint()
    weights = loaded_bytes(folder, as_float32=True)
    need = int(1.2 * weights)
    monkeypatch.setattr(load_module, "available_memory_bytes", lambda _held: need)
    assert load_checkpoint(folder, "cpu").parameter_bytes == weights
    monkeypatch.setattr(load_module, "available_memory_bytes", lambda _held: need - 1)
    assert load_checkpoint(folder, "cpu", is_memory_bounded=True).parameter_bytes == weights
    monkeypatch.setattr(load_module, "_read_tensors", lambda _folder: pytest.fail("it was read"))
    monkeypatch.setattr(load_module, "measured_free_bytes", lambda: need - 1)
    with pytest.raises(ModelTooLarge, match=r"as float32.* MB are free: close other programs"):
        load_checkpoint(folder, "cpu")
    monkeypatch.setattr(load_module, "measured_free_bytes", lambda: None)
    with pytest.raises(ModelTooLarge, match=r"models may take .*model_memory_mebibytes") as caught:
        load_checkpoint(folder, "cpu")
    assert "close other programs" not in str(caught.value), "that would change nothing"


# --- packed weights ---------------------------------------------------------------------------------


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """Four bits in groups of 32, and no manifest that would notice a change before the loader does."""
    options = Options(bits=4, group_size=32, dtype=None)
    folder = convert(write_small(tmp_path / "source"), tmp_path / "packed", options, lambda _stage, _part: None)
    (folder / MANIFEST_NAME).unlink()
    return folder


@pytest.mark.parametrize("may_compile", [True, False])
@pytest.mark.parametrize(
    ("quantization", "said"),
    [
        (None, "has no group_size"),
        ({"group_size": 32}, "has no bits"),
        ({"group_size": "many", "bits": 4}, "quantization.group_size in config.json is 'many'"),
        ({"group_size": 32, "bits": None}, "no group_size and bits as numbers"),
        ({"group_size": 32, "bits": 0}, "quantization.bits in config.json is 0"),
        ([4, 32], "not an object"),
    ],
)
def test_packed_weights_whose_form_is_not_told_are_refused(
    packed: Path, quantization: object, said: str, may_compile: bool
) -> None:
    config = json.loads((packed / "config.json").read_text())
    config.pop("quantization_config", None)
    config["quantization"] = quantization
    (packed / "config.json").write_text(json.dumps(config))
    with pytest.raises((UnsupportedModel, CheckpointMismatch), match=said):
        load_checkpoint(packed, "cpu", may_compile=may_compile)


@pytest.mark.parametrize("may_compile", [True, False])
@pytest.mark.parametrize("part", ["weight", "scales", "biases"])
def test_each_part_of_packed_weights_must_be_there(packed: Path, part: str, may_compile: bool) -> None:
    module = DOWN.removesuffix(".weight")
    rewrite_tensors(packed / "model.safetensors", lambda tensors: tensors.pop(f"{module}.{part}"))
    with pytest.raises(CheckpointMismatch) as caught:
        load_checkpoint(packed, "cpu", may_compile=may_compile)
    # Without scales nothing says that the other two belong together.
    assert (caught.value.missing, caught.value.unexpected) == (
        ((), (f"{module}.biases",)) if part == "scales" else ((f"{module}.{part}",), ())
    )


@pytest.mark.parametrize("may_compile", [True, False])
def test_parts_of_packed_weights_that_do_not_fit_each_other_are_named(packed: Path, may_compile: bool) -> None:
    name = f"{DOWN.removesuffix('.weight')}.scales"
    rewrite_tensors(packed / "model.safetensors", lambda tensors: tensors.update({name: tensors[name][:, :1]}))
    with pytest.raises(CheckpointMismatch) as caught:
        load_checkpoint(packed, "cpu", may_compile=may_compile)
    (misshapen,) = caught.value.misshapen
    assert misshapen.startswith(f"{name}: ")
    assert misshapen.endswith("for 4 bits in groups of 32")


def test_a_tensor_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    folder = write_small(tmp_path / "twice")
    mx.save_safetensors(str(folder / "model-old.safetensors"), {"model.norm.weight": mx.ones((64,))})
    with pytest.raises(CheckpointMismatch) as caught:
        load_checkpoint(folder, "cpu")
    assert [one.partition(" (again, in ")[0] for one in caught.value.unexpected] == ["model.norm.weight"]
