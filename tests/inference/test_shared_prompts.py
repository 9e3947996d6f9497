"""Equal prompts of a batch are computed once, and their answers are those that each has alone."""

from __future__ import annotations

import pytest

from actors.inference.mlx.load import LoadedModel
from actors.inference.worker.mlx_stepper import MlxStepper
from actors.inference.worker.prefix_cache import one_of_each
from actors.inference.worker.stepper import Row
from tests.inference.tiny_model import Answers, copy_of, make_row, make_stepper, prompt, solo

pytestmark = pytest.mark.mlx_real_inference

LENGTH = 90


def answered(stepper: MlxStepper, rows: list[Row], *, one_a_step: bool = False) -> tuple[Answers, int]:
    """The answers, and how many prompt tokens were computed for them."""
    answers, computed = Answers(), 0
    waiting = [copy_of(row) for row in rows]
    while waiting or stepper.has_work():
        count = 1 if one_a_step else len(waiting)
        for row in waiting[:count]:
            stepper.admit(row)
        del waiting[:count]
        result = stepper.step()
        computed += result.prefilled_tokens
        answers.take(result)
    return answers, computed


def answers_to_one(count: int, number: int = 1) -> list[Row]:
    """With a seed of its own for each."""
    return [make_row(100 * number + seed, prompt(number, LENGTH), seed=seed, temperature=1.0) for seed in range(count)]


@pytest.mark.parametrize("prefix_bytes", [0, 10**8])
@pytest.mark.parametrize("one_a_step", [False, True])
@pytest.mark.parametrize("chunk_tokens", [16, 1024])
def test_answers_to_one_prompt_compute_it_once(
    tiny: LoadedModel, prefix_bytes: int, one_a_step: bool, chunk_tokens: int
) -> None:
    rows = answers_to_one(8)
    stepper = make_stepper(tiny, chunk_tokens=chunk_tokens, prefix_bytes=prefix_bytes)
    answers, computed = answered(stepper, rows, one_a_step=one_a_step)
    # The last token of each is read for what is likely behind it.
    assert computed == LENGTH + 7
    assert answers.cached == {row.row: LENGTH - 1 for row in rows[1:]}
    assert answers.ids == {row.row: solo(tiny, row) for row in rows}
    assert len({tuple(ids) for ids in answers.ids.values()}) > 4, "or else the test would show nothing"


def test_several_prompts_with_several_answers_compute_each_prompt_once(tiny: LoadedModel) -> None:
    rows = [row for pair in zip(answers_to_one(3), answers_to_one(3, 2), strict=True) for row in pair]
    answers, computed = answered(make_stepper(tiny, chunk_tokens=64), rows)
    assert computed == 2 * (LENGTH + 2)
    assert answers.ids == {row.row: solo(tiny, row) for row in rows}


def test_answers_of_other_domains_share_nothing(tiny: LoadedModel) -> None:
    rows = [make_row(number, prompt(1, LENGTH), domain=f"domain {number}") for number in range(3)]
    answers, computed = answered(make_stepper(tiny), rows)
    assert computed == 3 * LENGTH
    assert answers.cached == {}


def test_a_shared_prompt_outlives_the_answer_that_it_was_computed_for(tiny: LoadedModel) -> None:
    rows = answers_to_one(4)
    rows[0].max_tokens = 1
    answers, computed = answered(make_stepper(tiny, prefix_bytes=10**8), rows)
    assert computed == LENGTH + 3
    assert answers.ids == {row.row: solo(tiny, row) for row in rows}
    # Without kept prefixes the next of them computes it for the rest.
    assert answered(make_stepper(tiny), rows)[1] == 2 * LENGTH + 2


def test_one_that_is_cancelled_while_its_prompt_is_read_leaves_the_others_theirs(tiny: LoadedModel) -> None:
    rows = answers_to_one(3)
    stepper = make_stepper(tiny, chunk_tokens=16)
    for row in rows:
        stepper.admit(copy_of(row))
    stepper.step()
    stepper.cancel(rows[0].row)
    assert answered(stepper, [])[0].ids == {row.row: solo(tiny, row) for row in rows[1:]}


def test_answers_that_go_on_after_a_lost_worker_share_their_prompt_too(tiny: LoadedModel) -> None:
    rows = answers_to_one(3)
    whole = {row.row: solo(tiny, row) for row in rows}
    for row, count in zip(rows, (5, 0, 3), strict=True):
        row.emitted_ids = whole[row.row][:count]
    answers, computed = answered(make_stepper(tiny), rows)
    assert answers.ids == {row.row: whole[row.row][count:] for row, count in zip(rows, (5, 0, 3), strict=True)}
    assert computed < 2 * LENGTH


def test_of_equal_prompts_the_first_is_read_and_of_known_ones_all() -> None:
    rows = [make_row(number, prompt(number % 2, 10)) for number in range(4)]
    assert one_of_each(rows, [0, 0, 0, 0]) == [0, 1]
    assert one_of_each(rows, [9, 0, 9, 8]) == [0, 1, 2]
    short = [make_row(number, [5]) for number in range(2)]
    assert one_of_each(short, [0, 0]) == [0, 1]
