"""The tables of `leanvibe model`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rich.table import Table

from actors.command_line.screen import Screen, words
from actors.inference.checkpoints.inventory import InventoryEntry
from actors.inference.checkpoints.provenance import Check
from actors.own_command import command_here

__all__ = ["show_inventory", "show_verification"]


def show_inventory(entries: Iterable[InventoryEntry], *, is_here: bool = True) -> None:
    """Print one line a model; ``is_here`` says whether they are those of this machine."""
    table = Table(title="Models", title_justify="left")
    for heading in ("name", "size", "type", "provenance", "in use", "source"):
        table.add_column(
            heading, justify="right" if heading == "size" else "left", overflow="fold", no_wrap=heading == "name"
        )
    for entry in entries:
        if not entry.is_present:
            command = command_here("model", *(("embed",) if entry.name == "embedded" else ("pull", entry.name)))
            missing = f"not here; `{command}`" if is_here else "not there"
            table.add_row(words(entry.name, "dim"), "–", "", "", "", words(missing, "dim"))
            continue
        colour = "green" if entry.provenance == "verified" else "yellow"
        table.add_row(
            words(entry.name),
            _size(entry.size_bytes or 0),
            words(entry.type),
            words(entry.provenance, colour),
            "yes" if entry.is_in_use else "",
            words(entry.source),
        )
    Screen().print(table)


def show_verification(name: str, provenance: str, checks: Iterable[Check], folder: Path) -> None:
    """Print one line a check, then what to do about those that failed."""
    table = Table(title=words(f"{name} in {folder}"), title_justify="left")
    for heading in ("check", "result", "found"):
        table.add_column(heading, overflow="fold")
    actions: dict[str, None] = {}
    for check in checks:
        table.add_row(
            words(check.name),
            words("passed", "green") if check.passed else words("failed", "red"),
            words(check.detail, is_long=True),
        )
        if check.action:
            actions[check.action] = None
    console = Screen()
    console.print(table)
    colour = "green" if provenance == "verified" else "yellow"
    console.print(words("provenance: ").append_text(words(provenance, colour)))
    for action in actions:
        console.print(f"To do: {action}")


def _size(size_bytes: int) -> str:
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if size_bytes >= scale:
            return f"{size_bytes / scale:.3g} {unit}"
    return f"{size_bytes / 1e3:.3g} kB"
