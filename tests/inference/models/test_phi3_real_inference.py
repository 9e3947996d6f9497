"""The embedded model is the pretrained one: by its answers, by the canary, and by an independent implementation."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy
import pytest
from mlx.utils import tree_flatten
from mlx_lm.models.cache import BatchKVCache
from tokenizers import Tokenizer

from actors.inference.kernels.jit_cache import use_compiled
from actors.inference.mlx.load import LoadedModel, load_checkpoint
from actors.inference.mlx.proof import (
    CANARY_CEILING_NATS,
    canary_negative_log_likelihood,
    canary_token_ids,
)

pytestmark = pytest.mark.mlx_real_inference

REFERENCE = json.loads((Path(__file__).parents[1] / "golden" / "greedy_reference.json").read_text(encoding="utf-8"))
CASES = REFERENCE["cases"]
TIE = 1e-3
"""The two best scores this near to each other may be told either way (PROTOCOL, Determinism)."""


def greedy_steps(model: Any, prompt_ids: list[int]) -> Iterator[tuple[int, Any]]:
    """The best token and all logits, step after step, of one row in a batch's cache: so as it is served."""
    cache = [BatchKVCache([0]) for _ in model.layers]
    ids = mx.array([prompt_ids])
    while True:
        logits = model(ids, cache=cache)[0, -1]
        best = int(mx.argmax(logits).item())
        yield best, numpy.asarray(logits)
        ids = mx.array([[best]])


def greedy_ids(model: Any, prompt_ids: list[int], stop_ids: frozenset[int], limit: int = 64) -> list[int]:
    ids: list[int] = []
    for best, _logits in greedy_steps(model, prompt_ids):
        if best in stop_ids or len(ids) == limit:
            return ids
        ids.append(best)
    raise AssertionError("the steps never end")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["prompt"])
def test_greedy_text_equals_that_of_pytorch_transformers(loaded_model: LoadedModel, case: dict[str, Any]) -> None:
    expected = [*case["greedy_ids"], None]
    for position, (best, logits) in enumerate(greedy_steps(loaded_model.model, case["prompt_ids"])):
        if position == REFERENCE["new_tokens"]:
            return
        wanted = expected[position]
        if wanted is None:
            assert best in loaded_model.stop_token_ids
            return
        if best != wanted:
            second, first = numpy.sort(logits)[-2:]
            assert first - second < TIE, f"token {position} is {best}, expected {wanted}"
            assert first - logits[wanted] < TIE
            return


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["prompt"])
def test_logits_equal_those_of_pytorch_transformers(loaded_model: LoadedModel, case: dict[str, Any]) -> None:
    _best, logits = next(greedy_steps(loaded_model.model, case["prompt_ids"]))
    numpy.testing.assert_allclose(logits[case["top_ids"]], case["top_logits"], atol=5e-4)
    assert set(numpy.argsort(logits)[-10:]) <= set(case["top_ids"])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["prompt"])
def test_the_tokenizer_of_the_folder_equals_that_of_transformers(embedded_model: Path, case: dict[str, Any]) -> None:
    tokenizer = Tokenizer.from_file(str(embedded_model / "tokenizer.json"))
    assert tokenizer.encode(case["prompt_text"], add_special_tokens=False).ids == case["prompt_ids"]
    assert tokenizer.decode(case["greedy_ids"]) == case["greedy_text"]


def test_the_reference_was_made_from_this_source(embedded_model: Path) -> None:
    manifest = json.loads((embedded_model / "manifest.json").read_text())
    assert manifest["source"]["sha256"] == REFERENCE["source_sha256"]


@pytest.mark.parametrize(
    ("prompt", "wanted"),
    [
        ("Write a simple Python function to add two numbers.", "def "),
        ("Explain what is recursion in programming.", "recursion"),
    ],
)
def test_a_plain_question_gets_a_sensible_answer(
    embedded_model: Path, loaded_model: LoadedModel, prompt: str, wanted: str
) -> None:
    (case,) = (case for case in CASES if case["prompt"] == prompt)
    tokenizer = Tokenizer.from_file(str(embedded_model / "tokenizer.json"))
    ids = greedy_ids(loaded_model.model, case["prompt_ids"], loaded_model.stop_token_ids)
    assert wanted in tokenizer.decode(ids).lower()


def test_the_canary_passes_and_every_parameter_is_from_the_checkpoint(
    embedded_model: Path, loaded_model: LoadedModel
) -> None:
    nats = canary_negative_log_likelihood(loaded_model.model, canary_token_ids(embedded_model))
    assert nats < CANARY_CEILING_NATS - 1
    assert nats == pytest.approx(
        json.loads((embedded_model / "manifest.json").read_text())["canary_nats_per_token"], abs=0.05
    )
    assert loaded_model.every_parameter_from_checkpoint
    assert loaded_model.parameter_count == 134_515_008


def test_the_same_weights_shuffled_fail_the_canary(embedded_model: Path) -> None:
    # The same numbers with the same mean and spread, each matrix with its rows in another order: only structure is lost.
    model = load_checkpoint(embedded_model, "cpu").model
    shuffled = [
        (name, mx.take(tensor, mx.random.permutation(tensor.shape[0], key=mx.random.key(7)), axis=0))
        for name, tensor in tree_flatten(model.parameters())
        if tensor.ndim == 2
    ]
    model.load_weights(shuffled, strict=False)
    # Compiled code keeps the addresses of the weights that there were.
    assert use_compiled(model)[1] is None
    assert canary_negative_log_likelihood(model, canary_token_ids(embedded_model)) > CANARY_CEILING_NATS
