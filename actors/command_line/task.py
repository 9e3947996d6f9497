"""`leanvibe task`: the board in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from rich.live import Live

from actors.command_line.due_option import due_option
from actors.command_line.options import fail
from actors.command_line.printing import print_json, print_line
from actors.command_line.screen import Screen, words
from actors.command_line.task_reads import PRIORITIES, STATUSES, board, counts_and_limits, list_tasks, show
from actors.command_line.task_server import PAGE, Ask, Where, ask_of, find, look, project_option, run, server_options
from actors.command_line.task_tables import board_table, task_panel
from actors.terminal_text import one_line, shown_document
from protocol.board import BoardMirror
from protocol.task_model import TaskStatus

if TYPE_CHECKING:
    from protocol.client import Client

__all__ = ["task"]

CLEARABLE = ("description", "assignee", "due")
"""What `edit` empties where it is given as nothing."""


@click.group()
def task() -> None:
    """Add, move and follow tasks. A task is named by its id or by the beginning of it."""


task.add_command(board)
task.add_command(list_tasks)
task.add_command(show)


def _print(value: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(value)
    else:
        screen = Screen()
        screen.print(task_panel(shown_document(value), is_for_people=screen.is_terminal))


@task.command()
@click.argument("title", nargs=-1, required=True)
@click.option("--description")
@project_option
@click.option("--status", type=click.Choice(STATUSES))
@click.option("--priority", type=click.Choice(PRIORITIES))
@click.option("--tag", "tags", multiple=True)
@click.option("--assignee")
@due_option
@click.option("--depends-on", "dependencies", multiple=True, help="Id of a task that must be done before.")
@click.option("--analyze", is_flag=True, help="Let the model analyse it.")
@click.option("--force", is_flag=True, help="Go over the column's limit.")
@server_options
def add(
    where: Where, as_json: bool, title: tuple[str, ...], dependencies: tuple[str, ...], analyze: bool, **given: Any
) -> None:
    """Add a task. The words of TITLE need no quotes."""

    async def work(client: Client) -> None:
        ids = [(await find(ask_of(client), one))["id"] for one in dependencies]
        named = {"title": " ".join(title), "tags": list(given["tags"])}
        wanted = {**given, **named, "dependencies": ids, "analyze_with_ai": analyze}
        _print(await ask_of(client)("task_create", **wanted), as_json=as_json)

    run(where, work)


@task.command()
@click.argument("task_id")
@click.argument("status", type=click.Choice(STATUSES))
@click.option("--before", help="Id of the task that it shall stand just above.")
@click.option("--after", help="Id of the task that it shall stand just below.")
@click.option("--force", is_flag=True, help="Go over the column's limit.")
@server_options
def move(where: Where, as_json: bool, task_id: str, status: str, **given: Any) -> None:
    """Move a task to a column, or within its own."""
    run(where, lambda client: _move(client, task_id, status, as_json=as_json, **given))


@task.command()
@click.argument("task_id")
@server_options
def done(where: Where, as_json: bool, task_id: str) -> None:
    """Move a task to `done`."""
    run(where, lambda client: _move(client, task_id, TaskStatus.DONE.value, as_json=as_json))


async def _move(client: Client, task_id: str, status: str, *, as_json: bool, **given: Any) -> None:
    found = await find(ask_of(client), task_id)
    beside = {name: (await find(ask_of(client), given[name]))["id"] for name in ("before", "after") if given.get(name)}
    wanted = {"task_id": found["id"], "version": found["version"], "status": status, **beside}
    _print(await ask_of(client)("task_move", **wanted, force=given.get("force", False)), as_json=as_json)


@task.command()
@click.argument("task_id")
@click.argument("more", nargs=-1, metavar="")
@click.option("--title", help="Its words need no quotes where they stand at the end.")
@click.option("--description", help='"" empties it.')
@click.option("--project", help="Move to this board.")
@click.option("--status", type=click.Choice(STATUSES))
@click.option("--priority", type=click.Choice(PRIORITIES))
@click.option("--tag", "tags", multiple=True, help='All that it shall have; "" for none.')
@click.option("--assignee", help='"" empties it.')
@due_option
@click.option("--depends-on", "dependencies", multiple=True, help='Ids of all that must be done before; "" for none.')
@click.option("--force", is_flag=True, help="Go over the column's limit.")
@server_options
def edit(where: Where, as_json: bool, task_id: str, more: tuple[str, ...], force: bool, **given: Any) -> None:
    """Change fields of a task; what is not given stays."""
    if more and given["title"] is None:
        fail(
            f"{more[0]!r} belongs to nothing; a text of several words stands in quotes, as --description 'two words'",
            status=2,
        )
    if more:
        given["title"] = " ".join([given["title"], *more])
    changed = {name: value for name, value in given.items() if value not in (None, ())}
    if not changed:
        fail("nothing to change; give --title, --description, --priority or another field (--help)", status=2)
    cleared = [name for name in CLEARABLE if changed.get(name) == ""]
    changed = {name: value for name, value in changed.items() if name not in cleared}

    async def work(client: Client) -> None:
        ask = ask_of(client)
        found = await find(ask, task_id)
        if "tags" in changed:
            changed["tags"] = [one for one in changed["tags"] if one]
        if "dependencies" in changed:
            changed["dependencies"] = [(await find(ask, one))["id"] for one in changed["dependencies"] if one]
        wanted = {"task_id": found["id"], "version": found["version"], **changed, "clear": cleared, "force": force}
        _print(await ask("task_update", **wanted), as_json=as_json)

    run(where, work)


@task.command()
@click.argument("task_ids", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Also where others depend on it; they lose that.")
@server_options
def rm(where: Where, as_json: bool, task_ids: tuple[str, ...], yes: bool, force: bool) -> None:
    """Delete tasks for good."""

    found: dict[str, dict[str, Any]] = {}

    async def read(ask: Ask) -> None:
        for beginning in task_ids:
            one = await find(ask, beginning)
            found[one["id"]] = one

    async def work(client: Client) -> None:
        ask = ask_of(client)
        for identifier, one in found.items():
            answer = await ask("task_delete", task_id=identifier, version=one["version"], force=force)
            if as_json:
                print_json(answer)
            else:
                print_line(f"deleted {identifier}  {one_line(one['title'])}")

    look(where, read)
    # Between two connections: a question inside of one would hold its loop, and Ctrl-C with it.
    for identifier, one in found.items():
        if not yes:
            click.confirm(one_line(f"Delete {identifier[:8]} {one['title']}?"), abort=True, err=True)
    run(where, work)


@task.command()
@project_option
@server_options
def watch(where: Where, as_json: bool, project: str) -> None:
    """Follow a board live, until Ctrl-C. With --json, one event a line."""
    screen = Screen()
    lives: list[Live] = []

    def say(text: str) -> None:
        """Above the board where there is one: written past it, it would be taken for a row of it."""
        if lives and screen.is_terminal:
            screen.print(words(f"leanvibe: {text}", "yellow"))
        else:
            print_line(f"leanvibe: {text}", style="yellow", err=True)

    async def work(client: Client) -> None:
        async with client.events() as events:
            if as_json:
                async for event in events:
                    kind = getattr(event, "type", "snapshot")
                    print_json({"type": kind, "seq": event.seq, **event.data})
                return
            mirror = BoardMirror()
            limits = await _load(client, mirror, project)
            try:
                with Live(console=screen, auto_refresh=False, transient=True) as live:
                    lives.append(live)
                    try:
                        live.update(_drawn(mirror, limits, project), refresh=True)
                        async for event in events:
                            kind = getattr(event, "type", None)
                            if kind is None:
                                # Events were lost on the way.
                                limits = await _load(client, mirror, project)
                            else:
                                mirror.apply(kind, event.data)
                            live.update(_drawn(mirror, limits, project), refresh=True)
                    finally:
                        # At its end rich would draw the whole board once more, and could not take back what has left the screen.
                        live.update("", refresh=True)
            finally:
                screen.print(_drawn(mirror, limits, project))

    run(where, work, follows=True, say=say)


async def _load(client: Client, mirror: BoardMirror, project: str) -> dict[TaskStatus, int]:
    """Fill the mirror with all tasks of a board; returns the limits of its columns."""
    whole = await ask_of(client)("task_board", project=project, limit=PAGE)
    tasks = [one for column in whole["columns"] for one in column["tasks"]]
    for column in whole["columns"]:
        cursor = column.get("next_cursor")
        while cursor is not None:
            page = await ask_of(client)(
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
    return counts_and_limits(whole)[1]


def _drawn(mirror: BoardMirror, limits: dict[TaskStatus, int], project: str) -> Any:
    columns = mirror.columns(project)
    shown = {status: shown_document(tasks) for status, tasks in columns.items()}
    return board_table(shown, {status: len(found) for status, found in columns.items()}, limits, width=Screen().width)
