"""Columns on both databases: where tasks stand, where they may go, and how many there may be."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.errors import CommandError
from actors.storage import log
from actors.tasks import bulk as several
from actors.tasks.context import CommandContext
from actors.tasks.fractional_index import LONGEST
from actors.tasks.messages import SetLimits
from actors.tasks.store import WRITES
from protocol.codec import structure, unstructure
from protocol.errors import ErrorCode
from protocol.task_model import Task, TaskStatus
from protocol.tasks import TaskLimits
from tests.database_fixture import fresh_database
from tests.storage_service import storage_service
from tests.tasks.board_kit import START_MS, BoardStore, refuse


def test_tasks_stand_where_they_were_put(board: BoardStore) -> None:
    a, b, c, d = (board.create(title) for title in "abcd")
    assert board.column("todo") == ["a", "b", "c", "d"]
    board.move(d, before=a.id)
    board.move(a, after=c.id)
    assert board.column("todo") == ["d", "b", "c", "a"]
    board.move(b)
    assert board.column("todo") == ["d", "c", "a", "b"]
    board.move(c, "in_progress")
    board.move(b, "in_progress", before=c.id)
    assert (board.column("todo"), board.column("in_progress")) == (["d", "a"], ["b", "c"])


def test_a_place_beside_a_task_of_another_column_is_a_conflict(board: BoardStore) -> None:
    a, b = board.create(), board.create(status="in_progress")
    for name in ("before", "after"):
        refusal = refuse(
            board, ErrorCode.CONFLICT, f"data.{name}",
            "task_move", task_id=a.id, version=1, status="todo", **{name: b.id},
        )  # fmt: skip
        assert refusal.current == unstructure(a)


def test_keys_that_became_long_are_dealt_out_anew_and_all_devices_are_told(board: BoardStore) -> None:
    a, b = board.create("a"), board.create("b")
    others = [board.create(f"n{number}") for number in range(40)]
    expected = ["a", "b", *(one.title for one in others)]
    for number in range(400):
        moved = others[number % len(others)]
        board.move(moved, after=a.id)
        expected.remove(moved.title)
        expected.insert(1, moved.title)
    assert board.column("todo") == expected
    positions = [one.position for one in board.do("task_list", sort="position", order="ascending", limit=100).tasks]
    assert max(map(len, positions)) <= LONGEST
    assert len(set(positions)) == len(positions) == 42
    # A client that only follows the events has every task where the server has it.
    mirror = {one.data["task"]["id"]: one.data["task"] for one in board.events}
    assert [one["title"] for one in sorted(mirror.values(), key=lambda one: one["position"])] == expected
    assert len([one for one in board.events if one.type == "task_moved"]) > 400
    assert board.get(b).version == 1


def test_long_keys_on_both_sides_are_dealt_out_anew_as_far_as_they_reach(board: BoardStore) -> None:
    above, below = board.create("above"), board.create("below")
    expected = [above.title, below.title]
    told: list[int] = []
    for number in range(330):
        one = board.create(f"n{number}")
        board.told()
        # Between the two that were put last, so that each key goes one step deeper than all others.
        board.move(one, after=above.id)
        told.append(len(board.told()))
        expected.insert(expected.index(above.title) + 1, one.title)
        above, below = (one, below) if number % 2 else (above, one)
    found: list[Task] = []
    cursor: dict[str, str] = {}
    while not found or cursor:
        page = board.do("task_list", sort="position", order="ascending", limit=100, **cursor)
        found += page.tasks
        cursor = {} if page.next_cursor is None else {"cursor": page.next_cursor}
    assert [one.title for one in found] == expected
    assert max(len(one.position) for one in found) <= LONGEST
    # Keys of the nearest 32 on each side would have stayed long: more were dealt out, once and for all.
    (dealt_out,) = (one for one in told if one > 1)
    assert dealt_out > 2 * 64


def test_a_move_that_is_not_allowed_is_refused_with_what_is(board: BoardStore) -> None:
    made = board.create(status="done")
    for kind in ("task_move", "task_update"):
        refusal = refuse(
            board, ErrorCode.INVALID_FIELD, "data.status", kind, task_id=made.id, version=1, status="backlog"
        )
        assert "from done it can go to todo, in_progress, testing" in refusal.message


def test_a_full_column_takes_no_more_but_by_force(board: BoardStore) -> None:
    board.do("task_limits", project="default", limits={"in_progress": 1})
    first = board.create(status="in_progress")
    second = board.create()
    for kind, data in (
        ("task_create", {"title": "x", "status": "in_progress"}),
        ("task_move", {"task_id": second.id, "version": 1, "status": "in_progress"}),
        ("task_update", {"task_id": second.id, "version": 1, "status": "in_progress"}),
    ):
        refusal = refuse(board, ErrorCode.CONFLICT, "data.status", kind, **data)
        assert "in_progress of 'default' may have at most 1 tasks and has 1" in refusal.message
    # Within the column nothing becomes more, and another project has limits of its own.
    board.move(first)
    board.create(status="in_progress", project="other")
    assert board.move(second, "in_progress", force=True).status is TaskStatus.IN_PROGRESS
    columns = {one.status.value: one for one in board.do("task_board").columns}
    assert (columns["in_progress"].count, columns["in_progress"].limit, columns["todo"].limit) == (2, 1, None)
    board.do("task_limits", project="default", limits={})
    board.create(status="in_progress")


def test_a_new_status_or_project_by_update_is_a_move_to_the_end(board: BoardStore) -> None:
    a, b = board.create("a"), board.create("b", status="in_progress")
    board.told()
    assert board.update(a, status="in_progress", title="a2").position > b.position
    board.update(b, project="other")
    assert board.told() == ["task_moved", "task_moved"]
    assert (board.column("in_progress"), board.column("in_progress", "other")) == (["a2"], ["b"])


def test_so_many_boards_of_a_client_have_limits(board: BoardStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(several, "MAXIMUM_LIMITED_BOARDS", 2)
    for project in ("one", "two"):
        board.do("task_limits", project=project, limits={"in_progress": 1, "testing": 2})
    refuse(board, ErrorCode.CONFLICT, "data.project", "task_limits", project="three", limits={"in_progress": 1})
    board.do("task_limits", project="two", limits={"in_progress": 3})
    board.do("task_limits", project="one", limits={})
    board.do("task_limits", project="three", limits={"in_progress": 1})


async def test_a_board_without_limits_takes_no_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "MAXIMUM_CLIENTS", 1)
    operation = WRITES[SetLimits]
    async with storage_service(fresh_database(tmp_path), operations=[operation]) as service:

        async def limit(client_id: str, **limits: int) -> None:
            data = structure({"project": "one", "limits": limits}, TaskLimits)
            asked: CommandContext[TaskLimits] = CommandContext(
                client_id=client_id, device_id="desk", data=data, now_ms=START_MS
            )
            await service.storage.transact(operation, asked, client_id=client_id)

        for name in ("a", "b"):
            await limit(name)
        await limit("me", in_progress=1)
        await limit("c")
        with pytest.raises(CommandError, match="accepts no more"):
            await limit("c", in_progress=1)
