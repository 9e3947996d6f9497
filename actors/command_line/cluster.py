"""`leanvibe cluster`: the nodes of the cluster that this machine's settings are of."""

from __future__ import annotations

from pathlib import Path

import click
from attrs import asdict
from rich.table import Table

from actors.command_line.options import data_dir_option, fail, settings_from
from actors.command_line.printing import print_json, print_line
from actors.command_line.screen import Screen, words

__all__ = ["cluster"]

_COLOURS = {"alive": "green", "silent": "yellow", "dead": "red"}


@click.command()
@data_dir_option
@click.option("--config", type=click.Path(path_type=Path), help="Settings file. [default: leanvibe.toml here]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def cluster(data_dir: Path | None, config: Path | None, as_json: bool) -> None:
    """List the nodes of the cluster, as its database has them; the server of this machine need not run.

    Exit status 0 if a node is alive, otherwise 1.

    Example: leanvibe cluster
    """
    settings = settings_from(data_dir=data_dir, config=config)
    if settings.broker is None:
        fail("the settings are of a server on its own: `broker` is not set", status=2)
    import sqlalchemy

    from actors.cluster.store import list_nodes
    from actors.storage.database import database_url, open_engine
    from actors.storage.errors import DatabaseUnusable

    try:
        url = database_url(settings.database, settings.data_dir)
        engine = open_engine(url, writes=False)
        try:
            with engine.connect() as connection:
                found = list_nodes(connection, None)
        finally:
            engine.dispose()
    except DatabaseUnusable as error:
        fail(str(error))
    except sqlalchemy.exc.SQLAlchemyError as error:
        said = " ".join(str(error.__cause__ or error).split())
        fail(f"the database cannot be read: {said}; start a node once, and see that PostgreSQL runs there")
    if as_json:
        print_json({"nodes": [asdict(one) for one in found]})
    else:
        table = Table()
        for heading in ("node", "state", "lease", "version", "model", "address"):
            table.add_column(heading, overflow="fold")
        for one in found:
            age = f"{one.age_ms / 1000:.1f} s ago"
            state = words(one.state, _COLOURS.get(one.state, ""))
            table.add_row(words(one.node), state, words(age), words(one.version), words(one.model), words(one.address))
        Screen().print(table)
        print_line(f"{sum(one.state == 'alive' for one in found)} of {len(found)} nodes are alive")
    raise SystemExit(0 if any(one.state == "alive" for one in found) else 1)
