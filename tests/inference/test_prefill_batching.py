"""Prefill batching: the prompts that are read together."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from actors.inference.worker.prefill_policy import PADDED, ROWS, SHORT_TOKENS, SIMILAR, Waiting, read_together


def unread(*tokens: int) -> list[Waiting]:
    return [Waiting(length=one, known=0) for one in tokens]


def test_prompts_of_about_one_length_are_read_together_and_others_wait() -> None:
    assert read_together(unread(100, 95, 20, 80, 300, 110)) == [0, 1, 3, 5]


def test_what_is_known_of_a_prompt_is_not_counted() -> None:
    waiting = [Waiting(60, 40), Waiting(64, 40), Waiting(24, 0), Waiting(60, 0), Waiting(80, 56)]
    assert read_together(waiting) == [0, 1, 2, 4]


def test_no_more_than_eight_long_ones_and_as_many_short_ends_as_stay_short() -> None:
    assert len(read_together(unread(*[100] * 20))) == ROWS
    assert len(read_together([Waiting(101, 100)] * 40)) == 40
    assert len(read_together([Waiting(120, 100)] * 40)) == SHORT_TOKENS // 20


def test_a_short_prompt_is_not_padded_to_the_length_of_a_long_conversation() -> None:
    assert read_together([Waiting(4000, 3980), Waiting(20, 0), Waiting(20, 0), Waiting(3000, 2980)]) == [0, 3]


prompts = st.one_of(st.integers(40, 60), st.integers(1, 5000)).flatmap(
    lambda length: st.integers(0, length - 1).map(lambda known: Waiting(length, known))
)


@given(st.lists(prompts, min_size=1, max_size=64))
@example([Waiting(100, 0)] * 20)
@example([Waiting(4000, 3980), Waiting(20, 0)])
def test_p08_a_group_keeps_its_bounds_whatever_waits(waiting: list[Waiting]) -> None:
    indexes = read_together(waiting)
    assert indexes[0] == 0, "who came first is served"
    assert indexes == sorted(set(indexes))
    group = [waiting[index] for index in indexes]
    most = max(one.unread for one in group)
    assert min(one.unread for one in group) >= SIMILAR * most
    assert len(group) <= ROWS or len(group) * most <= SHORT_TOKENS
    assert len(group) * max(one.length for one in group) <= PADDED * sum(one.length for one in group)
