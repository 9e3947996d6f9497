"""Files next to the weights that change a prompt: applied as transformers applies them, or rejected by name."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from actors.inference.text.text_model import CheckpointText
from protocol.commands import ChatMessage, Generate, Role

from .tiny_text import TEMPLATE, make_tokenizer, write_text_folder

LONG = "the quick brown fox " * 60


def rewrite(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**content, **changes}))


def reference(folder: Path) -> Any:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast.from_pretrained(folder)


def encoded(folder: Path, content: str) -> list[int]:
    return CheckpointText(folder).encode(Generate(messages=[ChatMessage(Role.USER, content)]))


@pytest.mark.parametrize("content", ["hi", LONG])
def test_tk26_truncation_and_padding_of_a_training_change_no_prompt(tmp_path: Path, content: str) -> None:
    plain = encoded(write_text_folder(tmp_path / "plain"), content)
    folder = write_text_folder(tmp_path / "trained")
    tokenizer = make_tokenizer()
    tokenizer.enable_truncation(64)
    tokenizer.enable_padding(length=64, pad_token="<|endoftext|>")
    tokenizer.save(str(folder / "tokenizer.json"))
    assert encoded(folder, content) == plain
    chat = [{"role": "user", "content": content}]
    assert plain == reference(folder).apply_chat_template(chat, add_generation_prompt=True, return_dict=False)


@pytest.mark.parametrize(
    "settings",
    [
        {"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>", "add_bos_token": True},
        {"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>", "add_bos_token": True, "add_eos_token": True},
        {"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>", "add_eos_token": True},
        {"bos_token": "<|endoftext|>", "add_bos_token": False},
        {"eos_token": {"__type": "AddedToken", "content": "<|im_end|>", "special": True}},
        {"added_tokens_decoder": {"2": {"content": "<|im_end|>", "rstrip": True, "special": True}}},
        {"pad_token": "[PAD that no vocabulary has]"},
        {"unk_token": "Ġ"},
    ],
)
def test_tk26_settings_of_the_tokenizer_are_applied_as_the_reference_does(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    folder = write_text_folder(tmp_path / "model")
    rewrite(folder / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast", **settings)
    theirs, text = reference(folder), CheckpointText(folder)
    assert text.encode(Generate(prompt="hello world")) == theirs("hello world")["input_ids"]
    chat = [{"role": "user", "content": "  hello world"}]
    ours = text.encode(Generate(messages=[ChatMessage(Role.USER, "  hello world")]))
    assert ours == theirs.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)


@pytest.mark.parametrize(
    ("file", "changes", "word"),
    [
        ("tokenizer_config.json", {"split_special_tokens": True}, "split_special_tokens"),
        ("tokenizer_config.json", {"added_tokens_decoder": {"7": {"content": "<|im_end|>"}}}, "<|im_end|>"),
        ("tokenizer_config.json", {"bos_token": "<that nobody has>"}, "<that nobody has>"),
        ("config.json", {"vocab_size": True}, "vocab_size"),
        ("config.json", {"vocab_size": 2**40}, "vocab_size"),
        ("config.json", {"max_position_embeddings": 0}, "max_position_embeddings"),
    ],
)
def test_tk26_what_is_not_followed_is_refused_by_name(
    tmp_path: Path, file: str, changes: dict[str, Any], word: str
) -> None:
    folder = write_text_folder(tmp_path / "model")
    rewrite(folder / file, **changes)
    with pytest.raises(ValueError, match=re.escape(word)):
        CheckpointText(folder)


def test_tk26_a_model_with_dropout_is_refused(tmp_path: Path) -> None:
    folder = write_text_folder(tmp_path / "model")
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"]["dropout"] = 0.1
    (folder / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="dropout"):
        CheckpointText(folder)


def test_tk26_a_template_is_told_of_the_special_tokens_that_are_set(tmp_path: Path) -> None:
    folder = write_text_folder(tmp_path / "model")
    (folder / "chat_template.jinja").write_text(
        "{{ bos_token }}{% if eos_token is defined %}E{% endif %}{% if pad_token is defined %}P{% endif %}{{ messages[0].content }}"
    )
    (folder / "special_tokens_map.json").write_text(
        '{"bos_token": {"content": "<|im_start|>"}, "eos_token": "<|im_end|>"}'
    )
    rewrite(folder / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast", eos_token=None)
    ids = encoded(folder, "hello")
    assert make_tokenizer().decode(ids, skip_special_tokens=False) == "<|im_start|>hello"


@pytest.mark.parametrize("where", ["list", "files"])
def test_tk26_a_template_of_its_own_for_tools_is_taken_where_there_are_tools(tmp_path: Path, where: str) -> None:
    folder = write_text_folder(tmp_path / "model")
    with_tools = "{{ tools | tojson }}<tool_call>" + TEMPLATE
    if where == "list":
        (folder / "chat_template.jinja").unlink()
        listed = [{"name": "default", "template": TEMPLATE}, {"name": "tool_use", "template": with_tools}]
        rewrite(folder / "tokenizer_config.json", chat_template=listed)
    else:
        (folder / "additional_chat_templates").mkdir()
        (folder / "additional_chat_templates/tool_use.jinja").write_text(with_tools)
    text = CheckpointText(folder)
    assert text.tool_call_format is not None
    whole = make_tokenizer().decode(encoded(folder, "hello"), skip_special_tokens=False)
    assert "tool_call" not in whole


@pytest.mark.parametrize(
    "name", ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"]
)
def test_tk20_no_file_of_the_text_side_is_read_beyond_its_bounds(tmp_path: Path, name: str) -> None:
    folder = write_text_folder(tmp_path / "model")
    (folder / name).unlink(missing_ok=True)
    if name.endswith(".jinja"):
        (folder / name).write_text("x" * (2 << 20))
    else:
        os.mkfifo(folder / name)
    with pytest.raises(ValueError, match=r"regular file|larger than"):
        CheckpointText(folder)
