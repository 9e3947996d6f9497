"""Logits and greedy ids equal PyTorch transformers' `Phi3ForCausalLM` for every shape of Phi-3 (`golden/phi3_shapes.py`)."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy
import pytest
from mlx_lm.models.cache import BatchKVCache, KVCache
from numpy.typing import NDArray

from actors.inference.checkpoints.errors import UnsupportedModel
from actors.inference.checkpoints.phi3_config import Phi3Arguments
from actors.inference.mlx.load import LoadedModel, load_checkpoint, serve_long_context
from actors.inference.mlx.rope import LongContextSwitch
from tests.inference.golden.phi3_shapes import (
    NEW_TOKENS,
    SHAPES,
    TRAINED_LENGTH,
    WINDOW,
    configuration,
    digest,
    prompts,
    tensors,
)

pytestmark = pytest.mark.mlx_real_inference

TOLERANCE = 1e-4
"""Of the largest logit of the reference."""

Floats = NDArray[numpy.float32]
REFERENCE: dict[str, Any] = dict(numpy.load(Path(__file__).parents[1] / "golden" / "phi3_reference.npz"))
ABOUT = json.loads(str(REFERENCE["about"]))
LONGROPE = [shape for shape in SHAPES if shape.startswith("longrope")]


def write_checkpoint(folder: Path, shape: str, **changes: Any) -> Path:
    """The shape as a checkpoint folder."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**configuration(shape), **changes}))
    mx.save_safetensors(
        str(folder / "model.safetensors"), {name: mx.array(one) for name, one in tensors(shape).items()}
    )
    return folder


@pytest.fixture(scope="module", params=["compiled", "mlx"])
def load(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Callable[[str], LoadedModel]]:
    kept: dict[str, LoadedModel] = {}
    may_compile = request.param == "compiled"

    def get(shape: str) -> LoadedModel:
        if shape not in kept:
            folder = write_checkpoint(tmp_path_factory.mktemp(shape), shape)
            kept[shape] = load_checkpoint(folder, "cpu", may_compile=may_compile)
            assert (kept[shape].threads is not None) is may_compile
        return kept[shape]

    yield get
    kept.clear()


def assert_equal(found: mx.array, expected: Floats) -> None:
    """Within the tolerance, and the same best token wherever the reference's margin says which that is."""
    got = numpy.asarray(found)
    allowed = TOLERANCE * numpy.abs(expected).max()
    assert numpy.abs(got - expected).max() <= allowed
    best_two = numpy.sort(expected, axis=-1)[..., -2:]
    is_clear = best_two[..., 1] - best_two[..., 0] > 2 * allowed
    assert (got.argmax(-1) == expected.argmax(-1))[is_clear].all()


@pytest.mark.parametrize("shape", SHAPES)
def test_weights_are_those_that_the_reference_had(shape: str) -> None:
    assert digest(tensors(shape)) == ABOUT["digests"][shape], "make the golden file anew"


@pytest.mark.parametrize("shape", SHAPES)
def test_logits_of_whole_prompts_equal_the_reference(shape: str, load: Callable[[str], LoadedModel]) -> None:
    for number, ids in enumerate(prompts(shape)):
        assert_equal(load(shape).model(mx.array([ids]))[0], REFERENCE[f"{shape}/{number}/logits"])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("chunk", [1, 7])
def test_prompts_in_chunks_equal_the_reference(shape: str, chunk: int, load: Callable[[str], LoadedModel]) -> None:
    loaded = load(shape)
    for number, ids in enumerate(prompts(shape)):
        cache = [BatchKVCache([0]) for _ in loaded.model.layers]
        parts = [
            _call(loaded, mx.array([ids[start : start + chunk]]), cache, [len(ids)])[0]
            for start in range(0, len(ids), chunk)
        ]
        assert_equal(mx.concatenate(parts), REFERENCE[f"{shape}/{number}/logits"])


@pytest.mark.parametrize("shape", SHAPES)
def test_a_ragged_batch_equals_the_reference_row_by_row(shape: str, load: Callable[[str], LoadedModel]) -> None:
    loaded, rows = load(shape), prompts(shape)
    longest = max(map(len, rows))
    padding = [longest - len(ids) for ids in rows]
    padded = mx.array([[0] * pad + ids for pad, ids in zip(padding, rows, strict=True)])
    for chunk in (longest, 16):
        cache = [BatchKVCache(padding) for _ in loaded.model.layers]
        parts = [
            _call(loaded, padded[:, start : start + chunk], cache, [len(ids) for ids in rows])
            for start in range(0, longest, chunk)
        ]
        logits = mx.concatenate(parts, axis=1)
        for number, pad in enumerate(padding):
            assert_equal(logits[number, pad:], REFERENCE[f"{shape}/{number}/logits"])


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape not in LONGROPE])
def test_greedy_ids_of_a_ragged_batch_equal_the_reference(shape: str, load: Callable[[str], LoadedModel]) -> None:
    loaded, rows = load(shape), prompts(shape)
    padding = [max(map(len, rows)) - len(ids) for ids in rows]
    cache = [BatchKVCache(padding) for _ in loaded.model.layers]
    inputs = mx.array([[0] * pad + ids for pad, ids in zip(padding, rows, strict=True)])
    found: list[list[int]] = []
    for _ in range(NEW_TOKENS):
        best = loaded.model(inputs, cache)[:, -1].argmax(-1)
        found.append(best.tolist())
        inputs = best[:, None]
    expected = [REFERENCE[f"{shape}/{number}/greedy"].tolist() for number in range(len(rows))]
    assert [list(column) for column in zip(*found, strict=True)] == expected


@pytest.mark.parametrize("shape", ["plain", "sliding_window"])
def test_a_cache_of_one_row_as_mlx_lm_makes_it_serves_too(shape: str, load: Callable[[str], LoadedModel]) -> None:
    loaded, ids = load(shape), prompts(shape)[0]
    cache = [KVCache() for _ in loaded.model.layers]
    parts = [loaded.model(mx.array([[one]]), cache)[0] for one in ids]
    assert_equal(mx.concatenate(parts), REFERENCE[f"{shape}/0/logits"])


@pytest.mark.parametrize("shape", LONGROPE)
def test_greedy_ids_across_the_switch_equal_the_reference_when_read_anew(
    shape: str, load: Callable[[str], LoadedModel]
) -> None:
    loaded = load(shape)
    for number, ids in enumerate(prompts(shape)):
        sequence, fresh = list(ids), list(ids)
        cache = [BatchKVCache([0]) for _ in loaded.model.layers]
        switches: list[tuple[int, int]] = []
        for _ in range(NEW_TOKENS):
            try:
                logits = loaded.model(mx.array([fresh]), cache)
            except LongContextSwitch as switch:
                switches.append((switch.trained_tokens, len(sequence)))
                cache = [BatchKVCache([0]) for _ in loaded.model.layers]
                logits = loaded.model(mx.array([sequence]), cache)
            fresh = [int(logits[0, -1].argmax().item())]
            sequence += fresh
        assert sequence[len(ids) :] == REFERENCE[f"{shape}/{number}/greedy"].tolist()
        crosses = len(ids) <= TRAINED_LENGTH < len(ids) + NEW_TOKENS - 1
        assert switches == ([(TRAINED_LENGTH, TRAINED_LENGTH + 1)] if crosses else [])


def _always_long(folder: Path, shape: str) -> LoadedModel:
    return serve_long_context(load_checkpoint(write_checkpoint(folder / shape, shape), "cpu"))


@pytest.mark.parametrize("shape", LONGROPE)
def test_served_to_its_full_length_long_sequences_equal_the_reference(shape: str, tmp_path: Path) -> None:
    loaded = _always_long(tmp_path, shape)
    assert loaded.context_length_tokens == 96
    ids = prompts(shape)[0]
    assert len(ids) > TRAINED_LENGTH
    assert_equal(loaded.model(mx.array([ids]))[0], REFERENCE[f"{shape}/0/logits"])
    # Token by token over its own keys from the first on, across the length at which the reference makes them anew.
    cache = [BatchKVCache([0]) for _ in loaded.model.layers]
    parts = [loaded.model(mx.array([[one]]), cache)[0] for one in ids]
    assert_equal(mx.concatenate(parts), REFERENCE[f"{shape}/0/logits"])
    sequence = list(ids)
    for _ in range(NEW_TOKENS):
        logits = loaded.model(mx.array([sequence[-1:]]), cache) if sequence != ids else mx.concatenate(parts)[None]
        sequence.append(int(logits[0, -1].argmax().item()))
    assert sequence[len(ids) :] == REFERENCE[f"{shape}/0/greedy"].tolist()


@pytest.mark.parametrize("shape", LONGROPE)
def test_served_to_its_full_length_short_sequences_take_the_long_factors_and_differ(shape: str, tmp_path: Path) -> None:
    loaded = _always_long(tmp_path, shape)
    config = configuration(shape)
    scaling = {**config["rope_scaling"], "short_factor": config["rope_scaling"]["long_factor"]}
    folder = write_checkpoint(tmp_path / "both", shape, rope_scaling=scaling)
    both_long = load_checkpoint(folder, "cpu").model
    for number, ids in enumerate(prompts(shape)[1:], start=1):
        found = loaded.model(mx.array([ids]))[0]
        expected = numpy.asarray(both_long(mx.array([ids]))[0])
        assert_equal(found, expected)
        assert numpy.abs(expected - REFERENCE[f"{shape}/{number}/logits"]).max() > 0.01, "it has to be told"


def test_models_without_longrope_are_served_as_they_are(load: Callable[[str], LoadedModel]) -> None:
    assert serve_long_context(load("plain")) is load("plain")


def test_the_shapes_differ_where_they_should(load: Callable[[str], LoadedModel]) -> None:
    # Were the goldens blind to window, theta or factors, all the tests above would pass without them.
    ids = mx.array([prompts("sliding_window")[0]])
    for shape, change in [
        ("sliding_window", {"sliding_window": WINDOW + 1}),
        ("other_theta", {"rope_theta": 110.0}),
        ("linear_scaling", {"rope_scaling": None}),
        ("partial_rotary", {"partial_rotary_factor": 0.5}),
    ]:
        model = load(shape).model
        other = type(model)(Phi3Arguments.from_dict({**configuration(shape), **change}))
        other.load_weights([(name, mx.array(one)) for name, one in tensors(shape).items()])
        assert numpy.abs(numpy.asarray(other(ids)) - numpy.asarray(model(ids))).max() > 0.1


def test_longrope_is_served_up_to_the_length_it_was_trained_for(load: Callable[[str], LoadedModel]) -> None:
    assert load("longrope").context_length_tokens == TRAINED_LENGTH
    assert load("plain").context_length_tokens == 128


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"rope_scaling": {"type": "llama3", "factor": 8.0}}, "llama3"),
        ({"rope_scaling": {"type": "longrope", "short_factor": [1.0] * 8}}, "long_factor"),
        ({"rope_scaling": {"type": "longrope", "short_factor": [1.0] * 7, "long_factor": [1.0] * 8}}, "short_factor"),
        ({"rope_scaling": {"type": "linear"}}, "factor"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0, "short_mscale": 1.2}}, "short_mscale"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"num_key_value_heads": 3}, "share"),
    ],
)
def test_what_cannot_be_right_is_refused_by_name(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    with pytest.raises(UnsupportedModel, match=named):
        load_checkpoint(write_checkpoint(tmp_path / "one", "plain", **changes), "cpu")


def test_longrope_of_other_model_types_is_refused_with_the_reason(tmp_path: Path) -> None:
    # Complete, so that mlx-lm would run it.
    scaling = {**configuration("longrope")["rope_scaling"], "original_max_position_embeddings": TRAINED_LENGTH}
    changes = {"rope_scaling": scaling, "model_type": "llama"}
    with pytest.raises(UnsupportedModel, match="uses the long factors of longrope at every length"):
        load_checkpoint(write_checkpoint(tmp_path / "one", "plain", **changes), "cpu")


def test_a_model_that_needs_another_kind_of_cache_is_refused_with_the_reason(tmp_path: Path) -> None:
    changes = {"model_type": "llama", "sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]}
    with pytest.raises(UnsupportedModel, match="RotatingKVCache"):
        load_checkpoint(write_checkpoint(tmp_path / "one", "plain", **changes), "cpu")


def _call(loaded: LoadedModel, inputs: mx.array, cache: list[BatchKVCache], lengths: list[int]) -> mx.array:
    logits: mx.array = loaded.model(inputs, cache, sequence_lengths=lengths)
    return logits
