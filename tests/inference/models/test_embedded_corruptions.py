"""On trained weights: every corruption is seen by the values alone, with hashes that were made of the wrong files."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import pytest

from actors.inference.checkpoints.errors import CanaryDrifted, CanaryFailed, DegenerateTensors, ModelError
from actors.inference.checkpoints.manifest import read_manifest, write_manifest
from actors.inference.checkpoints.provenance import examine_files
from actors.inference.mlx.load import load_checkpoint
from actors.inference.mlx.proof import prove
from tests.inference.models.small_checkpoints import rewrite_tensors

pytestmark = pytest.mark.mlx_real_inference

QKV = "model.layers.0.self_attn.qkv_proj"


def _zero(folder: Path) -> None:
    name = "model.layers.12.mlp.down_proj"
    rewrite_tensors(
        folder / "model.safetensors",
        lambda tensors: tensors.update(
            {f"{name}.{part}": mx.zeros_like(tensors[f"{name}.{part}"]) for part in ("weight", "scales", "biases")}
        ),
    )


def _shuffle(folder: Path) -> None:
    def shuffle(tensors: dict[str, mx.array]) -> None:
        for layer in range(30):
            name = f"model.layers.{layer}.self_attn.o_proj"
            order = mx.random.permutation(576, key=mx.random.key(layer))
            for part in ("weight", "scales", "biases"):
                tensors[f"{name}.{part}"] = mx.take(tensors[f"{name}.{part}"], order, axis=0)

    rewrite_tensors(folder / "model.safetensors", shuffle)


def _swap_queries_and_keys(folder: Path) -> None:
    def swap(tensors: dict[str, mx.array]) -> None:
        # Nine query heads of 64 rows, three key heads: the first three of the one against the other.
        for part in ("weight", "scales", "biases"):
            rows = tensors[f"{QKV}.{part}"]
            tensors[f"{QKV}.{part}"] = mx.concatenate([rows[576:768], rows[192:576], rows[:192], rows[768:]])

    rewrite_tensors(folder / "model.safetensors", swap)


def _other_rope_theta(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["rope_theta"] = 10_000.0
    (folder / "config.json").write_text(json.dumps(config))


def _wrong_tokenizer(folder: Path) -> None:
    # Two ordinary words exchanged, as by a tokenizer of another version.
    content = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    for one, other in (("Ġthe", "Ġsome"), ("Ġof", "Ġfrom"), ("Ġand", "Ġvery")):
        vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
    (folder / "tokenizer.json").write_text(json.dumps(content))


@pytest.mark.parametrize("corrupt", [_zero, _shuffle, _swap_queries_and_keys, _other_rope_theta, _wrong_tokenizer])
def test_the_values_see_it(embedded_model: Path, tmp_path: Path, corrupt: Callable[[Path], None]) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(embedded_model, folder)
    recorded = {key: value for key, value in read_manifest(folder).items() if key not in ("files", "format")}
    corrupt(folder)
    with pytest.raises(ModelError):
        examine_files(folder, "copy")
    write_manifest(folder, recorded)
    found = examine_files(folder, "copy")
    loaded = load_checkpoint(folder, "cpu")
    with pytest.raises((CanaryDrifted, CanaryFailed, DegenerateTensors)):
        prove(loaded, folder, found.expected, is_known=False, with_long=True)
