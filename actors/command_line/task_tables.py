"""Tasks as a terminal shows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from actors.command_line.local_time import local_time
from protocol.task_model import TaskStatus

__all__ = ["SHORT_ID", "board_table", "history_table", "task_panel", "tasks_table"]

SHORT_ID = 8
SIDE_BY_SIDE = 90
"""Characters of a line that five columns need."""
_COLOURS = {"urgent": "bold red", "high": "yellow", "medium": "", "low": "dim"}
_TITLES = {
    TaskStatus.BACKLOG: "Backlog",
    TaskStatus.TODO: "To do",
    TaskStatus.IN_PROGRESS: "In progress",
    TaskStatus.TESTING: "Testing",
    TaskStatus.DONE: "Done",
}
_SHOWN = ("project", "status", "priority", "assignee", "due", "estimate_hours", "actual_hours", "confidence", "version")


def board_table(
    columns: Mapping[TaskStatus, list[dict[str, Any]]],
    counts: Mapping[TaskStatus, int],
    limits: Mapping[TaskStatus, int],
    *,
    width: int = SIDE_BY_SIDE,
) -> RenderableType:
    """Columns side by side, or one below the other where there is no room; a heading says how full one is."""
    longest = max(
        (len(word) for tasks in columns.values() for one in tasks for word in one["title"].split()), default=0
    )
    if width < max(SIDE_BY_SIDE, len(TaskStatus) * (longest + 3) + 1):
        return Group(*_one_below_the_other(columns, counts, limits))
    table = Table(expand=True, show_lines=False)
    for status in TaskStatus:
        table.add_column(_heading(status, counts, limits), ratio=1, vertical="top")
    table.add_row(*(_cards(columns[status], counts[status]) for status in TaskStatus))
    return table


def _one_below_the_other(
    columns: Mapping[TaskStatus, list[dict[str, Any]]],
    counts: Mapping[TaskStatus, int],
    limits: Mapping[TaskStatus, int],
) -> Iterable[RenderableType]:
    for status in TaskStatus:
        yield _heading(status, counts, limits)
        if counts[status]:
            yield Padding(_cards(columns[status], counts[status]), (0, 0, 0, 2))


def _heading(status: TaskStatus, counts: Mapping[TaskStatus, int], limits: Mapping[TaskStatus, int]) -> Text:
    most = f" / {limits[status]}" if status in limits else ""
    is_full = status in limits and counts[status] >= limits[status]
    full = ", full" if is_full else ""
    return Text(f"{_TITLES[status]} ({counts[status]}{most}{full})", style="bold red" if is_full else "bold")


def _cards(tasks: list[dict[str, Any]], count: int) -> RenderableType:
    cards: list[RenderableType] = [_card(task) for task in tasks]
    if count > len(tasks):
        cards.append(Text(f"… {count - len(tasks)} more", style="dim"))
    return Group(*cards)


def _card(task: dict[str, Any]) -> Text:
    # Text, not markup: a title is somebody's words.
    card = Text(f"{task['id'][:SHORT_ID]} ", style="dim")
    card.append(task["title"], style=_COLOURS[task["priority"]])
    if task["priority"] != "medium":
        # Not by its colour alone.
        card.append(f" [{task['priority']}]", style=_COLOURS[task["priority"]])
    for claim, sign in (("is_blocked", "blocked"), ("requires_approval", "needs approval")):
        if task[claim]:
            card.append(f" [{sign}]", style="magenta")
    return card


def tasks_table(tasks: Iterable[dict[str, Any]], *, is_for_people: bool = True) -> Table:
    """Return a table with one task per line; for people, with shortened ids and without empty columns."""
    rows = list(tasks)
    names = ["id", "title", "status", "priority"]
    names += [one for one in ("tags", "due") if not is_for_people or any(task.get(one) for task in rows)]
    table = Table()
    for name in names:
        table.add_column(name, overflow="fold", no_wrap=name == "id")
    for task in rows:
        cells = {
            "id": Text(task["id"][:SHORT_ID] if is_for_people else task["id"]),
            "title": Text(task["title"]),
            "status": Text(task["status"]),
            "priority": Text(task["priority"], style=_COLOURS[task["priority"]]),
            "tags": Text(", ".join(task["tags"])),
            "due": Text(local_time(task.get("due", "")) if is_for_people else task.get("due", "")),
        }
        table.add_row(*(cells[name] for name in names))
    return table


def task_panel(task: dict[str, Any], *, is_for_people: bool = True) -> Panel:
    """Return a task in full; for people, with local times."""
    table = Table.grid(padding=(0, 2))
    for name in _SHOWN:
        if name in task:
            value = local_time(task[name]) if name == "due" and is_for_people else str(task[name])
            table.add_row(Text(name, style="bold"), Text(value))
    for name in ("tags", "dependencies"):
        if task[name]:
            table.add_row(Text(name, style="bold"), Text(", ".join(task[name])))
    for name, text in (("description", task.get("description")), ("analysis", task.get("ai_analysis"))):
        if text:
            table.add_row(Text(name, style="bold"), Text(text))
    if task["ai_analysis_status"] in ("pending", "failed"):
        table.add_row(Text("analysis", style="bold"), Text(task["ai_analysis_status"], style="yellow"))
    decision = task.get("agent_decision")
    if decision:
        said = f"{decision['approval']}: {decision['recommendation']} (confidence {decision['confidence']:.2f})"
        table.add_row(Text("decision", style="bold"), Text(said))
    return Panel(table, title=Text(task["title"]), subtitle=Text(task["id"]))


def history_table(entries: Iterable[dict[str, Any]], *, is_for_people: bool = True) -> Table:
    """Return the history of a task; for people, with local times."""
    table = Table(title="History")
    for name in ("time", "device", "what", "fields"):
        table.add_column(name)
    for entry in entries:
        time = local_time(entry["time"]) if is_for_people else entry["time"]
        table.add_row(time, entry["device_id"], entry["kind"], Text(", ".join(entry["changes"])))
    return table
