"""A client's own copy of its tasks: loaded once, then updated by events. No I/O; tasks are plain JSON values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from attrs import define, field

from protocol.task_model import TaskStatus

__all__ = ["BoardMirror"]


@define
class BoardMirror:
    """Every event carries the whole task, so the newest event of a task suffices; apply them in the order of `seq`."""

    tasks: dict[str, dict[str, Any]] = field(factory=dict)
    """Tasks by id."""

    def load(self, tasks: Iterable[dict[str, Any]]) -> None:
        """Replaces all tasks."""
        self.tasks = {task["id"]: task for task in tasks}

    def apply(self, kind: str, data: Mapping[str, Any]) -> bool:
        """Applies one event; True if it was about a task. Applying it twice has no further effect."""
        if kind == "task_deleted":
            self.tasks.pop(data["task_id"], None)
            return True
        if kind.startswith("task_") and "task" in data:
            self.tasks[data["task"]["id"]] = data["task"]
            return True
        return False

    def columns(self, project: str | None = None) -> dict[TaskStatus, list[dict[str, Any]]]:
        """The tasks of one project, or of all, by column and in order."""
        columns: dict[TaskStatus, list[dict[str, Any]]] = {status: [] for status in TaskStatus}
        for task in self.tasks.values():
            if project in (None, task["project"]):
                columns[TaskStatus(task["status"])].append(task)
        for found in columns.values():
            found.sort(key=lambda task: (task["position"].encode(), task["id"]))
        return columns
