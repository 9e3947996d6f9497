"""Bringing a database up to date before anything uses it: copied first, refused when it is newer than the program."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import Connection, inspect, text
from sqlalchemy.engine import URL

from actors.storage.database import open_engine
from actors.storage.errors import DatabaseUnusable, SchemaTooNew

__all__ = ["NEWEST_REVISION", "migrate", "prepare_database"]

NEWEST_REVISION = "0006"
"""What this version of the program writes; a test compares it with the migrations."""
MIGRATIONS = Path(__file__).parent / "migrations"


def prepare_database(url: URL) -> str:
    """Create the database or migrate it; returns the revision it had (empty for a new one).

    A file is copied to `NAME.before-REVISION` first. Raises `SchemaTooNew`, `DatabaseUnusable`. Blocking.
    """
    if url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:"):
        assert url.database is not None
        path = Path(url.database)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            path.touch(mode=0o600)
    engine = open_engine(url, writes=True)
    try:
        with engine.connect() as connection:
            had = _revision(connection)
            connection.rollback()
            if had == NEWEST_REVISION:
                return had
            if had > NEWEST_REVISION:
                raise SchemaTooNew(
                    f"the database is of revision {had}, this program knows {NEWEST_REVISION}; start the newer program, "
                    "or use another data folder"
                )
            if had and url.get_backend_name() == "sqlite":
                _copy(Path(str(url.database)), had)
            migrate(connection, NEWEST_REVISION)
            return had
    except sqlalchemy.exc.SQLAlchemyError as error:
        cause = error.__cause__ or error
        raise DatabaseUnusable(f"the database {url.render_as_string()} cannot be used: {cause}") from error
    finally:
        engine.dispose()


def migrate(connection: Connection, revision: str) -> None:
    """Bring the schema to ``revision``, up or down, in one transaction. Blocking."""
    # Imported here: a server whose database is up to date never needs it.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    with connection.begin():
        now = _revision(connection)
        step: Any = command.downgrade if revision < now else command.upgrade
        step(config, "base" if revision == "" else revision)


def _revision(connection: Connection) -> str:
    """Revision of the schema; empty where there is none."""
    if not inspect(connection).has_table("alembic_version"):
        return ""
    return str(connection.execute(text("SELECT version_num FROM alembic_version")).scalar() or "")


def _copy(path: Path, revision: str) -> None:
    """Copy the file with all that is committed in its log."""
    target = path.with_name(f"{path.name}.before-{revision}")
    try:
        with closing(sqlite3.connect(path)) as source:
            source.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        shutil.copy2(path, target)
    except OSError as error:
        raise DatabaseUnusable(f"{path} could not be copied before its migration: {error.strerror}") from error
