"""The rules of a board as tables and pure functions."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.tasks.rules import (
    DECISIONS,
    TRANSITIONS,
    find_cycle,
    is_allowed,
    is_below_limit,
    is_blocked,
    requires_approval,
    started_at,
    transition_problem,
)
from protocol.task_model import AgentDecision, Approval, TaskStatus


def decision(confidence: float, approval: Approval = Approval.PENDING, *, asks: bool = False) -> AgentDecision:
    return AgentDecision(
        recommendation="do it", reasoning="", confidence=confidence, requires_approval=asks, approval=approval
    )


def test_every_column_can_be_left_and_reached() -> None:
    assert set(TRANSITIONS) == set(TaskStatus)
    assert all(TRANSITIONS.values())
    for status in TaskStatus:
        assert any(status in targets for targets in TRANSITIONS.values())
        assert is_allowed(status, status)


def test_done_does_not_go_back_to_the_backlog_and_the_refusal_names_where_it_can_go() -> None:
    problem = transition_problem(TaskStatus.DONE, TaskStatus.BACKLOG)
    assert problem == "a task cannot go from done to backlog; from done it can go to todo, in_progress, testing"
    assert transition_problem(TaskStatus.DONE, TaskStatus.TODO) is None


@given(st.integers(0, 50), st.one_of(st.none(), st.integers(1, 50)))
def test_a_column_has_room_below_its_limit(count: int, most: int | None) -> None:
    assert is_below_limit(count, most) == (most is None or count + 1 <= most)


def test_a_task_is_blocked_while_a_dependency_is_not_done() -> None:
    assert not is_blocked([])
    assert not is_blocked([TaskStatus.DONE, TaskStatus.DONE])
    assert is_blocked([TaskStatus.DONE, TaskStatus.TESTING])


@pytest.mark.parametrize(
    ("confidence", "made", "expected"),
    [
        (None, None, False),
        (0.8, None, False),
        (0.79, None, True),
        (0.5, decision(0.9), False),
        (None, decision(0.79), True),
        (None, decision(0.8), False),
        (None, decision(0.9, asks=True), True),
        (0.1, decision(0.1, Approval.APPROVED), False),
        (0.1, decision(0.1, Approval.REJECTED), False),
        (0.1, decision(0.1, Approval.MODIFIED), False),
    ],
)
def test_below_a_confidence_of_four_fifths_a_person_decides(
    confidence: float | None, made: AgentDecision | None, expected: bool
) -> None:
    assert requires_approval(confidence, made) is expected


def test_what_is_approved_or_rejected_stays_so() -> None:
    assert DECISIONS[Approval.APPROVED] == DECISIONS[Approval.REJECTED] == ()
    assert Approval.PENDING not in {one for allowed in DECISIONS.values() for one in allowed}


@given(st.dictionaries(st.integers(0, 12), st.lists(st.integers(0, 12), max_size=4), max_size=12), st.integers(0, 12))
def test_a_cycle_is_found_exactly_where_there_is_one(graph: dict[int, list[int]], start: int) -> None:
    edges = {str(one): [str(other) for other in others] for one, others in graph.items()}
    wanted = edges.get(str(start), [])
    cycle = find_cycle(str(start), wanted, lambda some: {one: edges[one] for one in some if one in edges})
    # The plain way to know: everything that can be reached.
    reached, frontier = set(wanted), list(wanted)
    while frontier:
        for other in edges.get(frontier.pop(), []):
            if other not in reached:
                reached.add(other)
                frontier.append(other)
    assert (cycle is not None) == (str(start) in reached)
    if cycle is not None:
        assert cycle[0] == cycle[-1] == str(start)
        assert all(later in edges[earlier] for earlier, later in itertools.pairwise(cycle))


def test_work_begins_at_the_first_working_column_and_anew_after_done_or_todo() -> None:
    begun = started_at(TaskStatus.TODO, TaskStatus.IN_PROGRESS, None, 5)
    assert begun == 5
    assert started_at(TaskStatus.IN_PROGRESS, TaskStatus.TESTING, begun, 9) == 5
    assert started_at(TaskStatus.TESTING, TaskStatus.DONE, begun, 12) == 5
    assert started_at(TaskStatus.DONE, TaskStatus.IN_PROGRESS, begun, 20) == 20
    assert started_at(TaskStatus.IN_PROGRESS, TaskStatus.TODO, begun, 20) is None
    assert started_at(None, TaskStatus.DONE, None, 20) is None
