"""Several tokens of a row in one step are those that it emits one by one (promises 12, 13 and 16)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.inference.mlx.load import LoadedModel
from actors.inference.tools import CallableFunction, ToolCallConstraint, ToolCallFormat
from actors.inference.worker.mlx_stepper import MlxStepper
from actors.inference.worker.speculative_decoding import DRAFT_TOKENS, SpeculativeDecoder
from actors.inference.worker.stepper import Row
from tests.inference.promises.served_phi3 import served_phi3
from tests.inference.proposers import EagerDrafter, Foreteller, OpenGate
from tests.inference.tiny_model import (
    Answers,
    FixedBudget,
    assert_solo,
    copy_of,
    make_row,
    make_stepper,
    prompt,
    run,
    solo,
)

pytestmark = pytest.mark.mlx_real_inference


def drafting(
    tiny: LoadedModel, drafter: SpeculativeDecoder, *, chunk_tokens: int = 64, prefix_bytes: int = 0
) -> MlxStepper:
    stepper = MlxStepper(tiny, {}, None, prefix_bytes=prefix_bytes, drafter=drafter)
    # It has the budget's methods and none of its figures.
    stepper._budget = FixedBudget(chunk_tokens)  # type: ignore[assignment]
    return stepper


def foretelling(tiny: LoadedModel, rows: list[Row], seed: int | None = None) -> Foreteller:
    return Foreteller({row.row: solo(tiny, row) for row in rows}, seed)


# --- one row ----------------------------------------------------------------------------------------


def test_p12_a_right_draft_brings_all_its_tokens_and_one_more_in_one_step(tiny: LoadedModel) -> None:
    row = make_row(1, prompt(1, 30), 1 + 5 * (DRAFT_TOKENS + 1))
    stepper = drafting(tiny, foretelling(tiny, [row]))
    sizes: list[tuple[int, int, int]] = []
    stepper.admit(copy_of(row))
    answers = Answers()
    while stepper.has_work():
        result = stepper.step()
        assert result.rows == [1]
        sizes.append((len(result.emitted), result.drafted_tokens, result.accepted_tokens))
        answers.take(result)
    assert_solo(tiny, [row], answers)
    assert sizes == [(1, 0, 0), *[(DRAFT_TOKENS + 1, DRAFT_TOKENS, DRAFT_TOKENS)] * 5]
    assert answers.finished == {1: "length"}


@pytest.mark.parametrize("seed", range(6))
def test_p12_whatever_part_of_a_draft_is_wrong_the_answer_is_the_same(tiny: LoadedModel, seed: int) -> None:
    row = make_row(1, prompt(seed, 20 + seed), 150)
    drafter = foretelling(tiny, [row], seed)
    answers = run(drafting(tiny, drafter), [copy_of(row)])
    assert_solo(tiny, [row], answers)
    assert {1, DRAFT_TOKENS + 1} <= set(drafter.gate.brought), "or else the test would show less"


def test_p12_guesses_from_the_rows_own_ids_leave_its_answer_as_it_is(tiny: LoadedModel) -> None:
    brought: list[int] = []
    for number in range(6):
        # The answer stands in the prompt already, so that something of it may come again.
        begun = make_row(number, prompt(number, 20), 60)
        row = make_row(number, begun.prompt_ids + solo(tiny, begun) + begun.prompt_ids, 120)
        drafter = EagerDrafter()
        assert_solo(tiny, [row], run(drafting(tiny, drafter), [copy_of(row)]))
        brought += drafter.gate.brought
    assert 1 in brought
    assert max(brought) > 4


def test_log_probabilities_of_drafted_tokens_are_those_of_their_own_positions(tiny: LoadedModel) -> None:
    row = make_row(1, prompt(3, 25), 60)
    drafter = foretelling(tiny, [row], 5)
    drafted = run(drafting(tiny, drafter), [copy_of(row)])
    one_by_one = run(make_stepper(tiny), [copy_of(row)])
    assert len(drafter.gate.brought) < 40
    numpy.testing.assert_allclose(drafted.log_probabilities[1], one_by_one.log_probabilities[1], atol=1e-4)


@pytest.mark.parametrize("length", range(1, 20))
def test_a_stop_token_or_the_last_token_in_the_middle_of_a_draft_ends_the_row_there(
    tiny: LoadedModel, length: int
) -> None:
    whole = solo(tiny, make_row(1, prompt(1, 30), 40))
    for row, reason in (
        (make_row(1, prompt(1, 30), length), "length"),
        (make_row(1, prompt(1, 30), 40, stop_ids=frozenset({whole[length]})), "stop"),
    ):
        # This one foretells beyond the end too.
        answers = run(drafting(tiny, Foreteller({1: whole})), [copy_of(row)])
        assert_solo(tiny, [row], answers)
        assert answers.finished == {1: reason}


@pytest.mark.parametrize("seed", range(4))
def test_p13_what_is_kept_of_a_drafted_row_is_what_it_emitted(tiny: LoadedModel, seed: int) -> None:
    for stop_at in (None, 17, 31):
        row = make_row(1, prompt(seed, 30), 33)
        if stop_at is not None:
            row.stop_ids = frozenset({solo(tiny, row)[stop_at]})
        answer = solo(tiny, row)
        stepper = drafting(tiny, foretelling(tiny, [row], seed), prefix_bytes=10**8)
        run(stepper, [copy_of(row)])
        again = make_row(2, row.prompt_ids + answer + prompt(90, 10), 25)
        stepper._speculative_decoder = None
        answers = run(stepper, [copy_of(again)])
        assert answers.cached == {2: len(row.prompt_ids) + len(answer) - 1}
        assert_solo(tiny, [again], answers)


def test_a_row_cancelled_between_drafted_steps_leaves_its_prefix_and_nothing_else(tiny: LoadedModel) -> None:
    row = make_row(1, prompt(1, 30), 200)
    stepper = drafting(tiny, foretelling(tiny, [row], 3), prefix_bytes=10**8)
    answers = Answers()
    stepper.admit(copy_of(row))
    while len(answers.ids.get(1, [])) < 20:
        answers.take(stepper.step())
    stepper.cancel(1)
    assert not stepper.has_work()
    assert stepper.memory()["kv"] == 0
    again = make_row(2, row.prompt_ids + answers.ids[1] + prompt(2, 5), 20)
    stepper._speculative_decoder = None
    after = run(stepper, [copy_of(again)])
    assert after.cached == {2: len(row.prompt_ids) + len(answers.ids[1]) - 1}
    assert_solo(tiny, [again], after)


@pytest.mark.parametrize("cut", [1, 2, 7, 20])
def test_a_recovery_goes_on_with_drafts_from_what_was_emitted(tiny: LoadedModel, cut: int) -> None:
    row = make_row(1, prompt(1, 30), 60)
    whole = solo(tiny, row)
    recovered = make_row(1, row.prompt_ids, 60, emitted_ids=whole[:cut])
    drafter = foretelling(tiny, [row], cut)
    assert run(drafting(tiny, drafter), [recovered]).ids[1] == whole[cut:]
    assert drafter.gate.brought


# --- company ----------------------------------------------------------------------------------------


def test_only_a_row_that_is_alone_has_drafts(tiny: LoadedModel) -> None:
    rows = [make_row(1, prompt(1, 30), 60), make_row(2, prompt(2, 150), 12)]
    stepper = drafting(tiny, foretelling(tiny, rows), chunk_tokens=16)
    answers = Answers()
    stepper.admit(copy_of(rows[0]))
    for _ in range(4):
        answers.take(stepper.step())
    assert len(answers.ids[1]) > 4
    stepper.admit(copy_of(rows[1]))
    while 2 not in answers.finished:
        result = stepper.step()
        assert result.drafted_tokens == 0, "another waits, is read or decodes"
        assert len(result.emitted) == len({one.row for one in result.emitted})
        answers.take(result)
    result = stepper.step()
    assert result.drafted_tokens == DRAFT_TOKENS
    answers.take(result)
    while stepper.has_work():
        answers.take(stepper.step())
    assert_solo(tiny, rows, answers)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_p12_with_drafts_any_order_of_joining_and_leaving_leaves_answers_as_they_are_alone(
    tiny: LoadedModel, data: st.DataObject
) -> None:
    rows = []
    for number in range(data.draw(st.integers(1, 3))):
        repeated = prompt(number, data.draw(st.integers(3, 12))) * data.draw(st.integers(1, 4))
        row = make_row(number, repeated, data.draw(st.integers(1, 60)))
        if data.draw(st.booleans()):
            answer = solo(tiny, row)
            row.stop_ids = frozenset({answer[data.draw(st.integers(0, len(answer) - 1))]})
        rows.append(row)
    joins = [data.draw(st.integers(0, 12)) for _ in rows]
    leaves = [data.draw(st.none() | st.integers(0, 20)) for _ in rows]
    seed = data.draw(st.integers(0, 10))
    drafter = EagerDrafter() if data.draw(st.booleans()) else foretelling(tiny, rows, seed)
    prefix_bytes = data.draw(st.sampled_from([0, 10**7]))
    stepper = drafting(tiny, drafter, chunk_tokens=data.draw(st.sampled_from([4, 64])), prefix_bytes=prefix_bytes)
    answers = Answers()
    for step in range(400):
        for row, join, leave in zip(rows, joins, leaves, strict=True):
            if join == step:
                stepper.admit(copy_of(row))
            if leave == step:
                stepper.cancel(row.row)
        if stepper.has_work():
            answers.take(stepper.step())
        elif step > 20:
            break
    for row, join, leave in zip(rows, joins, leaves, strict=True):
        expected, got = solo(tiny, row), answers.ids.get(row.row, [])
        assert got == expected[: len(got)]
        assert (leave is not None and leave >= join) or got == expected
    # And what was kept of them all serves.
    for row in rows:
        again = make_row(90 + row.row, row.prompt_ids + answers.ids.get(row.row, []) + [1, 2, 3], 12)
        stepper._speculative_decoder = None
        assert_solo(tiny, [again], run(stepper, [copy_of(again)]))


# --- which rows -------------------------------------------------------------------------------------

CALLS = ToolCallConstraint(
    tool_call_format=ToolCallFormat.TAGGED,
    functions=(CallableFunction(name="look", path="tools[0]"),),
    is_required=True,
    most_calls=1,
    source_field="tool_choice",
)
REPEATING = [1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4]


def test_a_row_whose_next_token_is_the_likeliest_has_drafts() -> None:
    assert EagerDrafter().draft(make_row(1, REPEATING, 100)) == [5, 6, 7, 8, 9, 1, 2]
    assert EagerDrafter().draft(make_row(1, REPEATING, 100, seed=3, top_k=5, top_p=0.5)) == [5, 6, 7, 8, 9, 1, 2]
    assert EagerDrafter().draft(make_row(1, REPEATING[:9], 100, emitted_ids=[1, 2, 3])) == [4, 5, 6, 7, 8, 9, 1]


@pytest.mark.parametrize(
    "changes",
    [
        {"temperature": 0.1},
        {"repetition_penalty": 1.1},
        {"presence_penalty": 0.1},
        {"frequency_penalty": 0.1},
        {"logit_bias": {5: 1.0}},
        {"response_schema": {"type": "object"}},
        {"call_rule": CALLS},
        {"alternatives": 0},
        {"alternatives": 3},
    ],
    ids=str,
)
def test_a_row_whose_next_token_depends_on_more_than_its_scores_has_none(changes: dict[str, Any]) -> None:
    assert EagerDrafter().draft(make_row(1, REPEATING, 100, **changes)) == []


def test_a_draft_ends_before_the_rows_last_token() -> None:
    for left in range(12):
        row = make_row(1, REPEATING, 3 + left, emitted_ids=[5, 6, 7])
        assert len(EagerDrafter().draft(row)) == max(0, min(DRAFT_TOKENS, left - 1))


def test_a_row_of_the_same_number_is_another_row() -> None:
    # Numbers begin anew when whoever gives them does.
    drafter = EagerDrafter()
    drafter.draft(make_row(1, REPEATING, 100))
    assert drafter.draft(make_row(1, prompt(5, 40), 100)) == []


def test_a_closed_gate_keeps_the_drafts_back_and_loses_nothing_of_the_row() -> None:
    drafter = SpeculativeDecoder()
    row = make_row(1, REPEATING[:9], 100)
    assert drafter.draft(row) == [], "nothing was measured"
    row.emitted_ids += [1, 2, 3]
    drafter.gate = OpenGate()
    assert drafter.draft(row) == [4, 5, 6, 7, 8, 9, 1]


# --- through pipe and actors ------------------------------------------------------------------------


@pytest.mark.integration
async def test_p01_an_answer_whose_worker_is_killed_between_drafted_steps_stays_the_same(tmp_path: Path) -> None:
    asked: dict[str, Any] = {"max_tokens": 400}
    text = "abcabcabd " * 6
    async with served_phi3(tmp_path) as service:
        undisturbed = await service.start(text, **asked)
        whole, usage = await service.answer(undisturbed), (await service.done(undisturbed)).usage
        assert service.figure("spec_decode_num_draft_tokens_total") == 0
    plan = [{"fault": "hang", "step": 60}]
    async with served_phi3(tmp_path, drafts=True, faults=plan, faulty_lives=1) as service:
        stream = await service.start(text, **asked)
        await service.until(lambda: service.figure("spec_decode_num_draft_tokens_total") > 0)
        await service.kill_worker()
        assert await service.answer(stream) == whole
        done = await service.done(stream)
        assert (done.engine_restarts, done.usage.completion_tokens) == (1, usage.completion_tokens)
        accepted = service.figure("spec_decode_num_accepted_tokens_total")
        assert 0 < accepted <= service.figure("spec_decode_num_draft_tokens_total")
        assert service.figure("generation_tokens_total") == usage.completion_tokens
