"""Write `phi3_reference.npz`: logits and greedy ids of PyTorch transformers' `Phi3ForCausalLM` in float32.

For every shape of `phi3_shapes.py`. Run it in an environment of its own (`pip install torch transformers`), from the
repository's root:

    python -m tests.inference.golden.make_phi3_reference
"""

import json
from pathlib import Path
from typing import Any

import numpy
import torch
import transformers

from tests.inference.golden.phi3_shapes import NEW_TOKENS, SHAPES, configuration, digest, prompts, tensors


def load_model(shape: str) -> Any:
    """transformers' Phi-3 with the shape's tensors, every one of them and no other."""
    content = configuration(shape)
    scaling = content.get("rope_scaling")
    if is_linear := bool(scaling and scaling["type"] == "linear"):
        del content["rope_scaling"]
    elif scaling:
        # "su" is the name that longrope had in the first published configurations; this version trips over it.
        content["rope_scaling"] = {**scaling, "type": "longrope"}
    config = transformers.Phi3Config(**content, attn_implementation="eager")
    if is_linear:
        # Phi3Config refuses the name, though the model class computes the form as every other model of transformers.
        config.rope_parameters = {
            "rope_type": "linear", "factor": scaling["factor"], "rope_theta": content["rope_theta"],
            "partial_rotary_factor": 1.0,
        }  # fmt: skip
    model = transformers.Phi3ForCausalLM(config).to(torch.float32).eval()
    state = {name: torch.from_numpy(tensor) for name, tensor in tensors(shape).items()}
    state.setdefault("lm_head.weight", state["model.embed_tokens.weight"])
    model.load_state_dict(state, strict=True)
    return model


@torch.inference_mode()
def greedy(model: Any, ids: list[int]) -> list[int]:
    """New ids, each from a forward pass over the whole sequence; `generate` with its cache must say the same."""
    sequence = list(ids)
    for _ in range(NEW_TOKENS):
        sequence.append(int(model(torch.tensor([sequence]), use_cache=False).logits[0, -1].argmax()))
    generated = model.generate(
        torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long), max_new_tokens=NEW_TOKENS,
        min_new_tokens=NEW_TOKENS, do_sample=False, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    if generated[0].tolist() != sequence:
        raise SystemExit(f"generate() differs from whole passes: {generated[0].tolist()} {sequence}")
    return sequence[len(ids) :]


@torch.inference_mode()
def main() -> None:
    """Write the file next to this one."""
    arrays: dict[str, Any] = {}
    digests: dict[str, str] = {}
    for shape in SHAPES:
        model = load_model(shape)
        digests[shape] = digest(tensors(shape))
        for number, ids in enumerate(prompts(shape)):
            arrays[f"{shape}/{number}/logits"] = model(torch.tensor([ids]), use_cache=False).logits[0].numpy()
            arrays[f"{shape}/{number}/greedy"] = numpy.array(greedy(model, ids), dtype=numpy.int32)
    about = {
        "implementation": "PyTorch transformers, Phi3ForCausalLM, float32, CPU, eager attention",
        "made_by": "tests/inference/golden/make_phi3_reference.py",
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "digests": digests,
    }
    arrays["about"] = numpy.array(json.dumps(about))
    numpy.savez_compressed(Path(__file__).with_name("phi3_reference.npz"), **arrays)


if __name__ == "__main__":
    main()
