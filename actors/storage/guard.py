"""Detects at run time that the database is no longer the one that was opened: replaced, removed, truncated or garbled.

SQLite keeps writing to an unlinked file and reports success. So before and after each transaction the files at the paths of
the database, its log and its index are compared with those that were opened, and every second a new connection, which has
nothing cached, checks a part of the pages.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, OperationalError

from actors.storage.columns import COLUMNS
from actors.storage.errors import DatabaseBroken
from actors.storage.write_ahead_log import head_problem, index_of

__all__ = ["DatabaseGuard", "broken_by", "was_written"]

LOOK_SECONDS = 0.03
"""Time budget for checking the pages of a table; the next check continues with the next table."""
LOOKS_WITHOUT_PAGES = 4
"""Checks without table pages between two with them. Each reads the beginning of the file and the names of all tables."""
PROGRESS_STEPS = 2_000
WAY_OUT = "stop the server, restore a copy of the database, and start it again"
BESIDE = ("-wal", "-shm")
"""Suffixes of the files that SQLite keeps next to an open database: the write-ahead log and its index."""
WAY_OUT_BESIDE = "stop the server in order, which writes its copy of that file into the database, and start it again"
_BROKEN_CODES = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_BROKEN_READS = frozenset({sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ, sqlite3.SQLITE_IOERR_CORRUPTFS})


class DatabaseGuard:
    """Guards a database while one writer has it open. Its functions block and are called by one thread at a time."""

    def __init__(self, url: URL) -> None:
        is_file = url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:")
        self._path = Path(str(url.database)) if is_file else None
        self._opened = _identity(self._path)
        self._beside: dict[Path, tuple[int, int]] = {}
        self._log_bytes = 0
        self._index = None if self._path is None else index_of(self._path)
        self._looks = 0

    def follow(self, engine: Engine) -> None:
        """Note the log and index files of the writer's connection, which SQLite removes after the last connection."""
        if self._path is None:
            return
        path = self._path

        @event.listens_for(engine, "connect")
        def connected(connection: sqlite3.Connection, _: Any) -> None:
            # Opens the log, which a new connection does not have before it reads.
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
            # On some network disks there is none.
            beside = [path.with_name(path.name + suffix) for suffix in BESIDE] if mode == "wal" else []
            self._beside = {one: found for one in beside if (found := _identity(one)) is not None}
            self._log_bytes = 0

        @event.listens_for(engine, "close")
        def closed(_: sqlite3.Connection, __: Any) -> None:
            self._beside = {}

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Wrap a transaction. Raises `OperationalError` from `DatabaseBroken`, before the transaction or after it was in vain."""
        with nullcontext() if self._index is None else self._index.writing():
            self._require_same()
            self._require_whole_log()
            yield
            self._require_same(was_written=True)
            self._require_whole_log(was_written=True)

    def look(self, engine: Engine, *, wholly: bool = False) -> str | None:
        """Return a sentence that says what is wrong, or None. ``wholly`` checks every page, however long it takes."""
        try:
            if self._index is not None:
                self._index.repair()
            self._require_same()
            if self._path is None:
                # The engine tests a session before it lends it, and makes another one, which has to hold the database.
                with engine.connect():
                    return None
            self._require_sound_log()
            self._look_at_pages(self._path, wholly=wholly)
        except (DBAPIError, sqlite3.Error, DatabaseBroken) as error:
            # A file that is locked, or a machine without descriptors, is no broken database.
            return broken_by(error) if self._path is not None else str(error.__cause__ or error).splitlines()[0]
        return None

    def _require_same(self, *, was_written: bool = False) -> None:
        found = _identity(self._path)
        if self._path is not None and self._opened is None:
            self._opened = found
        elif self._path is not None and found != self._opened:
            raise _broken(f"the database {self._path}", is_gone=found is None, way_out=WAY_OUT, was_written=was_written)
        beside = self._beside
        for path, opened in beside.items():
            found = _identity(path)
            # The writer may have let go of its connection, and SQLite of the file, between two looks.
            if found != opened and self._beside is beside:
                what = f"the file {path} of the database"
                raise _broken(what, is_gone=found is None, way_out=WAY_OUT_BESIDE, was_written=was_written)

    def _require_whole_log(self, *, was_written: bool = False) -> None:
        """Raise if the log was truncated, unless another program checkpointed it into the database, in which case nothing is missing."""
        path = self._path
        if path is None or not self._beside:
            return
        length = _length(path.with_name(path.name + BESIDE[0]))
        was_cut, self._log_bytes = length < self._log_bytes, length
        if not was_cut:
            return
        problem = None
        try:
            self._look_at_pages(path, wholly=True)
        except sqlite3.Error as error:
            problem = broken_by(error)
        if problem is not None:
            self._log_bytes = length + 1
            raise _because(DatabaseBroken(problem), "was cut", was_written=was_written)

    def _require_sound_log(self) -> None:
        for path in self._beside:
            # Twice: it may just be written.
            if path.name.endswith(BESIDE[0]) and head_problem(path) and (found := head_problem(path)):
                raise DatabaseBroken(f"the file {path} of the database is damaged ({found}); {WAY_OUT_BESIDE}")

    def _look_at_pages(self, path: Path, *, wholly: bool) -> None:
        tables = sorted(COLUMNS)
        self._looks += 1
        # By SQLite alone: closing a file that was opened in any other way would let go of this process's locks on it.
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=1.0)) as connection:
            there = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if not there >= set(tables):
                raise sqlite3.DatabaseError(f"the table {min(set(tables) - there)} is missing")
            turn, left = divmod(self._looks, LOOKS_WITHOUT_PAGES + 1)
            if left and not wholly:
                return
            check = "quick_check(1)" if wholly else f"quick_check({tables[turn % len(tables)]})"
            ends_at = time.monotonic() + LOOK_SECONDS
            if not wholly:
                connection.set_progress_handler(lambda: time.monotonic() > ends_at, PROGRESS_STEPS)
            try:
                found = connection.execute(f"PRAGMA {check}").fetchone()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
                    return
                raise
            if found is not None and found[0] != "ok":
                raise sqlite3.DatabaseError(str(found[0]).splitlines()[0])


def _identity(path: Path | None) -> tuple[int, int] | None:
    """Return device and inode of the file at a path, or None if there is no file."""
    if path is None:
        return None
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _length(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _broken(subject: str, *, is_gone: bool, way_out: str, was_written: bool) -> OperationalError:
    what = "is gone" if is_gone else "is not the file that this server opened"
    return _because(DatabaseBroken(f"{subject} {what}; {way_out}"), what, was_written=was_written)


def _because(broken: DatabaseBroken, what: str, *, was_written: bool) -> OperationalError:
    error = OperationalError("check the file", None, Exception(what))
    error.__cause__ = broken
    broken.was_written = was_written
    return error


def broken_by(error: BaseException) -> str | None:
    """Return the sentence for a broken database if this error, a driver's or our own, means that; otherwise None."""
    cause = error.__cause__ if isinstance(error, DBAPIError) and error.__cause__ is not None else error
    if isinstance(cause, DatabaseBroken):
        return str(cause)
    if isinstance(cause, sqlite3.Error):
        code = getattr(cause, "sqlite_errorcode", None)
        # An error of our own look has no code.
        if code is None or code & 0xFF in _BROKEN_CODES or code in _BROKEN_READS:
            return f"the database file is damaged ({str(cause).splitlines()[0]}); {WAY_OUT}"
    return None


def was_written(error: BaseException) -> bool:
    """True if the write that failed with this error may nevertheless persist."""
    return isinstance(error.__cause__, DatabaseBroken) and error.__cause__.was_written
