"""Write `greedy_reference.json`: greedy answers of an independent implementation on the same weights.

The independent implementation is PyTorch with transformers' own `Phi3ForCausalLM` in float32 on the CPU. It shares
nothing with the code under test but the checkpoint folder: the packed weights are unpacked here by hand, the chat
template is applied by transformers. Run it once in an environment of its own (`pip install torch transformers`), not
in the project's:

    python tests/inference/golden/make_greedy_reference.py CACHE/models/smollm2-135m-instruct
"""

import argparse
import json
import platform
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file

PROMPTS = (
    "Write a simple Python function to add two numbers.",
    "Explain what is recursion in programming.",
    "What is the capital of France?",
    "List three reasons to write tests for software.",
    "Tell me a short story about a lighthouse keeper.",
    "Count from 1 to 12, and say which of these numbers are even.",
)
NEW_TOKENS = 64
TOP = 20
GROUP_SIZE = 32


def unpack(tensors: dict[str, torch.Tensor], module: str) -> torch.Tensor:
    """Dequantize one module of MLX's affine form in float32: integers packed from the low bits up, q * scale + bias."""
    packed, scales, biases = (tensors[f"{module}.{part}"] for part in ("weight", "scales", "biases"))
    rows, columns = packed.shape[0], scales.shape[1] * GROUP_SIZE
    bits = packed.shape[1] * 32 // columns
    words = packed.to(torch.int64) & 0xFFFFFFFF
    shifts = torch.arange(0, 32, bits)
    integers = (words[..., None] >> shifts) & ((1 << bits) - 1)
    grouped = integers.reshape(rows, -1, GROUP_SIZE).to(torch.float32)
    return (grouped * scales[..., None].to(torch.float32) + biases[..., None].to(torch.float32)).reshape(rows, columns)


def load_model(folder: Path) -> Any:
    """transformers' Phi-3 with the folder's weights, every one of them and no other."""
    tensors = load_file(folder / "model.safetensors")
    state = {}
    for name, tensor in tensors.items():
        module, _, part = name.rpartition(".")
        if part == "weight":
            state[name] = unpack(tensors, module) if f"{module}.scales" in tensors else tensor.to(torch.float32)
    config = json.loads((folder / "config.json").read_text())
    config.pop("quantization")
    model = transformers.Phi3ForCausalLM(transformers.Phi3Config(**config)).to(torch.float32).eval()
    state.setdefault("lm_head.weight", state["model.embed_tokens.weight"])
    model.load_state_dict(state, strict=True)
    return model


@torch.inference_mode()
def answer(model: Any, prompt_ids: list[int], stop_ids: set[int]) -> tuple[list[int], torch.Tensor]:
    """Greedy ids up to and without a stop token, and the logits at the last position of the prompt."""
    output = model(torch.tensor([prompt_ids]), use_cache=True)
    first = output.logits[0, -1]
    ids: list[int] = []
    logits = first
    while len(ids) < NEW_TOKENS and (chosen := int(logits.argmax())) not in stop_ids:
        ids.append(chosen)
        output = model(torch.tensor([[chosen]]), past_key_values=output.past_key_values, use_cache=True)
        logits = output.logits[0, -1]
    return ids, first


def main() -> None:
    """Write the JSON next to this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="checkpoint folder that `leanvibe model embed` has made")
    folder = parser.parse_args().folder
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    stop_ids = set(json.loads((folder / "generation_config.json").read_text())["eos_token_id"])
    model = load_model(folder)
    cases = []
    for prompt in PROMPTS:
        messages = [{"role": "user", "content": prompt}]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        prompt_ids = tokenizer.encode(text, add_special_tokens=False)
        ids, logits = answer(model, prompt_ids, stop_ids)
        values, indices = logits.topk(TOP)
        cases.append(
            {
                "prompt": prompt,
                "prompt_text": text,
                "prompt_ids": prompt_ids,
                "greedy_ids": ids,
                "greedy_text": tokenizer.decode(ids),
                "top_ids": indices.tolist(),
                "top_logits": [round(value, 5) for value in values.tolist()],
            }
        )
    manifest = json.loads((folder / "manifest.json").read_text())
    reference = {
        "implementation": "PyTorch transformers, Phi3ForCausalLM, float32, CPU",
        "made_by": "tests/inference/golden/make_greedy_reference.py",
        "versions": {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
        },
        "model": manifest["name"],
        "source_sha256": manifest["source"]["sha256"],
        "new_tokens": NEW_TOKENS,
        "stop_ids": sorted(stop_ids),
        "cases": cases,
    }
    target = Path(__file__).with_name("greedy_reference.json")
    target.write_text(json.dumps(reference, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
