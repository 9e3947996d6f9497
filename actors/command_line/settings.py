"""`leanvibe settings`: every setting with its value, where that comes from, and what it would be by default."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import attrs
import click
from rich.table import Table

from actors.command_line.options import Remembered, data_dir_option, fail, settings_from
from actors.command_line.printing import print_json
from actors.command_line.screen import Screen, words
from actors.settings import CONFIG_NAME, Settings

__all__ = ["settings"]

HIDDEN = "(hidden)"


@click.group()
def settings() -> None:
    """Show every setting and where it comes from."""


@settings.command()
@click.argument("names", nargs=-1)
@data_dir_option
@click.option("--config", type=click.Path(path_type=Path), help="Settings file. [default: leanvibe.toml here]")
@click.option("--json", "as_json", is_flag=True)
def show(names: tuple[str, ...], data_dir: Path | None, config: Path | None, as_json: bool) -> None:
    """Show NAMES, or all: value, source and default. What may hold a password is hidden."""
    found = settings_from(data_dir=data_dir, config=config)
    fields = {one.name: one for one in attrs.fields(Settings)}
    if unknown := [name for name in names if name not in fields]:
        fail(f"there is no setting {unknown[0]!r}; `leanvibe settings show` has them all", status=2)
    in_file = _keys_of(config or Path(CONFIG_NAME))
    is_given = data_dir is not None or Remembered.value(Remembered.DATA_DIR) is not None
    rows = []
    for name, one in fields.items():
        if names and name not in names:
            continue
        default: Any = one.default
        if hasattr(default, "factory"):
            default = default.factory()
        if name == "data_dir" and is_given:
            source = "command line"
        elif f"LEANVIBE_{name.upper()}" in os.environ:
            source = f"LEANVIBE_{name.upper()}"
        elif name in in_file:
            source = str(config or CONFIG_NAME)
        else:
            source = "default"
        value = getattr(found, name)
        # What is not shown in a stack is not shown here.
        is_secret = not one.repr and value is not None
        rows.append(
            {
                "name": name,
                "value": HIDDEN if is_secret else _plain(value),
                "source": source,
                "default": _plain(default),
            }
        )
    if as_json:
        print_json(rows)
        return
    table = Table()
    table.add_column("name", no_wrap=True)
    for heading in ("value", "source", "default"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        # A default that holds stands there once.
        default = "" if row["source"] == "default" else _shown(row["default"])
        table.add_row(*(words(_shown(row[heading])) for heading in ("name", "value", "source")), words(default))
    Screen().print(table)


def _keys_of(file: Path) -> set[str]:
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return set()
    section = content.get("leanvibe", {})
    return {str(key).replace("-", "_") for key in section} if isinstance(section, dict) else set()


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _shown(value: Any) -> str:
    if value is None or value in ("", []):
        return "–"
    return ", ".join(value) if isinstance(value, list) else str(value)
