"""Whatever the sampling options are, a token is drawn from those that they keep: at the limits, between them, together."""

from __future__ import annotations

import math
from typing import Any

import mlx.core as mx
import numpy
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from actors.inference.sampling import COLDEST, Sampling
from actors.inference.structured_output import Matcher
from actors.inference.worker import sampler
from actors.inference.worker.sampler import LEAST_LOG_PROBABILITY, sample
from actors.inference.worker.stepper import Row
from protocol.commands import Generate
from protocol.validation import FieldFault

VOCABULARY = 64
DENORMAL = 5e-324
SMALLEST = (DENORMAL, 1e-320, 1e-308, 1e-46, 1e-45, 1e-44, 1e-39, 1e-38, 1.2e-38, 1e-37, 1e-30, 1e-10)
TEMPERATURES = (0.0, *SMALLEST, 1e-6, 9.9e-6, COLDEST, 1.1e-5, 1e-3, 0.7, 1.0, 2.0, math.nextafter(5, 0), 5.0)
TOP_P = (*SMALLEST, 1e-6, 0.5, 0.999999, math.nextafter(1, 0), 1.0)
MIN_P = (0.0, *SMALLEST, 0.5, math.nextafter(1, 0), 1.0)
SIGNED = (-2.0, math.nextafter(-2, 0), -DENORMAL, 0.0, *SMALLEST, math.nextafter(2, 0), 2.0)
REPETITION = (0.1, math.nextafter(0.1, 1), math.nextafter(1, 0), 1.0, math.nextafter(1, 2), 10.0)
BIASES = (-100.0, -DENORMAL, 0.0, DENORMAL, 1e-40, math.nextafter(100, 0), 100.0)
SEEDS = (0, 1, 2**53 - 1, 2**53)
SCORES = (-3e38, -1e30, -65504.0, -100.0, -1e-40, 0.0, 1e-40, 1.0, 1.0000001, 20.0, 65504.0, 1e30, 3e38, -math.inf)

sampling = st.builds(
    Sampling,
    temperature=st.sampled_from(TEMPERATURES) | st.floats(0, 5),
    top_p=st.sampled_from(TOP_P) | st.floats(1e-6, 1),
    top_k=st.sampled_from((0, 1, 2, VOCABULARY - 1, VOCABULARY)),
    min_p=st.sampled_from(MIN_P) | st.floats(0, 1),
    repetition_penalty=st.sampled_from(REPETITION),
    presence_penalty=st.sampled_from(SIGNED),
    frequency_penalty=st.sampled_from(SIGNED),
    logit_bias=st.dictionaries(st.integers(0, VOCABULARY - 1), st.sampled_from(BIASES), max_size=4),
    seed=st.sampled_from(SEEDS) | st.integers(0, 2**53),
)


@st.composite
def scores(draw: st.DrawFn) -> list[float]:
    """Scores of models, including some that no model should produce."""
    random = numpy.random.default_rng(draw(st.integers(0, 1000)))
    row: list[float] = random.normal(0, draw(st.sampled_from([0.001, 1, 8])), VOCABULARY).astype(numpy.float32).tolist()
    odd = draw(st.dictionaries(st.integers(0, VOCABULARY - 1), st.sampled_from(SCORES), max_size=VOCABULARY // 2))
    return [odd.get(token, score) for token, score in enumerate(row)]


class Allowing(Matcher):
    """A matcher that allows these tokens."""

    def __init__(self, allowed: set[int]) -> None:
        self._allowed = allowed

    def mask(self) -> Any:
        words = [sum(1 << bit for bit in range(32) if 32 * word + bit in self._allowed) for word in range(2)]
        return numpy.array(words, numpy.uint32)


def row(number: int, settings: Sampling, emitted: tuple[int, ...] = ()) -> Row:
    return Row(
        row=number,
        prompt_ids=[1, 2, 3],
        emitted_ids=list(emitted),
        max_tokens=99,
        stop_ids=frozenset(),
        sampling=settings,
        alternatives=3,
    )


def adjusted(logits: list[float], one: Row) -> numpy.ndarray:
    """Scores with penalties and biases, by their definitions."""
    settings = one.sampling
    values = numpy.clip(numpy.array(logits, numpy.float64), -1e30, 1e30)
    for token in {*one.prompt_ids, *one.emitted_ids}:
        values[token] *= 1 / settings.repetition_penalty if values[token] > 0 else settings.repetition_penalty
    for token in set(one.emitted_ids):
        values[token] -= settings.presence_penalty + settings.frequency_penalty * one.emitted_ids.count(token)
    for token, bias in settings.logit_bias.items():
        values[token] += bias
    return values


def kept(values: numpy.ndarray, settings: Sampling, allowed: set[int]) -> set[int]:
    """Tokens that may be drawn, a little more where rounding decides: what is as likely as the last within a millionth."""
    inside = sorted(allowed, key=lambda token: -values[token])
    peak = values[inside[0]]
    near = 1e-5 * (1 + abs(peak))
    if settings.temperature == 0:
        return {token for token in inside if values[token] >= peak - near}
    likelihoods = numpy.exp((values[inside] - peak) / settings.temperature)
    before = numpy.cumsum(likelihoods / likelihoods.sum()) - likelihoods / likelihoods.sum()
    top_k = settings.top_k or VOCABULARY
    keeps = [
        (before[place] < settings.top_p * (1 + 1e-4) + 1e-6 or settings.top_p >= 1 or not settings.truncates)
        and place < top_k
        and likelihoods[place] >= settings.min_p * (1 - 1e-3) - 1e-6
        for place in range(len(inside))
    ]
    keeps[0] = True
    least = min(values[token] for token, is_kept in zip(inside, keeps, strict=True) if is_kept)
    return {token for token in inside if values[token] >= least - near}


# Shrinking an example of so many numbers takes minutes, and says no more.
@settings(max_examples=150, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(
    st.lists(
        st.tuples(scores(), sampling, st.lists(st.integers(0, VOCABULARY - 1), max_size=6)), min_size=1, max_size=4
    ),
    st.lists(st.none() | st.sets(st.integers(0, VOCABULARY - 1), min_size=1), min_size=4, max_size=4),
)
def test_a_token_is_drawn_from_those_that_the_options_keep(
    drawn: list[tuple[list[float], Sampling, list[int]]], masks: list[set[int] | None]
) -> None:
    rows = [row(number, one, tuple(emitted)) for number, (_, one, emitted) in enumerate(drawn)]
    matchers = {number: Allowing(mask) for number, mask in enumerate(masks[: len(rows)]) if mask is not None}
    sampled = sample(mx.array([logits for logits, _, _ in drawn], dtype=mx.float32), rows, matchers)
    assert sampled.failed == {}
    for number, (logits, one, _) in enumerate(drawn):
        allowed = masks[number] or set(range(VOCABULARY))
        assert sampled.token_ids[number] in kept(adjusted(logits, rows[number]), one, allowed)
        told = [sampled.log_probabilities[number], *(value for _, value in sampled.alternatives[number] or ())]
        assert all(LEAST_LOG_PROBABILITY <= value <= 1e-3 for value in told)


@pytest.mark.parametrize("temperature", [one for one in TEMPERATURES if one < COLDEST])
def test_a_temperature_near_zero_is_zero(temperature: float) -> None:
    logits = mx.array([[0.0, 3.0, 2.9999, -5.0] * 16])
    for seed in range(20):
        for truncation in ({}, {"top_p": 0.9}, {"top_k": 5}, {"min_p": 1.0}):
            settings = Sampling(temperature=temperature, seed=seed, **truncation)
            assert sample(logits, [row(0, settings)], {}).token_ids == [1]


@pytest.mark.parametrize("option", [{"top_k": 1}, {"top_p": 1e-6}], ids=lambda one: next(iter(one)))
def test_one_token_is_kept_of_several_that_are_as_likely(option: dict[str, Any]) -> None:
    logits = mx.array([[1.0] * VOCABULARY])
    drawn = {
        sample(logits, [row(0, Sampling(temperature=1, seed=seed, **option))], {}).token_ids[0] for seed in range(40)
    }
    assert drawn == {0}


def test_a_token_that_is_all_there_is_is_drawn_whatever_the_noise_is(monkeypatch: pytest.MonkeyPatch) -> None:
    real = mx.random.gumbel
    monkeypatch.setattr(sampler.mx.random, "gumbel", lambda shape, key: real(shape, key=key) - mx.inf)
    for asked in (Sampling(temperature=1, top_k=1), Sampling(temperature=1)):
        matchers = {0: Allowing({37})} if not asked.top_k else {}
        assert sample(
            mx.array([[9.0 if one == 37 else 0.0 for one in range(64)]]), [row(0, asked)], matchers
        ).token_ids == [37]


def test_a_row_whose_scores_are_no_numbers_fails_alone() -> None:
    logits = mx.array([[0.0] * VOCABULARY, [math.nan] * VOCABULARY])
    for temperature in (0, 1):
        rows = [row(number, Sampling(temperature=temperature)) for number in range(2)]
        assert sample(logits, rows, {}).failed.keys() == {1}


@pytest.mark.parametrize("token", ["0100", "00", "-1", "+1", " 1", "1e2", "1.0", "١", "", "4294967296"])
def test_a_bias_of_what_is_no_token_id_is_refused(token: str) -> None:
    with pytest.raises(FieldFault, match="must be a token id in decimal digits"):
        Generate(prompt="x", logit_bias={token: 1.0})
