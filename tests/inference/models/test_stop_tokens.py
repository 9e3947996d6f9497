"""Answers end where the model's makers say, whichever file they wrote it into."""

import json
from pathlib import Path
from typing import Any

import pytest

from actors.inference.checkpoints.stop_tokens import stop_token_ids

PHI3_SPECIALS = {
    "<|endoftext|>": 32000,
    "<|assistant|>": 32001,
    "<|system|>": 32006,
    "<|end|>": 32007,
    "<|user|>": 32010,
}


def _write(folder: Path, name: str, content: Any) -> None:
    (folder / name).write_text(json.dumps(content))


def _tokenizer(folder: Path, specials: dict[str, int]) -> None:
    tokens = [{"id": number, "content": text, "special": True} for text, number in specials.items()]
    _write(folder, "tokenizer.json", {"added_tokens": tokens, "model": {}})


def test_phi3_without_its_generation_config_ends_at_end_and_endoftext(tmp_path: Path) -> None:
    _tokenizer(tmp_path, PHI3_SPECIALS)
    assert stop_token_ids(tmp_path, {"eos_token_id": 32000}) == {32000, 32007}


def test_a_generation_config_adds_what_it_lists(tmp_path: Path) -> None:
    _tokenizer(tmp_path, PHI3_SPECIALS)
    _write(tmp_path, "generation_config.json", {"eos_token_id": [32000, 32001, 32007]})
    assert stop_token_ids(tmp_path, {"eos_token_id": 32000}) == {32000, 32001, 32007}


@pytest.mark.parametrize("eos", ["</s>", {"content": "</s>", "lstrip": False}])
def test_the_end_that_the_tokenizer_names_counts(tmp_path: Path, eos: Any) -> None:
    _tokenizer(tmp_path, {"<s>": 1, "</s>": 2})
    _write(tmp_path, "tokenizer_config.json", {"eos_token": eos})
    assert stop_token_ids(tmp_path, {}) == {2}


def test_plain_text_that_looks_like_an_end_is_none(tmp_path: Path) -> None:
    token = {"id": 7, "content": "<|end|>", "special": False}
    _write(tmp_path, "tokenizer.json", {"added_tokens": [token], "model": {}})
    assert stop_token_ids(tmp_path, {"eos_token_id": None}) == frozenset()


def test_files_that_are_missing_or_broken_add_nothing(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{")
    (tmp_path / "generation_config.json").write_text("[]")
    assert stop_token_ids(tmp_path, {"eos_token_id": [3, 4]}) == {3, 4}


def test_what_some_write_for_none_is_no_token(tmp_path: Path) -> None:
    assert stop_token_ids(tmp_path, {"eos_token_id": [-1, True, 3]}) == {3}
