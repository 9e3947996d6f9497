"""Claims of tasks by agents. Over MCP only.

A claim is a lease. Its holder renews it in time; if the holder has died, the lease expires and the task returns to the
column that it was taken from.
"""

from __future__ import annotations

from attrs import field, frozen

from protocol.task_model import Task, printed_text, uuid_text
from protocol.validation import between, length, one_form

__all__ = ["LEASE_SECONDS", "TaskClaim", "TaskLease", "TaskRelease"]

LEASE_SECONDS = 600
"""Default duration of a lease."""
SHORTEST_SECONDS = 10
LONGEST_SECONDS = 3600


@frozen(kw_only=True)
class TaskClaim:
    """Claims a task to work on it, or renews its lease. Answered by `TaskLease`."""

    task_id: str = field(validator=uuid_text)
    """Id of the task."""
    holder: str = field(validator=[length(1, 128, "characters"), printed_text], converter=one_form)
    """Name of the worker, which becomes the task's assignee."""
    lease_seconds: int = field(default=LEASE_SECONDS, validator=between(SHORTEST_SECONDS, LONGEST_SECONDS))
    """Duration from now; unless it is renewed before, the task returns."""
    lease: str | None = field(default=None, validator=uuid_text)
    """To renew: the lease from the answer to the claim."""


@frozen(kw_only=True)
class TaskRelease:
    """Returns a claimed task to its former column before its lease ends. Answered by the task."""

    task_id: str = field(validator=uuid_text)
    """Id of the task."""
    lease: str = field(validator=uuid_text)
    """The lease from the answer to the claim."""


@frozen(kw_only=True)
class TaskLease:
    """A task that was claimed, or whose lease was renewed."""

    task: Task
    lease: str
    """Secret for renewing or releasing; shown to this client only."""
    expires: str
    """RFC 3339 in UTC; the task then returns, unless the lease was renewed."""
