"""Converts the tokenizer in a GGUF to the `tokenizer.json` of the `tokenizers` library.

Byte-level BPE with digits split one by one, which GGUF calls `gpt2` with the pre-tokenizer `smollm` (llama.cpp,
`llama-vocab.cpp`, `LLAMA_VOCAB_PRE_TYPE_SMOLLM`). transformers' own reader of these needs PyTorch.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from actors.inference.checkpoints.errors import ModelSourceMismatch

_CONTROL_TOKEN_TYPE = 3
_EXPECTED = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smollm"}


def build_tokenizer(metadata: Mapping[str, Any], source: Path) -> Tokenizer:
    """Builds the tokenizer from a GGUF's metadata. Raises `ModelSourceMismatch` (naming `source`) for any other kind."""
    for key, expected in _EXPECTED.items():
        if metadata.get(key) != expected:
            raise ModelSourceMismatch(path=source, reason=f"{key} is {metadata.get(key)!r}, expected {expected!r}")
    tokens: list[str] = metadata["tokenizer.ggml.tokens"]
    first_and_second = (merge.split(" ") for merge in metadata["tokenizer.ggml.merges"])
    tokenizer = Tokenizer(
        models.BPE(
            vocab={token: number for number, token in enumerate(tokens)},
            merges=[(first, second) for first, second in first_and_second],
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in special_tokens(metadata)]
    )
    return tokenizer


def special_tokens(metadata: Mapping[str, Any]) -> list[str]:
    """Control tokens, in the order of their ids."""
    tokens, types = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"].tolist()
    return [token for token, kind in zip(tokens, types, strict=True) if kind == _CONTROL_TOKEN_TYPE]


def stop_token_ids(metadata: Mapping[str, Any]) -> list[int]:
    """Tokens that end an answer: the end of the turn first, then the end of the text."""
    end_of_turn = int(metadata["tokenizer.ggml.eos_token_id"])
    end_of_text = metadata["tokenizer.ggml.tokens"].index("<|endoftext|>")
    return list(dict.fromkeys((end_of_turn, end_of_text)))


def write_tokenizer(folder: Path, metadata: Mapping[str, Any], source: Path) -> None:
    """Writes `tokenizer.json`, `tokenizer_config.json`, `chat_template.jinja` and `generation_config.json`.

    They let transformers' `AutoTokenizer` read the folder too, which is how prompts are checked against it.
    """
    build_tokenizer(metadata, source).save(str(folder / "tokenizer.json"), pretty=False)
    template = metadata["tokenizer.chat_template"]
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    tokens = metadata["tokenizer.ggml.tokens"]
    stops = stop_token_ids(metadata)
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": tokens[int(metadata["tokenizer.ggml.bos_token_id"])],
            "eos_token": tokens[stops[0]],
            "pad_token": tokens[int(metadata["tokenizer.ggml.padding_token_id"])],
            "unk_token": tokens[int(metadata["tokenizer.ggml.unknown_token_id"])],
            "additional_special_tokens": special_tokens(metadata),
            "model_max_length": int(metadata["llama.context_length"]),
            "add_prefix_space": False,
            "clean_up_tokenization_spaces": False,
        },
    )
    _write_json(
        folder / "generation_config.json",
        {
            "bos_token_id": int(metadata["tokenizer.ggml.bos_token_id"]),
            "eos_token_id": stops,
            "pad_token_id": int(metadata["tokenizer.ggml.padding_token_id"]),
        },
    )


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
