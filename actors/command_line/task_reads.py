"""`leanvibe task list`, `board` and `show`: what only looks."""

from __future__ import annotations

from typing import Any

import click

from actors.command_line.printing import print_json, print_line
from actors.command_line.screen import Screen
from actors.command_line.task_server import PAGE, Ask, Where, find, look, project_option, server_options
from actors.command_line.task_tables import board_table, history_table, task_panel, tasks_table
from actors.terminal_text import shown_document
from protocol.task_model import TaskPriority, TaskStatus

__all__ = ["PRIORITIES", "STATUSES", "board", "counts_and_limits", "list_tasks", "show"]

STATUSES = [one.value for one in TaskStatus]
PRIORITIES = [one.value for one in TaskPriority]


@click.command("list")
@click.option("--project", help="Only this board.")
@click.option("--status", type=click.Choice(STATUSES), multiple=True)
@click.option("--priority", type=click.Choice(PRIORITIES), multiple=True)
@click.option("--tag", "tags", multiple=True)
@click.option("--assignee")
@click.option("--blocked/--free", "is_blocked", default=None)
@click.option("--search", help="Text in title, description or a tag.")
@click.option("--sort", type=click.Choice(["created", "updated", "due", "priority", "position"]))
@click.option("--order", type=click.Choice(["ascending", "descending"]))
@click.option("--limit", type=click.IntRange(1, PAGE), default=50, show_default=True)
@server_options
def list_tasks(where: Where, as_json: bool, **given: Any) -> None:
    """List tasks."""

    async def work(ask: Ask) -> None:
        wanted = {name: list(value) or None if isinstance(value, tuple) else value for name, value in given.items()}
        page = await ask("task_list", **wanted)
        if as_json:
            print_json(page)
            return
        screen = Screen()
        screen.print(tasks_table(shown_document(page["tasks"]), is_for_people=screen.is_terminal))
        if "next_cursor" in page:
            print_line(f"There are more than {given['limit']}.", err=True)

    look(where, work)


@click.command()
@project_option
@server_options
def board(where: Where, as_json: bool, project: str) -> None:
    """Draw a board."""

    async def work(ask: Ask) -> None:
        whole = await ask("task_board", project=project)
        if as_json:
            print_json(whole)
            return
        whole = shown_document(whole)
        columns = {TaskStatus(one["status"]): one["tasks"] for one in whole["columns"]}
        screen = Screen()
        screen.print(board_table(columns, *counts_and_limits(whole), width=screen.width))

    look(where, work)


def counts_and_limits(whole: dict[str, Any]) -> tuple[dict[TaskStatus, int], dict[TaskStatus, int]]:
    """Return the number of tasks per column, and the WIP limits."""
    counts = {TaskStatus(one["status"]): one["count"] for one in whole["columns"]}
    return counts, {TaskStatus(one["status"]): one["limit"] for one in whole["columns"] if "limit" in one}


@click.command()
@click.argument("task_id")
@server_options
def show(where: Where, as_json: bool, task_id: str) -> None:
    """Show a task and what happened to it."""

    async def work(ask: Ask) -> None:
        found = await find(ask, task_id)
        history = await ask("task_history", task_id=found["id"])
        if as_json:
            print_json({**found, "history": history["entries"]})
            return
        screen, people = Screen(), Screen().is_terminal
        screen.print(
            task_panel(shown_document(found), is_for_people=people),
            history_table(shown_document(history["entries"]), is_for_people=people),
        )

    look(where, work)
