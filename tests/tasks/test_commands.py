"""Single changes on both databases: what is made is kept, and a change is one of the version that its client saw."""

from __future__ import annotations

import attrs
import pytest

from actors.tasks import commands as changes
from protocol.codec import unstructure, wire_time
from protocol.errors import ErrorCode
from protocol.task_model import Approval
from tests.tasks.board_kit import START_MS, BoardStore, refuse


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
    large = "\u001b" * 4000
    refuse(board, ErrorCode.TOO_LARGE, "data", "task_create", title="x", description=large)
    refuse(board, ErrorCode.TOO_LARGE, "data", "task_update", task_id=made.id, version=1, description=large)
    board.create(description="x" * 10_000)


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
    assert "already approved" in refusal.message
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


def test_so_many_tasks_of_a_client_are_kept(board: BoardStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "MAXIMUM_TASKS", 3)
    made = [board.create() for _ in range(3)]
    refuse(board, ErrorCode.CONFLICT, None, "task_create", title="x")
    board.do("task_delete", task_id=made[0].id, version=1)
    board.create()
