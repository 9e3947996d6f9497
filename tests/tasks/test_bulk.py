"""Several changes at once on both databases: bulk, import and cleanup."""

from __future__ import annotations

import pytest

from protocol.errors import ErrorCode
from protocol.task_model import TaskStatus
from tests.tasks.board_kit import DAY_MS, NOBODY, BoardStore, refuse


def test_a_bulk_is_carried_out_as_a_whole_or_not_at_all(board: BoardStore) -> None:
    made, gone = board.create(confidence=0.1), board.create()
    items = [
        {"create": {"title": "new"}},
        {"update": {"task_id": made.id, "version": 1, "title": "changed"}},
        {"move": {"task_id": made.id, "version": 2, "status": "in_progress"}},
        {"decide": {"task_id": made.id, "version": 3, "decision": "approved"}},
        {"delete": {"task_id": gone.id, "version": 1}},
    ]
    stale = {"update": {"task_id": made.id, "version": 1, "title": "stale"}}
    refuse(board, ErrorCode.CONFLICT, "data.items[5].update.version", "task_bulk", items=[*items, stale])
    board.told()
    result = board.do("task_bulk", items=items)
    assert result.failed == 0
    assert [one.task.version if one.task else one.deleted.task_id for one in result.items] == [1, 2, 3, 4, gone.id]
    assert board.told() == ["task_created", "task_updated", "task_moved", "task_updated", "task_deleted"]


def test_items_of_a_bulk_may_fail_alone(board: BoardStore) -> None:
    made = board.create()
    result = board.do(
        "task_bulk",
        all_or_nothing=False,
        items=[
            {"update": {"task_id": made.id, "version": 1, "title": "changed"}},
            {"update": {"task_id": made.id, "version": 1, "title": "stale"}},
            {"create": {"title": "new", "dependencies": [NOBODY]}},
            {"create": {"title": "new"}},
        ],
    )
    assert result.failed == 2
    assert [None if one.error is None else (one.error["code"], one.error["field"]) for one in result.items] == [
        None,
        ("conflict", "data.items[1].update.version"),
        ("conflict", "data.items[2].create.dependencies[0]"),
        None,
    ]
    assert result.items[1].error["current"]["version"] == 2
    assert board.get(made).title == "changed"
    assert board.do("task_board").count == 2


def test_an_import_makes_all_tasks_in_their_order_with_their_dependencies(board: BoardStore) -> None:
    there = board.create("there")
    wanted = [
        {"id": "b", "title": "b", "position": "2", "dependencies": ["a", there.id]},
        {"id": "a", "title": "a", "position": "1", "dependencies": ["c"]},
        {"id": "c", "title": "c", "position": "3", "status": "done"},
    ]
    rehearsal = board.do("task_import", tasks=wanted, dry_run=True)
    assert (rehearsal.count, rehearsal.task_ids, board.do("task_board").count) == (3, [], 1)
    board.told()
    result = board.do("task_import", tasks=wanted)
    b, a, c = (board.do("task_get", task_id=one) for one in result.task_ids)
    assert (a.dependencies, b.dependencies, c.status) == ([c.id], [a.id, there.id], TaskStatus.DONE)
    assert (a.is_blocked, b.is_blocked) == (False, True)
    assert board.column("todo") == ["there", "a", "b"]
    assert board.told().count("task_created") == 3


@pytest.mark.parametrize(
    ("wanted", "code", "field"),
    [
        ([{"title": "a"}, {"title": "b", "dependencies": ["nothing"]}], "conflict", "data.tasks[1].dependencies[0]"),
        ([{"title": "a"}, {"title": "b", "dependencies": [NOBODY]}], "conflict", "data.tasks[1].dependencies[0]"),
        ([{"id": "a", "title": "a", "dependencies": ["a"]}], "conflict", "data.tasks[0].dependencies"),
        ([{"id": "a", "title": "a"}, {"id": "a", "title": "b"}], "invalid_field", "data.tasks"),
        ([{"title": "a", "status": "testing"}, {"title": "b", "status": "testing"}], "conflict", "data.tasks[1].status"),
    ],
)  # fmt: skip
def test_an_import_with_one_bad_task_makes_none(
    board: BoardStore, wanted: list[dict[str, object]], code: str, field: str
) -> None:
    board.do("task_limits", project="default", limits={"testing": 1})
    refuse(board, ErrorCode(code), field, "task_import", tasks=wanted)


def test_a_cleanup_deletes_what_was_done_long_ago(board: BoardStore) -> None:
    old, other = board.create(status="done"), board.create(status="done", project="other")
    waiting = board.create(dependencies=[old.id])
    board.now_ms += 40 * DAY_MS
    fresh = board.create(status="done")
    rehearsal = board.do("task_cleanup", older_than_days=30, dry_run=True)
    assert (rehearsal.count, rehearsal.dry_run, board.get(old)) == (2, True, old)
    cleaned = board.do("task_cleanup", older_than_days=30, project="default")
    assert (cleaned.count, cleaned.has_more) == (1, False)
    assert board.get(waiting).dependencies == []
    left = {one.id for one in board.do("task_list").tasks}
    assert left == {other.id, waiting.id, fresh.id}


def test_a_cleanup_deletes_so_many_at_once(board: BoardStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.tasks.bulk.CLEANED_AT_ONCE", 2)
    first = board.create(status="done")
    board.create(status="done", dependencies=[first.id])
    board.create(status="done")
    cleaned = board.do("task_cleanup", older_than_days=0)
    assert (cleaned.count, cleaned.has_more) == (2, True)
    assert not board.do("task_cleanup", older_than_days=0).has_more
