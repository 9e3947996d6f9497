"""`leanvibe model measure`: make the canary values that ship with the code, for a model that it names."""

from __future__ import annotations

from pathlib import Path

import click

from actors.command_line import model_work
from actors.command_line.model_work import cache_dir_option, json_option, model_errors, pulled, staged
from actors.command_line.options import fail, settings_from
from actors.command_line.printing import json_text, print_line
from actors.inference.checkpoints.catalogue import full_name, short_names
from actors.inference.checkpoints.shipped_canaries import TABLE, write_shipped

__all__ = ["measure"]


@click.command()
@click.argument("name")
@click.option("--revision", help="Branch, tag or commit; it is pinned to the commit. [default: main]")
@click.option(
    "--table",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The table to write to. [default: that of this installation]",
)
@cache_dir_option
@json_option
def measure(name: str, revision: str | None, table: Path | None, cache_dir: Path | None, as_json: bool) -> None:
    """Fetch the model of a short name, measure its canary texts, and write them into the table that ships with the code.

    For who works on this project: run it in a checkout, on a machine that can reach the hub, and commit the table.
    """
    settings = settings_from(cache_dir=cache_dir)
    hub_id = full_name(name)
    named = sorted(short for short, full in short_names().items() if full.count("/") == 1)
    if hub_id not in short_names().values() or hub_id.count("/") != 1:
        fail(f"values ship for models with a short name on the hub, {', '.join(named)}; {name!r} is none", status=2)
    folder = pulled(settings, hub_id, revision=revision, offline=False)
    model_work.load_blas(settings)
    from actors.inference.mlx.verify import measure_for_shipping

    with model_errors(), staged(f"Checking {name}") as report:
        entry = measure_for_shipping(folder, report)
        write_shipped(entry, table)
    content = {
        "name": entry.name, "revision": entry.revision, "short": entry.canaries.short, "long": entry.canaries.long,
        "measured": entry.measured, "table": str(table or TABLE),
    }  # fmt: skip
    said = (
        f"{entry.name} at {entry.revision}: {entry.canaries.short} and {entry.canaries.long} nats per token "
        f"({entry.measured}), written to {table or TABLE}"
    )
    print_line(json_text(content) if as_json else said)
