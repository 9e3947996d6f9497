"""Writes of the tasks service itself, on both databases: analyses, and due dates in the near future."""

from __future__ import annotations

import pytest

from actors.tasks.analysis import AnalysisFound, PendingAnalysesQuery, cut_to, find_pending, record_analysis
from actors.tasks.context import CommandContext
from actors.tasks.due import DueTasksQuery, announce_due, find_clients_with_due
from protocol.codec import encode, wire_time
from protocol.task_model import AnalysisStatus, Task
from tests.tasks.board_kit import DAY_MS, HOUR_MS, START_MS, BoardStore


def record(board: BoardStore, task: Task, text: str | None, confidence: float | None = None) -> Task | None:
    asked = CommandContext(
        client_id=board.client_id,
        device_id="",
        data=AnalysisFound(task_id=task.id, text=text, confidence=confidence),
        now_ms=board.now_ms,
    )
    outcome = record_analysis(board.connection, asked)
    board.events += outcome.events
    board.triggers += outcome.triggers
    return outcome.value


def test_an_analysis_is_kept_once_and_raises_no_version(board: BoardStore) -> None:
    first, second = board.create(analyze_with_ai=True), board.create(analyze_with_ai=True, description="d")
    board.create()
    waiting = find_pending(board.connection, PendingAnalysesQuery())
    assert [one.task_id for one in waiting] == sorted([first.id, second.id])
    assert [one.task_id for one in find_pending(board.connection, PendingAnalysesQuery(but=frozenset({first.id})))] == [
        second.id
    ]
    board.told()
    kept = record(board, first, "two steps", 0.7)
    assert kept is not None
    assert (kept.ai_analysis, kept.ai_analysis_confidence, kept.version) == ("two steps", 0.7, 1)
    assert (kept.ai_analysis_status, kept.updated) == (AnalysisStatus.DONE, first.updated)
    assert board.get(first) == kept
    assert board.events[0].data == {"command": "task_create", "task_id": first.id, "analysis": "two steps"}
    assert (board.events[0].channel, board.triggers[-1].kind) == ("ai", "analysis_done")
    assert board.told() == ["ai_response", "task_updated"]
    assert record(board, first, "again", 0.1) is None
    failed = record(board, second, None)
    assert failed is not None
    assert (failed.ai_analysis, failed.ai_analysis_status) == (None, AnalysisStatus.FAILED)
    assert board.told() == ["task_updated"]
    assert find_pending(board.connection, PendingAnalysesQuery()) == []


@pytest.mark.parametrize("letter", ["x", "é", "\n", "\0", "😀"])
def test_a_long_analysis_is_cut_and_marked_and_its_events_fit(board: BoardStore, letter: str) -> None:
    task = board.create(description="\u001b" * 2200, analyze_with_ai=True)
    board.told()
    kept = record(board, task, letter * 20_000, 0.5)
    assert kept is not None
    assert kept.ai_analysis is not None
    assert "\0" not in kept.ai_analysis
    assert board.events[0].data["truncated"] is True
    assert all(len(encode(one.data)) < 32 * 1024 - 200 for one in board.events)
    assert cut_to("short", 5) == ("short", False)


def test_a_due_date_is_told_once_from_a_day_before_it(board: BoardStore) -> None:
    due = wire_time((START_MS + 2 * DAY_MS) / 1000)
    near = board.create(due=due)
    board.create(due=due, status="done")
    board.create()

    def look() -> list[str]:
        clients = find_clients_with_due(board.connection, DueTasksQuery(now_ms=board.now_ms))
        asked = CommandContext(client_id="me", device_id="", data=None, now_ms=board.now_ms)
        outcome = announce_due(board.connection, asked)
        assert len(outcome.triggers) == outcome.value
        assert clients == (["me"] if outcome.triggers else [])
        return [one.data["task"]["id"] for one in outcome.triggers if one.kind == "due_soon"]

    assert look() == []
    board.now_ms += DAY_MS
    assert look() == [near.id]
    assert look() == []
    board.update(near, title="changed")
    assert look() == []
    board.update(near, due=wire_time((START_MS + 2 * DAY_MS + HOUR_MS) / 1000))
    board.now_ms += HOUR_MS
    assert look() == [near.id]


def test_a_due_date_that_a_clock_ahead_of_now_told_is_told_again_in_its_time(board: BoardStore) -> None:
    task = board.create(due=wire_time((START_MS + 9 * DAY_MS) / 1000))

    def look() -> list[str]:
        wanted = DueTasksQuery(now_ms=board.now_ms, with_told_ahead=True)
        clients = find_clients_with_due(board.connection, wanted)
        asked = CommandContext(client_id="me", device_id="", data=None, now_ms=board.now_ms)
        return [one.data["task"]["id"] for one in announce_due(board.connection, asked).triggers] if clients else []

    board.now_ms += 8 * DAY_MS
    assert look() == [task.id]
    board.now_ms -= 7 * DAY_MS
    assert look() == []
    board.now_ms += 7 * DAY_MS
    assert look() == [task.id]
    assert look() == []
    # Clocks are corrected by a little all the time.
    board.now_ms -= HOUR_MS // 2
    assert look() == []
    board.now_ms += HOUR_MS
    assert look() == []
