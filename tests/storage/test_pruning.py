"""What is no longer kept goes from the front, in bounded batches, and leaves no hole."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, func, select

from actors.refusals import CommandRefused
from actors.storage import log
from actors.storage.idempotency import find_outcome, keep_outcome, prune_outcomes
from actors.storage.log import EventTooLarge, LogPageWanted, append_events, prune_log, read_page
from actors.storage.messages import IdempotencyKey, LogEvent
from actors.storage.tables import idempotency

HOUR_MS = 3_600_000
NOW_MS = 1_800_000_000_000


def event(size: int = 1) -> LogEvent:
    return LogEvent(type="noted", channel="tasks", data={"text": "x" * size})


def seqs(connection: Connection, client_id: str = "me") -> list[int]:
    wanted = LogPageWanted(client_id=client_id, after_seq=0, maximum_events=5000, maximum_bytes=10**9)
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
    page = read_page(connection, LogPageWanted(client_id="me", after_seq=0))
    assert (page.oldest, page.head) == (1101, 2100)


def test_events_are_kept_for_a_day(connection: Connection) -> None:
    append_events(connection, "me", [event()] * 2, NOW_MS - 25 * HOUR_MS)
    append_events(connection, "me", [event()], NOW_MS - 23 * HOUR_MS)
    assert prune_all(connection, NOW_MS) == 2
    assert seqs(connection) == [3]


def test_a_log_of_which_nothing_is_left_goes_on_counting(connection: Connection) -> None:
    append_events(connection, "me", [event()] * 2, NOW_MS - 25 * HOUR_MS)
    prune_all(connection, NOW_MS)
    page = read_page(connection, LogPageWanted(client_id="me", after_seq=0))
    assert (page.oldest, page.head, page.events) == (3, 2, ())
    append_events(connection, "me", [event()], NOW_MS)
    assert seqs(connection) == [3]


def test_a_page_is_bounded_by_events_and_by_bytes_and_holds_at_least_one(connection: Connection) -> None:
    append_events(connection, "me", [event(1000)] * 10, NOW_MS)

    def page(**bounds: int) -> list[int]:
        return [one.seq for one in read_page(connection, LogPageWanted(client_id="me", after_seq=2, **bounds)).events]

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
    with pytest.raises(CommandRefused, match="used for another command"):
        find_outcome(connection, other, str, almost)
    assert prune_outcomes(connection, almost) == 0
    # Expired, it is as if it had never been, pruned or not.
    assert find_outcome(connection, other, str, almost + 1) is None
    keep_outcome(connection, other, "bread", None, almost + 1)
    assert connection.execute(select(func.count()).select_from(idempotency)).scalar() == 1
    assert prune_outcomes(connection, almost + 1 + 10 * 60_000) == 1
