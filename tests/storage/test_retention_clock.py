"""A wall clock that runs ahead deletes nothing early, whether it jumps while the server runs or while it is down."""

from __future__ import annotations

from sqlalchemy import Connection

from actors.storage.clocks import CONFIRMED_AFTER_MS, RetentionClock
from actors.storage.log import append_events
from tests.storage.test_pruning import HOUR_MS, NOW_MS, event, prune_all, seqs


class SettableClock:
    """A wall clock that can be set, and a monotonic one that cannot."""

    def __init__(self) -> None:
        self.running_ms = 5_000
        self.ahead_ms = 0
        self.retention = RetentionClock(running_ms=lambda: self.running_ms, wall_ms=self.wall_ms)

    def wall_ms(self) -> int:
        return NOW_MS + self.running_ms - 5_000 + self.ahead_ms

    def run(self, connection: Connection, hours: float) -> int:
        """Let time pass, checking each minute. Returns the difference of the trusted time from the true one."""
        for _ in range(round(hours * 60)):
            self.running_ms += 60_000
            self.retention.now_ms(connection)
        return self.retention.now_ms(connection) - (self.wall_ms() - self.ahead_ms)


def test_a_clock_that_runs_ahead_removes_nothing_before_it_has_stayed_there_for_an_hour(connection: Connection) -> None:
    clocks = SettableClock()
    append_events(connection, "me", [event()] * 3, NOW_MS)
    assert clocks.run(connection, 0.1) == 0
    clocks.ahead_ms = 3 * 24 * HOUR_MS
    assert clocks.run(connection, 0.9) == 0
    assert prune_all(connection, clocks.retention.now_ms(connection)) == 0
    clocks.ahead_ms = 0
    assert clocks.run(connection, 2) == 0
    assert seqs(connection) == [1, 2, 3]
    # Set ahead for good, on purpose.
    clocks.ahead_ms = 2 * 24 * HOUR_MS
    clocks.run(connection, CONFIRMED_AFTER_MS / HOUR_MS)
    assert clocks.run(connection, 0.1) == 2 * 24 * HOUR_MS
    assert prune_all(connection, clocks.retention.now_ms(connection)) == 3


def test_a_clock_that_goes_on_jumping_is_never_believed(connection: Connection) -> None:
    clocks = SettableClock()
    assert clocks.run(connection, 0.1) == 0
    for _ in range(5):
        clocks.ahead_ms += 24 * HOUR_MS
        assert clocks.run(connection, 0.9) == 0


def test_a_clock_that_is_set_back_counts_at_once_and_one_that_drifts_is_followed(connection: Connection) -> None:
    clocks = SettableClock()
    clocks.run(connection, 0.1)
    clocks.ahead_ms = -2 * HOUR_MS
    assert clocks.run(connection, 0.1) == -2 * HOUR_MS
    for _ in range(100):
        clocks.ahead_ms += 30_000
        clocks.run(connection, 0.02)
    assert clocks.run(connection, 0.1) == clocks.ahead_ms


def test_what_is_old_after_a_start_is_kept_for_an_hour_more(connection: Connection) -> None:
    """A clock without a battery starts anywhere, and only stored rows show how wrong it is."""
    append_events(connection, "me", [event()] * 2, NOW_MS - 30 * HOUR_MS)
    clocks = SettableClock()
    assert clocks.run(connection, 0.9) == -30 * HOUR_MS - 60_000  # the first check comes after a minute
    assert prune_all(connection, clocks.retention.now_ms(connection)) == 0
    assert clocks.run(connection, 0.3) == 0
    assert prune_all(connection, clocks.retention.now_ms(connection)) == 2


def test_what_a_clock_ahead_stored_makes_no_other_time_after_a_start(connection: Connection) -> None:
    append_events(connection, "me", [event()], NOW_MS + 72 * HOUR_MS)
    assert SettableClock().run(connection, 0.1) == 0
