"""Files of a checkpoint that were made to harm who reads them: each is refused in a bounded time, and hides no other."""

import json
import os
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from actors.inference.checkpoints.errors import (
    CheckpointMismatch,
    ModelError,
    ModelFileCorrupt,
    UnsupportedModel,
    reason_in_short,
)
from actors.inference.checkpoints.gguf_header import check_gguf
from actors.inference.checkpoints.inventory import inventory
from actors.inference.checkpoints.manifest import read_manifest, safetensors_tensors, verify_safetensors_size
from actors.inference.checkpoints.reading import MAXIMUM_HEADER_BYTES, read_checkpoint_json
from actors.inference.checkpoints.stop_tokens import stop_token_ids
from actors.inference.checkpoints.weight_format import loaded_bytes
from actors.inference.mlx.load import load_checkpoint
from actors.inference.mlx.proof import canary_token_ids
from actors.inference.text.text_model import CheckpointText
from tests.inference.golden.phi3_shapes import SHAPES
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


@pytest.mark.parametrize(
    "make",
    [
        os.mkfifo,
        Path.mkdir,
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.symlink_to("/proc/self/mem"),
        lambda path: path.symlink_to(path),
    ],
)
def test_tk20_what_is_no_regular_file_is_not_waited_for(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "config.json"
    make(path)
    with pytest.raises(ModelFileCorrupt, match=r"not a regular file|cannot be read"):
        read_checkpoint_json(path)


def test_tk20_listing_a_folder_where_a_file_should_be_leaves_no_descriptor_open(tmp_path: Path) -> None:
    good, bad = (write_small(tmp_path / "models" / name) for name in ("good", "evil"))
    (bad / "manifest.json").mkdir()
    inventory(tmp_path, good)
    before = len(list(Path("/dev/fd").iterdir()))
    for _ in range(20):
        assert {one.name for one in inventory(tmp_path, good) if one.is_present} == {"good", "evil"}
    assert len(list(Path("/dev/fd").iterdir())) <= before


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
    with pytest.raises(ModelFileCorrupt, match=r"offsets disagree: a\)"):
        verify_safetensors_size(path)


def test_tk21_a_header_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 2 * 10**9))
        file.truncate(2 * 10**9 + 8)
    with pytest.raises(ModelFileCorrupt, match=f"over {MAXIMUM_HEADER_BYTES:,}"):
        verify_safetensors_size(path)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), Path.mkdir])
@pytest.mark.parametrize("read", [safetensors_tensors, check_gguf])
def test_tk21_weights_that_are_no_regular_file_hold_no_thread(
    tmp_path: Path, make: Callable[[Path], None], read: Callable[[Path], Any]
) -> None:
    path = tmp_path / "model.safetensors"
    make(path)
    told: list[Exception] = []

    def read_it() -> None:
        try:
            read(path)
        except (ModelError, OSError) as error:
            told.append(error)

    thread = threading.Thread(target=read_it, daemon=True)
    thread.start()
    thread.join(60)
    assert [str(one) for one in told if "is not a regular file" in str(one)], "it waits for whoever writes the pipe"


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


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"num_attention_heads": 0}, "num_attention_heads in config.json is 0, not a whole number from 1"),
        ({"num_attention_heads": "4"}, "num_attention_heads in config.json is '4', not a whole number"),
        ({"num_attention_heads": True}, "num_attention_heads in config.json is true, not a whole number"),
        ({"num_hidden_layers": 2.0}, "num_hidden_layers in config.json is 2.0, not a whole number"),
        ({"head_dim": 0}, "head_dim in config.json is 0, not a whole number from 1 to 16,777,216, or null"),
        ({"num_key_value_heads": []}, "num_key_value_heads in config.json is a list of 0, not a whole number"),
        ({"vocab_size": None}, "vocab_size in config.json is null, not a whole number"),
        ({"sliding_window": -5}, "sliding_window in config.json is -5, not a whole number from 1"),
        ({"sliding_window": "9"}, "sliding_window in config.json is '9', not a whole number"),
        ({"sliding_window": 2**31 - 1}, "sliding_window in config.json is 2147483647, not a whole number"),
        ({"rope_scaling": "linear"}, "rope_scaling in config.json is 'linear', not an object, or null"),
        ({"rope_scaling": []}, "rope_scaling in config.json is a list of 0, not an object"),
        ({"rope_parameters": 0}, "rope_parameters in config.json is 0, not an object"),
        ({"rope_scaling": {"type": "linear", "factor": 0}}, "rope_scaling.factor in config.json is 0, not a number above 0"),
        ({"rope_parameters": {"a": {"factor": -1}}}, "rope_parameters.a.factor in config.json is -1, not a number"),
        ({"rope_scaling": {"type": ["linear"]}}, "rope_scaling.type in config.json is a list of 1, not a string"),
        ({"rope_scaling": {"long_factor": [1, float("nan")]}}, "rope_scaling.long_factor in config.json is a list of 2"),
        ({"original_max_position_embeddings": 1}, "original_max_position_embeddings in config.json is 1, not"),
        ({"rope_theta": float("inf")}, "rope_theta in config.json is inf, not a number above 0"),
        ({"rope_theta": "1e4"}, "rope_theta in config.json is '1e4', not a number"),
        ({"partial_rotary_factor": 8}, "partial_rotary_factor in config.json is 8, not a number above 0, to 1"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps in config.json is nan, not a number from 0 to 1"),
        ({"quantization": [4]}, "quantization in config.json is a list of 1, not an object"),
        ({"quantization": {"bits": 0, "group_size": 32}}, "quantization.bits in config.json is 0, not 2, 3, 4, 5, 6 or 8"),
        ({"quantization": {"lm_head": {"bits": 4, "group_size": 7}}}, "quantization.lm_head.group_size in config.json"),
        ({"quantization": {"lm_head": 4}}, "quantization.lm_head in config.json is 4, not an object"),
        ({"tie_word_embeddings": "false"}, "tie_word_embeddings in config.json is 'false', not true or false"),
        ({"eos_token_id": "2"}, "eos_token_id in config.json is '2', not a whole number"),
        ({"eos_token_id": [2, 2**70]}, "eos_token_id in config.json is a list of 2, not a whole number"),
        ({"model_type": ["phi3"]}, "model_type in config.json is a list of 1, not a string"),
        ({"text_config": 1}, "text_config in config.json is 1, not an object"),
        ({"text_config": {"head_dim": 0}}, "text_config.head_dim in config.json is 0, not"),
        ({"text_config": {"num_hidden_layers": 99}}, "text_config.num_hidden_layers in config.json is 99, but there are"),
        ({"layer_types": ["full_attention"] * 200_000}, "layer_types in config.json names 200,000 layers"),
        ({"pattern": "M" * 20_000}, "pattern in config.json has 20,000 characters, beyond 10,000"),
        ({"parts": [{"experts": 10**9}]}, r"parts\[0\].experts in config.json is 1e\+09, beyond"),
        ({"logit_scale": float("nan")}, "logit_scale in config.json is no number"),
    ],
    ids=lambda one: str(one)[:40] if isinstance(one, dict) else "",
)  # fmt: skip
def test_tk27_a_field_that_holds_what_it_must_not_is_refused_by_name_before_a_worker_is_started(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    folder = write_small(tmp_path / "small", **changes)
    with pytest.raises(UnsupportedModel, match=told):
        loaded_bytes(folder, as_float32=True)
    with pytest.raises(UnsupportedModel, match=told):
        load_checkpoint(folder, "cpu")


@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_tk27_what_published_models_say_is_taken(tmp_path: Path, shape: str) -> None:
    nulls = dict.fromkeys(("head_dim", "sliding_window", "quantization", "layer_types", "text_config", "torch_dtype"))
    folder = write_small(tmp_path / "small", **nulls | SHAPES[shape] | {"shape": shape, "eos_token_id": [2, -1]})
    assert loaded_bytes(folder, as_float32=True) > 0


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model_type": "olmo"}, "mlx_lm cannot run model_type 'olmo' here"),
        ({"model_type": "base"}, "config.json does not fit base"),
        ({"model_type": "llama", "num_attention_heads": 65}, "config.json does not fit llama"),
    ],
)
def test_tk27_fields_that_do_not_go_together_are_told_and_end_no_worker(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    folder = write_small(tmp_path / "small", **changes)
    with pytest.raises(UnsupportedModel, match=told):
        load_checkpoint(folder, "cpu")


@pytest.mark.parametrize("added", [5, "x", ["x"], {"a": 1}])
def test_tk27_added_tokens_that_are_none_are_told_by_name(tmp_path: Path, added: Any) -> None:
    folder = write_small(tmp_path / "small")
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}")
    path = folder / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "added_tokens": added}))
    with pytest.raises(ValueError, match=r"tokenizer\.json .* its added_tokens are not a list of objects"):
        CheckpointText(folder)


def test_what_a_tokenizer_pads_and_cuts_is_no_part_of_the_canary(tmp_path: Path) -> None:
    folder = write_small(tmp_path / "small")
    expected = canary_token_ids(folder)
    path = folder / "tokenizer.json"
    padding = {"strategy": {"Fixed": 1 << 40}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0}
    cut = {"max_length": 3, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    more = {"padding": {**padding, "pad_type_id": 0, "pad_token": "x"}, "truncation": cut}
    path.write_text(json.dumps({**json.loads(path.read_text()), **more}))
    assert canary_token_ids(folder) == expected


@pytest.mark.parametrize("name", ["config.json", "generation_config.json"])
@pytest.mark.parametrize("ids", ["2", [2, "3"], 2**70, {"id": 2}])
def test_tk27_end_tokens_that_are_none_are_refused_and_not_passed_over(tmp_path: Path, ids: Any, name: str) -> None:
    folder = write_small(tmp_path / "small")
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}")
    CheckpointText(folder)
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), "eos_token_id": ids}))
    with pytest.raises(ValueError, match=rf"eos_token_id of {name} .*, not a whole number"):
        CheckpointText(folder)


def test_tk27_what_a_client_is_told_of_a_model_is_short_however_long_its_names_are() -> None:
    error = CheckpointMismatch(folder=Path("small"), unexpected=("x" * 1_000_000,))
    assert len(reason_in_short(error)) < 1100
    assert reason_in_short("short") == "short"


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


def test_every_refusal_is_one_that_transports_can_report(tmp_path: Path) -> None:
    folder = write_small(tmp_path / "small")
    hostile_weights(folder)
    with pytest.raises(ModelError):
        loaded_bytes(folder, as_float32=True)
