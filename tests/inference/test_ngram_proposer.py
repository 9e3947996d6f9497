"""Guesses of what comes next, and when they are worth it: pure rules on injected costs."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.inference.worker import speculative_decoding as drafts
from actors.inference.worker.speculative_decoding import (
    FIRST_PAUSE_TOKENS,
    LONGEST_MATCH,
    LONGEST_PAUSE_TOKENS,
    SHORTEST_MATCH,
    DraftTokens,
    NgramProposer,
    SpeculationGate,
)

PLAIN, DRAFTED = 0.049, 0.086
"""Seconds of a step with one column and with eight, as measured with the embedded model on two cores."""


# --- guesses ----------------------------------------------------------------------------------------


def test_what_followed_the_same_ids_is_proposed() -> None:
    source = NgramProposer([1, 2, 3, 4, 5, 6, 7, 8, 9, 50, 51, 1, 2, 3, 4])
    assert source.propose(3) == DraftTokens([5, 6, 7], 4)
    assert source.propose(1) == DraftTokens([5], 4)
    assert source.propose(0) is None


def test_two_ids_that_agree_are_no_reason_for_a_guess() -> None:
    assert NgramProposer([7, 2, 3, 4, 5, 8, 2, 3]).propose(7) is None
    assert NgramProposer([2, 3, 4]).propose(7) is None
    assert NgramProposer([]).propose(7) is None


def test_the_place_where_more_agrees_is_better_and_of_equal_ones_the_latest() -> None:
    begun = [1, 2, 3, 4, 5, 10, 9, 3, 4, 5, 20, 8, 3, 4, 5, 30, 60]
    assert NgramProposer([*begun, 1, 2, 3, 4, 5]).propose(1) == DraftTokens([10], 5)
    assert NgramProposer([*begun, 7, 3, 4, 5]).propose(1) == DraftTokens([30], 3)


def test_what_repeats_itself_goes_on_repeating_itself() -> None:
    assert NgramProposer([9, 1, 2, 3, 1, 2, 3]).propose(7) == DraftTokens([1, 2, 3, 1, 2, 3, 1], 3)


def proposed_by_looking_everywhere(ids: Sequence[int], most: int) -> tuple[list[int], int] | None:
    """The definition itself, as slow as it is plain."""
    for length in range(min(LONGEST_MATCH, len(ids) - 1), SHORTEST_MATCH - 1, -1):
        for start in range(len(ids) - length - 1, -1, -1):
            if list(ids[start : start + length]) == list(ids[-length:]):
                following, place = list(ids), start + length
                for at in range(most):
                    if place + at == len(following):
                        following.append(following[at + place - (len(ids) - place)])
                return following[place : place + most], length
    return None


@given(st.lists(st.integers(0, 2), max_size=60), st.integers(1, 9), st.integers(0, 60))
def test_id_by_id_the_proposals_are_those_of_the_definition(ids: list[int], most: int, begun: int) -> None:
    source = NgramProposer(ids[:begun])
    for one in ids[begun:]:
        source.take(one)
    expected = proposed_by_looking_everywhere(ids[-drafts.MOST_IDS :], most)
    draft = source.propose(most)
    if draft is None or expected is None:
        assert draft is expected
        return
    # Of very many places only the latest are compared, so a longer match further back may be missed.
    assert draft.matched <= expected[1]
    assert draft.matched == expected[1] or len(ids) > drafts.PLACES
    if draft.matched == expected[1] and len(ids) <= drafts.PLACES:
        assert draft.ids == expected[0]
    assert len(draft.ids) == most


def test_what_is_held_of_a_row_has_a_bound_and_the_newest_is_still_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drafts, "MOST_IDS", 100)
    draw = random.Random(1)
    source = NgramProposer([draw.randrange(10_000) for _ in range(5_000)])
    assert len(source._ids) == 100, "of a prompt the newest"
    for _ in range(5_000):
        source.take(draw.randrange(10_000))
        assert len(source._latest) <= len(source._ids) == len(source._before) <= 200
    for one in [70_001, 70_002, 70_003, 70_004, *range(60), 70_001, 70_002, 70_003]:
        source.take(one)
    draft = source.propose(1)
    assert draft is not None
    assert draft.ids == [70_004]


# --- whether they are worth it ----------------------------------------------------------------------


def opened() -> SpeculationGate:
    gate = SpeculationGate()
    gate.plain(PLAIN)
    return gate


def pauses(gate: SpeculationGate, tokens_of_a_drafted_step: int, count: int) -> list[int]:
    """Plain steps after each of ``count`` drafted ones."""
    found = []
    for _ in range(count):
        assert gate.is_open
        gate.drafted(DRAFTED, tokens_of_a_drafted_step)
        paused = 0
        while not gate.is_open:
            gate.plain(PLAIN)
            paused += 1
        found.append(paused)
    return found


def test_no_draft_is_tried_before_a_plain_step_was_measured() -> None:
    gate = SpeculationGate()
    assert not gate.is_open
    gate.plain(PLAIN)
    assert gate.is_open


def test_drafts_that_pay_are_never_paused() -> None:
    assert pauses(opened(), 2, 50) == [0] * 50
    assert pauses(opened(), 8, 50) == [0] * 50


def test_drafts_that_are_wrong_pause_for_twice_as_long_each_time() -> None:
    found = pauses(opened(), 1, 10)
    assert found == [min(FIRST_PAUSE_TOKENS * 2**number, LONGEST_PAUSE_TOKENS) for number in range(10)]


def test_two_hundred_tokens_lose_less_than_three_hundredths_to_wrong_drafts() -> None:
    gate, seconds = opened(), 0.0
    for _ in range(200):
        if gate.is_open:
            gate.drafted(DRAFTED, 1)
            seconds += DRAFTED
        else:
            gate.plain(PLAIN)
            seconds += PLAIN
    assert seconds < 1.03 * 200 * PLAIN


def test_one_wrong_draft_among_right_ones_stops_nothing() -> None:
    gate = opened()
    for number in range(40):
        gate.drafted(DRAFTED, 1 if number % 4 == 3 else 5)
        assert gate.is_open


def test_after_drafts_that_paid_again_the_next_pause_is_a_short_one() -> None:
    gate = opened()
    pauses(gate, 1, 6)
    gate.drafted(DRAFTED, 8)
    for _ in range(20):
        gate.drafted(DRAFTED, 1)
        if not gate.is_open:
            break
    assert pauses_left(gate) == FIRST_PAUSE_TOKENS


def pauses_left(gate: SpeculationGate) -> int:
    count = 0
    while not gate.is_open:
        gate.plain(PLAIN)
        count += 1
    return count


def test_another_row_begins_anew() -> None:
    gate = opened()
    pauses(gate, 1, 6)
    gate.drafted(DRAFTED, 1)
    gate.begin_row()
    assert gate.is_open
    assert pauses(gate, 1, 1) == [FIRST_PAUSE_TOKENS]


def test_where_columns_cost_little_one_right_token_is_enough_and_where_they_cost_much_many_are_not() -> None:
    cheap = opened()
    for _ in range(20):
        cheap.drafted(1.1 * PLAIN, 2)
        assert cheap.is_open
    dear = opened()
    dear.drafted(8 * PLAIN, 5)
    assert not dear.is_open
