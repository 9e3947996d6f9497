"""Promises 6, 8 and 12 on the step loop itself, with a synthetic Phi-3 of two layers."""

from __future__ import annotations

import gc

import mlx.core as mx
import pytest

from actors.inference.mlx.load import LoadedModel
from actors.inference.worker.mlx_stepper import MlxStepper
from actors.inference.worker.prefill_policy import LONGEST_PAUSE_SECONDS, PrefillBudget
from tests.inference.tiny_model import Answers, copy_of, make_row, make_stepper, prompt, run, solo

pytestmark = pytest.mark.mlx_real_inference


def active_bytes() -> int:
    gc.collect()
    mx.clear_cache()
    return mx.get_active_memory()


def test_p06_what_is_kept_holds_no_more_than_a_tenth_over_what_is_reported(tiny: LoadedModel) -> None:
    stepper = make_stepper(tiny, chunk_tokens=1024, prefix_bytes=10**8)
    run(stepper, [make_row(99, prompt(99, 15), 1)])  # whatever the model makes once
    before, reported = active_bytes(), stepper.memory()["prefixes"]
    # Eight rows side by side: a piece that were a view of the batch would hold all eight.
    for number in range(8):
        stepper.admit(make_row(number, prompt(number, 300 + number), 4 + 3 * number))
    while stepper.has_work():
        stepper.step()
        if stepper._cache or stepper._prefill is not None:
            continue
        held = active_bytes() - before
        assert 8 * 300 * 512 <= stepper.memory()["prefixes"] - reported <= held * 1.001
        assert held <= 1.1 * (stepper.memory()["prefixes"] - reported)
    # The same for sequences that part in the middle of a piece, which splits it.
    for number in range(8):
        run(stepper, [make_row(number, prompt(number, 100 + 7 * number) + prompt(50 + number, 40), 4)])
    held, reported = active_bytes() - before, stepper.memory()["prefixes"] - reported
    assert held <= 1.1 * reported
    stepper.forget_prefixes()
    assert active_bytes() - before < 0.02 * reported


def test_p08_running_rows_emit_in_every_step_while_a_long_prompt_is_read_under_the_budget(tiny: LoadedModel) -> None:
    class Costs(PrefillBudget):
        """A machine on which decoding takes 50 ms and reading 2 ms a token, whatever this one does."""

        def decoded(self, seconds: float, rows: int) -> None:
            super().decoded(0.05, rows)

        def read(self, seconds: float, tokens: int) -> None:
            super().read(0.002 * tokens, tokens)

        def read_beside(self, seconds: float, tokens: int) -> None:
            super().read_beside(0.05 + 0.002 * tokens, tokens)

    stepper = MlxStepper(tiny, {}, None, prefix_bytes=0)
    stepper._budget = Costs()
    for number in range(4):
        stepper.admit(make_row(number, prompt(number, 20), 400))
    while len(stepper._rows) < 4:
        stepper.step()
    stepper.step()
    stepper.admit(make_row(9, prompt(9, 1900), 2))
    steps = 0
    while True:
        result = stepper.step()
        emitted = [one.row for one in result.emitted]
        assert emitted[:4] == [0, 1, 2, 3], "nobody pauses"
        # The step's time with the prompt is at most three times its time without.
        assert 0.05 + 0.002 * result.prefilled_tokens <= 3 * 0.05
        steps += 1
        if 9 in emitted:
            break
    assert 1900 / 50 <= steps <= 1900 / 16


def test_p08_a_burst_of_prompts_is_read_side_by_side(tiny: LoadedModel) -> None:
    stepper = make_stepper(tiny, chunk_tokens=1024)
    for number in range(8):
        stepper.admit(make_row(number, prompt(number, 40 + number), 5))
    assert sorted(one.row for one in stepper.step().emitted) == list(range(8))


class ReadingCosts(PrefillBudget):
    """A machine on which reading takes so many seconds a token, whatever this one does."""

    def __init__(self, token_seconds: float) -> None:
        super().__init__()
        self._token = token_seconds

    def read(self, seconds: float, tokens: int) -> None:
        super().read(self._token * tokens, tokens)


def burst_of(tiny: LoadedModel, count: int, *, token_seconds: float) -> MlxStepper:
    """So many prompts of 60 tokens wait; the first of them are read already, and their costs known."""
    stepper = MlxStepper(tiny, {}, None, prefix_bytes=0)
    stepper._budget = ReadingCosts(token_seconds)
    for number in range(count):
        stepper.admit(make_row(number, prompt(number, 60), 6))
    while not stepper._rows:
        stepper.step()
    return stepper


def test_p08_a_burst_is_read_to_its_end_and_then_all_go_on_together(tiny: LoadedModel) -> None:
    stepper = burst_of(tiny, 24, token_seconds=0.001)
    begun = {row.row for row in stepper._rows}
    assert 0 < len(begun) < 24
    while len(begun) < 24:
        emitted = [one.row for one in stepper.step().emitted]
        assert not begun & set(emitted), "who has begun waits for the others"
        begun |= set(emitted)
    assert [len(stepper.step().emitted) for _ in range(5)] == [24] * 5
    assert not stepper.has_work(), "all end together"


def test_p08_nobody_waits_for_a_burst_that_takes_long_to_read(tiny: LoadedModel) -> None:
    stepper = burst_of(tiny, 24, token_seconds=LONGEST_PAUSE_SECONDS / 600)
    begun = [row.row for row in stepper._rows]
    assert [one.row for one in stepper.step().emitted][: len(begun)] == begun


def test_p08_rows_that_go_on_after_a_death_do_not_wait_for_a_burst(tiny: LoadedModel) -> None:
    stepper = burst_of(tiny, 1, token_seconds=0.001)
    stepper.clear()
    for number in range(24):
        row = make_row(number, prompt(number, 60), 9)
        row.emitted_ids.extend([3, 4, 5])
        stepper.admit(row)
    while not stepper._rows:
        stepper.step()
    assert stepper._waiting
    assert stepper._rows[0].row in [one.row for one in stepper.step().emitted]


def test_p08_rows_in_flow_do_not_wait_for_a_burst(tiny: LoadedModel) -> None:
    stepper = burst_of(tiny, 1, token_seconds=0.001)
    stepper.step()
    for number in range(10, 30):
        stepper.admit(make_row(number, prompt(number, 60), 6))
    assert 0 in [one.row for one in stepper.step().emitted]


@pytest.mark.parametrize("offset", [16, 17, 63, 64, 65, 100, 128, 199])
def test_p12_an_answer_is_the_same_whatever_part_of_its_prompt_was_kept(tiny: LoadedModel, offset: int) -> None:
    row = make_row(1, prompt(1, 200), 12)
    neighbours = [make_row(number, prompt(number, 10 * number), 30) for number in (2, 5)]
    stepper = make_stepper(tiny, prefix_bytes=10**8)
    run(stepper, [make_row(8, row.prompt_ids[:offset] + prompt(8, 30), 3)])
    answers = Answers()
    for one in (*neighbours, row):
        stepper.admit(copy_of(one))
    while stepper.has_work():
        answers.take(stepper.step())
    assert answers.cached[1] >= offset
    for one in (row, *neighbours):
        assert answers.ids[one.row] == solo(tiny, one)
