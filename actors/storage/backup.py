"""Backup and restore of the database, SQLite or PostgreSQL, with the files that belong to it.

A backup is one state of the database: all rows are read in one transaction while the server keeps running. A restore is
one transaction too, so that a crash leaves the previous contents.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import sqlalchemy
from sqlalchemy import Connection, MetaData, Table, func, insert, inspect, select, text, update
from sqlalchemy.engine import URL

from actors.storage.backup_file import (
    BackupFile,
    BackupHeader,
    BackupUnusable,
    BackupWriter,
    FileEntry,
    Row,
    TableEntry,
)
from actors.storage.columns import TABLES
from actors.storage.database import open_engine
from actors.storage.errors import DatabaseUnusable
from actors.storage.log import NOBODY
from actors.storage.schema import NEWEST_REVISION, WAY_OUT, known_revisions, migrate_within, stored_revision

__all__ = ["Progress", "has_content", "restore_backup", "write_backup"]

Progress = Callable[[int, int], None]
"""Progress callback: receives the rows done and the rows in total."""
FETCHED_ROWS = 500
INSERTED_ROWS = 500
BACKED_UP_FILES = ("vapid.pem",)
"""Files of the data folder. Without the VAPID key, subscribed browsers could no longer be reached."""


def write_backup(
    url: URL, data_folder: Path, target: Path, *, version: str, created_at: str, progress: Progress = lambda *_: None
) -> BackupHeader:
    """Write a backup of the database and its files to ``target``, mode 0600. An existing file is never replaced.

    The server may run meanwhile. Raises `FileExistsError`, `DatabaseUnusable`, or `OSError`, after which no file is left.
    Blocking.
    """
    if target.exists():
        raise FileExistsError(target)
    engine = open_engine(url, writes=False, must_exist=True)
    try:
        with _new_file(target) as raw, engine.connect() as plain:
            connection = (
                plain
                if url.get_backend_name() == "sqlite"
                else plain.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            )
            with connection.begin():
                header = _copy_rows(connection, raw, data_folder, version, created_at, progress)
    except sqlalchemy.exc.SQLAlchemyError as error:
        said = " ".join(str(error.__cause__ or error).split())
        raise DatabaseUnusable(f"the database cannot be read: {said}; {WAY_OUT}") from error
    finally:
        engine.dispose()
    return header


def has_content(connection: Connection) -> bool:
    """True if a database at the newest revision holds rows that a restore would replace. Blocking."""
    tables = _tables(connection)
    return any(connection.execute(select(1).select_from(one).limit(1)).first() is not None for one in tables)


def restore_backup(
    connection: Connection, backup: BackupFile, header: BackupHeader, *, progress: Progress = lambda *_: None
) -> tuple[FileEntry, ...]:
    """Replace the contents of a database at the newest revision with a checked backup, in the caller's transaction.

    A backup of an older revision is migrated on the way. Event logs begin new epochs: their positions go back, and clients
    that have seen more must notice. Returns the files of the backup. Raises `BackupUnusable`. Blocking.
    """
    if header.revision not in known_revisions() and header.revision <= NEWEST_REVISION:
        raise BackupUnusable(f"the backup has revision {header.revision!r}, which this program does not know")
    if header.revision > NEWEST_REVISION:
        raise BackupUnusable(
            f"the backup has revision {header.revision} (LeanVibe {header.version}), but this program only knows "
            f"{NEWEST_REVISION}; restore it with that version or a newer one"
        )
    _drop_everything(connection)
    migrate_within(connection, "", header.revision)
    tables = {one.name: one for one in _tables(connection)}
    if header.rows.keys() != tables.keys():
        raise BackupUnusable("the backup does not have the tables of its claimed revision")
    files = tuple(_insert_rows(connection, backup, tables, sum(header.rows.values()), progress))
    _set_sequences(connection, tables)
    migrate_within(connection, header.revision, NEWEST_REVISION)
    _begin_epochs(connection)
    return files


def _copy_rows(
    connection: Connection, raw: IO[bytes], data_folder: Path, version: str, created_at: str, progress: Progress
) -> BackupHeader:
    revision = stored_revision(connection)
    if not revision:
        raise DatabaseUnusable("the database is empty: no server has used it yet")
    tables = _tables(connection)
    rows = {one.name: connection.execute(select(func.count()).select_from(one)).scalar_one() for one in tables}
    header = BackupHeader(revision=revision, version=version, created_at=created_at, rows=rows)
    writer = BackupWriter(raw, header)
    for name in BACKED_UP_FILES:
        with contextlib.suppress(FileNotFoundError):
            writer.add_file(name, (data_folder / name).read_bytes())
    done, total = 0, sum(rows.values())
    for table in tables:
        writer.begin_table(table.name, tuple(one.name for one in table.columns))
        found = connection.execute(select(table).execution_options(yield_per=FETCHED_ROWS))
        for part in found.partitions():
            for row in part:
                writer.add_row(tuple(row))
            done += len(part)
            progress(done, total)
    writer.end()
    return header


def _tables(connection: Connection) -> list[Table]:
    """Return our tables as this database has them, each after the tables it refers to."""
    names = TABLES & set(inspect(connection).get_table_names())
    metadata = MetaData()
    metadata.reflect(connection, only=sorted(names))
    return [one for one in metadata.sorted_tables if one.name in names]


def _drop_everything(connection: Connection) -> None:
    metadata = MetaData()
    names = (TABLES | {"alembic_version"}) & set(inspect(connection).get_table_names())
    metadata.reflect(connection, only=sorted(names))
    metadata.drop_all(connection)


def _insert_rows(
    connection: Connection, backup: BackupFile, tables: Mapping[str, Table], total: int, progress: Progress
) -> Iterator[FileEntry]:
    table: Table | None = None
    columns: tuple[str, ...] = ()
    waiting: list[dict[str, Any]] = []
    done = 0

    def put() -> None:
        nonlocal done
        if table is not None and waiting:
            connection.execute(insert(table), waiting)
            done += len(waiting)
            progress(done, total)
            waiting.clear()

    for entry in backup.entries():
        if isinstance(entry, FileEntry):
            if entry.name in BACKED_UP_FILES:
                yield entry
        elif isinstance(entry, TableEntry):
            put()
            table, columns = tables.get(entry.name), entry.columns
            if table is None or set(columns) != {one.name for one in table.columns}:
                raise BackupUnusable(f"the backup's table {entry.name!r} is not the one of its revision")
        elif isinstance(entry, Row):
            waiting.append(dict(zip(columns, entry.values, strict=True)))
            if len(waiting) >= INSERTED_ROWS:
                put()
    put()


def _set_sequences(connection: Connection, tables: Mapping[str, Table]) -> None:
    """Advance PostgreSQL's sequences past the restored rows; SQLite does so by itself."""
    if connection.dialect.name != "postgresql":
        return
    for table in tables.values():
        for column in table.primary_key.columns:
            named = {"table": table.name, "column": column.name}
            sequence = connection.execute(text("SELECT pg_get_serial_sequence(:table, :column)"), named).scalar()
            newest = None if sequence is None else connection.execute(select(func.max(column))).scalar()
            if newest is not None:
                connection.execute(text("SELECT setval(:sequence, :newest)"), {"sequence": sequence, "newest": newest})


def _begin_epochs(connection: Connection) -> None:
    """Give every event log a new epoch, along with the positions that devices have confirmed in it."""
    tables = [one for one in _tables(connection) if {"client_id", "epoch"} <= {column.name for column in one.columns}]
    logs = next(one for one in tables if one.name == "client_logs")
    for client_id, epoch in connection.execute(select(logs.c.client_id, logs.c.epoch)).all():
        new = secrets.token_hex(16 if client_id == NOBODY else 8)
        for table in tables:
            where = (table.c.client_id == client_id) & (table.c.epoch == epoch)
            connection.execute(update(table).where(where).values(epoch=new))


@contextlib.contextmanager
def _new_file(target: Path) -> Iterator[IO[bytes]]:
    """Open a file that gets its name once it is completely on disk, and never replaces another."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")  # 0600 by nature
    try:
        with os.fdopen(handle, "wb") as raw:
            yield raw
            raw.flush()
            os.fsync(raw.fileno())
        os.link(name, target)
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        Path(name).unlink(missing_ok=True)
