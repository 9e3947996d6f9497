"""Retries and the states of a delivery: pure rules."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.notifications.delivery_rules import TRANSITIONS, RetrySchedule, may_become, retry_after_seconds
from protocol.notifications import DeliveryState

_S = DeliveryState


@given(
    st.integers(1, 40),
    st.one_of(st.none(), st.floats(0, 1e6)),
    st.floats(0, 1, exclude_max=True),
)
def test_waits_grow_within_their_cap_and_never_undercut_the_service(
    attempts: int, asked: float | None, uniform: float
) -> None:
    schedule = RetrySchedule(base_seconds=1, maximum_seconds=60, jitter=0.2, maximum_attempts=30)
    wait = schedule.next_attempt_seconds(attempts, asked, uniform=uniform)
    if attempts >= 30:
        assert wait is None
        return
    assert wait is not None
    plain = min(60.0, 2.0 ** (attempts - 1))
    assert wait >= min(asked or 0.0, 86_400.0)
    assert plain * 0.8 <= wait <= max(plain * 1.2, min(asked or 0.0, 86_400.0))


def test_jitter_is_drawn() -> None:
    waits = {RetrySchedule().next_attempt_seconds(3, None) for _ in range(20)}
    assert len(waits) > 1


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("Mon, 21 Sep 2026 14:14:20 GMT", 60.0),
        ("Mon, 21 Sep 2020 14:14:20 GMT", 0.0),
        ("soon", None),
        ("-5", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(header, 1_790_000_000.0) == seconds


def test_only_hands_bring_back_what_ended() -> None:
    assert set(TRANSITIONS) == set(DeliveryState)
    assert may_become(_S.PENDING, _S.SENT)
    assert not may_become(_S.SENT, _S.PENDING)
    for ended in (_S.OPENED, _S.DIGESTED):
        assert TRANSITIONS[ended] == frozenset()
    for failed in (_S.DISCARDED, _S.DEAD):
        assert TRANSITIONS[failed] == {_S.PENDING}
