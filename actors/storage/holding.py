"""One server at a time per database: the writer holds it, and a second server is refused with the name of the first.

On PostgreSQL the session that writes holds an advisory lock. So there is no moment in which a server that has lost the
lock still writes: with the session (cut, ended, failed over) both are gone, and the next session has to have the lock
first. A SQLite file named in the settings, outside the data folder's lock, has a lock file next to it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.engine import URL
from sqlalchemy.exc import OperationalError

from actors.storage.errors import DatabaseHeld

__all__ = ["hold_session", "holder_name", "holder_of", "holding_file"]

LOCK_KEY = int.from_bytes(hashlib.blake2b(b"leanvibe: the server that writes", digest_size=8).digest(), signed=True)
NAME_BYTES = 63
"""As much of an application's name PostgreSQL keeps."""
_TAKES_NOTHING = frozenset({errno.EROFS, errno.ENOSPC, errno.EDQUOT})
_TRY = f"SELECT pg_try_advisory_lock({LOCK_KEY})"
_TRY_SHARED = f"SELECT pg_try_advisory_lock_shared({LOCK_KEY})"
# Of a key of 64 bits the upper half stands in `classid`, the lower in `objid`.
_HOLDER = f"""
    SELECT activity.application_name, activity.pid FROM pg_locks AS lock JOIN pg_stat_activity AS activity USING (pid)
    WHERE lock.locktype = 'advisory' AND lock.granted AND lock.objsubid = 1
    AND lock.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND (lock.classid::bigint << 32) | lock.objid::bigint = {LOCK_KEY}
"""  # noqa: S608  numbers of our own


def holder_name(address: str) -> str:
    """Return the name by which other servers see this one: its address and process id; no secret."""
    where = f" on {socket.gethostname()[:24]}, process {os.getpid()}"
    name = f"{address[: NAME_BYTES - len(where)]}{where}"
    return name.encode("ascii", "replace").decode()[:NAME_BYTES]


def hold_session(connection: Any, *, is_shared: bool = False) -> None:
    """Take the lock for as long as this session of PostgreSQL lasts; a driver's connection, idle before and after.

    Nodes of one cluster share it (``is_shared``): they keep out a server that is none of them, and it keeps them out.

    Raises `OperationalError` because of `DatabaseHeld` where another session has it, so that a write which needs the
    session fails as it does without a database. Blocking.
    """
    cursor = connection.cursor()
    try:
        cursor.execute(_TRY_SHARED if is_shared else _TRY)
        if cursor.fetchone()[0]:
            return
        cursor.execute(_HOLDER)
        row = cursor.fetchone()
    finally:
        cursor.close()
        # A lock of the session outlives its transaction.
        connection.rollback()
    name = "another server" if row is None else f"the server at {row[0] or 'an unknown address'}"
    raise _refused(f"{name} uses this database; stop it, or give this one a database of its own")


def holder_of(connection: Connection) -> str | None:
    """Return the name of the server that uses this database of PostgreSQL; None if no server does. Blocking."""
    row = connection.exec_driver_sql(_HOLDER).first()
    return None if row is None else str(row[0] or "an unknown address")


@contextlib.contextmanager
def holding_file(url: URL, holder: str, *, is_guarded: bool) -> Iterator[None]:
    """Hold a SQLite file for the block with a lock file next to it. ``is_guarded``: the data folder's lock already does.

    Raises `DatabaseHeld`, `OSError`.
    """
    if is_guarded or url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:"):
        yield
        return
    path = Path(f"{url.database}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in _TAKES_NOTHING:
            raise
        # Where no file can be made nobody writes to the database either, and what is there can be read by all.
        yield
        return
    try:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            name = os.pread(opened, NAME_BYTES, 0).decode("ascii", "replace") or "an unknown address"
            raise DatabaseHeld(
                f"the server at {name} uses the database {url.database}; stop it, or give this one a database of its own"
            ) from None
        with contextlib.suppress(OSError):  # a full disk: the lock holds without a name
            os.ftruncate(opened, 0)
            os.pwrite(opened, holder.encode(), 0)
        yield
    finally:
        # Left there: who removed it could remove the one that another has just locked.
        os.close(opened)


def _refused(sentence: str) -> OperationalError:
    error = OperationalError(_TRY, None, Exception(sentence))
    error.__cause__ = DatabaseHeld(sentence)
    return error
