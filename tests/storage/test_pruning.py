"""Expired rows are pruned from the front, in bounded batches, without leaving gaps."""

from __future__ import annotations

import attrs
import pytest
from sqlalchemy import Connection, func, select

from actors.errors import CommandError
from actors.storage import log
from actors.storage.clocks import KeyClock
from actors.storage.idempotency import KEPT_MILLISECONDS, find_outcome, keep_outcome, prune_outcomes
from actors.storage.log import EventTooLarge, LogPageQuery, append_events, prune_log, read_page
from actors.storage.messages import IdempotencyKey, LogEvent
from actors.storage.tables import idempotency
from protocol.errors import ErrorCode

HOUR_MS = 3_600_000
NOW_MS = 1_800_000_000_000


def event(size: int = 1) -> LogEvent:
    return LogEvent(type="noted", channel="tasks", data={"text": "x" * size})


def seqs(connection: Connection, client_id: str = "me") -> list[int]:
    wanted = LogPageQuery(client_id=client_id, after_seq=0, maximum_events=5000, maximum_bytes=10**9)
    return [one.seq for one in read_page(connection, wanted).events]


def prune_all(connection: Connection, now_ms: int) -> int:
    total = 0
    while gone := prune_log(connection, now_ms):
        assert gone <= log.PRUNE_ROWS
        total += gone
    return total


def test_the_newest_thousand_events_are_kept(connection: Connection) -> None:
    append_events(connection, "me", [event()] * 2100, NOW_MS)
    append_events(connection, "you", [event()] * 3, NOW_MS)
    assert prune_all(connection, NOW_MS) == 1100
    assert seqs(connection) == list(range(1101, 2101))
    assert seqs(connection, "you") == [1, 2, 3]
    page = read_page(connection, LogPageQuery(client_id="me", after_seq=0))
    assert (page.oldest, page.head) == (1101, 2100)


def test_events_are_kept_for_a_day(connection: Connection) -> None:
    append_events(connection, "me", [event()] * 2, NOW_MS - 25 * HOUR_MS)
    append_events(connection, "me", [event()], NOW_MS - 23 * HOUR_MS)
    assert prune_all(connection, NOW_MS) == 2
    assert seqs(connection) == [3]


def test_a_log_of_which_nothing_is_left_goes_on_counting(connection: Connection) -> None:
    append_events(connection, "me", [event()] * 2, NOW_MS - 25 * HOUR_MS)
    prune_all(connection, NOW_MS)
    page = read_page(connection, LogPageQuery(client_id="me", after_seq=0))
    assert (page.oldest, page.head, page.events) == (3, 2, ())
    append_events(connection, "me", [event()], NOW_MS)
    assert seqs(connection) == [3]


def test_a_page_is_bounded_by_events_and_by_bytes_and_holds_at_least_one(connection: Connection) -> None:
    append_events(connection, "me", [event(1000)] * 10, NOW_MS)

    def page(**bounds: int) -> list[int]:
        return [one.seq for one in read_page(connection, LogPageQuery(client_id="me", after_seq=2, **bounds)).events]

    assert page(maximum_events=3) == [3, 4, 5]
    assert page(maximum_bytes=2500) == [3, 4]
    assert page(maximum_bytes=1) == [3]


def test_an_event_over_the_limit_is_refused_whole(connection: Connection) -> None:
    with pytest.raises(EventTooLarge, match="over 32768"):
        append_events(connection, "me", [event(33_000)], NOW_MS)
    append_events(connection, "me", [event(32_000)], NOW_MS)


def test_outcomes_are_known_for_ten_minutes(connection: Connection) -> None:
    key = IdempotencyKey(client_id="me", device_id="phone", command_id="7", digest="d")
    other = IdempotencyKey(client_id="me", device_id="phone", command_id="7", digest="other")
    keep_outcome(connection, key, "milk", 4, NOW_MS)
    almost = NOW_MS + 10 * 60_000 - 1
    found = find_outcome(connection, key, str, almost)
    assert found is not None
    assert (found.value, found.is_repeat, found.head) == ("milk", True, 4)
    with pytest.raises(CommandError, match="used for another command"):
        find_outcome(connection, other, str, almost)
    assert prune_outcomes(connection, almost) == 0
    # Once expired it counts as deleted, pruned or not.
    assert find_outcome(connection, other, str, almost + 1) is None
    keep_outcome(connection, other, "bread", None, almost + 1)
    assert connection.execute(select(func.count()).select_from(idempotency)).scalar() == 1
    assert prune_outcomes(connection, almost + 1 + 10 * 60_000) == 1


class Clocks:
    """A monotonic and a wall clock that a test sets."""

    def __init__(self) -> None:
        self.running_ms = 5_000
        self.wall_ms = NOW_MS

    def of_a_new_server(self) -> KeyClock:
        return KeyClock(running_ms=lambda: self.running_ms, wall_ms=lambda: self.wall_ms)


def remember(connection: Connection, clock: KeyClock, command_id: str) -> IdempotencyKey:
    key = IdempotencyKey(client_id="me", device_id="d", command_id=command_id, digest="x")
    now_ms = clock.now_ms(connection)
    assert find_outcome(connection, key, int, now_ms) is None
    keep_outcome(connection, key, 1, None, now_ms)
    return key


@pytest.mark.parametrize("jump_hours", [1, 48, -48])
def test_cl8_a_clock_that_is_set_makes_no_command_older(connection: Connection, jump_hours: int) -> None:
    clocks = Clocks()
    clock = clocks.of_a_new_server()
    key = remember(connection, clock, "c")
    clocks.wall_ms += jump_hours * HOUR_MS
    clocks.running_ms += KEPT_MILLISECONDS - 1
    assert prune_outcomes(connection, clock.now_ms(connection)) == 0
    assert find_outcome(connection, key, int, clock.now_ms(connection)) is not None
    clocks.running_ms += 1
    assert find_outcome(connection, key, int, clock.now_ms(connection)) is None


def test_cl8_a_server_that_stood_still_for_a_day_has_forgotten(connection: Connection) -> None:
    clocks = Clocks()
    key = remember(connection, clocks.of_a_new_server(), "c")
    clocks.wall_ms += 24 * HOUR_MS
    clocks.running_ms = 0
    assert find_outcome(connection, key, int, clocks.of_a_new_server().now_ms(connection)) is None


def test_cl8_commands_of_a_clock_that_ran_ahead_grow_old_in_ten_minutes(connection: Connection) -> None:
    clocks = Clocks()
    clocks.wall_ms += 48 * HOUR_MS
    key = remember(connection, clocks.of_a_new_server(), "c")
    clocks.wall_ms -= 48 * HOUR_MS
    clock = clocks.of_a_new_server()
    assert find_outcome(connection, key, int, clock.now_ms(connection)) is not None
    clocks.running_ms += KEPT_MILLISECONDS
    assert prune_outcomes(connection, clock.now_ms(connection)) == 1


def test_cl6_what_has_to_be_known_and_is_not_is_refused(connection: Connection) -> None:
    clocks = Clocks()
    clock = clocks.of_a_new_server()
    key = attrs.evolve(remember(connection, clock, "c"), must_be_known=True)
    known = find_outcome(connection, key, int, clock.now_ms(connection))
    assert known is not None
    assert (known.value, known.is_repeat) == (1, True)
    never = attrs.evolve(key, command_id="never")
    clocks.running_ms += KEPT_MILLISECONDS
    for one in (key, never):
        with pytest.raises(CommandError, match="nothing was carried out now") as refused:
            find_outcome(connection, one, int, clock.now_ms(connection))
        assert (refused.value.code, refused.value.field) == (ErrorCode.CONFLICT, "only_if_known")
