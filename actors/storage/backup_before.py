"""A backup of a database of PostgreSQL before its tables are changed, as a file is copied before: the way back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from sqlalchemy.engine import URL

from actors.storage.errors import DatabaseUnusable
from actors.version import VERSION

__all__ = ["keeping_backup"]


def keeping_backup(url: URL, data_folder: Path) -> Callable[[str], AbstractContextManager[None]]:
    """For `prepare_database`: a backup in the data folder, named after the revision, around a change of the tables.

    It stays if the change succeeds; otherwise nothing was changed, and it is removed. Raises `DatabaseUnusable` where it
    cannot be written. Blocking.
    """

    @contextlib.contextmanager
    def around(revision: str) -> Iterator[None]:
        target = _write(url, data_folder, revision)
        try:
            yield
        except BaseException:
            target.unlink(missing_ok=True)
            raise

    return around


def _write(url: URL, data_folder: Path, revision: str) -> Path:
    # Imported here: most starts change no tables.
    from actors.storage.backup import write_backup

    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    try:
        for number in count(1):
            name = f"postgresql.before-{revision}" + ("" if number == 1 else f".{number}")
            target = data_folder / f"{name}.backup"
            with contextlib.suppress(FileExistsError):
                write_backup(url, data_folder, target, version=VERSION, created_at=now)
                return target
    except OSError as error:
        raise DatabaseUnusable(
            f"the database must be brought up to date, and {target} cannot be written before ({error.strerror}); nothing was "
            "changed. Make room in the data folder, which must be writable, and start again"
        ) from error
    raise AssertionError("there is always one more number")
