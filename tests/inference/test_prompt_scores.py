"""Log-probabilities of a prompt's own tokens are those that the model gives them, however the prompt is read."""

from __future__ import annotations

import mlx.core as mx
import numpy
import pytest
import trio

from actors.inference.generation import Generation
from actors.inference.messages import PromptToken
from actors.inference.mlx.load import LoadedModel
from actors.inference.text.text_model import MockText
from actors.inference.worker.mlx_stepper import MlxStepper
from actors.inference.worker.stepper import Row
from protocol.commands import Generate
from tests.inference.tiny_model import Answers, copy_of, make_row, make_stepper, prompt, solo

TOP = 3


def scored_row(number: int, length: int, **fields: object) -> Row:
    return make_row(number, prompt(number, length), **{"prompt_alternatives": TOP, **fields})  # type: ignore[arg-type]


def answered(
    stepper: MlxStepper, rows: list[Row]
) -> tuple[Answers, dict[int, list[tuple[float, list[tuple[int, float]]]]]]:
    """Answers, and the scores of each prompt, which must arrive in order and without gaps."""
    answers, told = Answers(), dict[int, list[tuple[float, list[tuple[int, float]]]]]()
    for row in rows:
        stepper.admit(copy_of(row))
    while stepper.has_work():
        result = stepper.step()
        for one in result.scored:
            of_row = told.setdefault(one.row, [])
            assert one.begin == 1 + len(of_row)
            of_row += zip(one.log_probabilities, one.alternatives, strict=True)
        answers.take(result)
    return answers, told


def assert_right(tiny: LoadedModel, row: Row, told: list[tuple[float, list[tuple[int, float]]]]) -> None:
    logits = tiny.model(mx.array([row.prompt_ids]))[0].astype(mx.float32)
    wanted = numpy.array(logits - mx.logsumexp(logits, axis=-1, keepdims=True))
    assert len(told) == len(row.prompt_ids) - 1
    for place, (own, top) in enumerate(told):
        assert own == pytest.approx(wanted[place, row.prompt_ids[place + 1]], abs=1e-4)
        assert [value for _, value in top] == pytest.approx(sorted(wanted[place])[::-1][:TOP], abs=1e-4)
        assert all(value == pytest.approx(wanted[place, one], abs=1e-4) for one, value in top)


@pytest.mark.mlx_real_inference
@pytest.mark.parametrize("chunk_tokens", [7, 64, 1024])
def test_oa30_each_tokens_log_probability_is_the_models_own(tiny: LoadedModel, chunk_tokens: int) -> None:
    # The first two are so alike that they are read side by side, the shorter behind padding.
    rows = [scored_row(number, length) for number, length in enumerate((90, 120, 150, 2, 33), 1)]
    plain = make_row(9, prompt(9, 60))
    answers, told = answered(make_stepper(tiny, chunk_tokens=chunk_tokens), [*rows, plain])
    assert set(told) == {1, 2, 3, 4, 5}
    for row in rows:
        assert_right(tiny, row, told[row.row])
    assert answers.ids == {row.row: solo(tiny, row) for row in [*rows, plain]}


@pytest.mark.mlx_real_inference
def test_oa30_what_is_kept_of_a_prompt_is_not_used_for_one_that_is_scored(tiny: LoadedModel) -> None:
    stepper = make_stepper(tiny, chunk_tokens=64, prefix_bytes=10**8)
    answered(stepper, [make_row(1, prompt(1, 90))])
    first, second = scored_row(1, 90), scored_row(1, 90)
    second.row = 2
    answers, told = answered(stepper, [first, second])
    assert answers.cached == {}
    assert_right(tiny, first, told[1])
    assert_right(tiny, second, told[2])


@pytest.mark.mlx_real_inference
def test_one_that_joins_while_others_answer_is_scored_too(tiny: LoadedModel) -> None:
    stepper = make_stepper(tiny, chunk_tokens=16)
    stepper.admit(make_row(8, prompt(8, 20), 60))
    for _ in range(4):
        stepper.step()
    row = scored_row(1, 90)
    told = answered(stepper, [row])[1]
    assert_right(tiny, row, told[1])


async def test_a_worker_that_is_lost_while_it_reads_tells_nothing_twice() -> None:
    told: list[PromptToken] = []
    text = MockText()
    generation = Generation(
        stream="s", client_id="c", generate=Generate(prompt="abcd", logprobs=1), seed=1, prompt_ids=list(b"abcd"),
        max_tokens=4, detokenizer=text.detokenizer(), accepted_at=trio.current_time(), token_text=text.token_text,
        tell_prompt=told.extend,
    )  # fmt: skip
    assert generation.prompt_alternatives == 1
    generation.take_scores(1, [-1.0, -2.0], [[(98, -1.0)], [(99, -2.0)]])
    assert generation.prompt_alternatives == 1
    generation.take_scores(1, [-1.0], [[(98, -1.0)]])
    generation.take_scores(2, [-2.0, -3.0], [[(99, -2.0)], [(101, -0.5)]])
    assert [(one.index, one.token.name, one.log_probability) for one in told] == [
        (0, "a", None), (1, "b", -1.0), (2, "c", -2.0), (3, "d", -3.0),
    ]  # fmt: skip
    assert [(one, token.name, value) for one, token, value in told[3].top] == [(101, "e", -0.5)]
    assert generation.prompt_alternatives is None
