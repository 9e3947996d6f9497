"""`leanvibe doctor`: find what keeps the server from running well, and say what to do."""

from __future__ import annotations

from pathlib import Path

import click
from attrs import asdict
from rich.table import Table

from actors.command_line.checkup import OK, PROBLEM, WARNING, Finding, findings
from actors.command_line.everywhere import Remembered, data_dir_option
from actors.command_line.printing import print_json, print_line
from actors.command_line.screen import Screen, words
from actors.settings import SettingsFault, load_settings

__all__ = ["doctor"]

_COLOURS = {OK: "green", WARNING: "yellow", PROBLEM: "red"}


@click.command()
@data_dir_option
@click.option("--config", type=click.Path(path_type=Path), help="Settings file. [default: leanvibe.toml here]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(data_dir: Path | None, config: Path | None, as_json: bool) -> None:
    """Check Python, processor, memory, clock, folders, ports, database and models. Nothing is changed.

    Exit status 0 when nothing was found that keeps the server from running, otherwise 1.

    Example: leanvibe doctor
    """
    folder = data_dir or Remembered.value(Remembered.DATA_DIR)
    try:
        settings = load_settings({} if folder is None else {"data_dir": folder}, config=config)
        found = list(findings(settings))
    except SettingsFault as error:
        # Nothing else can be looked at: where it all lies is what the settings say.
        found = [Finding("settings", PROBLEM, str(error), "mend it, then run this again")]
    problems = sum(one.state == PROBLEM for one in found)
    if as_json:
        print_json({"problems": problems, "findings": [asdict(one) for one in found]})
    else:
        table = Table()
        for heading in ("check", "state", "found"):
            table.add_column(heading, overflow="fold")
        for one in found:
            said = one.said if not one.advice else f"{one.said}. To do: {one.advice}"
            table.add_row(words(one.check), words(one.state, _COLOURS[one.state]), words(said))
        Screen().print(table)
        warnings = sum(one.state == WARNING for one in found)
        print_line(f"{problems} problems, {warnings} warnings", style="red" if problems else None)
    raise SystemExit(1 if problems else 0)
