"""Files of a checkpoint that were made to harm who reads them: each is refused in a bounded time, and hides no other."""

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from actors.inference.checkpoints.errors import ModelError, ModelFileCorrupt, UnsupportedModel
from actors.inference.checkpoints.inventory import inventory
from actors.inference.checkpoints.loaded_size import loaded_bytes
from actors.inference.checkpoints.manifest import read_manifest, verify_safetensors_size
from actors.inference.checkpoints.reading import MAXIMUM_HEADER_BYTES, read_checkpoint_json
from actors.inference.checkpoints.stop_tokens import stop_token_ids
from actors.inference.mlx.load import load_checkpoint
from tests.inference.models.small_checkpoints import write_small


def write_header(path: Path, header: Any, data: bytes = b"") -> Path:
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(content)) + content + data)
    return path


def one_tensor(**changes: Any) -> dict[str, Any]:
    return {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], **changes}}


# --- JSON -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b"[]", "not a JSON object"),
        (b'{"a": 1' + b"0" * 5000 + b"}", "not JSON"),
        (b"\xff\xfe{}", "not JSON"),
        (b"", "not JSON"),
        (b'{"a": "' + b"x" * (9 << 20) + b'"}', "larger than"),
    ],
    ids=["brackets", "braces", "list", "long-number", "encoding", "empty", "large"],
)
@pytest.mark.parametrize("name", ["config.json", "manifest.json"])
def test_tk20_a_file_that_no_reader_can_follow_is_refused_by_name(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ModelFileCorrupt, match=reason) as caught:
        read_manifest(tmp_path) if name == "manifest.json" else read_checkpoint_json(path)
    assert caught.value.path == path


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), Path.mkdir])
def test_tk20_what_is_no_regular_file_is_not_waited_for(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "config.json"
    make(path)
    with pytest.raises(ModelFileCorrupt, match=r"no regular file|cannot be read"):
        read_checkpoint_json(path)


def test_a_hostile_tokenizer_costs_its_stop_tokens_and_no_time(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(b'{"added_tokens": ' + b"[" * 200_000)
    os.mkfifo(tmp_path / "generation_config.json")
    assert stop_token_ids(tmp_path, {"eos_token_id": 7}) == {7}


# --- headers of weights -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        b"[" * 200_000,
        b'{"a":' + b"[" * 200_000,
        [],
        {"a": 1},
        one_tensor(shape=["x"]),
        one_tensor(shape=[2**60] * 40_000),
        one_tensor(shape=[1] * 9),
        one_tensor(shape=[-1]),
        one_tensor(shape=[2**70]),
        one_tensor(shape=[1.5]),
        one_tensor(shape=None),
        one_tensor(dtype=7),
        one_tensor(data_offsets=[0]),
        one_tensor(data_offsets=["0", "4"]),
        one_tensor(data_offsets=[-4, 4]),
    ],
    ids=lambda header: str(header)[:40],
)
def test_tk21_a_header_of_weights_that_is_none_is_refused(tmp_path: Path, header: Any) -> None:
    path = write_header(tmp_path / "model.safetensors", header, bytes(4))
    with pytest.raises(ModelFileCorrupt, match="no readable safetensors header"):
        verify_safetensors_size(path)


@pytest.mark.parametrize(
    "header",
    [one_tensor(shape=[2]), one_tensor(dtype="F16"), one_tensor(shape=[2**31, 2**31]), one_tensor(data_offsets=[2, 4])],
    ids=["shape", "type", "overflow", "place"],
)
def test_tk21_a_tensor_that_would_be_read_beyond_its_place_is_refused_by_name(
    tmp_path: Path, header: dict[str, Any]
) -> None:
    path = write_header(tmp_path / "model.safetensors", header, bytes(4))
    with pytest.raises(ModelFileCorrupt, match=r"do not agree: a\)"):
        verify_safetensors_size(path)


def test_tk21_a_header_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 2 * 10**9))
        file.truncate(2 * 10**9 + 8)
    with pytest.raises(ModelFileCorrupt, match=f"over {MAXIMUM_HEADER_BYTES:,}"):
        verify_safetensors_size(path)


# --- configurations that claim more than there is ---------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"num_hidden_layers": 10**9}, "num_hidden_layers"),
        ({"num_hidden_layers": 3}, "num_hidden_layers"),
        ({"num_hidden_layers": -5}, "num_hidden_layers"),
        ({"hidden_size": 10**18}, "hidden_size"),
        ({"num_attention_heads": 10**30}, "num_attention_heads"),
        ({"vocab_size": 2**40}, "vocab_size"),
        ({"max_position_embeddings": 2**40}, "max_position_embeddings"),
        ({"text_config": {"num_local_experts": 10**9}}, "text_config.num_local_experts"),
    ],
)
def test_tk22_a_count_that_no_tensor_answers_to_is_refused_before_anything_is_built(
    tmp_path: Path, changes: dict[str, Any], field: str
) -> None:
    folder = write_small(tmp_path / "small")
    config = folder / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **changes}))
    with pytest.raises(UnsupportedModel, match=field):
        loaded_bytes(folder, as_float32=True)
    with pytest.raises(UnsupportedModel, match=field):
        load_checkpoint(folder, "cpu")


# --- one folder among others ------------------------------------------------------------------------


def deep_config(folder: Path) -> None:
    (folder / "config.json").write_bytes(b"[" * 200_000)


def strange_config(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": ["x" * 10_000], "quantization": {"bits": {"a": 1}}}))


def strange_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"files": [], "source": {"hub_id": ["x"], "revision": {}}, "name": {}}')


def pipe_for_a_manifest(folder: Path) -> None:
    os.mkfifo(folder / "manifest.json")


def loop_of_links(folder: Path) -> None:
    (folder / "again").symlink_to(folder)
    (folder / "itself").symlink_to(folder / "itself")


def hostile_weights(folder: Path) -> None:
    write_header(folder / "model.safetensors", one_tensor(shape=["x"]), bytes(4))


@pytest.mark.parametrize(
    "harm", [deep_config, strange_config, strange_manifest, pipe_for_a_manifest, loop_of_links, hostile_weights]
)
def test_tk23_one_bad_folder_never_hides_the_others(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    good, bad = (write_small(tmp_path / "models" / name) for name in ("good", "evil"))
    harm(bad)
    entries = {one.name: one for one in inventory(tmp_path, good) if one.is_present}
    assert entries.keys() == {"good", "evil"}
    assert entries["good"].is_in_use
    assert all(len(one.type) < 200 for one in entries.values())


def test_tk23_a_folder_that_cannot_be_described_is_listed_as_unreadable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = (write_small(tmp_path / "models" / name) for name in ("good", "evil"))

    def fail(folder: Path) -> int:
        if folder == bad:
            raise PermissionError(13, "Permission denied")
        return 1

    monkeypatch.setattr("actors.inference.checkpoints.inventory.folder_bytes", fail)
    entries = {one.name: one for one in inventory(tmp_path, good) if one.is_present}
    assert entries["evil"].provenance == "unreadable (PermissionError)"
    assert entries["good"].size_bytes == 1


def test_every_refusal_is_one_that_doors_can_tell(tmp_path: Path) -> None:
    folder = write_small(tmp_path / "small")
    hostile_weights(folder)
    with pytest.raises(ModelError):
        loaded_bytes(folder, as_float32=True)
