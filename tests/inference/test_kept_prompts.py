"""Prompts whose beginning was read before: it is not read again, alone and side by side with others."""

from __future__ import annotations

import pytest

from actors.inference.mlx.load import LoadedModel
from actors.inference.worker.mlx_stepper import MlxStepper
from actors.inference.worker.stepper import Row
from tests.inference.tiny_model import Answers, assert_solo, copy_of, make_row, make_stepper, prompt, run

pytestmark = pytest.mark.mlx_real_inference


def test_p13_a_prompt_that_was_read_before_is_not_read_again_and_answers_alike(tiny: LoadedModel) -> None:
    stepper = make_stepper(tiny, prefix_bytes=10**8)
    first = make_row(1, prompt(1, 80))
    answer = run(stepper, [copy_of(first)]).ids[1]
    longer = make_row(2, first.prompt_ids + answer + prompt(2, 9))
    middle = make_row(3, first.prompt_ids[:40] + prompt(3, 20))
    for row, known in ((make_row(4, first.prompt_ids), 79), (longer, 80 + len(answer) - 1), (middle, 40)):
        answers = run(stepper, [copy_of(row)])
        assert answers.cached == {row.row: known}
        assert_solo(tiny, [row], answers)


def test_p13_another_domain_does_not_see_what_was_read(tiny: LoadedModel) -> None:
    stepper = make_stepper(tiny, prefix_bytes=10**8)
    run(stepper, [make_row(1, prompt(1, 80), domain="one")])
    assert run(stepper, [make_row(2, prompt(1, 80), domain="two")]).cached == {}
    assert run(stepper, [make_row(3, prompt(1, 80), domain="one")]).cached == {3: 79}


def test_p13_what_was_read_of_a_cancelled_prompt_is_kept(tiny: LoadedModel) -> None:
    stepper = make_stepper(tiny, chunk_tokens=50, prefix_bytes=10**8)
    row = make_row(1, prompt(1, 120))
    stepper.admit(copy_of(row))
    stepper.step()
    stepper.cancel(1)
    assert not stepper.has_work()
    again = make_row(2, row.prompt_ids)
    answers = run(stepper, [copy_of(again)])
    assert answers.cached == {2: 50}
    assert_solo(tiny, [again], answers)


# --- side by side -----------------------------------------------------------------------------------

SYSTEM = prompt(77, 40)
"""What all these prompts begin with, as with one system message."""


def kept_and_new() -> list[Row]:
    """Rows with much, little or nothing cached, and about the same number of unread tokens each."""
    return [
        make_row(0, SYSTEM + prompt(10, 20), 8),
        make_row(1, SYSTEM + prompt(11, 24), 8),
        make_row(2, prompt(12, 23), 8),  # nothing of it is known
        make_row(3, SYSTEM + prompt(13, 19) + prompt(14, 22), 8),  # 59 tokens of it are known
        make_row(4, SYSTEM[:30] + prompt(15, 21), 8),
    ]


def read_before(tiny: LoadedModel, chunk_tokens: int) -> MlxStepper:
    stepper = make_stepper(tiny, chunk_tokens=chunk_tokens, prefix_bytes=10**8)
    run(stepper, [make_row(90, SYSTEM + prompt(13, 19), 1)])
    return stepper


@pytest.mark.parametrize("chunk_tokens", [1024, 50, 5])
def test_p13_prompts_with_kept_beginnings_are_read_side_by_side_and_answer_as_alone(
    tiny: LoadedModel, chunk_tokens: int
) -> None:
    stepper, rows = read_before(tiny, chunk_tokens), kept_and_new()
    together: list[int] = []

    def look(_step: int, _answers: Answers) -> None:
        if stepper._prefill is not None and not together:
            together.extend(one.row for one in stepper._prefill.rows)

    answers = run(stepper, [copy_of(row) for row in rows], look)
    assert chunk_tokens == 1024 or together == [0, 1, 2, 3, 4]
    # All read 24 tokens, as the one that has the most to read: what is kept beyond that is read again.
    assert answers.cached == {0: 36, 1: 40, 3: 57, 4: 27}
    assert_solo(tiny, rows, answers)


@pytest.mark.parametrize("steps_before", [0, 1, 2, 3])
@pytest.mark.parametrize("leaving", [(0,), (3,), (1, 3), (0, 1, 3, 4), (2,), (1, 2, 3, 4)])
def test_rows_that_leave_such_a_reading_change_nothing_for_the_others(
    tiny: LoadedModel, leaving: tuple[int, ...], steps_before: int
) -> None:
    stepper, rows = read_before(tiny, 30), kept_and_new()

    def cancel(step: int, _answers: Answers) -> None:
        if step == steps_before:
            for number in leaving:
                stepper.cancel(number)

    answers = run(stepper, [copy_of(row) for row in rows], cancel)
    assert not set(leaving) & set(answers.ids)
    assert_solo(tiny, [row for row in rows if row.row not in leaving], answers)


@pytest.mark.parametrize("leaving", [(3, 1), (1, 3, 0), (3, 0, 2)])
def test_rows_may_leave_such_a_reading_one_after_the_other(tiny: LoadedModel, leaving: tuple[int, ...]) -> None:
    stepper, rows = read_before(tiny, 20), kept_and_new()

    def cancel(step: int, _answers: Answers) -> None:
        if 1 <= step <= len(leaving):
            assert stepper._prefill is not None, "it is being read"
            stepper.cancel(leaving[step - 1])

    answers = run(stepper, [copy_of(row) for row in rows], cancel)
    assert not set(leaving) & set(answers.ids)
    assert_solo(tiny, [row for row in rows if row.row not in leaving], answers)


def test_thirty_two_prompts_asked_again_are_read_in_one_step(tiny: LoadedModel) -> None:
    """Each alone would cost a step in which all that came before it emit one token more."""
    stepper = make_stepper(tiny, chunk_tokens=512, prefix_bytes=10**9)
    rows = [make_row(number, prompt(number, 50 + number % 5), 4) for number in range(32)]
    first = run(stepper, [copy_of(row) for row in rows])
    for row in rows:
        stepper.admit(copy_of(row))
    assert len(stepper.step().emitted) == 32
    again = Answers()
    while stepper.has_work():
        again.take(stepper.step())
    assert {number: ids[1:] for number, ids in first.ids.items()} == again.ids
