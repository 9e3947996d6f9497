"""The time limit of a step, learned from earlier steps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.inference.watchdog import (
    FIRST_STEP_SECONDS,
    MINIMUM_SECONDS,
    PREFILL_TOKENS_PER_STEP,
    TIMES_PREDICTED,
    InFlightWork,
    LatencyModel,
)


def test_before_anything_was_measured_the_first_step_has_its_own_bound() -> None:
    clock = LatencyModel()
    assert clock.deadline_seconds(0) == FIRST_STEP_SECONDS
    clock.measured(0.01, 1, 0)
    assert clock.deadline_seconds(0) == MINIMUM_SECONDS
    assert clock.deadline_seconds(256) == FIRST_STEP_SECONDS, "no prompt was measured yet"


def test_quick_steps_are_given_a_second_all_the_same() -> None:
    clock = LatencyModel()
    clock.measured(0.001, 8, 0)
    clock.measured(0.001, 0, 100)
    assert clock.deadline_seconds(256) == MINIMUM_SECONDS


def test_slow_steps_are_given_eight_times_what_is_predicted() -> None:
    clock = LatencyModel()
    clock.measured(0.5, 8, 0)
    clock.measured(2.0, 0, 100)
    assert clock.deadline_seconds(0) == pytest.approx(TIMES_PREDICTED * 0.5)
    assert clock.deadline_seconds(50) == pytest.approx(TIMES_PREDICTED * (0.5 + 50 * 0.02))


@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=50), st.integers(0, 512))
def test_the_bound_lies_between_the_extremes_of_what_was_measured(steps: list[float], tokens: int) -> None:
    clock = LatencyModel()
    for seconds in steps:
        clock.measured(seconds, 1, 0)
        clock.measured(seconds, 1, 64)
    low = TIMES_PREDICTED * min(steps) * (1 + tokens / 64)
    high = TIMES_PREDICTED * max(steps) * (1 + tokens / 64)
    assert max(1, low) * 0.999 <= clock.deadline_seconds(tokens) <= max(1, high) * 1.001


def test_an_empty_frame_teaches_nothing() -> None:
    clock = LatencyModel()
    clock.measured(0.0, 0, 0)
    assert clock.deadline_seconds(0) == FIRST_STEP_SECONDS


def test_a_step_that_judges_drafts_is_predicted_as_reading_them_until_one_was_measured() -> None:
    clock = LatencyModel()
    clock.measured(0.5, 1, 0)
    clock.measured(2.0, 0, 100)
    assert clock.deadline_seconds(0, 7) == pytest.approx(TIMES_PREDICTED * (0.5 + 7 * 0.02))
    clock.measured(0.9, 8, 0, 7)
    assert clock.deadline_seconds(0, 7) == pytest.approx(TIMES_PREDICTED * 0.9)
    assert clock.deadline_seconds(0) == pytest.approx(TIMES_PREDICTED * 0.5), "plain steps are held to what they take"
    assert clock.deadline_seconds(50, 7) == pytest.approx(TIMES_PREDICTED * (0.5 + 50 * 0.02)), "nobody drafts then"


def test_where_judging_costs_nothing_plain_steps_are_what_is_predicted() -> None:
    clock = LatencyModel()
    clock.measured(0.5, 1, 0)
    assert clock.deadline_seconds(0, 7) == pytest.approx(TIMES_PREDICTED * 0.5), "no prompt was measured yet"
    clock.measured(0.4, 8, 0, 7)
    assert clock.deadline_seconds(0, 7) == pytest.approx(TIMES_PREDICTED * 0.5)


def test_p01_what_a_step_may_read_are_the_prompts_of_rows_without_a_token() -> None:
    ahead = InFlightWork()
    ahead.admitted(1, 100)
    ahead.admitted(2, 30)
    assert (ahead.rows, ahead.unread_rows, ahead.unread_tokens) == ({1, 2}, 2, 130)
    ahead.emitted(1, is_last=False)
    assert (ahead.rows, ahead.unread_tokens) == ({1, 2}, 30)
    ahead.admitted(3, 10_000)
    assert ahead.unread_tokens == PREFILL_TOKENS_PER_STEP
    ahead.failed(3)
    ahead.emitted(2, is_last=True)
    assert (ahead.rows, ahead.unread_rows, ahead.unread_tokens) == ({1}, 0, 0)


def test_p01_a_row_that_was_dropped_may_be_in_the_step_under_way_and_in_one_whose_frame_was_on_its_way() -> None:
    ahead = InFlightWork()
    ahead.admitted(1, 400)
    ahead.dropped(1)
    assert (ahead.rows, ahead.unread_rows) == (set(), 0)
    ahead.admitted(2, 10)
    assert ahead.unread_tokens == 410
    ahead.frame_came()
    assert ahead.unread_tokens == 410
    ahead.frame_came()
    assert ahead.unread_tokens == 10
    ahead.admitted(3, 50)
    ahead.emitted(3, is_last=False)
    ahead.dropped(3)
    assert ahead.unread_tokens == 10, "it was read"
    ahead.cleared()
    assert (ahead.rows, ahead.unread_tokens) == (set(), 0)


def test_p01_a_step_may_have_to_move_all_keys_and_values() -> None:
    clock = LatencyModel()
    clock.measured(0.5, 8, 0)
    assert clock.deadline_seconds(0, 0, 3e9) == pytest.approx(TIMES_PREDICTED * 0.5), "nobody measured how fast"
    clock.allocation_bytes_per_second = 2e9
    assert clock.deadline_seconds(0, 0, 3e9) == pytest.approx(TIMES_PREDICTED * (0.5 + 1.5))
    clock.measured(2.0, 0, 100)
    assert clock.deadline_seconds(50, 0, 1e9) == pytest.approx(TIMES_PREDICTED * (0.5 + 50 * 0.02 + 0.5))
