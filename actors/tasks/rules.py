"""The rules of a board: tables and pure functions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from protocol.task_model import APPROVAL_CONFIDENCE, AgentDecision, Approval, TaskStatus

__all__ = [
    "DECISIONS",
    "TRANSITIONS",
    "WORKING",
    "find_cycle",
    "is_allowed",
    "is_below_limit",
    "is_blocked",
    "requires_approval",
    "started_at",
    "transition_problem",
]

TRANSITIONS: Mapping[TaskStatus, tuple[TaskStatus, ...]] = {
    TaskStatus.BACKLOG: (TaskStatus.TODO, TaskStatus.IN_PROGRESS),
    TaskStatus.TODO: (TaskStatus.BACKLOG, TaskStatus.IN_PROGRESS, TaskStatus.DONE),
    TaskStatus.IN_PROGRESS: (TaskStatus.BACKLOG, TaskStatus.TODO, TaskStatus.TESTING, TaskStatus.DONE),
    TaskStatus.TESTING: (TaskStatus.TODO, TaskStatus.IN_PROGRESS, TaskStatus.DONE),
    TaskStatus.DONE: (TaskStatus.TODO, TaskStatus.IN_PROGRESS, TaskStatus.TESTING),
}
"""Columns that a task may move to from each column; it may always stay."""

WORKING = frozenset({TaskStatus.IN_PROGRESS, TaskStatus.TESTING})
"""Columns in which a task is being worked on."""

DECISIONS: Mapping[Approval, tuple[Approval, ...]] = {
    Approval.PENDING: (Approval.APPROVED, Approval.REJECTED, Approval.MODIFIED),
    Approval.MODIFIED: (Approval.APPROVED, Approval.REJECTED, Approval.MODIFIED),
    Approval.APPROVED: (),
    Approval.REJECTED: (),
}
"""Decisions that may follow each decision; a new proposal starts over."""


def is_allowed(before: TaskStatus, after: TaskStatus) -> bool:
    """True if a task may move from one column to the other."""
    return before is after or after in TRANSITIONS[before]


def transition_problem(before: TaskStatus, after: TaskStatus) -> str | None:
    """Return the reason why a task may not move there, with the columns that it may move to; None if it may."""
    if is_allowed(before, after):
        return None
    allowed = ", ".join(one.value for one in TRANSITIONS[before])
    return f"a task cannot go from {before.value} to {after.value}; from {before.value} it can go to {allowed}"


def is_below_limit(count: int, most: int | None) -> bool:
    """True if a column of ``count`` tasks may receive another."""
    return most is None or count < most


def is_blocked(dependencies: Iterable[TaskStatus]) -> bool:
    """True while any dependency is not done."""
    return any(status is not TaskStatus.DONE for status in dependencies)


def requires_approval(confidence: float | None, decision: AgentDecision | None) -> bool:
    """True if a person must decide: on an open proposal that asks for it or has low confidence, or on a task with low
    confidence that has no proposal.
    """
    if decision is None:
        return confidence is not None and confidence < APPROVAL_CONFIDENCE
    return decision.approval is Approval.PENDING and (
        decision.requires_approval or decision.confidence < APPROVAL_CONFIDENCE
    )


def find_cycle(
    task_id: str, dependencies: Collection[str], edges: Callable[[Collection[str]], Mapping[str, Collection[str]]]
) -> list[str] | None:
    """Return a path from ``task_id`` over ``dependencies`` back to itself, or None.

    ``edges`` returns the dependencies of several tasks at once; it is called once for each step of the longest path.
    """
    came_from: dict[str, str] = dict.fromkeys(dependencies, task_id)
    frontier: Collection[str] = list(came_from)
    while frontier and task_id not in came_from:
        reached: dict[str, str] = {}
        for one, targets in edges(frontier).items():
            for target in targets:
                if target not in came_from:
                    reached[target] = one
        came_from |= reached
        frontier = list(reached)
    if task_id not in came_from:
        return None
    way = [task_id]
    while (previous := came_from[way[-1]]) != task_id:
        way.append(previous)
    return [task_id, *reversed(way)]


def started_at(before: TaskStatus | None, after: TaskStatus, started_ms: int | None, now_ms: int) -> int | None:
    """Time at which work on a task began: when it entered its first working column, again after it went back or was
    done.
    """
    if after in WORKING:
        return now_ms if started_ms is None or before is TaskStatus.DONE else started_ms
    return started_ms if after is TaskStatus.DONE else None
