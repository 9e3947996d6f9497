"""LoRA adapters as `mlx_lm.lora` writes them: in full effect or refused, and vouched for like a model."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy
import pytest

from actors.inference.checkpoints.errors import (
    CheckpointMismatch,
    ModelFileCorrupt,
    ModelFileMissing,
    ModelFileTruncated,
    UnsupportedModel,
)
from actors.inference.checkpoints.manifest import failed_check, read_manifest, stamp_is_current, write_failure
from actors.inference.mlx.load import load_checkpoint
from actors.inference.mlx.verify import verify_model
from actors.inference.worker.blas import BlasReport
from actors.inference.worker.startup import load_stepper
from tests.inference.golden.phi3_shapes import prompts
from tests.inference.models.small_checkpoints import small_tensors, write_small

RANK, SCALE = 4, 2.0
MODULES = {"self_attn.qkv_proj": (64, 128), "mlp.down_proj": (96, 64)}


def _parts() -> dict[str, mx.array]:
    random = numpy.random.RandomState(7)
    made = {}
    for layer in range(2):
        for module, (inputs, outputs) in MODULES.items():
            name = f"model.layers.{layer}.{module}"
            made[f"{name}.lora_a"] = mx.array(random.standard_normal((inputs, RANK)).astype("float32") * 0.1)
            made[f"{name}.lora_b"] = mx.array(random.standard_normal((RANK, outputs)).astype("float32") * 0.1)
    return made


def _write(folder: Path, change: Callable[[dict[str, mx.array]], Any] = lambda _parts: None, **more: Any) -> Path:
    folder.mkdir()
    parameters = {"rank": RANK, "scale": SCALE, "dropout": 0.0, "keys": list(MODULES)}
    config = {"fine_tune_type": "lora", "num_layers": 2, "lora_parameters": parameters, **more}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    parts = _parts()
    change(parts)
    mx.save_safetensors(str(folder / "adapters.safetensors"), parts)
    return folder


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_small(tmp_path / "base")


def test_logits_are_those_of_weights_with_the_product_added(base: Path, tmp_path: Path) -> None:
    parts, merged = _parts(), small_tensors()
    for name in list(parts):
        module, _, part = name.rpartition(".")
        if part == "lora_a":
            added = SCALE * (parts[name] @ parts[f"{module}.lora_b"]).T
            merged[f"{module}.weight"] = merged[f"{module}.weight"] + numpy.asarray(added)
    expected_folder = write_small(tmp_path / "expected")
    mx.save_safetensors(
        str(expected_folder / "model.safetensors"), {name: mx.array(one) for name, one in merged.items()}
    )
    ids = mx.array([prompts("plain")[0]])
    plain = numpy.asarray(load_checkpoint(base, "cpu").model(ids))
    expected = numpy.asarray(load_checkpoint(expected_folder, "cpu").model(ids))
    adapted = load_checkpoint(base, "cpu", adapter=_write(tmp_path / "adapter"))
    found = numpy.asarray(adapted.model(ids))
    assert numpy.abs(found - expected).max() <= 1e-4 * numpy.abs(expected).max()
    assert adapted.threads is not None, "what was taken in is computed by compiled code like any other float32"
    assert numpy.abs(found - plain).max() > 0.05
    assert adapted.every_parameter_from_checkpoint
    assert not [name for name, _module in adapted.model.named_modules() if "lora" in name]


@pytest.mark.parametrize(
    ("change", "more", "kind", "named"),
    [
        (lambda parts: parts.pop("model.layers.0.mlp.down_proj.lora_b"), {}, CheckpointMismatch, "down_proj.lora_b"),
        (lambda parts: parts.update({"stray.lora_a": mx.ones((2, 2))}), {}, CheckpointMismatch, "stray.lora_a"),
        (
            lambda parts: parts.update({"model.layers.0.mlp.down_proj.lora_b": mx.ones((4, 63))}),
            {},
            CheckpointMismatch,
            "down_proj.lora_b",
        ),
        (lambda _parts: None, {"peft_type": "LORA"}, UnsupportedModel, "PEFT"),
        (lambda _parts: None, {"fine_tune_type": "full"}, UnsupportedModel, "full"),
        (lambda _parts: None, {"lora_parameters": {"rank": 4, "alpha": 8}}, CheckpointMismatch, "scale"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused_by_name(
    base: Path, tmp_path: Path, change: Any, more: dict[str, Any], kind: type[Exception], named: str
) -> None:
    with pytest.raises(kind, match=named):
        load_checkpoint(base, "cpu", adapter=_write(tmp_path / "adapter", change, **more))


def test_missing_and_truncated_files_are_named(base: Path, tmp_path: Path) -> None:
    adapter = _write(tmp_path / "adapter")
    weights = adapter / "adapters.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(ModelFileTruncated, match=r"adapters\.safetensors"):
        load_checkpoint(base, "cpu", adapter=adapter)
    weights.unlink()
    with pytest.raises(ModelFileMissing, match=r"adapters\.safetensors"):
        load_checkpoint(base, "cpu", adapter=adapter)
    (adapter / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelFileCorrupt, match="num_layers"):
        load_checkpoint(base, "cpu", adapter=adapter)


def test_with_an_adapter_each_folder_answers_for_its_own_failure(base: Path, tmp_path: Path) -> None:
    adapter = _write(tmp_path / "adapter")
    verify_model(base, "base", accept=True)
    verify_model(base, "base", accept=True, adapter=adapter)
    blas = BlasReport(name="test", choice="shipped", warning=None)

    def report() -> dict[str, Any]:
        return load_stepper(base, "base", blas, lambda _stage: None, prefix_bytes=0, adapter=adapter).report()

    write_failure(adapter, "canary_long")
    assert report()["provenance"] == "verified"
    assert failed_check(adapter) is None
    write_failure(base, "canary_long")
    found = report()
    assert (found["provenance"], found["has_pretrained_weights"]) == ("unverified", False)
    assert any("base failed canary_long" in warning for warning in found["warnings"])
    assert failed_check(base) == "canary_long", "nothing was measured without the adapter"
    assert not stamp_is_current(base)


def test_an_adapter_is_vouched_for_apart_from_its_base(base: Path, tmp_path: Path) -> None:
    adapter = _write(tmp_path / "adapter")
    verify_model(base, "base", accept=True)
    blas = BlasReport(name="test", choice="shipped", warning=None)

    def report() -> dict[str, Any]:
        return load_stepper(base, "base", blas, lambda _stage: None, prefix_bytes=0, adapter=adapter).report()

    first = report()
    assert (first["provenance"], first["has_pretrained_weights"], first["adapter"]) == ("unverified", False, "adapter")
    assert verify_model(base, "base", accept=True, adapter=adapter).provenance == "verified"
    manifest = read_manifest(adapter)
    assert manifest["base"] == "base"
    assert {entry["name"] for entry in manifest["files"]} == {"adapter_config.json", "adapters.safetensors"}
    assert manifest["canary_nats_per_token"] != read_manifest(base)["canary_nats_per_token"]
    second = report()
    assert (second["provenance"], second["has_pretrained_weights"]) == ("verified", True)
    config = json.loads((adapter / "adapter_config.json").read_text())
    config["lora_parameters"]["scale"] = 9.0
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelFileCorrupt, match=r"adapter_config\.json"):
        report()
