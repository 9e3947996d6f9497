"""Small checkpoints with a tokenizer of their own, whole enough to be pulled, converted, verified and served."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from tests.inference.golden.phi3_shapes import configuration, tensors


def write_tokenizer(folder: Path, *, reverse: bool = False) -> None:
    """A tokenizer of single printable bytes; `reverse` gives every one of them another number."""
    characters = ["Ġ", *(chr(code) for code in range(33, 127))]
    ordered = characters[::-1] if reverse else characters
    vocabulary = {"<unk>": 0, **{character: number for number, character in enumerate(ordered, start=1)}}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))


def small_tensors(shape: str = "grouped_heads") -> dict[str, numpy.ndarray[Any, numpy.dtype[numpy.float32]]]:
    """The golden shape's tensors, so quiet at the end that text is about as likely as by chance (4.6 nats)."""
    made = tensors(shape)
    last, factor = ("lm_head.weight", 0.25) if "lm_head.weight" in made else ("model.norm.weight", 0.15)
    made[last] = made[last] * numpy.float32(factor)
    return made


def write_small(folder: Path, *, shards: int = 1, shape: str = "grouped_heads", **changes: Any) -> Path:
    """A checkpoint in Hugging Face layout, its tensors dealt out over `shards` files with an index."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**configuration(shape), "dtype": "float32", **changes}, indent=2))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 3]}))
    write_tokenizer(folder)
    made = {name: mx.array(one) for name, one in small_tensors(shape).items()}
    names = sorted(made)
    if shards == 1:
        mx.save_safetensors(str(folder / "model.safetensors"), made, metadata={"format": "pt"})
        return folder
    weight_map: dict[str, str] = {}
    for number in range(shards):
        file = f"model-{number + 1:05}-of-{shards:05}.safetensors"
        part = {name: made[name] for name in names[number::shards]}
        mx.save_safetensors(str(folder / file), part, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def rewrite_tensors(path: Path, change: Any) -> None:
    """Change the tensors of a safetensors file in place; `change` gets the dictionary."""
    loaded = dict(mx.load(str(path)).items())
    mx.eval(loaded)
    change(loaded)
    copy = path.with_name(".rewritten.safetensors")
    mx.save_safetensors(str(copy), loaded)
    copy.replace(path)
