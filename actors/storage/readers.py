"""The readers: run queries concurrently with the writer, each on its own connection."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import structlog
import trio
from sqlalchemy import Engine
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from actors.errors import CommandError
from actors.storage.database import dispose_at_end, open_engine
from actors.storage.messages import Query, Read, ReadAgain
from actors.storage.read_only import open_for_reading
from protocol.errors import ErrorCode
from runtime import Actor, reject

__all__ = ["Readers"]

_log = structlog.get_logger("storage")

READER_THREADS = 4
WAITING_READS = 1024


class Readers(Actor[Read | ReadAgain]):
    """Runs each query in a thread, where it sees one committed state of the database."""

    mailbox = reject(WAITING_READS)

    def __init__(
        self, url: URL, queries: Iterable[Query[Any, Any]], *, read_only: bool = False, node: str | None = None
    ) -> None:
        """``read_only``: the file has no writer while this actor lives."""
        self._read_only = read_only
        self._node = node
        self._url = url
        self._queries: dict[str, Query[Any, Any]] = {}
        for one in queries:
            if one.name in self._queries:
                raise ValueError(f"two queries are called {one.name!r}")
            self._queries[one.name] = one
        self._threads = trio.CapacityLimiter(READER_THREADS)
        self._running = 0
        self._is_settled = trio.Event()

    async def started(self) -> None:
        """Open the database for reading."""
        if self._read_only:
            self._engine = open_for_reading(self._url, connections=READER_THREADS)
        else:
            self._engine = open_engine(
                self._url, writes=False, connections=READER_THREADS, node=self._node, must_exist=True
            )
        self.context.spawn(dispose_at_end, self._engine, self._threads)

    async def handle(self, message: Read | ReadAgain) -> None:
        if isinstance(message, ReadAgain):
            self.context.stop()
            return
        if message.query not in self._queries:
            raise LookupError(f"no query is called {message.query!r}")
        if self._running >= WAITING_READS:
            raise CommandError(ErrorCode.OVERLOADED, "too many reads are waiting", retry_after_ms=500)
        self._running += 1
        self.context.answer_later(self._read, message)

    async def stopping(self) -> None:
        """Answer the queries that have begun."""
        while self._running:
            self._is_settled = trio.Event()
            await self._is_settled.wait()

    def snapshot(self) -> dict[str, object]:
        """Number of queries that run or wait for a thread."""
        return {"running": self._running}

    async def _read(self, message: Read) -> Any:
        """Answer one query. If cancelled with its ask, its thread finishes and the result is discarded."""
        try:
            return await trio.to_thread.run_sync(
                _run, self._engine, self._queries[message.query], message.command, limiter=self._threads
            )
        except SQLAlchemyError as error:
            _log.error("read failed", query=message.query, problem=str(error.__cause__ or error).splitlines()[0])
            raise CommandError(ErrorCode.UNAVAILABLE, "the database cannot be read now", retry_after_ms=2000) from error
        finally:
            self._running -= 1
            if not self._running:
                self._is_settled.set()


def _run(engine: Engine, query: Query[Any, Any], command: Any) -> Any:
    with engine.connect() as connection, connection.begin():
        return query.function(connection, command)
