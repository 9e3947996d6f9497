"""Prefill-first policy: the rows that wait for a burst to be read, and the length of their pause."""

from __future__ import annotations

from actors.inference.worker.prefill_policy import LONGEST_PAUSE_SECONDS, PrefillFirstPolicy


def waits(
    burst: PrefillFirstPolicy, *, tokens: int = 100, token_seconds: float | None = 0.001, began: bool = True
) -> bool:
    return burst.waits(all_just_began=began, unread_tokens=tokens, token_seconds=token_seconds)


def test_rows_that_just_began_wait_for_prompts_that_are_soon_read() -> None:
    assert waits(PrefillFirstPolicy())


def test_nobody_waits_for_nothing_and_nobody_who_is_in_flow_waits() -> None:
    assert not waits(PrefillFirstPolicy(), tokens=0)
    assert not waits(PrefillFirstPolicy(), began=False)


def test_nobody_waits_for_what_takes_long_or_may_take_long() -> None:
    assert not waits(PrefillFirstPolicy(), tokens=100, token_seconds=LONGEST_PAUSE_SECONDS / 99)
    assert not waits(PrefillFirstPolicy(), token_seconds=None)


def test_prompts_that_keep_coming_end_the_pause_at_its_bound() -> None:
    burst, steps = PrefillFirstPolicy(), 0
    while waits(burst, tokens=100, token_seconds=0.002):
        burst.waited(0.2)
        steps += 1
        assert steps < 100
    assert LONGEST_PAUSE_SECONDS - 0.4 <= 0.2 * steps <= LONGEST_PAUSE_SECONDS
    assert waits(burst), "the next pause is measured from its own beginning"
