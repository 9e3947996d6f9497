"""Claims of tasks: what an agent that takes a task says, and what it is told. Over MCP alone.

A claim is a lease. Whoever holds it renews it in time; a holder that died renews nothing, and its task goes back to where
it was taken from.
"""

from __future__ import annotations

from attrs import field, frozen

from protocol.task_model import Task, printed_text, uuid_text
from protocol.validation import between, length, one_form

__all__ = ["LEASE_SECONDS", "TaskClaim", "TaskLease", "TaskRelease"]

LEASE_SECONDS = 600
"""How long a lease lasts by default."""
SHORTEST_SECONDS = 10
LONGEST_SECONDS = 3600


@frozen(kw_only=True)
class TaskClaim:
    """Take a task to work on it, or renew the lease on one. Answered by `TaskLease`."""

    task_id: str = field(validator=uuid_text)
    """Which one."""
    holder: str = field(validator=[length(1, 128, "characters"), printed_text], converter=one_form)
    """Who works on it: it becomes the task's assignee."""
    lease_seconds: int = field(default=LEASE_SECONDS, validator=between(SHORTEST_SECONDS, LONGEST_SECONDS))
    """From now on; renew before that, or the task goes back."""
    lease: str | None = field(default=None, validator=uuid_text)
    """To renew: the lease that the claim was answered with."""


@frozen(kw_only=True)
class TaskRelease:
    """Give a claimed task back before its lease ends; it goes to where it was taken from. Answered by the task."""

    task_id: str = field(validator=uuid_text)
    """Which one."""
    lease: str = field(validator=uuid_text)
    """The lease that the claim was answered with."""


@frozen(kw_only=True)
class TaskLease:
    """A task that was claimed, or whose lease was renewed."""

    task: Task
    lease: str
    """Shown to renew it or give it back; nobody else is told."""
    expires: str
    """RFC 3339 in UTC; then the task goes back, unless the lease was renewed."""
