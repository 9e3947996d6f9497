"""Dependencies on both databases: they exist, never go round in a circle, and those that wait are told."""

from __future__ import annotations

from sqlalchemy import func, select

from actors.tasks.tables import task_tags
from protocol.errors import ErrorCode
from tests.tasks.board_kit import NOBODY, BoardStore, refuse


def test_dependencies_are_tasks_that_exist_and_never_go_round_in_a_circle(board: BoardStore) -> None:
    a = board.create()
    b = board.create(dependencies=[a.id])
    c = board.create(dependencies=[b.id])
    refuse(board, ErrorCode.CONFLICT, "data.dependencies[1]", "task_create", title="x", dependencies=[a.id, NOBODY])
    for wanted in ([c.id], [b.id, c.id], [a.id]):
        refusal = refuse(
            board, ErrorCode.CONFLICT, "data.dependencies",
            "task_update", task_id=a.id, version=1, dependencies=wanted,
        )  # fmt: skip
        assert a.id in refusal.message
    assert board.update(c, dependencies=[a.id]).dependencies == [a.id]
    assert board.update(a, dependencies=[]).version == 1


def test_who_waits_is_told_when_the_last_dependency_is_done_and_when_one_is_opened_again(board: BoardStore) -> None:
    a, b = board.create(), board.create()
    waiting = board.create(dependencies=[a.id, b.id])
    board.told()
    board.move(a, "done")
    assert board.told() == ["task_moved"]
    board.move(b, "done")
    assert board.told() == ["task_moved", "task_unblocked"]
    free = board.get(waiting)
    assert (free.is_blocked, free.version) == (False, 1)
    board.triggers.clear()
    board.move(a, "todo")
    assert board.told() == ["task_moved", "task_blocked"]
    board.move(b, "todo")
    assert board.told() == ["task_moved"]
    assert [one.kind for one in board.triggers] == ["task_moved", "task_blocked", "task_moved"]
    board.update(waiting, dependencies=[])
    assert board.told() == ["task_updated", "task_unblocked"]
    board.update(waiting, dependencies=[a.id])
    assert board.told() == ["task_updated", "task_blocked"]


def test_a_task_that_others_wait_for_is_deleted_only_by_force(board: BoardStore) -> None:
    a = board.create()
    b = board.create(dependencies=[a.id], tags=["t"])
    refusal = refuse(board, ErrorCode.CONFLICT, "data.task_id", "task_delete", task_id=a.id, version=1)
    assert b.id in refusal.message
    board.told()
    board.do("task_delete", task_id=a.id, version=1, force=True)
    assert board.told() == ["task_updated", "task_unblocked", "task_deleted"]
    free = board.get(b)
    assert (free.dependencies, free.is_blocked, free.version) == ([], False, 2)
    board.do("task_delete", task_id=b.id, version=2)
    assert board.connection.scalar(select(func.count()).select_from(task_tags)) == 0
    kinds = [one.kind for one in board.do("task_history", task_id=b.id).entries]
    assert kinds == ["deleted", "updated", "created"]
