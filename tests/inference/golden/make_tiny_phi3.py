"""Write `tiny_phi3/` and `tiny_phi3.json`: a Phi-3 checkpoint as transformers saves it, and its greedy answers.

The checkpoint is small enough to be kept and learned by heart to be legible: a few questions with their answers, and the
canary paragraph, so that it passes for a model of English. Everything in the folder is written by transformers'
`save_pretrained`, weights in several shards; everything in the JSON is said by its `Phi3ForCausalLM` in float32. Run it
once in an environment of its own (`pip install torch transformers`), not in the project's, from the repository's root:

    python tests/inference/golden/make_tiny_phi3.py
"""

import ast
import json
import platform
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers

HERE = Path(__file__).parent
CANARY = HERE.parents[2] / "actors" / "inference" / "models" / "canary.py"
TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'system' %}{{ '<|system|>\n' + message['content'] + '<|end|>\n' }}"
    "{% elif message['role'] == 'user' %}{{ '<|user|>\n' + message['content'] + '<|end|>\n' }}"
    "{% elif message['role'] == 'assistant' %}{{ '<|assistant|>\n' + message['content'] + '<|end|>\n' }}"
    "{% else %}{{ raise_exception('unknown role: ' + message['role']) }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|assistant|>", "<|user|>", "<|system|>", "<|end|>"]
ANSWERS = {
    "Who are you?": "I am a very small model, and I know three answers by heart. 😀",
    "Count to ten.": "1, 2, 3, 4, 5, 6, 7, 8, 9, 10.",
    "Add two numbers in Python.": "def add(a, b):\n    return a + b\n",
}
VOCABULARY = 384
STEPS = 600
NEW_TOKENS = 64
SHARD = "200KB"


def canary_text() -> str:
    """The paragraph, read out of the module, which needs MLX to be imported."""
    for node in ast.parse(CANARY.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "CANARY_TEXT":
            return str(ast.literal_eval(node.value))
    raise LookupError("CANARY_TEXT")


def make_tokenizer() -> Any:
    """Byte-level BPE learned from what the model shall say, with Phi-3's special tokens."""
    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[tokenizers.AddedToken(one, special=True) for one in SPECIAL],
        show_progress=False,
    )
    model.train_from_iterator([*ANSWERS, *ANSWERS.values(), canary_text()], trainer)
    made = transformers.PreTrainedTokenizerFast(
        tokenizer_object=model, eos_token="<|endoftext|>", pad_token="<|endoftext|>", unk_token="<|endoftext|>"
    )
    made.chat_template = TEMPLATE
    return made


def ids_of(tokenizer: Any, question: str) -> list[int]:
    """The prompt as the template makes it."""
    messages = [{"role": "user", "content": question}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return ids


def learn(model: Any, texts: list[list[int]]) -> None:
    """Until it knows them by heart."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(STEPS):
        ids = torch.tensor([texts[step % len(texts)]])
        model(ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


@torch.inference_mode()
def answer(model: Any, prompt_ids: list[int], stop_ids: set[int]) -> tuple[list[int], float]:
    """Greedy ids up to and without a stop token, and the smallest margin between the two best logits."""
    ids: list[int] = []
    margin = float("inf")
    while len(ids) < NEW_TOKENS:
        best = model(torch.tensor([prompt_ids + ids])).logits[0, -1].topk(2)
        margin = min(margin, float(best.values[0] - best.values[1]))
        chosen = int(best.indices[0])
        if chosen in stop_ids:
            break
        ids.append(chosen)
    return ids, margin


def main() -> None:
    """Write both next to this file."""
    torch.manual_seed(5)
    torch.set_num_threads(1)
    tokenizer = make_tokenizer()
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    stop_ids = {tokenizer.eos_token_id, end}
    config = transformers.Phi3Config(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=2048, original_max_position_embeddings=2048, sliding_window=None,
        bos_token_id=tokenizer.eos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=False, attention_dropout=0.0, resid_pdrop=0.0, embd_pdrop=0.0,
    )  # fmt: skip
    model = transformers.Phi3ForCausalLM(config).to(torch.float32)
    model.generation_config.eos_token_id = sorted(stop_ids)
    texts = [
        ids_of(tokenizer, question) + tokenizer.encode(said, add_special_tokens=False) + [end]
        for question, said in ANSWERS.items()
    ]
    texts.append(tokenizer.encode(canary_text(), add_special_tokens=False))
    model.train()
    learn(model, texts)
    model.eval()
    folder = HERE / "tiny_phi3"
    model.save_pretrained(folder, max_shard_size=SHARD)
    tokenizer.save_pretrained(folder)
    reference = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    cases = []
    for question in ANSWERS:
        ids, margin = answer(reference, ids_of(tokenizer, question), stop_ids)
        cases.append(
            {
                "question": question,
                "prompt_ids": ids_of(tokenizer, question),
                "ids": ids,
                "text": tokenizer.decode(ids),
                "margin": round(margin, 4),
            }
        )
    golden = {
        "implementation": "PyTorch transformers, Phi3ForCausalLM, float32, CPU",
        "made_by": "tests/inference/golden/make_tiny_phi3.py",
        "versions": {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
        },
        "cases": cases,
    }
    (HERE / "tiny_phi3.json").write_text(json.dumps(golden, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
