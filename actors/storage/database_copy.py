"""Copies a SQLite file: everything committed is included, and the copy is synced, checked and replaces no other file."""

from __future__ import annotations

import filecmp
import os
import sqlite3
import tempfile
from contextlib import closing
from itertools import count
from pathlib import Path

from actors.storage.errors import DatabaseUnusable

__all__ = ["copy_database"]

WAIT_SECONDS = 5.0


def copy_database(path: Path, name: str) -> Path:
    """Copy the database to ``path`` with ``.name`` appended, numbered if that name is taken. Returns the path of the copy.

    A caller that must exclude commits between the copy and its next step holds the write lock meanwhile. Raises
    `DatabaseUnusable` with advice, and leaves no partial copy. Blocking.
    """
    handle, temporary_name = -1, ""
    try:
        handle, temporary_name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.copy.")  # 0600 by nature
        temporary = Path(temporary_name)
        _back_up(path, temporary)
        os.fsync(handle)
        target = _name(temporary, path, name)
        _sync_folder(path.parent)
    except (OSError, sqlite3.Error) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        needed_mib = -(-path.stat().st_size // 2**20) + 1 if path.exists() else 1
        raise DatabaseUnusable(
            f"{path} must be brought up to date and could not be copied before ({reason}); nothing was changed. "
            f"Make room for {needed_mib} MiB in its folder, which must be writable, and start again"
        ) from error
    finally:
        if handle >= 0:
            os.close(handle)
            for left in (temporary_name, f"{temporary_name}-journal"):
                Path(left).unlink(missing_ok=True)
    return target


def _back_up(path: Path, target: Path) -> None:
    """Copy with SQLite's backup API, which includes the write-ahead log and does not block readers. Raises `sqlite3.Error`."""
    with (
        closing(sqlite3.connect(path, timeout=WAIT_SECONDS, isolation_level=None)) as source,
        closing(sqlite3.connect(target, isolation_level=None)) as copy,
    ):
        # One state for the copy and for what it is held against.
        source.execute("BEGIN")
        source.execute("SELECT count(*) FROM sqlite_master").fetchone()
        copy.execute("PRAGMA synchronous=FULL")
        source.backup(copy)
        # One file, with nothing beside it that somebody who puts it back could forget.
        copy.execute("PRAGMA journal_mode=DELETE")
        found = copy.execute("PRAGMA quick_check(1)").fetchone()
        if found != ("ok",):
            raise sqlite3.DatabaseError(f"the copy is damaged, and so may the database be: {found[0]}")
        if _sizes(source) != _sizes(copy):
            raise sqlite3.DatabaseError("the copy lacks rows that the database has")


def _sizes(connection: sqlite3.Connection) -> dict[str, int]:
    """Return the number of rows of each table."""
    names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    return {
        name: connection.execute('SELECT count(*) FROM "' + name.replace('"', '""') + '"').fetchone()[0]  # noqa: S608  a name of its own
        for name in names
    }


def _name(temporary: Path, path: Path, name: str) -> Path:
    """Give the copy an unused name, or find that an earlier copy is identical."""
    for number in count(1):
        target = path.with_name(f"{path.name}.{name}" + ("" if number == 1 else f".{number}"))
        try:
            os.link(temporary, target)
        except FileExistsError:
            if filecmp.cmp(temporary, target, shallow=False):
                return target
        else:
            return target
    raise AssertionError("there is always one more number")


def _sync_folder(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
