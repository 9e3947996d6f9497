"""`leanvibe backup` and `leanvibe restore`: everything the server keeps, in one file."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import click
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from actors.command_line.model_work import staged
from actors.command_line.offline_database import offline_database
from actors.command_line.options import data_dir_option, fail, settings_from
from actors.command_line.printing import print_json, print_line
from actors.command_line.screen import Screen
from actors.settings import Settings
from actors.storage.backup import has_content, restore_backup, write_backup
from actors.storage.backup_file import BackupFile, BackupUnusable, FileEntry
from actors.storage.database import database_url
from actors.storage.errors import DatabaseUnusable

__all__ = ["backup", "restore"]

_Report = Callable[[int, int], None]


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@data_dir_option
@click.option("--config", type=click.Path(path_type=Path), help="Settings file. [default: leanvibe.toml here]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def backup(file: Path, data_dir: Path | None, config: Path | None, as_json: bool) -> None:
    """Write everything the server keeps to FILE: conversations, tasks, notifications, tokens, settings of devices.

    The server may run meanwhile. Models and the settings file (leanvibe.toml) are not part of it. The file holds what
    people wrote, and the key that browsers' subscriptions belong to: keep it where others cannot read it.

    Example: leanvibe backup leanvibe-monday.backup
    """
    settings = settings_from(data_dir=data_dir, config=config)
    try:
        url = database_url(settings.database, settings.data_dir)
        if url.get_backend_name() == "sqlite" and not Path(str(url.database)).exists():
            fail(f"there is nothing to back up: {url.database} does not exist (--data-dir names another data folder)")
        if file.exists():
            raise FileExistsError(file)
        with _progress(f"Writing {file.name}") as report:
            now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
            made = write_backup(
                url, settings.data_dir, file, version=version("leanvibe"), created_at=now, progress=report
            )
    except FileExistsError:
        fail(f"{file} exists already, and a backup replaces no file; choose another name")
    except DatabaseUnusable as error:
        fail(str(error))
    except OSError as error:
        fail(f"the backup {file} cannot be written: {error.strerror}; nothing was left of it")
    rows = sum(made.rows.values())
    if as_json:
        size = file.stat().st_size
        print_json({"file": str(file), "bytes": size, "rows": rows, "revision": made.revision, "created_at": now})
    else:
        print_line(f"wrote {file}: {rows} rows, {file.stat().st_size} bytes")


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@data_dir_option
@click.option("--config", type=click.Path(path_type=Path), help="Settings file. [default: leanvibe.toml here]")
@click.option("--replace", is_flag=True, help="Replace what is there, which is backed up first.")
@click.option("--check", is_flag=True, help="Only say whether FILE is whole and can be restored.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def restore(file: Path, data_dir: Path | None, config: Path | None, replace: bool, check: bool, as_json: bool) -> None:
    """Put the backup FILE into the data folder, or into the database that the settings name. The server must be stopped.

    A backup of SQLite can be restored into PostgreSQL and the other way round. Notifications that waited when the backup
    was made are sent again.

    Example: leanvibe restore leanvibe-monday.backup
    """
    settings = settings_from(data_dir=data_dir, config=config)
    source = BackupFile(file)
    try:
        header = source.check()
    except BackupUnusable as error:
        fail(f"{error}; nothing was changed")
    except OSError as error:
        fail(f"the backup {file} cannot be read: {error.strerror}")
    rows = sum(header.rows.values())
    said = {"file": str(file), "rows": rows, "revision": header.revision, "created_at": header.created_at}
    if check:
        if as_json:
            print_json(said)
        else:
            print_line(f"{file} is whole: {rows} rows, made {header.created_at} by LeanVibe {header.version}")
        return
    with _stopped(settings) as engine:
        with engine.begin() as connection:
            saved = _saved_before(settings, connection, replace=replace)
            with _progress(f"Restoring {file.name}") as report:
                try:
                    files = restore_backup(connection, source, header, progress=report)
                except BackupUnusable as error:
                    fail(f"{error}; nothing was changed")
            staged_files = _stage_files(settings.data_dir, files)
        # Committed: a crash between the two is mended by restoring once more.
        for temporary, target in staged_files:
            temporary.replace(target)
    if as_json:
        print_json({**said, "replaced_saved_as": None if saved is None else str(saved)})
        return
    print_line(f"restored {rows} rows, made {header.created_at} by LeanVibe {header.version}")
    if saved is not None:
        print_line(f"what was there before is in {saved}")


def _saved_before(settings: Settings, connection: Connection, *, replace: bool) -> Path | None:
    """Save the content that is about to be replaced and return its path; None for an empty database."""
    if not has_content(connection):
        return None
    if not replace:
        fail(
            f"the database of {settings.data_dir} is not empty; --replace puts the backup in its place and keeps what is "
            "there as another backup"
        )
    target = settings.data_dir / f"before-restore-{time.strftime('%Y%m%d-%H%M%S')}.backup"
    try:
        write_backup(
            database_url(settings.database, settings.data_dir),
            settings.data_dir,
            target,
            version=version("leanvibe"),
            created_at=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        )
    except OSError as error:
        fail(f"what is there cannot be saved as {target}: {error.strerror}; nothing was changed")
    return target


@contextlib.contextmanager
def _stopped(settings: Settings) -> Iterator[Engine]:
    """The database's engine while no server can start; ends the command where one runs, or where it cannot be written."""
    try:
        with offline_database(settings, "restore", busy="nothing was changed") as engine:
            yield engine
    except DatabaseUnusable as error:
        fail(f"{error}. Nothing was changed")
    except SQLAlchemyError as error:
        said = " ".join(str(error.__cause__ or error).split())
        fail(f"the database cannot be written: {said}. Nothing was changed")
    except OSError as error:
        fail(f"the data folder {settings.data_dir} cannot be written: {error.strerror}. Nothing was changed")


def _stage_files(folder: Path, files: tuple[FileEntry, ...]) -> list[tuple[Path, Path]]:
    """Write each file next to its destination; returns pairs of temporary path and destination."""
    staged_files = []
    for one in files:
        temporary = folder / f".{one.name}.restored"
        temporary.unlink(missing_ok=True)
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(one.content)
            file.flush()
            os.fsync(file.fileno())
        staged_files.append((temporary, folder / one.name))
    return staged_files


@contextlib.contextmanager
def _progress(title: str) -> Iterator[_Report]:
    """A bar for people; nothing where the output is read by a program."""
    if not Screen(stderr=True).is_terminal:
        yield lambda *_: None
        return
    with staged(title, {}) as report:
        yield lambda done, total: report(title, done / total if total else 1.0)
