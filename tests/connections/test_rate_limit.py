"""The token bucket and the sliding window, on a numeric clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.connections.rate_limit import SlidingWindowCounter, TokenBucket


def test_a_burst_goes_at_once_and_one_more_must_wait() -> None:
    bucket = TokenBucket(20, 60, now=100.0)
    assert [bucket.take(100.0) for _ in range(60)] == [None] * 60
    assert bucket.take(100.0) == pytest.approx(1 / 20)


def test_the_wait_that_was_told_is_enough() -> None:
    bucket = TokenBucket(20, 1, now=0.0)
    assert bucket.take(0.0) is None
    wait = bucket.take(0.01)
    assert wait == pytest.approx(0.04)
    assert bucket.take(0.01 + wait + 1e-9) is None


def test_a_refusal_costs_nothing() -> None:
    bucket = TokenBucket(10, 1, now=0.0)
    bucket.take(0.0)
    for step in range(9):
        assert bucket.take(step / 100) is not None
    assert bucket.take(0.1) is None


def test_rest_does_not_save_up_more_than_the_burst() -> None:
    bucket = TokenBucket(20, 3, now=0.0)
    assert [bucket.take(1000.0) is None for _ in range(5)] == [True, True, True, False, False]


@given(st.lists(st.floats(0, 2), max_size=200))
def test_no_more_go_than_burst_and_rate_allow(pauses: list[float]) -> None:
    bucket = TokenBucket(5, 4, now=0.0)
    now, passed = 0.0, 0
    for pause in pauses:
        now += pause
        passed += bucket.take(now) is None
    assert passed <= 4 + 5 * now + 1e-6


def test_the_limit_is_reached_within_the_window() -> None:
    count = SlidingWindowCounter(3, 60)
    assert [count.add(at) for at in (0, 1, 59.9)] == [False, False, True]


def test_what_is_older_than_the_window_does_not_count() -> None:
    count = SlidingWindowCounter(3, 60)
    assert [count.add(at) for at in (0, 1, 60, 60.5, 61)] == [False, False, False, True, True]
    assert count.add(200) is False
