"""Records the effects of a change in its transaction: a history row, events of the client's log, and triggers."""

from __future__ import annotations

from typing import Any

import attrs
from attrs import define, field
from sqlalchemy import Connection, insert

from actors.storage.messages import LogEvent, Outcome, Trigger
from actors.tasks.context import CommandContext
from actors.tasks.rows import StoredTask, dependencies_of, dependents_of, find_task
from actors.tasks.rules import is_blocked
from actors.tasks.tables import history
from protocol.codec import encode, unstructure
from protocol.events import Priority
from protocol.task_model import Task, TaskPriority, TaskStatus

__all__ = ["ChangeRecorder", "changes_between"]

PRIORITIES = {
    TaskPriority.LOW: Priority.LOW,
    TaskPriority.MEDIUM: Priority.MEDIUM,
    TaskPriority.HIGH: Priority.HIGH,
    TaskPriority.URGENT: Priority.HIGH,
}
DERIVED = frozenset({"id", "client_id", "version", "created", "updated", "is_blocked", "requires_approval"})
TOLD = tuple(one.name for one in attrs.fields(Task) if one.name not in DERIVED)
"""Fields whose changes are recorded in the history."""

# Built once: building a statement costs more than running it.
_INSERT = insert(history)


@define
class ChangeRecorder:
    """Collects events and triggers for an operation's outcome."""

    events: list[LogEvent] = field(factory=list)
    triggers: list[Trigger] = field(factory=list)
    _newest: tuple[Task, dict[str, Any]] | None = field(default=None, init=False)

    def outcome(self, value: Any) -> Outcome[Any]:
        """Build the operation's outcome."""
        return Outcome(value=value, events=tuple(self.events), triggers=tuple(self.triggers))

    def plain(self, task: Task) -> dict[str, Any]:
        """Return the task as JSON values, which must not be modified: they are shared by all events."""
        if self._newest is None or self._newest[0] is not task:
            self._newest = (task, unstructure(task))
        return self._newest[1]

    def publish(self, kind: str, task: Task) -> None:
        """Record an event with the complete task."""
        self.events.append(
            LogEvent(type=kind, channel="tasks", priority=PRIORITIES[task.priority], data={"task": self.plain(task)})
        )

    def deleted(self, task: Task) -> None:
        """Record the deletion of a task."""
        self.events.append(
            LogEvent(
                type="task_deleted", channel="tasks", priority=PRIORITIES[task.priority], data={"task_id": task.id}
            )
        )

    def trigger(self, kind: str, task: Task, *, is_own_action: bool = False, **data: Any) -> None:
        """Record a trigger for the notifications service."""
        self.triggers.append(
            Trigger(
                kind=kind,
                priority=PRIORITIES[task.priority],
                data={"task": self.plain(task), **data},
                is_own_action=is_own_action,
            )
        )

    def record_change(self, before: Task | None, after: Task) -> None:
        """Record the consequences of a change: the task became blocked or unblocked, or needs a decision."""
        if after.is_blocked and (before is None or not before.is_blocked):
            self._blocked(after)
        if before is not None and before.is_blocked and not after.is_blocked:
            self.publish("task_unblocked", after)
        if after.requires_approval and (before is None or not before.requires_approval):
            self.trigger("approval_needed", after)

    def dependents(self, connection: Connection, before: Task, after: Task) -> None:
        """Notify the tasks that depend on one that reached or left `done`."""
        was_open, is_open = is_blocked([before.status]), is_blocked([after.status])
        if was_open == is_open:
            return
        for task_id in dependents_of(connection, after.id):
            stored = find_task(connection, after.client_id, task_id)
            assert stored is not None, "a dependency belongs to a task of the same client"
            if not stored.task.is_blocked:
                self.publish("task_unblocked", stored.task)
            elif is_open and _waits_for_one_only(connection, stored.task):
                self._blocked(stored.task)

    def _blocked(self, task: Task) -> None:
        self.publish("task_blocked", task)
        self.trigger("task_blocked", task, is_own_action=True)

    def write_history(
        self,
        connection: Connection,
        context: CommandContext[Any],
        kind: str,
        before: StoredTask | None,
        after: StoredTask,
    ) -> None:
        """Insert a row with the changes, and the time that the task spent in its column."""
        old = None if before is None else before.task
        task = after.task
        left = before is not None and (before.task.status is not task.status or kind == "deleted")
        came = old is None or old.status is not task.status
        done_now = came and old is not None and task.status is TaskStatus.DONE
        changes = changes_between(None if old is None else unstructure(old), self.plain(task))
        connection.execute(
            _INSERT,
            {
                "client_id": task.client_id,
                "task_id": task.id,
                "project": task.project,
                "version": task.version,
                "kind": kind,
                "time_ms": context.now_ms,
                "device_id": context.device_id,
                "from_status": old.status.value if left and old is not None else None,
                "to_status": task.status.value if came else None,
                # Never negative, whatever the clock was at the beginning.
                "stay_ms": max(0, context.now_ms - before.entered_ms) if left and before is not None else None,
                "cycle_ms": max(0, context.now_ms - after.started_ms)
                if done_now and after.started_ms is not None
                else None,
                "changes": encode(changes).decode(),
            },
        )


def _waits_for_one_only(connection: Connection, task: Task) -> bool:
    """True if exactly one dependency is open, so that the task was unblocked until now."""
    states = dependencies_of(connection, [task.id])[task.id]
    return sum(1 for status in states.values() if is_blocked([status])) == 1


def changes_between(before: dict[str, Any] | None, after: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Compare a task's JSON values by field. A missing value was empty."""
    if before is None:
        return {name: {"after": after[name]} for name in TOLD if after.get(name)}
    changed: dict[str, dict[str, Any]] = {}
    for name in TOLD:
        if before.get(name) != after.get(name):
            changed[name] = {
                side: values[name] for side, values in (("before", before), ("after", after)) if name in values
            }
    return changed
