"""Bringing a database up to date before anything uses it: copied first, refused when it is newer than the program."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import Connection, inspect, text
from sqlalchemy.engine import URL

from actors.storage.columns import COLUMNS, TABLES
from actors.storage.database import open_engine
from actors.storage.database_copy import copy_database
from actors.storage.errors import DatabaseHeld, DatabaseUnusable, SchemaTooNew
from actors.storage.holding import LOCK_KEY

__all__ = [
    "NEWEST_REVISION",
    "WAY_OUT",
    "known_revisions",
    "migrate",
    "migrate_within",
    "prepare_database",
    "schema_problem",
    "stored_revision",
]

NEWEST_REVISION = "0012"
"""What this version of the program writes; a test compares it with the migrations."""
MIGRATIONS = Path(__file__).parent / "migrations"
MIGRATION_KEY = LOCK_KEY + 1
MIGRATION_SECONDS = 60
"""A node waits so long for another one that migrates."""
WAY_OUT = (
    "restore a copy of it (the server makes one, NAME.before-REVISION, before it changes the tables of a file), or "
    "start with another data folder or another `database`"
)
REACH = "check that PostgreSQL runs there, and that the setting `database` is correct"


def prepare_database(
    url: URL,
    holder: str | None = None,
    *,
    node: str | None = None,
    keep: Callable[[str], AbstractContextManager[None]] | None = None,
) -> str:
    """Create the database or migrate it; returns the revision it had (empty for a new one).

    A file is copied to `NAME.before-REVISION` first; for another kind of database, ``keep`` is given the revision and
    surrounds the migration. Raises `SchemaTooNew`, `DatabaseUnusable`, and for a ``holder`` `DatabaseHeld` where another
    server uses a database of PostgreSQL. Of the ``node``s of a cluster one migrates while others
    wait. Blocking.
    """
    if url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:"):
        assert url.database is not None
        _make_file(Path(url.database))
    engine = open_engine(url, writes=True, holder=holder, node=node)
    try:
        with engine.connect() as connection:
            # For writing from the first statement on: nobody commits between a copy and what follows it.
            with connection.begin():
                if node is not None:
                    connection.execute(text(f"SET LOCAL statement_timeout = {MIGRATION_SECONDS * 1000}"))
                    connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_KEY})"))
                had = stored_revision(connection)
                problem = schema_problem(connection) if had == NEWEST_REVISION else _problem_of(connection, had)
                if problem is not None:
                    raise DatabaseUnusable(f"the database {url.set(query={}).render_as_string()} {problem}; {WAY_OUT}")
                if had == NEWEST_REVISION:
                    return had
                is_file = url.get_backend_name() == "sqlite"
                if had and is_file:
                    copy_database(Path(str(url.database)), f"before-{had}")
                with keep(had) if had and keep and not is_file else contextlib.nullcontext():
                    migrate_within(connection, had, NEWEST_REVISION)
            return had
    except sqlalchemy.exc.SQLAlchemyError as error:
        cause = error.__cause__ or error
        if isinstance(cause, DatabaseHeld):
            raise DatabaseHeld(f"the database {url.set(query={}).render_as_string()}: {cause}") from None
        said = " ".join(str(cause).split())
        # A server of PostgreSQL that does not answer is mended by no copy.
        way_out = WAY_OUT if url.get_backend_name() == "sqlite" else REACH
        raise DatabaseUnusable(
            f"the database {url.set(query={}).render_as_string()} cannot be used: {said}; {way_out}"
        ) from error
    finally:
        engine.dispose()


def migrate(connection: Connection, revision: str) -> None:
    """Bring the schema to ``revision``, up or down, in one transaction. Blocking."""
    with connection.begin():
        migrate_within(connection, stored_revision(connection), revision)


def schema_problem(connection: Connection) -> str | None:
    """Return how tables and columns differ from the newest revision, or None. Blocking."""
    inspector = inspect(connection)
    there = inspector.get_multi_columns(filter_names=list(COLUMNS))
    found = {key[1]: {str(one["name"]) for one in columns} for key, columns in there.items()}
    for table, names in COLUMNS.items():
        wanted = set(names.split())
        if table not in found:
            return f"claims to be at revision {NEWEST_REVISION}, but its table {table} is missing"
        other = sorted(wanted ^ found[table])
        if other:
            verb = "lacks" if other[0] in wanted else "has an unknown"
            return f"claims to be at revision {NEWEST_REVISION}, but its table {table} {verb} column {other[0]}"
    return None


def _problem_of(connection: Connection, revision: str) -> str | None:
    """Return why a database at another revision cannot be migrated, or None. Raises `SchemaTooNew`."""
    if revision > NEWEST_REVISION:
        raise SchemaTooNew(
            f"the database has revision {revision}, but this program only knows {NEWEST_REVISION}; start the newer program, "
            "or go back: `leanvibe restore FILE` restores the backup made before the upgrade into an empty database"
        )
    if not revision:
        ours = sorted(TABLES & set(inspect(connection).get_table_names()))
        return f"has the table {ours[0]} but no revision" if ours else None
    if revision in known_revisions():
        return None
    return f"has the revision {revision!r}, which this program does not know"


def _make_file(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            path.touch(mode=0o600)
    except OSError as error:
        raise DatabaseUnusable(f"the database {path} cannot be created: {error.strerror}") from error


def migrate_within(connection: Connection, now: str, revision: str) -> None:
    """Bring the schema from revision ``now`` (empty for no tables) to another in the caller's transaction. Blocking."""
    # Imported here: a server whose database is up to date never needs it.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    step: Any = command.downgrade if revision < now else command.upgrade
    step(config, "base" if revision == "" else revision)


def known_revisions() -> set[str]:
    """Return every revision that can be migrated to the newest."""
    return {path.name[:4] for path in (MIGRATIONS / "versions").glob("[0-9]*.py")}


def stored_revision(connection: Connection) -> str:
    """Return the revision of the schema, empty if there are no tables. Blocking."""
    if not inspect(connection).has_table("alembic_version"):
        return ""
    return str(connection.execute(text("SELECT version_num FROM alembic_version")).scalar() or "")
