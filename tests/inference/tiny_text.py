"""A checkpoint folder with a real tokenizer and no weights: byte-level BPE learned from a few words."""

import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
_CORPUS = ["hello world, hello tests", "the quick brown fox", "naïve café 😀 東京 €5", "aaaa bbbb abab 1234"] * 4


def make_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[AddedToken(one, special=True) for one in SPECIAL],
        show_progress=False,
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    return tokenizer


def write_text_folder(folder: Path, **config: Any) -> Path:
    """`config.json`, `tokenizer.json` and a chat template; entries of None are left out of the config."""
    folder.mkdir(exist_ok=True)
    tokenizer = make_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    content = {"vocab_size": tokenizer.get_vocab_size(), "max_position_embeddings": 512, "eos_token_id": 2, **config}
    (folder / "config.json").write_text(json.dumps({name: one for name, one in content.items() if one is not None}))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder
