"""`leanvibe conversations`: what the server keeps of `chat` and of others who name a conversation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
from rich.table import Table

from actors.command_line.local_time import local_time
from actors.command_line.options import (
    ReachingGroup,
    client_name_default,
    client_option,
    data_dir_option,
    fail,
    settings_from,
)
from actors.command_line.place import Place, one_of_prefix, place_of
from actors.command_line.printing import AnswerPrinter, print_json, print_line
from actors.command_line.screen import Screen, words
from actors.settings import Settings
from actors.terminal_text import one_line, shown_document

__all__ = ["conversations"]


@click.group(cls=ReachingGroup)
@data_dir_option
@client_option
@click.pass_context
def conversations(context: click.Context, data_dir: Path | None, client_id: str | None) -> None:
    """List, show, export and remove conversations. One is named by its name or by the beginning of it."""
    context.obj = (settings_from(data_dir=data_dir), client_id or client_name_default())


def _place(found: tuple[Settings, str]) -> Place:
    return place_of(*found, "conversations")


def _all(place: Place) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    after = None
    while True:
        page = place.call("GET", after=after)
        found += page["conversations"]
        after = page.get("next")
        if after is None:
            return found


def _named(place: Place, beginning: str) -> str:
    """The whole name; one that is whole already needs no other."""
    known = [(one["conversation"], f"{one['turns']} turns, {one['updated']}") for one in _all(place)]
    if any(name == beginning for name, _ in known):
        return beginning
    return one_of_prefix(beginning, known, what="conversation", word="name")


def _turns(place: Place, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    after = None
    while True:
        page = place.call("GET", f"/{quote(name, safe='')}", after=after)
        found += page["turns"]
        after = page.get("next")
        if after is None:
            return found


@conversations.command("list")
@click.option("--json", "as_json", is_flag=True)
@click.pass_obj
def list_(found: tuple[Settings, str], as_json: bool) -> None:
    """List conversations."""
    listed = _all(_place(found))
    if as_json:
        print_json(listed)
        return
    screen = Screen()
    if not listed and screen.is_terminal:
        screen.print("no conversations; `leanvibe chat` begins one")
        return
    table = Table()
    for name in ("name", "turns", "updated"):
        table.add_column(name, overflow="fold", no_wrap=name == "updated")
    for one in shown_document(listed):
        updated = local_time(one["updated"]) if screen.is_terminal else one["updated"]
        table.add_row(one["conversation"], str(one["turns"]), updated)
    screen.print(table)


@conversations.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True)
@click.pass_obj
def show(found: tuple[Settings, str], name: str, as_json: bool) -> None:
    """Show what was said."""
    place = _place(found)
    turns = _turns(place, _named(place, name))
    if as_json:
        print_json(turns)
        return
    screen = Screen()
    for one in turns:
        said = "you" if one["role"] == "user" else one["role"]
        ways = one.get("ways")
        way = f", {ways.index(one['number']) + 1} of {len(ways)}" if ways else ""
        screen.print(words(f"{said}, {one['time']}{way}", "bold"))
        screen.print(words(one["content"], is_long=True), soft_wrap=True)
        for line in one.get("steps") or ():
            screen.print(words(f"· {line}", "dim"))
        screen.print()


@conversations.command()
@click.argument("names", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True)
@click.pass_obj
def rm(found: tuple[Settings, str], names: tuple[str, ...], yes: bool, as_json: bool) -> None:
    """Forget conversations for good."""
    place = _place(found)
    for name in dict.fromkeys(_named(place, one) for one in names):
        if not yes:
            click.confirm(one_line(f"Forget {name} for good?"), abort=True, err=True)
        answer = place.call("DELETE", f"/{quote(name, safe='')}")
        if as_json:
            print_json(answer)
        else:
            print_line(f"forgot {name}, {answer['turns']} turns")


@conversations.command()
@click.argument("name")
@click.option("--format", "kind", type=click.Choice(["markdown", "json"]), default="markdown", show_default=True)
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Into this file, which must be new.")
@click.pass_obj
def export(found: tuple[Settings, str], name: str, kind: str, output: Path | None) -> None:
    """Write a conversation as Markdown or JSON."""
    place = _place(found)
    whole = _named(place, name)
    text = place.text(f"/{quote(whole, safe='')}/export", format=kind)
    if output is None:
        if kind == "json":
            print_json(json.loads(text))
            return
        printer = AnswerPrinter()
        printer.add(text.removesuffix("\n"))
        printer.end()
        return
    try:
        with output.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        fail(f"{output} is there already; choose another name", status=2)
    except OSError as error:
        fail(f"{output} cannot be written: {error.strerror}")
    print_line(f"{whole} is in {output}", err=True)
