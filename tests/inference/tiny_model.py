"""A synthetic Phi-3 of two layers, for batch logic where no text is wanted, and ways to run rows on it."""

import json
import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import attrs
import mlx.core as mx

from actors.inference.mlx.load import LoadedModel, load_checkpoint
from actors.inference.sampling import Sampling
from actors.inference.worker.mlx_stepper import MlxStepper
from actors.inference.worker.stepper import Row, StepOutput

VOCABULARY = 128
_WIDTH, _FEED_FORWARD, _HEADS, _KEY_VALUE_HEADS = 64, 96, 4, 2


def write_tiny_phi3(folder: Path, *, layers: int = 2) -> Path:
    """Random weights, scaled so that the best score is far from the second and answers do not repeat at once."""
    head = _WIDTH // _HEADS
    shapes = {"model.embed_tokens": (VOCABULARY, _WIDTH), "lm_head": (VOCABULARY, _WIDTH), "model.norm": (_WIDTH,)}
    for layer in range(layers):
        of = f"model.layers.{layer}"
        shapes |= {
            f"{of}.input_layernorm": (_WIDTH,),
            f"{of}.post_attention_layernorm": (_WIDTH,),
            f"{of}.self_attn.qkv_proj": ((_HEADS + 2 * _KEY_VALUE_HEADS) * head, _WIDTH),
            f"{of}.self_attn.o_proj": (_WIDTH, _WIDTH),
            f"{of}.mlp.gate_up_proj": (2 * _FEED_FORWARD, _WIDTH),
            f"{of}.mlp.down_proj": (_WIDTH, _FEED_FORWARD),
        }
    tensors = {}
    for number, (name, shape) in enumerate(sorted(shapes.items())):
        drawn = mx.random.normal(shape, key=mx.random.key(number))
        tensors[f"{name}.weight"] = mx.ones(shape) if len(shape) == 1 else drawn / shape[1] ** 0.5 * 1.5
    folder.mkdir(exist_ok=True)
    mx.save_safetensors(str(folder / "model.safetensors"), tensors)
    config = {
        "model_type": "phi3",
        "hidden_size": _WIDTH,
        "num_hidden_layers": layers,
        "intermediate_size": _FEED_FORWARD,
        "num_attention_heads": _HEADS,
        "num_key_value_heads": _KEY_VALUE_HEADS,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "max_position_embeddings": 2048,
        "vocab_size": VOCABULARY,
        "tie_word_embeddings": False,
        "eos_token_id": VOCABULARY - 1,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def load_tiny_phi3(folder: Path) -> LoadedModel:
    return load_checkpoint(write_tiny_phi3(folder), "cpu")


@attrs.define
class FixedBudget:
    """A prefill budget that does not depend on how fast this machine happens to be."""

    size: int
    large_chunk_token_seconds = None
    """Nobody pauses for others."""

    def tokens(self, *, decoding_rows: int, reading_rows: int, chunks_read: int) -> int:
        return self.size

    def knows_decoding_of(self, rows: int) -> bool:
        return True

    def decoded(self, seconds: float, rows: int) -> None:
        pass

    def read(self, seconds: float, tokens: int) -> None:
        pass

    def read_beside(self, seconds: float, tokens: int) -> None:
        pass


def make_stepper(loaded: LoadedModel, *, chunk_tokens: int = 64, prefix_bytes: int = 0) -> MlxStepper:
    """A stepper that reads that many prompt tokens a step, all rows together."""
    stepper = MlxStepper(loaded, {}, None, prefix_bytes=prefix_bytes)
    stepper._budget = FixedBudget(chunk_tokens)  # type: ignore[assignment]
    return stepper


def make_row(number: int, prompt_ids: Sequence[int], max_tokens: int = 12, **settings: Any) -> Row:
    """A row; ``settings`` are those of `Row` where it has them, and of its sampling else."""
    own = {name: settings.pop(name) for name in list(settings) if name in attrs.fields_dict(Row)}
    return Row(
        **{
            "row": number,
            "prompt_ids": list(prompt_ids),
            "emitted_ids": [],
            "max_tokens": max_tokens,
            "stop_ids": frozenset(),
            "sampling": Sampling(**settings),
            **own,
        }
    )


@attrs.define
class Answers:
    """Emitted tokens, by row number."""

    ids: dict[int, list[int]] = attrs.field(factory=dict)
    log_probabilities: dict[int, list[float]] = attrs.field(factory=dict)
    finished: dict[int, str] = attrs.field(factory=dict)
    failed: dict[int, str] = attrs.field(factory=dict)
    cached: dict[int, int] = attrs.field(factory=dict)

    def take(self, result: StepOutput) -> None:
        for one in result.emitted:
            assert one.row not in self.finished, "a row that has ended emits nothing"
            self.ids.setdefault(one.row, []).append(one.token_id)
            self.log_probabilities.setdefault(one.row, []).append(one.log_probability)
            if one.finish is not None:
                self.finished[one.row] = one.finish
        self.failed.update((row, failure.reason) for row, failure in result.failed)
        self.cached.update(dict(result.cached))


def run(
    stepper: MlxStepper, rows: Iterable[Row], between: Callable[[int, Answers], object] = lambda _step, _answers: None
) -> Answers:
    """Admit the rows and step until nothing is left; ``between`` is called with the number of steps made so far."""
    answers = Answers()
    for row in rows:
        stepper.admit(row)
    steps = 0
    between(steps, answers)
    while stepper.has_work():
        answers.take(stepper.step())
        steps += 1
        between(steps, answers)
        assert steps < 10_000
    return answers


def copy_of(row: Row) -> Row:
    """The same request, not yet run: a stepper notes in its rows what they emit."""
    return attrs.evolve(row, emitted_ids=list(row.emitted_ids))


_solo: dict[tuple[int, str], list[int]] = {}


def solo(loaded: LoadedModel, row: Row) -> list[int]:
    """The tokens that a row emits on its own; computed once."""
    key = (id(loaded), repr(row))
    if key not in _solo:
        _solo[key] = run(make_stepper(loaded, chunk_tokens=1024), [copy_of(row)]).ids[row.row]
    return _solo[key]


def prompt(number: int, length: int) -> list[int]:
    """Token ids that are like no other number's."""
    draw = random.Random(number)
    return [draw.randrange(VOCABULARY) for _ in range(length)]


def assert_solo(loaded: LoadedModel, rows: Sequence[Row], answers: Answers) -> None:
    """Each of these rows emitted what it emits alone."""
    for row in rows:
        assert answers.ids[row.row] == solo(loaded, row), f"row {row.row}"
