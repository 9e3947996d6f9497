"""Pages and filters on both databases: every task once, in order, and no answer larger than a frame."""

from __future__ import annotations

import pytest

from protocol.codec import encode, unstructure, wire_time
from protocol.errors import ErrorCode
from protocol.task_model import Task, TaskStatus
from tests.tasks.board_kit import START_MS, BoardStore, refuse


@pytest.mark.parametrize("order", ["ascending", "descending"])
@pytest.mark.parametrize("sort", ["created", "updated", "due", "priority", "position"])
def test_pages_have_every_task_once_in_order(board: BoardStore, sort: str, order: str) -> None:
    for number in range(23):
        board.now_ms += number % 3
        due = {"due": wire_time((START_MS + number % 4) / 1000)} if number % 3 else {}
        board.create(priority=("low", "high", "urgent")[number % 3], **due)
    seen: list[Task] = []
    cursor: dict[str, str] = {}
    while True:
        page = board.do("task_list", sort=sort, order=order, limit=5, **cursor)
        seen += page.tasks
        if page.next_cursor is None:
            break
        cursor = {"cursor": page.next_cursor}
        if len(seen) == 10:
            # What comes meanwhile moves nothing that was not seen yet.
            board.now_ms += 1
    assert len({one.id for one in seen}) == len(seen) == 23
    no_due = "9" if order == "ascending" else "0"
    keys = [
        {"created": one.created, "updated": one.updated, "due": one.due or no_due, "priority": one.priority.rank,
         "position": one.position}[sort]
        for one in seen
    ]  # fmt: skip
    assert keys == sorted(keys, reverse=order == "descending")


def test_filters_mean_what_they_say(board: BoardStore) -> None:
    a = board.create("Straße", tags=["x", "y"], assignee="ann", priority="high", due="2026-12-01T00:00:00Z")
    board.now_ms += 1000
    b = board.create("100%_b", tags=["y"], status="done", description="Äpfel", project="house")
    board.now_ms += 1000
    c = board.create("c", dependencies=[a.id], due="2026-12-03T00:00:00Z")
    after_a, after_b = wire_time((START_MS + 500) / 1000), wire_time((START_MS + 1500) / 1000)
    for data, expected in (
        ({}, [a, b, c]),
        ({"project": "house"}, [b]),
        ({"status": ["todo", "done"], "priority": ["high", "medium"]}, [a, b, c]),
        ({"status": ["done"]}, [b]),
        ({"priority": ["high"]}, [a]),
        ({"assignee": "ann"}, [a]),
        ({"tags": ["x", "nothing"]}, [a]),
        ({"tags": ["y"]}, [a, b]),
        ({"is_blocked": True}, [c]),
        ({"is_blocked": False}, [a, b]),
        ({"due_before": "2026-12-02T00:00:00Z"}, [a]),
        ({"due_after": "2026-12-01T00:00:00Z"}, [a, c]),
        ({"created_after": after_a, "created_before": after_b}, [b]),
        ({"updated_after": after_b}, [c]),
        ({"search": "STRASSE"}, [a]),
        ({"search": "äPFEL"}, [b]),
        ({"search": "0%_"}, [b]),
        ({"search": "_"}, [b]),
        ({"search": "Y"}, [a, b]),
        ({"search": "nowhere"}, []),
    ):
        found = board.do("task_list", sort="created", order="ascending", **data).tasks
        assert [one.id for one in found] == [one.id for one in expected], data


@pytest.mark.parametrize("cursor", ["x", "W10", "WyJhIiwxLCJiIl0", "é", "////", "W251bGxd"])
def test_a_cursor_that_is_none_is_refused(board: BoardStore, cursor: str) -> None:
    refuse(board, ErrorCode.NOT_FOUND, "data.cursor", "task_list", cursor=cursor)


def test_a_cursor_of_another_listing_is_refused(board: BoardStore) -> None:
    board.create()
    board.create()
    cursor = board.do("task_list", limit=1).next_cursor
    refuse(board, ErrorCode.NOT_FOUND, "data.cursor", "task_list", limit=1, cursor=cursor, sort="due")
    refuse(board, ErrorCode.NOT_FOUND, "data.cursor", "task_list", limit=1, cursor=cursor, search="x")
    assert len(board.do("task_list", limit=7, cursor=cursor).tasks) == 1


def test_no_answer_is_larger_than_a_frame(board: BoardStore) -> None:
    for status in TaskStatus:
        for _ in range(100):
            board.create(status=status.value, description="x" * 10_000)
    page = board.do("task_list", limit=100)
    whole = board.do("task_board", limit=100)
    assert len(encode(unstructure(page))) < 1_000_000
    assert len(encode(unstructure(whole))) < 1_000_000
    for column in whole.columns:
        assert column.count == 100
        seen = [one.id for one in column.tasks]
        cursor = column.next_cursor
        while cursor is not None:
            rest = board.do(
                "task_list", project="default", status=[column.status.value], sort="position", order="ascending",
                limit=100, cursor=cursor,
            )  # fmt: skip
            seen += [one.id for one in rest.tasks]
            cursor = rest.next_cursor
        assert len(set(seen)) == len(seen) == 100
