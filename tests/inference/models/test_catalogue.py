"""Names become folders without a network and without MLX."""

import subprocess
import sys
from pathlib import Path

import pytest

from actors.inference.checkpoints.catalogue import EMBEDDED_MODEL_NAME, find_checkpoint
from actors.inference.checkpoints.errors import ModelNotFound


def _make(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


@pytest.mark.parametrize("name", ["", "embedded", EMBEDDED_MODEL_NAME, EMBEDDED_MODEL_NAME.upper()])
def test_the_embedded_model_has_a_place_before_it_is_made(tmp_path: Path, name: str) -> None:
    found = find_checkpoint(name, tmp_path)
    assert found.is_embedded
    assert not found.is_present
    _make(found.folder)
    assert find_checkpoint(name, tmp_path).is_present


def test_a_folder_is_found_by_its_path(tmp_path: Path) -> None:
    folder = _make(tmp_path / "mine")
    found = find_checkpoint(str(folder), tmp_path / "cache")
    assert (found.folder, found.name, found.is_embedded) == (folder, "mine", False)


def test_a_model_is_found_by_name_in_the_cache_folder_and_in_the_hub_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    snapshot = _make(tmp_path / "hub" / "models--org--name" / "snapshots" / "abc")
    assert find_checkpoint("org/name", tmp_path).folder == snapshot
    own = _make(tmp_path / "models" / "org--name")
    assert find_checkpoint("org/name", tmp_path).folder == own


def test_an_unknown_name_says_where_was_looked(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound) as caught:
        find_checkpoint("no/such", tmp_path)
    assert caught.value.name_or_path == "no/such"
    assert tmp_path / "models" / "no--such" in caught.value.searched


def test_names_and_errors_and_manifests_import_no_mlx() -> None:
    program = (
        "import sys, importlib\n"
        "for name in 'catalogue errors fetch gguf_header hub inventory manifest phi3_config provenance "
        "stop_tokens'.split():\n"
        "    importlib.import_module(f'actors.inference.checkpoints.{name}')\n"
        "import actors.inference.worker.blas\n"
        "assert not {'mlx', 'mlx_lm', 'transformers', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
