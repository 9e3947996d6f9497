"""`leanvibe inspect`: look into the live supervision tree over the server's Unix socket."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from actors.command_line.inspection_socket import ask_socket, socket_lines
from actors.command_line.options import ReachingGroup, data_dir_option, running_server, settings_from
from actors.command_line.printing import end_line, print_json, print_line
from actors.command_line.screen import Screen, words
from actors.inspection.server_file import ServerFile
from actors.terminal_text import one_line, shown_document

__all__ = ["inspect"]

REDRAW_SECONDS = 0.5
_COLOURS = {
    "idle": "green",
    "busy": "cyan",
    "running": "green",
    "suspended": "magenta",
    "starting": "yellow",
    "backing_off": "yellow",
    "ended": "red",
    "stuck": "bold red",
    "stopped": "dim",
}


@click.group(cls=ReachingGroup)
@data_dir_option
@click.pass_context
def inspect(context: click.Context, data_dir: Path | None) -> None:
    """Look into the live supervision tree."""
    context.obj = settings_from(data_dir=data_dir)


@inspect.command()
@click.option("--json", "as_json", is_flag=True)
@click.option("--watch", is_flag=True, help="Redraw until Ctrl-C.")
@click.option("--stacks", is_flag=True, help="Show where each actor waits.")
@click.pass_obj
def tree(settings: Any, as_json: bool, watch: bool, stacks: bool) -> None:
    """Supervisors, children, state, mailboxes, restarts."""
    if as_json:
        print_json(_one(settings, {"command": "tree", "stacks": stacks}))
        return
    console = Screen()
    if not watch:
        console.print(_drawn(_one(settings, {"command": "tree", "stacks": stacks}), stacks))
        return
    try:
        with Live(console=console, auto_refresh=False, screen=console.is_terminal) as live:
            while True:
                live.update(_drawn(_one(settings, {"command": "tree", "stacks": stacks}), stacks), refresh=True)
                time.sleep(REDRAW_SECONDS)
    except KeyboardInterrupt:
        return


@inspect.command()
@click.option("--actor", "path", required=True, help="Path of the actor, as the tree shows it.")
@click.option("--rate", type=float, default=50.0, show_default=True, help="Most messages a second.")
@click.option("--max", "maximum", type=int, default=1000, show_default=True, help="Stop after this many.")
@click.option("--payload", is_flag=True, help="Show message contents too; they may hold people's text.")
@click.option("--json", "as_json", is_flag=True)
@click.pass_obj
def trace(settings: Any, path: str, rate: float, maximum: int, payload: bool, as_json: bool) -> None:
    """Messages in and out of one actor, until the limit or Ctrl-C."""
    request = {"command": "trace", "path": path, "rate": rate, "maximum": maximum, "payload": payload}
    arrows = {"in": "→", "ask": "⇄", "out": "←"}
    try:
        for line in _lines(settings, request, seconds=None):
            if as_json:
                print_json(line)
            elif "direction" in line:
                other = f" {line['other']}" if line["other"] else ""
                said = f"{line['seconds']:9.3f}  {arrows[line['direction']]} {line['message_type']}{other}"
                print_line(one_line(said + (f"  {line['message']}" if "message" in line else "")))
            elif line.get("ended"):
                print_line(f"limit reached; {line['skipped']} messages over the rate were skipped", err=True)
            sys.stdout.flush()
    except KeyboardInterrupt:
        end_line()


@inspect.command()
@click.argument("path")
@click.option("--json", "as_json", is_flag=True)
@click.pass_obj
def state(settings: Any, path: str, as_json: bool) -> None:
    """The actor's own redacted snapshot, or what it is busy with."""
    answer = _one(settings, {"command": "state", "path": path})
    if as_json:
        print_json(answer)
    elif "snapshot" in answer:
        table = Table(title=words(path), show_header=False)
        for name, value in answer["snapshot"].items():
            table.add_row(words(name), words(value, is_long=True))
        Screen().print(table)
    else:
        answer = shown_document(answer)
        print_line(f"{path} is busy with {answer['busy_with']} for {answer['age_seconds'] or 0:.1f} s")
        for line in answer["stack"]:
            print_line(f"  {line}")


@inspect.command()
@click.argument("path")
@click.option("--json", "as_json", is_flag=True)
@click.pass_obj
def suspend(settings: Any, path: str, as_json: bool) -> None:
    """Let an actor take no more messages."""
    answer = _one(settings, {"command": "suspend", "path": path})
    _say(answer, f"suspended {answer['suspended']}", as_json=as_json)


@inspect.command()
@click.argument("path")
@click.option("--json", "as_json", is_flag=True)
@click.pass_obj
def resume(settings: Any, path: str, as_json: bool) -> None:
    """Let a suspended actor go on."""
    answer = _one(settings, {"command": "resume", "path": path})
    _say(answer, f"resumed {answer['resumed']}", as_json=as_json)


@inspect.command()
@click.argument("path")
@click.option("--json", "as_json", is_flag=True)
@click.pass_obj
def restart(settings: Any, path: str, as_json: bool) -> None:
    """Stop a child in order and start it again."""
    answer = _one(settings, {"command": "restart", "path": path})
    _say(answer, f"restarted {answer['restarted']}, now incarnation {answer['incarnation']}", as_json=as_json)


def _say(answer: dict[str, Any], words_of_it: str, *, as_json: bool) -> None:
    if as_json:
        print_json(answer)
    else:
        print_line(words_of_it)


@inspect.command(name="dead-letters")
@click.option("--payload", is_flag=True, help="Show message contents too; they may hold people's text.")
@click.option("--json", "as_json", is_flag=True)
@click.pass_obj
def dead_letters(settings: Any, payload: bool, as_json: bool) -> None:
    """Messages that were not handled."""
    answer = _one(settings, {"command": "dead_letters", "payload": payload})
    if as_json:
        print_json(answer)
        return
    counts = ", ".join(f"{count} {reason}" for reason, count in answer["counts"].items()) or "none"
    table = Table(title=f"dead letters: {answer['total']} ({counts})")
    for name in ("age", "for", "message", "reason"):
        table.add_column(name)
    for one in shown_document(answer["last"]):
        table.add_row(
            f"{one['age_seconds']:.1f} s", one["path"], one.get("message") or one["message_type"], one["reason"]
        )
    Screen().print(table)


# --- the socket ---------------------------------------------------------------------------------------


def _one(settings: Any, request: dict[str, Any]) -> dict[str, Any]:
    return ask_socket(_server(settings), request)


def _lines(settings: Any, request: dict[str, Any], *, seconds: float | None) -> Iterator[dict[str, Any]]:
    return socket_lines(_server(settings), request, seconds=seconds)


def _server(settings: Any) -> ServerFile:
    return running_server(settings)


# --- drawing ------------------------------------------------------------------------------------------


def _drawn(answer: dict[str, Any], stacks: bool) -> Group:
    answer = shown_document(answer)
    table = Table(box=None, pad_edge=False)
    for name in ("place", "kind", "state", "inc", "restarts", "mailbox", "msg/s", "doing", "up"):
        table.add_column(name, justify="right" if name in ("inc", "restarts", "mailbox", "msg/s", "up") else "left")
    _add_rows(table, answer["tree"], "", stacks)
    words = "ready" if answer["is_ready"] else "not ready: " + "; ".join(answer["reasons"])
    footer = Text(f"{words} · {answer['dead_letters']} dead letters · {answer['slow_steps']} slow steps", style="dim")
    return Group(table, footer)


def _add_rows(table: Table, node: dict[str, Any], indent: str, stacks: bool) -> None:
    mailbox = node["mailbox"]
    name = node["path"].rsplit("/", 1)[-1]
    window = f"/{node['restarts_in_window']} of {node['intensity']}" if node["intensity"] is not None else ""
    dropped = f" -{mailbox['dropped']}" if mailbox and mailbox["dropped"] else ""
    doing = node["current_message"] or (node["last_error"] or "" if node["state"] in ("backing_off", "ended") else "")
    if node["current_age_seconds"]:
        doing += f" {node['current_age_seconds']:.1f}s"
    table.add_row(
        indent + name,
        node["kind"],
        Text(node["state"], style=_COLOURS.get(node["state"], "")),
        str(node["incarnation"]),
        f"{node['restarts']}{window}",
        f"{mailbox['used']}/{mailbox['capacity']} ^{mailbox['peak']}{dropped}" if mailbox else "",
        f"{node['messages_per_second']:.0f}" if "messages_per_second" in node else "",
        doing[:60],
        "" if node["uptime_seconds"] is None else f"{node['uptime_seconds']:.0f}s",
    )
    if stacks:
        for line in node["stack"][-4:]:
            table.add_row(indent + "    " + line.rsplit("/", 1)[-1], style="dim")
    for child in node["children"]:
        _add_rows(table, child, indent + "  ", stacks)
