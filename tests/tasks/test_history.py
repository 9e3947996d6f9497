"""History on both databases: who changed what and when, and the figures that are computed from it."""

from __future__ import annotations

import pytest

from protocol.codec import encode, unstructure, wire_time
from protocol.task_model import TaskStatus
from tests.tasks.board_kit import DAY_MS, HOUR_MS, START_MS, BoardStore


def test_history_says_who_changed_what_and_when(board: BoardStore) -> None:
    made = board.create("old", assignee="ann")
    board.now_ms += 5000
    board.update(made, title="new", clear=["assignee"])
    page = board.do("task_history", task_id=made.id, limit=1)
    (entry,) = page.entries
    assert (entry.version, entry.kind, entry.device_id) == (2, "updated", "desk")
    assert entry.changes == {"title": {"before": "old", "after": "new"}, "assignee": {"before": "ann"}}
    assert entry.time == wire_time((START_MS + 5000) / 1000)
    rest = board.do("task_history", task_id=made.id, before=page.next_before)
    assert [one.kind for one in rest.entries] == ["created"]
    assert rest.next_before is None
    assert board.do("task_history", task_id=made.id, before=1).entries == []


def test_a_page_of_history_is_no_larger_than_a_frame(board: BoardStore) -> None:
    made = board.create()
    for number in range(60):
        board.update(made, description=f"{number}" + "x" * 9_000)
    page = board.do("task_history", task_id=made.id, limit=100)
    assert len(encode(unstructure(page))) < 2**20
    rest = board.do("task_history", task_id=made.id, limit=100, before=page.next_before)
    assert rest.next_before is None
    assert [one.version for one in (*page.entries, *rest.entries)] == list(range(61, 0, -1))
    assert len(page.entries) > len(rest.entries)


def test_figures_are_computed_from_history(board: BoardStore) -> None:
    empty = board.do("task_stats")
    assert (empty.mean_cycle_hours, empty.bottleneck, empty.done_per_day, empty.count) == (None, None, 0.0, 0)
    board.do("task_limits", project="default", limits={"in_progress": 4})
    a, b = board.create(), board.create(due=wire_time((START_MS + HOUR_MS) / 1000))
    board.create(dependencies=[a.id], priority="urgent")
    board.now_ms += HOUR_MS
    board.move(a, "in_progress")
    board.move(b, "in_progress")
    board.now_ms += 2 * HOUR_MS
    board.move(a, "testing")
    board.now_ms += 4 * HOUR_MS
    board.move(a, "done")
    board.now_ms += 2 * DAY_MS
    board.create(status="done")
    figures = board.do("task_stats", project="default")
    assert figures.by_status == {"backlog": 0, "todo": 1, "in_progress": 1, "testing": 0, "done": 2}
    assert figures.by_priority == {"low": 0, "medium": 3, "high": 0, "urgent": 1}
    assert (figures.count, figures.blocked, figures.overdue) == (4, 0, 1)
    assert (figures.done_today, figures.done_7_days) == (0, 1)
    assert figures.done_per_day == pytest.approx(1 / (2 + 7 / 24))
    assert (figures.mean_cycle_hours, figures.cycles) == (6.0, 1)
    columns = {one.status.value: one for one in figures.columns}
    assert (columns["todo"].mean_stay_hours, columns["todo"].stays) == (1.0, 2)
    assert (columns["in_progress"].mean_stay_hours, columns["in_progress"].stays) == (2.0, 1)
    assert (columns["testing"].mean_stay_hours, columns["done"].mean_stay_hours) == (4.0, None)
    assert (columns["in_progress"].limit, columns["in_progress"].use) == (4, 0.25)
    assert figures.bottleneck is TaskStatus.TESTING
    assert board.do("task_stats", project="nothing").count == 0
