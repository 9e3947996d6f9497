"""Serves a database that can be read but not written: its disk is full, or was mounted read-only.

SQLite must write the index even to read a file in WAL mode. If the system refuses that, the file is opened as immutable,
which holds as long as our writer does not open it. So the writer is replaced by an actor that refuses writes and keeps
trying. Once writing works again, the readers end first, and the writer starts when their last connection is closed.
"""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy
import structlog
import trio
from attrs import define, frozen
from sqlalchemy import Engine, event, text
from sqlalchemy.engine import URL
from sqlalchemy.pool import QueuePool

from actors.errors import CommandError
from actors.storage.database import BUSY_SECONDS, open_engine
from actors.storage.errors import DatabaseUnusable
from actors.storage.idempotency import FIND_KEPT, KeptQuery
from actors.storage.messages import Committed, DescribeStorage, Operation, Read, ReadAgain, StorageHealth, Transact
from actors.storage.schema import NEWEST_REVISION
from protocol.errors import ErrorCode
from runtime import Actor, ActorRef, Down, RuntimeFault, SendFault, reject

__all__ = [
    "ReadOnlyStorage",
    "WriterInWaiting",
    "open_for_reading",
    "problem_of_writing",
    "read_only_reason",
    "reason_after_preparing",
]

_log = structlog.get_logger("storage")

TRY_SECONDS = 2.0
TRY_PROCESS_SECONDS = 30.0
LOOK_UP_SECONDS = 5.0
LOOK_UPS_AT_ONCE = 256
_WRITE_NOTHING = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE alembic_version SET version_num = version_num")
connection.execute("COMMIT")
"""
_REFUSED_BY_SYSTEM = frozenset(
    {
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
    }
)


@define
class ReadOnlyStorage:
    """Records whether the database is read-only. Set at start and cleared by `WriterInWaiting` alone."""

    reason: str | None = None
    """Reason, or None while the database is writable."""


def read_only_reason(url: URL, error: DatabaseUnusable) -> str | None:
    """Return why a database that cannot be written can still be read, or None if it cannot. Blocking."""
    cause = error.__cause__
    driver = cause.__cause__ if isinstance(cause, sqlalchemy.exc.DBAPIError) else None
    if not isinstance(driver, sqlite3.Error) or getattr(driver, "sqlite_errorcode", 0) & 0xFF not in _REFUSED_BY_SYSTEM:
        return None
    engine = open_for_reading(url, connections=1)
    try:
        with engine.connect() as connection:
            revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    except sqlalchemy.exc.SQLAlchemyError:
        return None
    finally:
        engine.dispose()
    # An older one would have to be migrated first.
    return f"the database can be read but not written ({driver})" if revision == NEWEST_REVISION else None


def open_for_reading(url: URL, *, connections: int) -> Engine:
    """Return an engine for a file without a writer, not yet connected."""
    path = quote(str(Path(str(url.database)).absolute()))

    def connect() -> sqlite3.Connection:
        """Open the file with its log if a killed server left one, otherwise the file alone."""
        last: sqlite3.Error | None = None
        for how in ("mode=ro", "mode=ro&immutable=1"):
            if last is not None and _has_content(Path(f"{url.database}-wal")):
                break
            connection = sqlite3.connect(
                f"file:{path}?{how}", uri=True, timeout=BUSY_SECONDS, check_same_thread=False, isolation_level=None
            )
            try:
                connection.execute("SELECT 1 FROM sqlite_master").fetchone()
            except sqlite3.Error as error:
                connection.close()
                last = error
            else:
                return connection
        assert last is not None
        raise last

    engine = sqlalchemy.create_engine(
        "sqlite://",
        creator=connect,
        poolclass=QueuePool,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=BUSY_SECONDS,
        hide_parameters=True,
    )

    @event.listens_for(engine, "begin")
    def begun(connection: sqlalchemy.Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine


def _has_content(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except OSError:
        return False


@frozen
class TryToWrite:
    """Timer: try to write again."""


class WriterInWaiting(Actor[Transact | DescribeStorage | TryToWrite]):
    """Replaces the writer while nothing can be written: refuses writes, keeps trying, and gives way.

    A repeated command that ran before gets its first outcome: refusing it as `unavailable` would say that it never ran.
    """

    mailbox = reject(1024)

    def __init__(
        self,
        url: URL,
        mode: ReadOnlyStorage,
        readers: ActorRef[Read | ReadAgain],
        operations: tuple[Operation[Any, Any], ...] = (),
    ) -> None:
        self._url = url
        self._results = {one.name: one.result for one in operations}
        self._looking_up = 0
        self._mode = mode
        self._readers = readers

    async def started(self) -> None:
        """Log the problem once and begin to try."""
        _log.error("reading only", problem=self._mode.reason)
        self.context.after(TRY_SECONDS, TryToWrite())

    async def handle(self, message: Transact | DescribeStorage | TryToWrite) -> StorageHealth | None:
        match message:
            case Transact(key=None):
                raise _nothing_can_be_written()
            case Transact():
                if self._looking_up >= LOOK_UPS_AT_ONCE:
                    raise CommandError(ErrorCode.OVERLOADED, "too many writes are waiting", retry_after_ms=1000)
                self._looking_up += 1
                self.context.answer_later(self._answer_as_before, message)
            case DescribeStorage():
                return StorageHealth(
                    kind=self._url.get_backend_name(),
                    is_writable=False,
                    problem=self._mode.reason,
                    transactions=0,
                    waiting=0,
                )
            case TryToWrite():
                await self._try()
        return None

    async def down(self, down: Down) -> None:
        """Make way: the readers have closed the file, so it may change."""
        self.context.stop()

    def snapshot(self) -> dict[str, object]:
        """Reason for waiting."""
        return {"problem": self._mode.reason}

    async def _answer_as_before(self, message: Transact) -> Committed[Any]:
        assert message.key is not None
        wanted = KeptQuery(key=message.key, result=self._results[message.operation])
        try:
            found: Committed[Any] | None = await self._readers.ask(
                Read(query=FIND_KEPT.name, command=wanted), timeout=LOOK_UP_SECONDS
            )
        except (CommandError, RuntimeFault) as error:
            message_text = "nothing can be written now, and it is not known whether the change was stored before"
            raise CommandError(
                ErrorCode.DEADLINE_EXCEEDED, message_text, retry_after_ms=int(TRY_SECONDS * 1000)
            ) from error
        finally:
            self._looking_up -= 1
        if found is None:
            raise _nothing_can_be_written()
        return found

    async def _try(self) -> None:
        problem = await _problem_elsewhere(self._url)
        if problem is not None:
            self._mode.reason = f"the database can be read but not written ({problem})"
            self.context.after(TRY_SECONDS, TryToWrite())
            return
        _log.info("writing again")
        self._mode.reason = None
        self.context.monitor(self._readers)
        try:
            self._readers.tell_nowait(ReadAgain())
        except SendFault:
            self.context.stop()


def _nothing_can_be_written() -> CommandError:
    return CommandError(
        ErrorCode.UNAVAILABLE,
        "nothing can be written now, because the disk is full or read-only; reading works",
        retry_after_ms=int(TRY_SECONDS * 1000),
    )


async def _problem_elsewhere(url: URL) -> str | None:
    """Run `problem_of_writing` in a separate process.

    In this process SQLite would share the log's index with the readers, which opened it on a read-only disk.
    """
    command = [sys.executable, "-I", "-S", "-c", _WRITE_NOTHING, str(url.database)]
    try:
        with trio.fail_after(TRY_PROCESS_SECONDS):
            done = await trio.run_process(
                command, stdin=b"", capture_stdout=True, capture_stderr=True, check=False, env={}
            )
    except (OSError, trio.TooSlowError) as error:
        return str(error) or "no answer in time"
    if done.returncode == 0:
        return None
    said = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return said[-1] if said else f"status {done.returncode}"


def reason_after_preparing(url: URL) -> str | None:
    """Return why a database that could be opened cannot be written, or None if it can or is not a file. Blocking.

    The files left by a killed server allow opening for writing even on a full disk.
    """
    if url.get_backend_name() != "sqlite":
        return None
    problem = _problem_of_writing(url)
    return None if problem is None else f"the database can be read but not written ({problem})"


def _problem_of_writing(url: URL) -> str | None:
    engine = open_engine(url, writes=True)
    try:
        return problem_of_writing(engine)
    finally:
        engine.dispose()


def problem_of_writing(engine: Engine) -> str | None:
    """Return why a page cannot be written, or None. Rewrites a page unchanged on a new connection. Blocking."""
    try:
        # One that was opened while its disk was read-only stays so.
        engine.dispose()
        with engine.connect() as connection, connection.begin():
            connection.execute(text("UPDATE alembic_version SET version_num = version_num"))
    except (sqlalchemy.exc.SQLAlchemyError, OSError) as error:
        return str(error.__cause__ or error).splitlines()[0]
    return None
