"""`leanvibe task`: the board in the terminal."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.live import Live

from actors.command_line.ask import run_until_interrupted
from actors.command_line.credentials import credentials_elsewhere, credentials_here
from actors.command_line.due_option import due_option
from actors.command_line.options import (
    address_of,
    client_name_default,
    data_dir_option,
    fail,
    find_server,
    settings_from,
)
from actors.command_line.outage import Outage
from actors.command_line.printing import print_json, print_line
from actors.command_line.screen import Screen
from actors.command_line.task_tables import board_table, history_table, task_panel, tasks_table
from actors.terminal_text import shown_document
from protocol.board import BoardMirror
from protocol.client import Client, connect
from protocol.task_model import TaskPriority, TaskStatus

__all__ = ["task"]

Function = TypeVar("Function", bound=Callable[..., Any])
STATUSES = [one.value for one in TaskStatus]
PRIORITIES = [one.value for one in TaskPriority]
PAGE = 100
WHOLE_ID = 36


@click.group()
def task() -> None:
    """Add, move and follow tasks. A task is named by its id or by the beginning of it."""


def _server_options(function: Function) -> Function:
    """Which server, and how to answer."""
    function = click.option("--json", "as_json", is_flag=True, help="Print what the server answered.")(function)
    function = click.option("--url", help="WebSocket address of a server elsewhere.")(function)
    return data_dir_option(function)


def _project_option(function: Function) -> Function:
    return click.option("--project", default="default", show_default=True, help="Which board.")(function)


def _run(
    data_dir: Path | None, url: str | None, work: Callable[[Client], Awaitable[None]], *, follows: bool = False
) -> None:
    """Run it on a connection to the server."""
    settings = settings_from(data_dir=data_dir)
    server = find_server(settings) if url is None else None
    if url is None:
        if server is None:
            fail(f"no server runs on {settings.data_dir}; start one with `leanvibe serve`", status=3)
        credentials = credentials_here(settings, server)
        address: str | Callable[[], str] = address_of(settings, server)
    else:
        credentials, address = credentials_elsewhere(settings, url), url

    async def connected() -> None:
        async with connect(
            address,
            client_id=client_name_default(),
            device_id="terminal",
            agent="leanvibe task",
            token=credentials.token,
            ssl_context=credentials.tls,
            reconnect=follows,
            events=follows,
            on_change=Outage().take if follows else None,
        ) as client:
            await work(client)

    run_until_interrupted(connected)


async def _ask(client: Client, kind: str, **data: Any) -> dict[str, Any]:
    """The answer of a command; what is None is left out."""
    answer = await client.command(kind, {name: value for name, value in data.items() if value is not None})
    value: dict[str, Any] = answer["data"]
    return value


async def _find(client: Client, beginning: str) -> dict[str, Any]:
    """The one task whose id begins so; anything else ends the command."""
    if len(beginning) == WHOLE_ID:
        return await _ask(client, "task_get", task_id=beginning.lower())
    found: list[dict[str, Any]] = []
    cursor = None
    while True:
        page = await _ask(client, "task_list", limit=PAGE, cursor=cursor)
        found += [one for one in page["tasks"] if one["id"].startswith(beginning.lower())]
        cursor = page.get("next_cursor")
        if cursor is None:
            break
    if len(found) != 1:
        fail(f"{len(found) or 'no'} tasks have an id that begins with {beginning!r}")
    return found[0]


def _print(value: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(value)
    else:
        Screen().print(task_panel(shown_document(value)))


@task.command()
@click.argument("title")
@click.option("--description")
@_project_option
@click.option("--status", type=click.Choice(STATUSES))
@click.option("--priority", type=click.Choice(PRIORITIES))
@click.option("--tag", "tags", multiple=True)
@click.option("--assignee")
@due_option
@click.option("--depends-on", "dependencies", multiple=True, help="Id of a task that must be done before.")
@click.option("--analyze", is_flag=True, help="Let the model analyse it.")
@click.option("--force", is_flag=True, help="Go over the column's limit.")
@_server_options
def add(
    data_dir: Path | None, url: str | None, as_json: bool, dependencies: tuple[str, ...], analyze: bool, **given: Any
) -> None:
    """Add a task."""

    async def work(client: Client) -> None:
        ids = [(await _find(client, one))["id"] for one in dependencies]
        wanted = {**given, "tags": list(given["tags"]), "dependencies": ids, "analyze_with_ai": analyze}
        _print(await _ask(client, "task_create", **wanted), as_json=as_json)

    _run(data_dir, url, work)


@task.command("list")
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
@_server_options
def list_tasks(data_dir: Path | None, url: str | None, as_json: bool, **given: Any) -> None:
    """List tasks."""

    async def work(client: Client) -> None:
        wanted = {name: list(value) or None if isinstance(value, tuple) else value for name, value in given.items()}
        page = await _ask(client, "task_list", **wanted)
        if as_json:
            print_json(page)
            return
        Screen().print(tasks_table(shown_document(page["tasks"])))
        if "next_cursor" in page:
            print_line(f"There are more than {given['limit']}.")

    _run(data_dir, url, work)


@task.command()
@_project_option
@_server_options
def board(data_dir: Path | None, url: str | None, as_json: bool, project: str) -> None:
    """Draw a board."""

    async def work(client: Client) -> None:
        whole = await _ask(client, "task_board", project=project)
        if as_json:
            print_json(whole)
            return
        whole = shown_document(whole)
        columns = {TaskStatus(one["status"]): one["tasks"] for one in whole["columns"]}
        Screen().print(board_table(columns, *_counts_and_limits(whole)))

    _run(data_dir, url, work)


@task.command()
@click.argument("task_id")
@click.argument("status", type=click.Choice(STATUSES))
@click.option("--before", help="Id of the task that it shall stand just above.")
@click.option("--after", help="Id of the task that it shall stand just below.")
@click.option("--force", is_flag=True, help="Go over the column's limit.")
@_server_options
def move(data_dir: Path | None, url: str | None, as_json: bool, task_id: str, status: str, **given: Any) -> None:
    """Move a task to a column, or within its own."""
    _run(data_dir, url, lambda client: _move(client, task_id, status, as_json=as_json, **given))


@task.command()
@click.argument("task_id")
@_server_options
def done(data_dir: Path | None, url: str | None, as_json: bool, task_id: str) -> None:
    """Move a task to `done`."""
    _run(data_dir, url, lambda client: _move(client, task_id, TaskStatus.DONE.value, as_json=as_json))


async def _move(client: Client, task_id: str, status: str, *, as_json: bool, **given: Any) -> None:
    found = await _find(client, task_id)
    beside = {name: (await _find(client, given[name]))["id"] for name in ("before", "after") if given.get(name)}
    wanted = {"task_id": found["id"], "version": found["version"], "status": status, **beside}
    _print(await _ask(client, "task_move", **wanted, force=given.get("force", False)), as_json=as_json)


@task.command()
@click.argument("task_id")
@_server_options
def show(data_dir: Path | None, url: str | None, as_json: bool, task_id: str) -> None:
    """Show a task and what happened to it."""

    async def work(client: Client) -> None:
        found = await _find(client, task_id)
        history = await _ask(client, "task_history", task_id=found["id"])
        if as_json:
            print_json({**found, "history": history["entries"]})
            return
        Screen().print(task_panel(shown_document(found)), history_table(shown_document(history["entries"])))

    _run(data_dir, url, work)


@task.command()
@_project_option
@_server_options
def watch(data_dir: Path | None, url: str | None, as_json: bool, project: str) -> None:
    """Follow a board live, until Ctrl-C. With --json, one event a line."""

    async def work(client: Client) -> None:
        async with client.events() as events:
            if as_json:
                async for event in events:
                    kind = getattr(event, "type", "snapshot")
                    print_json({"type": kind, "seq": event.seq, **event.data})
                return
            mirror = BoardMirror()
            limits = await _load(client, mirror, project)
            with Live(console=Screen(), auto_refresh=False) as live:
                live.update(_drawn(mirror, limits, project), refresh=True)
                async for event in events:
                    kind = getattr(event, "type", None)
                    if kind is None:
                        # Events were lost on the way.
                        limits = await _load(client, mirror, project)
                    else:
                        mirror.apply(kind, event.data)
                    live.update(_drawn(mirror, limits, project), refresh=True)

    _run(data_dir, url, work, follows=True)


async def _load(client: Client, mirror: BoardMirror, project: str) -> dict[TaskStatus, int]:
    """Fill the mirror with all tasks of a board; returns the limits of its columns."""
    whole = await _ask(client, "task_board", project=project, limit=PAGE)
    tasks = [one for column in whole["columns"] for one in column["tasks"]]
    for column in whole["columns"]:
        cursor = column.get("next_cursor")
        while cursor is not None:
            page = await _ask(
                client,
                "task_list",
                project=project,
                status=[column["status"]],
                sort="position",
                order="ascending",
                limit=PAGE,
                cursor=cursor,
            )
            tasks += page["tasks"]
            cursor = page.get("next_cursor")
    mirror.load(tasks)
    return _counts_and_limits(whole)[1]


def _counts_and_limits(whole: dict[str, Any]) -> tuple[dict[TaskStatus, int], dict[TaskStatus, int]]:
    counts = {TaskStatus(one["status"]): one["count"] for one in whole["columns"]}
    return counts, {TaskStatus(one["status"]): one["limit"] for one in whole["columns"] if "limit" in one}


def _drawn(mirror: BoardMirror, limits: dict[TaskStatus, int], project: str) -> Any:
    columns = mirror.columns(project)
    shown = {status: shown_document(tasks) for status, tasks in columns.items()}
    return board_table(shown, {status: len(found) for status, found in columns.items()}, limits)
