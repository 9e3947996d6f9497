"""The room's store on both databases: every rule is checked where the change is made, and what is refused changes nothing."""

from __future__ import annotations

import attrs
import pytest
from sqlalchemy import func, select

from actors.refusals import CommandRefused
from actors.tasks.analysis import AnalysisFound, PendingWanted, cut_to, find_pending, record_analysis
from actors.tasks.asked import Asked
from actors.tasks.due import DueWanted, announce_due, find_clients_with_due
from actors.tasks.positions import LONGEST
from actors.tasks.tables import history, task_dependencies, task_tags, tasks
from protocol.codec import encode, unstructure, wire_time
from protocol.errors import ErrorCode
from protocol.task_model import AnalysisStatus, Approval, Task, TaskStatus
from tests.tasks.board_kit import START_MS, BoardStore, refusal_of

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
NOBODY = "00000000-0000-4000-8000-000000000000"


def everything(board: BoardStore) -> list[object]:
    """All rows of the room, to see that a refusal left nothing."""
    return [
        board.connection.execute(select(table).order_by(*table.primary_key)).all()
        for table in (tasks, task_tags, task_dependencies, history)
    ]


def refuse(board: BoardStore, code: ErrorCode, field: str, kind: str, **data: object) -> CommandRefused:
    """The command is refused so, and changes nothing."""
    before = everything(board)
    refusal = refusal_of(board, kind, **data)
    assert (refusal.code, refusal.field) == (code, field)
    assert everything(board) == before
    return refusal


# --- create and read ----------------------------------------------------------------------------------


def test_a_task_is_kept_as_it_was_made(board: BoardStore) -> None:
    other = board.create()
    made = board.create(
        title="Grüße",
        description="line\nline",
        project="house",
        status="backlog",
        priority="urgent",
        tags=["b", "a"],
        assignee="ann",
        estimate_hours=1.5,
        actual_hours=0,
        due="2026-12-01T10:00:00+02:00",
        dependencies=[other.id],
        attachments=[{"name": "log", "reference": "file:///x", "kind": "log"}],
        confidence=0.9,
        agent_decision={"recommendation": "split it", "confidence": 0.4},
    )
    assert board.get(made) == made
    assert (made.version, made.is_blocked, made.requires_approval) == (1, True, True)
    assert made.due == "2026-12-01T08:00:00.000Z"
    assert made.tags == ["b", "a"]
    assert made.created == made.updated == wire_time(START_MS / 1000)
    assert made.agent_decision is not None
    assert made.agent_decision.approval is Approval.PENDING
    assert board.told() == ["task_created", "task_created", "task_blocked"]
    assert [one.kind for one in board.triggers] == ["task_created", "task_created", "task_blocked", "approval_needed"]


def test_an_event_carries_the_whole_task(board: BoardStore) -> None:
    made = board.create()
    assert board.events[0].data == {"task": unstructure(made)}
    assert board.events[0].channel == "tasks"


def test_another_clients_task_is_not_there(board: BoardStore) -> None:
    made = board.create()
    stranger = BoardStore(board.connection, client_id="other")
    for kind, data in (
        ("task_get", {}),
        ("task_history", {}),
        ("task_update", {"version": 1, "title": "mine"}),
        ("task_move", {"version": 1, "status": "done"}),
        ("task_delete", {"version": 1}),
        ("task_decide", {"version": 1, "decision": "approved"}),
    ):
        refuse(stranger, ErrorCode.NOT_FOUND, "data.task_id", kind, task_id=made.id, **data)
    refuse(stranger, ErrorCode.CONFLICT, "data.dependencies[0]", "task_create", title="x", dependencies=[made.id])
    neighbour = stranger.create()
    refuse(
        stranger, ErrorCode.CONFLICT, "data.after",
        "task_move", task_id=neighbour.id, version=1, status="todo", after=made.id,
    )  # fmt: skip
    assert stranger.do("task_list").tasks == [neighbour]
    assert stranger.do("task_board").count == stranger.do("task_stats").count == 1


def test_a_task_that_would_not_fit_into_an_event_is_refused(board: BoardStore) -> None:
    made = board.create()
    large = "\u0001" * 4000
    refuse(board, ErrorCode.TOO_LARGE, "data", "task_create", title="x", description=large)
    refuse(board, ErrorCode.TOO_LARGE, "data", "task_update", task_id=made.id, version=1, description=large)
    board.create(description="x" * 10_000)


# --- versions -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("task_update", {"title": "new"}),
        ("task_move", {"status": "in_progress"}),
        ("task_delete", {}),
        ("task_decide", {"decision": "approved"}),
    ],
)
def test_a_stale_write_is_refused_with_the_task_as_it_is(board: BoardStore, kind: str, data: dict[str, str]) -> None:
    made = board.create(confidence=0.1)
    newest = board.update(made, title="by another device")
    refusal = refuse(board, ErrorCode.CONFLICT, "data.version", kind, task_id=made.id, version=1, **data)
    assert refusal.current == unstructure(newest)


def test_each_change_raises_the_version_by_one_and_a_change_of_nothing_does_not(board: BoardStore) -> None:
    made = board.create(description="x")
    changed = board.update(made, title="new", clear=["description"])
    assert (changed.version, changed.title, changed.description) == (2, "new", None)
    assert board.update(changed, title="new") == changed
    board.told()
    assert board.move(changed, "in_progress").version == 3
    assert board.told() == ["task_moved"]


def test_what_is_absent_stays_and_what_is_cleared_is_empty(board: BoardStore) -> None:
    full = board.create(
        description="d", assignee="a", estimate_hours=1, actual_hours=2, due="2026-12-01T10:00:00Z", tags=["t"],
        confidence=0.9, attachments=[{"name": "n", "reference": "r"}], dependencies=[board.create().id],
        agent_decision={"recommendation": "r", "confidence": 1},
    )  # fmt: skip
    assert board.update(full, priority="high") == attrs.evolve(
        board.get(full), priority=board.get(full).priority, version=2
    )
    empty = board.update(
        full,
        clear=[
            "description", "assignee", "estimate_hours", "actual_hours", "due", "tags", "dependencies", "attachments",
            "confidence", "agent_decision",
        ],
    )  # fmt: skip
    assert (
        unstructure(empty)
        .keys()
        .isdisjoint(
            {"description", "assignee", "estimate_hours", "actual_hours", "due", "confidence", "agent_decision"}
        )
    )
    assert (empty.tags, empty.dependencies, empty.attachments) == ([], [], [])
    assert (empty.title, empty.priority) == (full.title, board.get(full).priority)


# --- columns ------------------------------------------------------------------------------------------


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
        assert "in_progress of 'default' may have 1 tasks and has 1" in refusal.message
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


# --- dependencies -------------------------------------------------------------------------------------


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


# --- decisions ----------------------------------------------------------------------------------------


def test_a_person_decides_about_a_proposal_once(board: BoardStore) -> None:
    made = board.create(agent_decision={"recommendation": "drop it", "confidence": 0.3})
    assert made.requires_approval
    decided = board.do("task_decide", task_id=made.id, version=1, decision="modified", feedback="half of it")
    assert decided.agent_decision is not None
    assert (decided.agent_decision.approval, decided.agent_decision.feedback) == (Approval.MODIFIED, "half of it")
    assert not decided.requires_approval
    approved = board.do("task_decide", task_id=made.id, version=2, decision="approved")
    assert approved.agent_decision.feedback == "half of it"
    refusal = refuse(
        board, ErrorCode.CONFLICT, "data.decision", "task_decide", task_id=made.id, version=3, decision="rejected"
    )
    assert "approved before" in refusal.message
    again = board.update(made, agent_decision={"recommendation": "other", "confidence": 0.9, "requires_approval": True})
    assert again.requires_approval
    assert board.triggers[-1].kind == "approval_needed"


def test_a_person_decides_about_an_unsure_task_without_a_proposal(board: BoardStore) -> None:
    unsure, sure = board.create(confidence=0.5), board.create(confidence=0.9)
    assert unsure.requires_approval
    decided = board.do("task_decide", task_id=unsure.id, version=1, decision="rejected")
    assert decided.agent_decision.recommendation == ""
    assert not decided.requires_approval
    refuse(board, ErrorCode.CONFLICT, "data.decision", "task_decide", task_id=sure.id, version=1, decision="approved")


# --- lists --------------------------------------------------------------------------------------------


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
    refuse(board, ErrorCode.INVALID_FIELD, "data.cursor", "task_list", cursor=cursor)


def test_a_cursor_of_another_listing_is_refused(board: BoardStore) -> None:
    board.create()
    board.create()
    cursor = board.do("task_list", limit=1).next_cursor
    refuse(board, ErrorCode.INVALID_FIELD, "data.cursor", "task_list", limit=1, cursor=cursor, sort="due")
    refuse(board, ErrorCode.INVALID_FIELD, "data.cursor", "task_list", limit=1, cursor=cursor, search="x")
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


# --- history and figures ------------------------------------------------------------------------------


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


# --- several ------------------------------------------------------------------------------------------


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
    monkeypatch.setattr("actors.tasks.several.CLEANED_AT_ONCE", 2)
    first = board.create(status="done")
    board.create(status="done", dependencies=[first.id])
    board.create(status="done")
    cleaned = board.do("task_cleanup", older_than_days=0)
    assert (cleaned.count, cleaned.has_more) == (2, True)
    assert not board.do("task_cleanup", older_than_days=0).has_more


# --- analyses and due dates ---------------------------------------------------------------------------


def record(board: BoardStore, task: Task, text: str | None, confidence: float | None = None) -> Task | None:
    asked = Asked(
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
    waiting = find_pending(board.connection, PendingWanted())
    assert [one.task_id for one in waiting] == sorted([first.id, second.id])
    assert [one.task_id for one in find_pending(board.connection, PendingWanted(but=frozenset({first.id})))] == [
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
    assert find_pending(board.connection, PendingWanted()) == []


@pytest.mark.parametrize("letter", ["x", "é", "\n", "\0", "😀"])
def test_a_long_analysis_is_cut_and_marked_and_its_events_fit(board: BoardStore, letter: str) -> None:
    task = board.create(description="\u0001" * 2200, analyze_with_ai=True)
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
        clients = find_clients_with_due(board.connection, DueWanted(now_ms=board.now_ms))
        asked = Asked(client_id="me", device_id="", data=None, now_ms=board.now_ms)
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
