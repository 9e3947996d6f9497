"""Opens the database: SQLite with WAL, full sync and immediate transactions, or PostgreSQL by URL."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy
import trio
from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.pool import QueuePool

from actors.storage.errors import DatabaseUnusable
from actors.storage.holding import hold_session
from actors.storage.write_ahead_log import index_of

__all__ = ["FILE_NAME", "database_url", "dispose_at_end", "open_engine"]

FILE_NAME = "leanvibe.sqlite3"
BUSY_SECONDS = 5.0
STATEMENT_MILLISECONDS = 4000
"""PostgreSQL cancels a statement before its caller gives up, so that the outcome is known."""
_NOTICE_CUTS = "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3"
_OF_A_NODE = "-c idle_in_transaction_session_timeout=5000 -c leanvibe.node="
"""A node that stands still in the middle of a transaction lets go of its locks before its lease ends."""
_NOTICE_CUTS_HERE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 15_000}
"""Each side notices a silently lost peer within half a minute, instead of hours by default."""
_UNKEEPABLE = re.compile("[\0\ud800-\udfff]")
"""PostgreSQL stores no U+0000 in text, and neither driver encodes half of a surrogate pair."""


def database_url(configured: str | None, data_folder: Path) -> URL:
    """The configured URL, or the file in the data folder. Raises `DatabaseUnusable`, whose text never holds the URL: it
    may have a password.
    """
    if configured is None:
        return URL.create("sqlite", database=str(data_folder / FILE_NAME))
    try:
        url = make_url(configured)
    except (sqlalchemy.exc.ArgumentError, ValueError) as error:
        raise DatabaseUnusable(
            "the setting `database` is not a database URL, such as postgresql://USER@HOST:5432/NAME or sqlite:////PATH"
        ) from error
    if url.drivername in ("postgresql", "postgresql+psycopg"):
        return url.set(drivername="postgresql+psycopg")
    if url.drivername in ("sqlite", "sqlite+pysqlite"):
        if url.database in (None, "", ":memory:"):
            raise DatabaseUnusable(
                "`database` must name a file: an in-memory database would be lost with its connection"
            )
        if url.query:
            raise DatabaseUnusable("`database` may have no options for SQLite; give the path alone")
        return url
    raise DatabaseUnusable(
        f"`database` may begin with postgresql:// or sqlite:///, not {url.drivername}://; no other driver is used"
    )


def open_engine(
    url: URL,
    *,
    writes: bool,
    connections: int = 1,
    holder: str | None = None,
    node: str | None = None,
    must_exist: bool = False,
) -> Engine:
    """An engine whose transactions begin as the plan says; nothing is connected yet.

    With a ``holder`` (`holding.holder_name`) each session of PostgreSQL holds the database or is none; for one connection
    alone. As the ``node`` of a cluster it lets the other nodes hold it too. With ``must_exist`` a missing file is not created.

    A writer's transaction takes SQLite's write lock at once (`BEGIN IMMEDIATE`), so that it never has to give up
    in the middle; a reader's sees one state of the database for as long as it lasts.
    """
    if url.get_backend_name() == "sqlite":
        engine = _open_sqlite(url, writes=writes, connections=connections, must_exist=must_exist)
    else:
        engine = _open_postgresql(url, connections=connections, holder=holder, node=node)

    @event.listens_for(engine, "before_cursor_execute", retval=True)
    def keepable(_: Any, __: Any, statement: str, parameters: Any, ___: Any, is_many: bool) -> tuple[str, Any]:
        return statement, [_keepable(one) for one in parameters] if is_many else _keepable(parameters)

    return engine


def _open_postgresql(url: URL, *, connections: int, holder: str | None, node: str | None) -> Engine:
    try:
        engine = sqlalchemy.create_engine(
            url,
            pool_size=connections,
            # They are what clients said, and errors stand in the log.
            hide_parameters=True,
            max_overflow=0,
            pool_pre_ping=True,
            pool_timeout=BUSY_SECONDS,
            connect_args={
                "connect_timeout": 5,
                "options": f"-c statement_timeout={STATEMENT_MILLISECONDS} {_NOTICE_CUTS}"
                + ("" if node is None else f" {_OF_A_NODE}{node}"),
                **_NOTICE_CUTS_HERE,
                **({} if holder is None else {"application_name": holder}),
            },
        )
    except ImportError as error:
        raise DatabaseUnusable("PostgreSQL needs its driver: pip install 'leanvibe[postgresql]'") from error
    if holder is not None:

        @event.listens_for(engine, "connect")
        def connected(connection: Any, _: Any) -> None:
            try:
                hold_session(connection, is_shared=node is not None)
            except BaseException:
                connection.close()
                raise

    return engine


def _open_sqlite(url: URL, *, writes: bool, connections: int, must_exist: bool) -> Engine:
    engine = sqlalchemy.create_engine(
        url,
        poolclass=QueuePool,
        pool_size=connections,
        hide_parameters=True,
        max_overflow=0,
        pool_timeout=BUSY_SECONDS,
        # One thread at a time uses a connection; which one changes.
        connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},
        **({"creator": lambda: _connect_existing(str(url.database))} if must_exist and url.database else {}),
    )

    index = index_of(Path(str(url.database)))

    @event.listens_for(engine, "connect")
    def connected(connection: sqlite3.Connection, _: Any) -> None:
        # The driver's own idea of transactions would begin them late and without the lock.
        connection.isolation_level = None
        index.repair()
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            "temp_store=MEMORY",
            f"busy_timeout={int(BUSY_SECONDS * 1000)}",
        ):
            connection.execute(f"PRAGMA {pragma}")
        if not writes:
            connection.execute("PRAGMA query_only=ON")

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        index.repair()
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    @event.listens_for(engine, "close")
    def closing(_: sqlite3.Connection, __: Any) -> None:
        # The last one writes what the log holds into the database.
        index.repair()

    return engine


def _connect_existing(path: str) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(path)}?mode=rw", uri=True, timeout=BUSY_SECONDS, check_same_thread=False)


def _keepable(parameters: Any) -> Any:
    """Replace characters that no database can store with U+FFFD.

    Such text from clients was refused before. Text from the model cannot be, and must not be lost for one character.
    """
    if isinstance(parameters, Mapping):
        if any(_has_unkeepable(one) for one in parameters.values()):
            return {name: _mended(one) for name, one in parameters.items()}
    elif any(_has_unkeepable(one) for one in parameters):
        return tuple(_mended(one) for one in parameters)
    return parameters


def _has_unkeepable(value: Any) -> bool:
    # The expression alone would take ten times as long for a long text.
    return type(value) is str and ("\0" in value or (not value.isascii() and bool(_UNKEEPABLE.search(value))))


def _mended(value: Any) -> Any:
    return _UNKEEPABLE.sub("\ufffd", value) if type(value) is str else value


async def dispose_at_end(engine: Engine, threads: trio.CapacityLimiter) -> None:
    """Close the engine's connections when cancelled. Run as a child task of the actor that owns the engine.

    It ends with its actor even if that crashes or is cancelled, and waits for threads that still use a connection: one
    returned to a disposed pool would be left to the garbage collector.
    """
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            for _ in range(int(threads.total_tokens)):
                # Never given back: nothing of this actor comes after.
                await threads.acquire_on_behalf_of(object())
            await trio.to_thread.run_sync(engine.dispose)
