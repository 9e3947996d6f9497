"""Every way in which a checkpoint can be another one than it says is caught, by the hashes and again without them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import pytest

from actors.inference.checkpoints.errors import (
    CanaryDrifted,
    CanaryFailed,
    DegenerateTensors,
    ModelError,
    ModelFileCorrupt,
    ModelFileTruncated,
)
from actors.inference.checkpoints.manifest import (
    MANIFEST_NAME,
    STAMP_NAME,
    failed_check,
    read_manifest,
    stamp_is_current,
    write_failure,
    write_manifest,
    write_stamp,
)
from actors.inference.checkpoints.provenance import examine_files
from actors.inference.mlx.verify import verify_model
from actors.inference.worker.blas import BlasReport
from actors.inference.worker.mlx_stepper import MlxStepper
from actors.inference.worker.startup import load_stepper
from tests.inference.models.small_checkpoints import rewrite_tensors, write_small, write_tokenizer

QKV = "model.layers.0.self_attn.qkv_proj.weight"
DOWN = "model.layers.1.mlp.down_proj.weight"


def _truncate_a_shard(folder: Path) -> None:
    path = _weights(folder)
    path.write_bytes(path.read_bytes()[:-64])


def _zero_a_tensor(folder: Path) -> None:
    _rewrite(folder, lambda tensors: tensors.update({DOWN: mx.zeros_like(tensors[DOWN])}))


def _shuffle_the_weights(folder: Path) -> None:
    def shuffle(tensors: dict[str, mx.array]) -> None:
        for number, (name, tensor) in enumerate(sorted(tensors.items())):
            if tensor.ndim == 2:
                order = mx.random.permutation(tensor.shape[0], key=mx.random.key(number))
                tensors[name] = mx.take(tensor, order, axis=0)

    _rewrite(folder, shuffle)


def _change_the_tokenizer(folder: Path) -> None:
    write_tokenizer(folder, reverse=True)


def _swap_queries_and_keys(folder: Path) -> None:
    def swap(tensors: dict[str, mx.array]) -> None:
        heads, width = 2, 16
        rows = tensors[QKV]
        query, key, rest = rows[: heads * width], rows[4 * width : 6 * width], rows[6 * width :]
        tensors[QKV] = mx.concatenate([key, rows[heads * width : 4 * width], query, rest])

    _rewrite(folder, swap)


def _change_rope_theta(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["rope_theta"] = 20.0
    (folder / "config.json").write_text(json.dumps(config, indent=2))


CORRUPTIONS = [
    _truncate_a_shard,
    _zero_a_tensor,
    _shuffle_the_weights,
    _change_the_tokenizer,
    _swap_queries_and_keys,
    _change_rope_theta,
]


def _weights(folder: Path) -> Path:
    return min(folder.glob("model*.safetensors"))


def _rewrite(folder: Path, change: Callable[[dict[str, mx.array]], None]) -> None:
    rewrite_tensors(_weights(folder), change)


def _load(folder: Path) -> MlxStepper:
    blas = BlasReport(name="test", choice="shipped", warning=None)
    return load_stepper(folder, "small", blas, lambda _stage: None, prefix_bytes=0)


@pytest.fixture
def accepted(tmp_path: Path) -> Path:
    """A checkpoint that was verified and accepted: manifest, values and stamp."""
    folder = write_small(tmp_path / "small")
    assert verify_model(folder, "small", accept=True).provenance == "verified"
    return folder


@pytest.mark.parametrize("corrupt", CORRUPTIONS)
def test_hashes_catch_it_at_load_and_name_the_file(accepted: Path, corrupt: Callable[[Path], None]) -> None:
    corrupt(accepted)
    with pytest.raises((ModelFileCorrupt, ModelFileTruncated)) as caught:
        _load(accepted)
    assert caught.value.path.name in ("model.safetensors", "tokenizer.json", "config.json")
    assert "leanvibe model verify" in str(caught.value)
    result = verify_model(accepted, "small", accept=True)
    assert (result.is_fit, result.provenance) == (False, "unverified")
    assert [check.name for check in result.checks if not check.passed] == ["files"]
    assert not (accepted / STAMP_NAME).exists()


@pytest.mark.parametrize("corrupt", CORRUPTIONS)
def test_the_values_catch_it_where_the_hashes_are_of_the_wrong_files(
    accepted: Path, corrupt: Callable[[Path], None]
) -> None:
    # A conversion that goes wrong hashes its own wrong output. Then the recorded likelihoods are what is left.
    recorded = {key: value for key, value in read_manifest(accepted).items() if key not in ("files", "format")}
    corrupt(accepted)
    write_manifest(accepted, recorded)
    result = verify_model(accepted, "small", accept=True)
    assert not result.is_fit
    assert not stamp_is_current(accepted)
    failed = next(check for check in result.checks if not check.passed)
    assert failed.name in ("files", "tensors", "canary_short", "canary_long")
    assert failed.action


def test_accepting_never_blesses_what_fails(tmp_path: Path) -> None:
    folder = write_small(tmp_path / "small")
    _zero_a_tensor(folder)
    result = verify_model(folder, "small", accept=True)
    assert (result.is_fit, result.provenance) == (False, "unverified")
    assert not any("--accept" in check.action for check in result.checks), "no advice that cannot be followed"
    assert not (folder / MANIFEST_NAME).exists()
    with pytest.raises(DegenerateTensors, match="down_proj"):
        _load(folder)


def test_a_folder_without_a_manifest_is_served_as_unverified_until_it_is_accepted(tmp_path: Path) -> None:
    folder = write_small(tmp_path / "small")
    report = _load(folder).report()
    assert (report["provenance"], report["has_pretrained_weights"]) == ("unverified", False)
    assert [check["name"] for check in report["checks"] if not check["passed"]] == ["source"]
    assert any("leanvibe model verify small --accept" in warning for warning in report["warnings"])
    assert verify_model(folder, "small", accept=False).provenance == "unverified"
    assert not (folder / MANIFEST_NAME).exists()
    assert verify_model(folder, "small", accept=True).provenance == "verified"
    report = _load(folder).report()
    assert (report["provenance"], report["has_pretrained_weights"]) == ("verified", True)
    assert all(check["passed"] for check in report["checks"])
    assert report["warnings"] == []
    manifest = read_manifest(folder)
    assert {"canary_nats_per_token", "long_canary_nats_per_token", "accepted"} <= manifest.keys()
    assert {entry["name"] for entry in manifest["files"]} == {
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
    }  # fmt: skip


def test_what_is_known_to_have_failed_is_not_served_until_it_passes_what_it_failed(accepted: Path) -> None:
    # The short text still measures what was recorded, so that only the long one shows it.
    recorded = {key: value for key, value in read_manifest(accepted).items() if key not in ("files", "format")}
    write_manifest(accepted, recorded | {"long_canary_nats_per_token": recorded["long_canary_nats_per_token"] + 1})
    assert not verify_model(accepted, "small", accept=False).is_fit
    for is_stamped_all_the_same in (False, True):
        if is_stamped_all_the_same:
            write_stamp(accepted)
        with pytest.raises(CanaryDrifted, match="long"):
            _load(accepted)
        assert failed_check(accepted) == "canary_long"
        assert not examine_files(accepted, "small").is_stamped


def test_a_failure_that_is_mended_is_forgotten_once_the_long_text_passes(accepted: Path) -> None:
    write_failure(accepted, "canary_long")
    report = _load(accepted).report()
    assert "canary_long" in [check["name"] for check in report["checks"]]
    assert (report["provenance"], report["has_pretrained_weights"]) == ("verified", True)
    assert failed_check(accepted) is None
    assert stamp_is_current(accepted)
    assert "canary_long" not in [check["name"] for check in _load(accepted).report()["checks"]]


def test_a_second_load_hashes_nothing_and_a_touched_file_is_hashed_again(accepted: Path) -> None:
    assert examine_files(accepted, "small").is_stamped
    weights = _weights(accepted)
    shutil.copyfile(weights, accepted / "copy")
    (accepted / "copy").replace(weights)
    assert not examine_files(accepted, "small").is_stamped
    _load(accepted)
    assert examine_files(accepted, "small").is_stamped


def test_a_changed_manifest_makes_the_stamp_worthless(accepted: Path) -> None:
    manifest = json.loads((accepted / MANIFEST_NAME).read_text())
    manifest["canary_nats_per_token"] += 0.03
    (accepted / MANIFEST_NAME).write_text(json.dumps(manifest))
    assert not stamp_is_current(accepted)
    with pytest.raises(CanaryDrifted, match=r"short canary .* are recorded"):
        _load(accepted)


def test_a_shard_that_the_manifest_does_not_list_is_refused(accepted: Path) -> None:
    shutil.copyfile(_weights(accepted), accepted / "model-extra.safetensors")
    with pytest.raises(ModelFileCorrupt, match=r"model-extra\.safetensors.*not in the manifest"):
        _load(accepted)


@pytest.mark.parametrize(
    "entry", [{"name": "../x", "bytes": 1, "sha256": ""}, {"name": "x"}, "x", {"name": "x", "bytes": "1", "sha256": ""}]
)
def test_a_manifest_with_a_strange_entry_is_refused(accepted: Path, entry: object) -> None:
    (accepted / MANIFEST_NAME).write_text(json.dumps({"files": [entry]}))
    with pytest.raises(ModelFileCorrupt, match=r"manifest\.json"):
        examine_files(accepted, "small")


def test_a_folder_that_cannot_be_written_to_is_hashed_each_time(
    accepted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (accepted / STAMP_NAME).unlink()

    def refuse(*_arguments: object, **_options: object) -> None:
        raise PermissionError(13, "read-only")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", refuse)
        write_stamp(accepted)
    assert not examine_files(accepted, "small").is_stamped


@pytest.mark.parametrize("content", [None, "{", "{}"])
def test_a_tokenizer_that_cannot_be_read_is_named(tmp_path: Path, content: str | None) -> None:
    folder = write_small(tmp_path / "small")
    (folder / "tokenizer.json").unlink()
    if content is not None:
        (folder / "tokenizer.json").write_text(content)
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        _load(folder)


def test_a_tokenizer_that_grammars_cannot_use_only_costs_the_schemas(tmp_path: Path) -> None:
    folder = write_small(tmp_path / "small")
    content = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps({**content, "decoder": None}))
    assert any("structured output" in warning for warning in _load(folder).report()["warnings"])


def test_noise_fails_the_ceiling(tmp_path: Path) -> None:
    folder = write_small(tmp_path / "small")
    _rewrite(folder, lambda tensors: tensors.update({"lm_head.weight": 40 * tensors["lm_head.weight"]}))
    with pytest.raises(CanaryFailed, match="nats per token"):
        _load(folder)
